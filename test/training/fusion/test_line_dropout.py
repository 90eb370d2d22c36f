# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scan lines of a recording as input and target: they never share a point or a pixel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.frame import SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.fusion.work_grid import work_grid
from marigold_training.data.pairs import LidarPair
from marigold_training.data.sources import open_source
from marigold_training.fusion.line_dropout import (
    darkened,
    drop_lines,
    line_dropout_example,
    LineDropout,
    resized,
    target_at_points,
)
import numpy as np
import pytest

H, W = 48, 96


def scan(seed: int = 0, lines: int = 24) -> LidarPair:
    """Make a scan of rows whose points all have a depth of their own, a tenth of them hidden."""
    rng = np.random.default_rng(seed)
    v, u = (x.ravel() for x in np.mgrid[0 : 2 * lines : 2, 0:W:2])
    z = (4.0 + rng.permutation(len(u)) / len(u)).astype(np.float32)
    rgb = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    return LidarPair(rgb, SparseDepth(u, v, z), rng.random(len(u)) > 0.1, v // 2, u // 4)


def bag(folder, **keys):
    lidar = {'lidar': '/velodyne_points', **keys}
    return open_source({'kind': 'bag', 'folder': 'bags', 'size': [64, 96], **lidar}, folder)


@given(seed=st.integers(0, 200))
def test_input_and_target_share_neither_line_nor_pixel(seed):
    pair = scan(seed % 5)
    shown, others = drop_lines(np.random.default_rng(seed), pair)
    assert not set(shown.z) & set(others.z)
    pixels = [set(zip(part.u, part.v, strict=True)) for part in (shown, others)]
    assert not pixels[0] & pixels[1]
    assert set(others.z) <= set(pair.points.z[pair.visible])
    by_line = {int(line) for line in shown.v // 2} & {int(line) for line in others.v // 2}
    by_azimuth = {int(block) for block in shown.u // 4} & {int(block) for block in others.u // 4}
    assert not by_line or not by_azimuth
    share = len(shown) / (len(shown) + len(others))
    assert any(abs(share - 1 / every) < 0.05 for every in (2, 4, 8, 16))


@given(seed=st.integers(0, 100))
def test_a_smaller_image_merges_no_input_into_the_target(seed):
    pair = resized(scan(), (20, 40))
    assert pair.rgb.shape == (20, 40, 3)
    shown, others = drop_lines(np.random.default_rng(seed), pair)
    pixels = [set(zip(part.u, part.v, strict=True)) for part in (shown, others)]
    assert len(pixels[0]) == len(shown)
    assert not pixels[0] & pixels[1]


def test_points_behind_an_edge_are_input_as_a_sparse_lidar_sees_them_but_no_target():
    near = np.zeros((12, 24), bool)
    near[3::4] = True  # every fourth line is 5 m nearer and hides its neighbours
    v, u = (2 * x.ravel() for x in np.mgrid[0:12, 0:24])
    z = np.where(near, 3.0, 8.0).astype(np.float32).ravel()
    hidden = (z > 5) & (np.abs(v // 2 % 4 - 3) <= 1)
    rgb = np.zeros((24, 48, 3), np.uint8)
    pair = LidarPair(rgb, SparseDepth(u, v, z), ~hidden, v // 2, 0 * u)
    background = 0
    for seed in range(40):
        shown, others = drop_lines(np.random.default_rng(seed), pair)
        assert not set(zip(others.u, others.v, strict=True)) & {
            (a, b) for a, b, out in zip(u, v, hidden, strict=True) if out
        }
        lines = set((shown.v // 2).tolist())
        if lines and lines <= {2, 6, 10}:  # without the near lines nothing hides these
            background += len(shown)
    assert background > 0


def test_a_cell_gets_the_depth_of_the_point_nearest_to_its_middle():
    grid = work_grid((16, 16))
    far = work_grid((160, 160))
    sparse = SparseDepth(np.array([3, 5]), np.array([7, 5]), np.array([2.0, 4.0], np.float32))
    target = target_at_points(sparse, grid)
    assert np.isfinite(target).sum() == 2
    assert target[7, 3] == pytest.approx(np.log(2.0))
    step = 160 / far.rows
    middle = int(4.5 * step)
    both = SparseDepth(
        np.array([middle, int(4.0 * step + 1)]), np.array([middle] * 2),
        np.array([2.0, 4.0], np.float32),
    )  # fmt: skip
    target = target_at_points(both, far)
    assert target[4, 4] == pytest.approx(np.log(2.0))


def test_an_example_has_the_kept_points_as_input_and_no_map():
    example = line_dropout_example(np.random.default_rng(1), scan())
    part = dict(zip(CHANNELS, example.inputs, strict=True))
    assert part['occupied'].any()
    assert not part['has_map'].any()
    known = np.isfinite(example.target)
    assert 0.05 < known.mean() < 0.3
    assert np.exp(example.target[known]).min() >= 4.0
    few = scan(lines=1)
    assert line_dropout_example(np.random.default_rng(0), few) is None


def test_a_bag_gives_scan_lines_and_the_depth_that_it_gave_before(street, tmp_path):
    pairs = bag(street)
    assert len(pairs) == 4
    scans = [pairs.read_lidar(index) for index in range(4)]
    for index, found in enumerate(scans):
        assert 8 < len(np.unique(found.line)) <= 32
        assert found.visible.any()
        # Higher lines are higher in the image.
        rows = [found.points.v[found.line == line].mean() for line in np.unique(found.line)]
        assert np.corrcoef(rows, np.unique(found.line))[0, 1] < -0.95
        np.testing.assert_array_equal(pairs.read(index).depth, found.pair().depth)


def test_examples_of_a_bag_are_drawn_from_its_scans_alone(street):
    source = LineDropout(bag(street), (64, 96), 3, (0,))
    first, again = source.draw(0), source.draw(0)
    np.testing.assert_array_equal(first.inputs, again.inputs)
    known = np.isfinite(first.target)
    depths = np.concatenate([bag(street).read_lidar(i).points.z for i in range(4)])
    assert set(first.target[known]) <= set(np.log(depths))
    assert first.inputs.shape[1:] == source.cells


@given(st.integers(0, 2**32))
def test_darkened_images_have_less_light_and_its_noise_and_keep_what_was_brighter(seed):
    rgb = np.full((48, 64, 3), 220, np.uint8)
    rgb[:, :32] = 90
    dark = darkened(np.random.default_rng(seed), rgb)
    light, before = ((image / 255.0) ** 2.2 for image in (dark, rgb))
    share = light[:, 32:].mean() / before[:, 32:].mean()
    assert 0.02 < share < 0.65
    assert dark[:, :32].mean() < dark[:, 32:].mean()
    assert dark[:, 32:].std() > 0.0


def test_a_bag_without_lidar_has_no_lines(street):
    dense = bag(street, lidar=None)  # it has a topic of true depth
    with pytest.raises(InputError, match='has dense depth.*give its LiDAR topic'):
        LineDropout(dense, (64, 96), 3, (0,)).draw(0)
