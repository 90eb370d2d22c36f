# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What is published of metric depth, pixel by pixel, and how the pixels are counted."""

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Alignment, Prediction
from marigold_ros.geometry.postprocess import confidence, count_pixels, only_at, postprocess
import numpy as np
import pytest

NAN, INF = np.nan, np.inf
# One row: good, doubtful, sigma unknown, depth unknown, sky, sky of unknown depth, far, of no map.
DEPTH = np.float32([[4, 4, 4, NAN, 50, NAN, 200, NAN]])
SIGMA = np.float32([[1, 3, NAN, NAN, 5, NAN, 20, NAN]])
SKY = np.array([[0, 0, 0, 0, 1, 1, 0, 0]], bool)
MAP = Prediction(np.float32([[0.5, 0.5, 0.5, 0, 1, 1, 0.9, NAN]]))
FITTED = Alignment(state='fitted', metric=DEPTH)


def published(sigma=SIGMA, sky=SKY, of_sky='nan', **settings):
    config = PipelineConfig(sky=of_sky, alignment=AlignmentConfig(**settings))
    return postprocess(FITTED, sigma, sky, config)


def counts(depth):
    return count_pixels(MAP, FITTED, depth, None, AlignmentConfig(max_depth=100.0))


@pytest.mark.parametrize(('of_sky', 'value'), [('nan', NAN), ('inf', INF)])
def test_all_of_the_sky_has_its_value_and_no_sigma(of_sky, value):
    depth = published(of_sky=of_sky)
    np.testing.assert_array_equal(depth.metric, np.where(SKY, value, DEPTH))
    np.testing.assert_array_equal(depth.sigma, np.where(SKY, NAN, SIGMA))


def test_pixels_of_too_little_confidence_are_invalid_by_sigma_of_the_depth_itself():
    np.testing.assert_array_equal(confidence(DEPTH, SIGMA), [[75, 25, 0, 0, 90, 0, 90, 0]])
    np.testing.assert_array_equal(confidence(DEPTH, 9 * SIGMA), [[0, 0, 0, 0, 10, 0, 10, 0]])
    assert not confidence(DEPTH, None).any()
    sure = np.float32([[4, NAN, NAN, NAN, 50, NAN, 200, NAN]])
    np.testing.assert_array_equal(published(sky=None, min_confidence=75.0).metric, sure)
    # The margin makes depth nearer, not less certain.
    nearer = published(sky=None, min_confidence=75.0, conservative_k=2.0).metric
    np.testing.assert_array_equal(nearer, [[2, NAN, NAN, NAN, 40, NAN, 160, NAN]])


def test_the_margin_stops_at_the_least_depth_and_knows_nothing_without_sigma():
    nearer = published(sky=None, conservative_k=2.0, min_depth=1.0).metric
    np.testing.assert_array_equal(nearer, [[2, 1, NAN, NAN, 40, NAN, 160, NAN]])
    assert np.isnan(published(sigma=None, conservative_k=2.0).metric).all()


@pytest.mark.parametrize(('of_sky', 'invalid'), [('nan', 4), ('inf', 2)])
def test_each_pixel_is_counted_by_what_it_is(of_sky, invalid):
    found = {'invalid': invalid, 'below_min_depth': 1, 'beyond_max_depth': 1, 'sky': 2}
    assert counts(published(of_sky=of_sky)) == {**found, 'withheld': 0}
    assert counts(published(min_confidence=75.0))['below_min_depth'] == 1


def test_withheld_pixels_have_neither_depth_nor_sigma_and_are_no_others():
    shown = np.array([[1, 1, 1, 0, 0, 0, 0, 0]], bool)
    depth = only_at(published(sky=None), shown)
    np.testing.assert_array_equal(depth.metric, np.where(shown, DEPTH, NAN))
    np.testing.assert_array_equal(depth.sigma, np.where(shown, SIGMA, NAN))
    found = {'invalid': 5, 'below_min_depth': 0, 'beyond_max_depth': 0, 'sky': 0, 'withheld': 5}
    assert counts(depth) == found


def test_without_depth_nothing_is_published_or_counted():
    config = PipelineConfig(alignment=AlignmentConfig(conservative_k=1.0, min_confidence=50.0))
    depth = postprocess(Alignment(), None, None, config)
    assert (depth.metric, depth.sigma) == (None, None)
    assert count_pixels(MAP, Alignment(), depth, None, config.alignment) == {}
