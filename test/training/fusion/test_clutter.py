# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Leaves, railings and wires before an image, and ragged edges of its depth."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_training.fusion.clutter import add_clutter
from marigold_training.fusion.examples import ragged
import numpy as np

SHAPE = (60, 80)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its depth, a ground below a sky."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    row = np.arange(SHAPE[0], dtype=np.float32)[:, None]
    depth = np.where(row > 20, 60.0 / np.maximum(row - 20.0, 1.0), np.inf)
    return rgb, np.broadcast_to(depth, SHAPE).astype(np.float32)


@given(st.integers(0, 10_000))
def test_things_are_nearer_than_what_they_hide_and_change_nothing_else(seed):
    rgb, depth = scene(seed)
    before = rgb.copy(), depth.copy()
    image, nearer = add_clutter(np.random.default_rng(seed), rgb, depth)
    assert np.array_equal(rgb, before[0])
    assert np.array_equal(depth, before[1])
    hidden = nearer != depth
    assert (nearer[hidden] < depth[hidden]).all()
    assert (nearer[hidden] > 0).all()
    assert np.array_equal(image[~hidden], rgb[~hidden])
    assert (image.dtype, nearer.dtype) == (np.uint8, np.float32)


def test_most_images_get_depth_steps_that_are_seen():
    changed = []
    for seed in range(30):
        rgb, depth = scene(seed)
        image, nearer = add_clutter(np.random.default_rng(seed), rgb, depth)
        hidden = nearer != depth
        changed.append(hidden.mean())
        if hidden.any():
            assert (image[hidden] != rgb[hidden]).any(axis=1).mean() > 0.9
    assert np.median(changed) > 0.03


def test_ragged_depth_is_moved_by_pixels_and_not_mixed():
    depth = np.full(SHAPE, 2.0, np.float32)
    depth[:, 40:] = 5.0
    moved = ragged(np.random.default_rng(1), depth)
    assert set(np.unique(moved)) == {2.0, 5.0}
    columns = np.flatnonzero((moved != depth).any(axis=0))
    assert len(columns) > 0
    assert np.abs(columns - 40).max() < 10
