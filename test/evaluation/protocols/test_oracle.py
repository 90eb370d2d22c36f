# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The oracle recovers planted numbers and equals the published rules, written down naively."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.choices import ORACLES, OWN
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.evaluation.protocols.oracle import (
    describe_oracle,
    oracle_depth,
    PUBLISHED,
    published_pairs,
)
import numpy as np
import pytest
from scipy import stats
import torch


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity', 'metric'])
@given(seed=st.integers(0, 2**32 - 1))
def test_oracle_recovers_a_planted_scale_and_shift(space, seed):
    rng = np.random.default_rng(seed)
    relative = rng.random((6, 7))
    value = rng.uniform(0.05, 2) * relative + rng.uniform(0.02, 2)
    truth = {'log': np.exp, 'disparity': lambda x: 1 / x}.get(space, lambda x: x)(value)
    sparse_truth = np.where(rng.random((6, 7)) < 0.3, np.nan, truth)
    assert oracle_depth(relative, sparse_truth, space, (0.01, 1000)) == pytest.approx(
        truth, rel=1e-6
    )


def test_oracle_refuses_a_constant_prediction_and_no_truth():
    rising, limits = np.arange(1.0, 10), (0.1, 100)
    for constant in np.linspace(0.1, 0.9, 20):  # the mean of some differs by rounding
        assert np.isnan(oracle_depth(np.full(9, constant), rising, 'depth', limits)).all()
    assert np.isnan(oracle_depth(rising, np.full(9, np.nan), 'depth', limits)).all()


def test_disparity_that_is_fitted_below_zero_is_a_thousand_metres_or_the_limit():
    relative, truth = np.array([0.0, 0.5, 0.9]), np.array([np.nan, 10.0, 2.0])
    for high in (80.0, np.inf):
        fitted = oracle_depth(relative, truth, 'disparity', (0.1, high))
        assert fitted == pytest.approx([min(high, 1000.0), 10.0, 2.0])


LIMITS = {
    'marigold-kitti': (1e-5, 80),
    'marigold-kitti-garg': (1e-5, 80),
    'marigold-nyu': (1e-3, 10),
    'marigold-scannet': (1e-3, 10),
    'marigold-eth3d': (1e-5, np.inf),
    'marigold-diode': (0.6, 350),
}
SHAPES = {'marigold-nyu': (480, 640), 'marigold-eth3d': (1100, 1300)}


def crop_window(name):
    """First and last row and column of what is scored of a cropped image, counted by hand."""
    return {
        'marigold-kitti': (117, 321, 43, 1172),  # int(.3324324 * 352), int(.91351351 * 352), …
        'marigold-kitti-garg': (143, 349, 43, 1172),
        'marigold-nyu': (45, 471, 41, 601),
    }.get(name)


def as_published(relative, truth, space, name):
    """Crop, mask, fit and clip pixel by pixel as the papers' evaluation says; p and g scored."""
    low, high = LIMITS[name]
    if 'kitti' in name:
        height, width = truth.shape
        left = int((width - 1216) / 2)
        relative, truth = (x[height - 352 :, left : left + 1216] for x in (relative, truth))
    counts = truth > 0 if 'diode' in name else (truth > low) & (truth < high)
    window = crop_window(name)
    if window:
        inside = np.zeros_like(counts)
        inside[window[0] : window[1], window[2] : window[3]] = True
        counts &= inside
    x, y, mask = relative, truth, counts
    if 'eth3d' in name and max(truth.shape) > 1024:
        smaller = torch.nn.Upsample(scale_factor=1024 / max(truth.shape), mode='nearest')
        x, y, mask = (
            smaller(torch.as_tensor(part.astype(np.float64))[None])[0].numpy()
            for part in (relative, truth, counts)
        )
        mask = mask > 0
    if space == 'disparity':
        mask = mask & (x > 0)
        y = np.divide(1.0, y, out=np.zeros_like(y), where=mask)
    x, y = x[mask], y[mask]
    line = stats.linregress(x, y)
    aligned = line.slope * relative + line.intercept
    if space == 'disparity':
        aligned = 1.0 / np.clip(aligned, 1e-3, None)
    aligned = np.clip(np.clip(aligned, low, high), 1e-6, None)
    return aligned[counts], truth[counts]


@pytest.mark.parametrize('space', ['depth', 'disparity'])
@pytest.mark.parametrize('name', PUBLISHED)
def test_the_published_evaluation_is_met_to_a_millionth(name, space):
    rng = np.random.default_rng(len(name))
    shape = SHAPES.get(name, (375, 1242))
    truth = np.exp(rng.normal(1.5, 1.2, shape))
    truth[rng.random(shape) < 0.3] = 0.0
    # Ends of the range do not count.
    for end in (LIMITS[name][0], min(LIMITS[name][1], 350)):
        truth[rng.random(shape) < 0.03] = end
    value = 1 / np.maximum(truth, 0.3) if space == 'disparity' else truth
    relative = np.clip(value / 30 + rng.normal(0, 0.05, shape), 0, 1)
    pairs = published_pairs(relative, truth, space, PUBLISHED[name])
    predicted, counted = pairs.predicted, pairs.truth
    expected, known = as_published(relative, truth, space, name)
    chosen = np.isfinite(counted)
    np.testing.assert_allclose(counted[chosen], known, rtol=1e-12)
    np.testing.assert_allclose(predicted[chosen], expected, rtol=1e-6)
    ours, theirs = depth_metrics(predicted, counted), depth_metrics(expected, known)
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_every_rule_that_is_offered_is_known():
    assert (OWN, *PUBLISHED) == ORACLES


@pytest.mark.parametrize(
    ('name', 'shape'), [('marigold-kitti', (351, 1300)), ('marigold-nyu', (481, 640))]
)
def test_an_image_of_the_wrong_size_for_a_crop_is_refused(name, shape):
    truth = np.ones(shape)
    with pytest.raises(ConfigurationError):
        published_pairs(truth, truth, 'depth', PUBLISHED[name])


def test_results_describe_the_rule_and_deviations_from_it():
    described = describe_oracle('marigold-kitti', (0.1, 100), 'log')
    assert described['rule'] == 'marigold-kitti'
    assert '80 m' in described['text']
    assert 'no published rule' in described['text']
    assert 'no published rule' not in describe_oracle('own', (0.1, 100), 'log')['text']
    texts = {name: describe_oracle(name, (0.1, 100), 'depth')['text'] for name in PUBLISHED}
    kitti = {'marigold-kitti', 'marigold-kitti-garg'}
    for part, names in {'lowest 352 rows': kitti, 'every n-th column': {'marigold-eth3d'}}.items():
        assert {name for name, text in texts.items() if part in text} == names
