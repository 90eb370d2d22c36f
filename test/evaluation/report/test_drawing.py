# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Colours mean what the legend says."""

from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.report.drawing import (
    colourise_depth,
    colourise_relative,
    depth_scale,
    error_image,
    NO_VALUE,
    overlay_points,
    with_depth_legend,
    with_error_legend,
)
from marigold_ros.node.interface.publishers import colour_depth
import numpy as np
import pytest


def test_missing_values_are_darker_than_any_depth_in_a_grey_print_too():
    depth = np.append(np.geomspace(0.5, 80.0, 255), np.nan).astype(np.float32)[None]
    reported, published = colourise_depth(depth, 0.5, 80.0), colour_depth(depth, 0.5, 80.0)
    for grey in (reported @ [0.299, 0.587, 0.114], published @ [0.114, 0.587, 0.299]):
        assert grey[0, -1] < grey[0, :-1].min() - 20


def test_missing_values_are_black_and_ends_clip_to_the_scale():
    depth = np.array([[np.nan, np.inf, 0.0, -1.0, 0.01, 0.5, 80.0, 500.0]], np.float32)
    before = depth.copy()
    colours = colourise_depth(depth, 0.5, 80.0)
    np.testing.assert_array_equal(depth, before)
    assert (colours[0, :4] == NO_VALUE).all()
    assert (colours[0, 4] == colours[0, 5]).all()
    assert (colours[0, 6] == colours[0, 7]).all()
    red, _, blue = colours[0, 5].astype(int)
    assert red > blue  # near is warm
    assert colours[0, 6, 2] > colours[0, 6, 0]


def test_equal_ratios_of_depth_are_equal_steps_of_colour():
    table = colourise_depth(np.geomspace(1, 100, 255)[None], 1, 100)[0]
    assert len({tuple(colour) for colour in table.tolist()}) > 200
    middle = colourise_depth(np.array([[10.0]]), 1, 100)[0, 0].astype(int)
    assert np.abs(middle - table[127].astype(int)).max() <= 6


@pytest.mark.parametrize('scale', [(0.0, 1.0), (2.0, 1.0), (1.0, np.inf), (np.nan, 1.0)])
def test_an_empty_scale_is_refused(scale):
    with pytest.raises(ConfigurationError):
        colourise_depth(np.ones((2, 2)), *scale)


def test_relative_is_drawn_near_warm_in_every_space():
    near, far = colourise_relative(np.array([[0.0, 1.0]]))[0].astype(int)
    assert near[0] > near[2]
    assert (colourise_relative(np.array([[1.0]]), near_is_low=False)[0, 0] == near).all()
    assert far[0] != near[0]


def test_the_nearest_point_is_on_top():
    rgb = np.zeros((20, 20, 3), np.uint8)
    for order in (slice(None), slice(None, None, -1)):
        u, v, z = np.array([10, 11])[order], np.array([10, 10])[order], np.array([2.0, 50])[order]
        drawn = overlay_points(rgb, u, v, z, 1, 100)
        assert (drawn[10, 11] == colourise_depth(np.array([[2.0]]), 1, 100)[0, 0]).all()
    assert not rgb.any()


def test_large_errors_are_brighter_than_small_ones():
    rgb = np.full((20, 40, 3), 90, np.uint8)
    error = np.array([0.0, 0.5, np.nan])
    drawn = error_image(rgb, np.array([5, 20, 35]), np.array([10, 10, 10]), error).astype(int)
    assert drawn[10, 20].sum() > drawn[10, 5].sum()
    assert (drawn[10, 35] == NO_VALUE).all()


def test_the_largest_error_is_on_top_and_half_the_depth_ends_the_scale():
    rgb, v = np.zeros((20, 40, 3), np.uint8), np.full(3, 10)
    apart = np.array([5, 20, 35])
    half, less, _ = error_image(rgb, apart, v, np.array([0.5, 0.4, 0.0]))[10, apart].tolist()
    assert half != less
    u, error = np.array([10, 11, 12]), np.array([2.0, 0.4, np.nan])
    for order in (slice(None), slice(None, None, -1)):
        drawn = error_image(rgb, u[order], v, error[order])
        assert drawn[10, [11, 12]].tolist() == [half, less]


def test_points_outside_or_at_the_border_colour_no_other_side():
    u, v = np.array([-1, 40, 5, 0]), np.array([5, 5, 20, 0])
    drawn = overlay_points(np.full((20, 40, 3), 90, np.uint8), u, v, np.full(4, 2.0), 1, 100)
    coloured = np.argwhere((drawn != 54).any(axis=2))
    assert coloured.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_an_image_without_points_is_darkened_only():
    rgb, nothing = np.full((20, 40, 3), 90, np.uint8), np.zeros(0, int)
    assert (overlay_points(rgb, nothing, nothing, np.zeros(0), 1, 100) == 54).all()
    assert (error_image(rgb, nothing, nothing, np.zeros(0)) == 31).all()


def test_legends_are_put_below_and_leave_the_image_alone():
    image = np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8)
    for drawn in (with_depth_legend(image, 1, 50), with_error_legend(image)):
        assert drawn.shape[0] > 30
        assert (drawn[:30] == image).all()


@pytest.mark.parametrize(('height', 'legend'), [(3, 40), (80, 80), (400, 160)])
def test_the_legend_of_a_low_panorama_is_no_higher_than_it_where_one_line_fits(height, legend):
    panorama = np.zeros((height, 3600, 3), np.uint8)
    for drawn in (with_depth_legend(panorama, 1, 50), with_error_legend(panorama)):
        assert drawn.shape[0] - height == legend


def test_a_scale_is_found_for_any_depths():
    for z in (np.zeros(0), np.array([np.nan]), np.full(5, 3.0), np.geomspace(1, 90, 100)):
        low, high = depth_scale(z)
        assert 0 < low < high < np.inf
