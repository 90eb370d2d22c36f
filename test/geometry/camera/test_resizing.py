# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A resized frame is still one frame: image, camera and points agree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import AlignmentError
from marigold_ros.frame import Camera, Frame, SparseDepth, SparseInput
from marigold_ros.geometry.camera.resizing import resize_frame
import numpy as np
import pytest

K = np.array([[90.0, 0, 59.5], [0, 90.0, 39.5], [0, 0, 1]])


def frame_with(sparse=None):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    inputs = [SparseInput('pointcloud', sparse=sparse)]
    return Frame(rgb=rgb, camera=Camera(K, 120, 80), stamp_ns=7, inputs=inputs)


def test_the_same_size_changes_nothing():
    frame = frame_with()
    assert resize_frame(frame, (80, 120)) is frame


def test_halving_averages_four_pixels_and_halves_the_camera():
    frame = frame_with()
    half = resize_frame(frame, (40, 60))
    means = frame.rgb.reshape(40, 2, 60, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half.rgb, means, atol=0.5)
    np.testing.assert_allclose(half.camera.K[:2], K[:2] / 2)
    assert (half.camera.width, half.camera.height, half.stamp_ns) == (60, 40, 7)


@given(
    height=st.integers(5, 79),
    width=st.integers(5, 240),
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 300),
)
def test_resized_points_keep_their_place_and_the_nearest_known_wins(height, width, seed, count):
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, 120, count), rng.integers(0, 80, count)
    z = rng.uniform(1, 50, count).astype(np.float32)
    z[::3] = rng.choice([np.nan, 0.0, -1.0, np.inf], len(z[::3]))
    resized = resize_frame(frame_with(SparseDepth(u, v, z)), (height, width)).lidar.sparse
    best = {}
    for column, row, depth in zip(u, v, z, strict=True):
        place = int((row + 0.5) * (height / 80)), int((column + 0.5) * (width / 120))
        if 0 < depth < np.inf:
            best[place] = min(depth, best.get(place, np.inf))
    found = zip(resized.v, resized.u, resized.z, strict=True)
    assert {(row, column): depth for row, column, depth in found} == best
    assert len(resized) == len(best)


@pytest.mark.parametrize(('u', 'v'), [(-1, 5), (120, 5), (5, -1), (5, 80)])
def test_a_point_outside_of_the_image_is_not_moved_into_it(u, v):
    with pytest.raises(AlignmentError, match='image is 120x80'):
        resize_frame(frame_with(SparseDepth([u], [v], [1.0])), (40, 60))
