# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What stands on the ground is not taken for it, even where the map does not show it."""

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.frame import GroundPlane
from marigold_ros.geometry.ground.plane import plane_depth
from marigold_ros.geometry.ground.visible import visible_ground
import numpy as np
import pytest

HEIGHT, WIDTH = 120, 160
K = np.array([[120.0, 0, 79.5], [0, 120.0, 39.5], [0, 0, 1]])
PLANE = GroundPlane(np.array([0.0, 1.0, 0.0]), 1.5, 0.01)
V, U = np.mgrid[:HEIGHT, :WIDTH]
DEPTH = plane_depth(PLANE, K, U, V).astype(np.float32)


def scene(box=None, seed=0):
    """A grey road below a blue sky; a box (top, foot, left, right) stands on it."""
    rng = np.random.default_rng(seed)
    rgb = np.full((HEIGHT, WIDTH, 3), 110.0) + rng.normal(0, 2, (HEIGHT, WIDTH, 1))
    rgb[:42] = (90, 140, 220)
    if box is not None:
        top, foot, left, right = box
        rgb[top:foot, left:right] = (40, 60, 70)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def test_an_open_road_is_ground_to_the_horizon():
    shown = visible_ground(scene(), DEPTH, K, PLANE)
    assert shown[50:118].mean() > 0.97
    assert not shown[:42].any()


@settings(max_examples=min(40, settings().max_examples))
@given(
    foot=st.integers(60, 105),
    tall=st.integers(12, 50),
    left=st.integers(5, 110),
    wide=st.integers(12, 40),
)
def test_a_box_that_the_map_does_not_show_ends_the_ground_at_its_foot(foot, tall, left, wide):
    box = max(foot - tall, 30), foot, left, left + wide
    # Of this seed no grain of the road ends a column by itself: what ends is the box's doing.
    shown = visible_ground(scene(box, seed=4), DEPTH, K, PLANE)
    inner = np.s_[: foot - 2, left + 3 : left + wide - 3]
    assert not shown[inner].any()
    assert shown[foot + 4 : 118, left + 3 : left + wide - 3].mean() > 0.7
    beside = np.r_[0 : max(left - 4, 0), min(left + wide + 4, WIDTH) : WIDTH]
    assert shown[50:118, beside].mean() > 0.85


@pytest.mark.parametrize('box', [np.s_[50:90, 60:100], np.s_[89:90, 60:100]])
def test_a_grey_box_or_the_edge_at_its_foot_alone_ends_it(box):
    rgb = scene(seed=4)
    rgb[box] = 60
    shown = visible_ground(rgb, DEPTH, K, PLANE)
    assert not shown[:87, 64:96].any()
    assert shown[95:118, 64:96].all()


@pytest.mark.parametrize('channel', [1, 2])  # red against green, yellow against blue
def test_a_box_as_light_as_the_road_but_of_another_colour_ends_it(channel):
    lab = cv2.cvtColor(scene(seed=4), cv2.COLOR_RGB2LAB)
    lab[50:90, 60:100, channel] += 20
    shown = visible_ground(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), DEPTH, K, PLANE)
    assert not shown[:87, 64:96].any()
    assert shown[95:118, 64:96].all()


@pytest.mark.parametrize('factor', [0.7, 1.4])
def test_a_box_or_a_hole_of_the_roads_colour_that_the_map_shows_ends_it_too(factor):
    metric = DEPTH.copy()
    metric[60:90, 60:100] *= factor
    shown = visible_ground(scene(), metric, K, PLANE)
    assert not shown[:82, 64:96].any()
    assert shown[94:118, 64:96].all()


def test_unknown_depth_is_no_ground_and_sizes_may_be_odd():
    metric = np.full((121, 701), np.nan, np.float32)
    rgb = np.full((121, 701, 3), 100, np.uint8)
    assert not visible_ground(rgb, metric, K, PLANE).any()
    assert visible_ground(rgb[:1, :1], metric[:1, :1], K, PLANE).shape == (1, 1)


def test_a_faint_seam_of_the_road_is_no_edge():
    rgb = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
    rgb[80:] += 2
    assert visible_ground(rgb, DEPTH, K, PLANE)[50:118].all()
