# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Below the lowest points depth is no farther than the ground that they show."""

from hypothesis import example, given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.geometry.fusion.fuse import fuse, FusionGuide
from marigold_ros.geometry.fusion.ground_bound import below_points, ground_bound
from marigold_ros.geometry.fusion.work_grid import work_grid
import numpy as np
import pytest

SHAPE = (120, 160)
FOCAL, HORIZON = 120.0, 50.0
LINES = np.linspace(20, 80, 16).astype(int)
GRID = work_grid(SHAPE)


def scene(height=1.5, roll=0.0, wall=20.0):
    """Depth (H, W) of a ground plane that many metres below the camera, and of a wall."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    down = (v - HORIZON + roll * (u - 80)) / FOCAL
    return np.minimum(np.where(down > 0, height / np.maximum(down, 1e-9), np.inf), wall)


def points_of(depth, rows=LINES, step=2):
    """Pixels and disparity of the points in some rows."""
    columns = np.arange(0, SHAPE[1], step)
    v, u = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
    return u, v, 1.0 / depth[v, u]


def bound_of(u, v, disparity):
    return ground_bound(u, v, disparity, below_points(u, v, GRID), GRID)


def on_grid(depth):
    """Log depth (rows, columns) in the middle of each cell."""
    return np.log(1.0 / GRID.shrink((1.0 / depth).astype(np.float32)))


@given(
    height=st.floats(0.3, 2.0),
    roll=st.floats(-0.2, 0.2),
    noise=st.floats(0.0, 0.01),
    seed=st.integers(0, 10**6),
)
@example(height=1.14, roll=0.0, noise=0.0, seed=0)
@example(height=1.8, roll=0.003, noise=0.0, seed=0)
def test_below_the_points_the_bound_is_the_ground(height, roll, noise, seed):
    depth = scene(height, roll)
    u, v, disparity = points_of(depth)
    disparity = disparity * np.exp(noise * np.random.default_rng(seed).normal(size=len(u)))
    bound = bound_of(u, v, disparity)
    below = GRID.cell_of(np.array([0]), np.array([LINES[-1] + 2]))[0][0]
    assert np.abs(bound[below:] - on_grid(depth)[below:]).max() < 0.03
    assert np.isinf(bound[: GRID.cell_of(np.array([0]), np.array([LINES[0]]))[0][0]]).all()


def test_things_on_the_ground_do_not_hide_it():
    depth = scene()
    depth[30:, 40:110] = np.minimum(depth[30:, 40:110], 2.2)  # a box in the middle
    bound = bound_of(*points_of(depth))
    assert np.abs(bound[-5:] - on_grid(scene())[-5:]).max() < 0.03


@pytest.mark.parametrize('kind', ['few', 'wall', 'pit', 'noise', 'one row', 'ceiling'])
def test_without_ground_there_is_no_bound(kind):
    depth, rows, step = scene(), LINES, 2
    if kind == 'few':
        step = 40
    elif kind == 'wall':
        depth = np.full(SHAPE, 5.0)
    elif kind == 'pit':  # a tenth of the points is below what the others lie on
        depth[60:90, 20:50] *= 1.5
    elif kind == 'noise':
        depth = np.random.default_rng(0).uniform(2, 20, SHAPE)
    elif kind == 'one row':
        rows = LINES[-1:]
    else:
        depth = scene()[::-1]
        rows = SHAPE[0] - 1 - LINES
    assert bound_of(*points_of(depth, rows, step)) is None


@pytest.mark.parametrize('below', [0.3, 0.9])
def test_the_plane_of_a_laser_is_not_the_ground(below):
    u = np.arange(0, SHAPE[1], 2)
    z = 4.0 + 2.0 * np.sin(u / 25.0)
    v = np.rint(HORIZON + FOCAL * below / z).astype(int)
    assert bound_of(u, v, (v - HORIZON) / (FOCAL * below)) is None


def test_columns_with_a_lower_point_beside_them_stay_as_they_are():
    u, v, disparity = points_of(scene())
    more = np.arange(0, 60, 2), np.full(30, 110)
    with_more = [np.concatenate(pair) for pair in zip((u, v), more, strict=True)]
    disparity = np.concatenate([disparity, 1.0 / scene()[more[1], more[0]]])
    bound = bound_of(*with_more, disparity)
    row = GRID.cell_of(np.array([0]), np.array([100]))[0][0]
    assert np.isinf(bound[row, : GRID.columns // 4]).all()
    assert np.isfinite(bound[row, GRID.columns // 2 :]).all()


def test_fused_depth_in_front_of_a_robot_lies_on_the_road_and_nearer_things_stay():
    depth = scene()
    u, v, disparity = points_of(depth)
    sparse = SparseDepth(u, v, (1.0 / disparity).astype(np.float32))
    guide = FusionGuide(SHAPE, np.full((*SHAPE, 3), 90, np.uint8))
    fused = fuse(Alignment(space='log'), sparse, AlignmentConfig(), guide).metric
    below = np.s_[LINES[-1] + 2 :]
    assert np.abs(fused[below] / depth[below] - 1.0).max() < 0.03
    continued = depth[LINES[-1]].max() / depth[-1].max()
    assert continued > 1.5  # which the nearest points would give


def fused_sigma(depth, rows):
    """Relative sigma of fused depth, without a map."""
    u, v, disparity = points_of(depth, rows)
    sparse = SparseDepth(u, v, (1.0 / disparity).astype(np.float32))
    guide = FusionGuide(SHAPE, np.full((*SHAPE, 3), 90, np.uint8))
    fused = fuse(Alignment(space='log'), sparse, AlignmentConfig(), guide)
    return fused.sigma / fused.metric


def test_below_the_points_sigma_is_wide_where_they_show_no_ground():
    below = np.s_[LINES[-1] + 4 :]
    wall = fused_sigma(np.full(SHAPE, 5.0), LINES)
    assert wall[below].min() >= 0.2 - 1e-6
    assert np.median(wall[LINES[0] : LINES[-1]]) < 0.1
    assert np.median(fused_sigma(scene(), LINES)[below]) < 0.2
