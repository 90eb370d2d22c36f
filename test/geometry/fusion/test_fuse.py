# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Fused depth: metric by sound points whatever the map is, and no depth by bad points."""

from dataclasses import replace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry import align
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.fusion.fuse import fuse, FusionGuide
from marigold_ros.models.fusion.load import fusion_of
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason
import numpy as np
import pytest

CONFIG = AlignmentConfig()
SHAPE = (120, 160)
BLANK = Prediction(np.full(SHAPE, 0.5, np.float32))


@pytest.fixture(scope='module', params=['none', 'auto'])
def network(request):
    """Closed form, and the embedded network."""
    return fusion_of(None, request.param)


def street(n=400, seed=0):
    """Return the map of a road that recedes upwards, exact points on it, image and depth."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    truth = 4.0 + 36.0 * (1 - v / SHAPE[0]) ** 2 + 2 * np.sin(u / 20)
    v, u = np.divmod(rng.choice(truth.size, n, replace=False), SHAPE[1])
    rgb = np.repeat((4 * truth).astype(np.uint8)[..., None], 3, axis=2)
    prediction = Prediction(((truth - 1) / 45).astype(np.float32))
    return prediction, SparseDepth(u, v, truth[v, u].astype(np.float32)), rgb, truth


def error(alignment, truth):
    return float(np.mean(np.abs(alignment.metric / truth - 1)))


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


# What a useless map is, made of the right one in [0, 1].
USELESS = {
    'constant': lambda relative: np.full_like(relative, 0.5),
    'zeros': np.zeros_like,
    'not finite': lambda relative: np.full_like(relative, np.nan),
    'inverted': lambda relative: 1 - relative,
    'random': lambda relative: noise(relative.shape),
    'of another scene': lambda relative: (
        np.ascontiguousarray(relative.T[: SHAPE[0], :1] + 0.0)
        * np.linspace(1, 0, SHAPE[1], dtype=np.float32)
    ),
}


@pytest.mark.parametrize(
    'change', [lambda rgb: rgb[..., 0], lambda rgb: rgb / 255.0, lambda rgb: rgb[:-1]]
)
def test_an_image_that_is_not_that_of_the_map_is_refused(change):
    prediction, sparse, rgb, _ = street()
    with pytest.raises(AlignmentError, match=r'rgb is .* give the image .*\(120, 160, 3\) uint8'):
        align(prediction, sparse, CONFIG, rgb=change(rgb))


@pytest.mark.parametrize('method', ['fused', 'local'])
def test_the_order_of_the_points_does_not_matter(method, network):
    prediction, sparse, rgb, _ = street(n=9000)
    # Of two points at some pixels, one is farther.
    u, v, z = (np.append(side, side[::50]) for side in (sparse.u, sparse.v, sparse.z))
    z[len(sparse) :] *= 1.1
    order, config = np.random.default_rng(0).permutation(len(u)), AlignmentConfig(method=method)
    one, mixed = (
        align(prediction, SparseDepth(*points), config, rgb=rgb, network=network)
        for points in ((u, v, z), (u[order], v[order], z[order]))
    )
    np.testing.assert_array_equal(mixed.metric, one.metric)
    np.testing.assert_array_equal(mixed.sigma, one.sigma)
    np.testing.assert_array_equal(mixed.inlier, one.inlier[order])
    nearest = one.metric[sparse.v, sparse.u][::50]
    np.testing.assert_allclose(nearest, sparse.z[::50], rtol=0.05)


def test_points_gathered_beside_the_map_fit_give_the_same_depth(network):
    _, sparse, rgb, truth = street()
    relative = ((truth - 1) / 45 + 0.02 * noise(SHAPE)).astype(np.float32)
    fused = align(Prediction(relative), sparse, CONFIG, rgb=rgb, network=network)
    fit = align_map(Prediction(relative), sparse, CONFIG)
    alone = fuse(fit, sparse, CONFIG, FusionGuide(SHAPE, rgb, network))
    np.testing.assert_array_equal(fused.metric, alone.metric)
    np.testing.assert_array_equal(fused.sigma, alone.sigma)


def test_where_the_map_has_no_depth_every_build_of_opencv_gives_the_same(network):
    # ARM's and Debian's lack Intel's kernels, and so their functions of NaN.
    prediction, sparse, rgb, _ = street()
    prediction.relative[:30] = np.nan
    intel, found = cv2.ipp.useIPP(), []
    try:
        for use in (intel, False):
            cv2.ipp.setUseIPP(use)
            found.append(align(prediction, sparse, CONFIG, rgb=rgb, network=network).metric)
    finally:
        cv2.ipp.setUseIPP(intel)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


@pytest.mark.parametrize('kind', USELESS)
def test_a_useless_map_leaves_the_frame_metric_by_its_points_and_is_as_good_as_none(kind, network):
    right, sparse, rgb, truth = street()
    useless = Prediction(USELESS[kind](right.relative))
    fused, without = (
        align(prediction, sparse, CONFIG, rgb=rgb, network=network)
        for prediction in (useless, BLANK)
    )
    np.testing.assert_array_equal(fused.metric, without.metric)
    assert (fused.state, fused.refusal, fused.led_by) == ('fitted', None, 'points')
    assert fused.map_refusal
    assert np.isnan([fused.scale, fused.shift, fused.condition]).all()
    assert (fused.shares, fused.map_share) == ({'map': 0.0, 'points': 1.0}, None)
    assert fused.spread_log < 0.03
    assert np.isfinite(fused.metric).all()
    assert error(fused, truth) < 0.03
    np.testing.assert_array_equal(np.isfinite(fused.sigma), np.isfinite(fused.metric))


@given(clipped=st.integers(0, 10), seed=st.integers(0, 1000))
@settings(max_examples=min(60, settings().max_examples))
def test_the_fewest_points_fit_a_map_that_is_clipped_at_half_of_them(clipped, seed):
    right, sparse, _, _ = street(CONFIG.min_points, seed)
    nearest = np.argsort(sparse.z)[:clipped]
    low = right.relative[sparse.v, sparse.u][nearest].max(initial=0.0)
    prediction = Prediction(np.maximum(right.relative, low), censored=(float(low), 1.0))
    fit = align_map(prediction, sparse, CONFIG)
    assert fit.state == 'fitted'
    assert (fit.scale, fit.shift) == pytest.approx((45, 1), rel=1e-2)


def test_scale_and_shift_are_not_fitted_to_two_points():
    right, sparse, _, _ = street(3)
    low = float(right.relative[sparse.v, sparse.u].min())
    prediction = replace(right, censored=(low, 1.0))
    fit = align_map(prediction, sparse, replace(CONFIG, min_points=3))
    assert fit.refusal.values == {'usable': 2, 'offered': 3, 'needed': 3}


def test_fewer_points_than_a_fit_needs_leave_the_last_one_held():
    prediction, sparse, rgb, _ = street(60)
    last = align(prediction, sparse, CONFIG, rgb=rgb)
    few = sparse.chosen(np.arange(len(sparse)) < CONFIG.min_points - 1)
    held = align(prediction, few, CONFIG, previous=replace(last, age_ns=10**8), rgb=rgb)
    assert (held.state, held.led_by) == ('held', 'memory')


def test_a_good_map_is_fitted_and_improves_on_the_points_alone(network):
    prediction, sparse, rgb, truth = street(60)
    fused = align(prediction, sparse, CONFIG, rgb=rgb, network=network)
    alone = align(BLANK, sparse, CONFIG, rgb=rgb, network=network)
    assert (fused.scale, fused.shift) == pytest.approx((45, 1), rel=1e-2)
    assert fused.map_refusal is None
    assert fused.shares['map'] > 0
    assert sum(fused.shares.values()) == pytest.approx(1)
    assert error(fused, truth) < 0.5 * error(alone, truth)
    assert fused.sigma.mean() < 0.8 * alone.sigma.mean()
    twice = align(BLANK, replace(sparse, z=2 * sparse.z), CONFIG, rgb=rgb, network=network)
    assert twice.rms == pytest.approx(2 * alone.rms, rel=0.1)


def test_a_map_that_has_the_whole_share_is_published_with_its_detail():
    shape, rng = (480, 640), np.random.default_rng(0)
    v, u = np.indices(shape)
    truth = np.where(u % 8 < 2, 3.0, 5.0 + v / 200)  # posts as wide as a cell of the grid
    v, u = np.divmod(rng.choice(truth.size, 600, replace=False), shape[1])
    sparse = SparseDepth(u, v, truth[v, u].astype(np.float32))
    prediction = Prediction(((truth - 1) / 9).astype(np.float32))

    def network(channels):
        ones = np.ones_like(channels[0])
        return np.stack([channels[CHANNELS.index('map')], -4.0 * ones, ones])

    fused = align(prediction, sparse, CONFIG, rgb=np.zeros((*shape, 3), 'u1'), network=network)
    np.testing.assert_allclose(fused.map_share, 1.0)
    assert fused.led_by == 'map'
    assert error(fused, truth) < 1e-3


@pytest.mark.parametrize(
    ('share', 'leader', 'code'),
    [
        (0.002, 'points', 'map_gains_nothing'),
        (0.1, 'points', None),
        (0.4, 'points', None),
        (0.6, 'map', None),
    ],
)
def test_who_has_most_of_the_mixture_leads_and_hardly_a_share_is_none(share, leader, code):
    prediction, sparse, rgb, _ = street()

    def network(channels):
        return np.stack([np.full_like(channels[0], value) for value in (0.0, -6.0, share)])

    fused = align(prediction, sparse, CONFIG, rgb=rgb, network=network)
    assert fused.shares['map'] == pytest.approx(share, abs=0.01)
    assert (fused.led_by, getattr(fused.map_refusal, 'code', None)) == (leader, code)


def test_a_map_that_is_right_leads_beyond_the_points_whatever_the_network_says():
    prediction, sparse, rgb, truth = street()
    low = sparse.chosen(sparse.v > 60)
    fused = align(prediction, low, CONFIG, rgb=rgb, network=lambda c: np.zeros_like(c[:3]))
    assert fused.map_share[: len(fused.map_share) // 3].min() > 0.9
    assert error(fused, truth) < 0.02


@pytest.mark.parametrize(
    ('noise', 'error', 'holds'), [(0.0, 0.14, True), (0.15, 0.4, True), (0.15, 0.6, False)]
)
def test_a_map_that_errs_thrice_as_much_as_the_points_is_no_fit_to_hold(noise, error, holds):
    _, sparse, _, truth = street()
    scatter = np.random.default_rng(0).normal(0, noise, len(sparse))
    noisy = replace(sparse, z=(sparse.z * np.exp(scatter)).astype(np.float32))
    noisy.z[0] = np.nan
    fit = Alignment('fitted', scale=2.0, space='log', metric=truth.astype('f4'), saw_points=True)
    fit = replace(fit, held_out=np.full(len(noisy), np.log1p(error)))
    fused = fuse(fit, noisy, CONFIG, FusionGuide(SHAPE))
    assert (fused.state, fused.space, np.isfinite(fused.scale)) == ('fitted', 'log', holds)
    assert (fused.map_refusal.code, fused.shares['map']) == ('map_gains_nothing', 0.0)
    assert fused.n_points == len(noisy) > fused.n_inliers


def test_a_map_in_metres_needs_no_points_and_has_its_own_reason():
    _, sparse, _, truth = street()
    fit = Alignment('fitted', metric=truth.astype('f4'), space='metric', spread_log=0.1)
    few = sparse.chosen(np.arange(5))
    for points in (None, few, contradicting(sparse), replace(sparse, kind=PointKind.RADAR)):
        fused = fuse(fit, points, CONFIG, FusionGuide(SHAPE))
        assert (fused.state, fused.refusal) == ('fitted', None)
        assert (fused.led_by, fused.shares) == ('map', {'map': 1.0})
        if points is None or points.kind.extends:
            np.testing.assert_allclose(fused.sigma, 0.1 * fused.metric, rtol=1e-6)
    refused = Alignment(space='metric', refusal=Reason('one_depth', {'ratio': 1.0, 'least': 1.1}))
    assert fuse(refused, few, CONFIG, FusionGuide(SHAPE)).refusal == refused.refusal


def contradicting(sparse):
    z = np.exp(np.random.default_rng(1).uniform(-1, 4.5, len(sparse)))
    return replace(sparse, z=z.astype(np.float32))


REFUSED = {
    'no point': (lambda s: SparseDepth(s.u[:0], s.v[:0], s.z[:0]), 'few_points'),
    'too few points': (lambda s: SparseDepth(s.u[:19], s.v[:19], s.z[:19]), 'few_to_fuse'),
    'no finite point': (lambda s: replace(s, z=np.full_like(s.z, np.nan)), 'few_to_fuse'),
    'points behind the camera': (lambda s: replace(s, z=-s.z), 'few_to_fuse'),
    'points that contradict each other': (contradicting, 'points_contradict'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_bad_points_give_no_depth_and_a_reason(case, network):
    prediction, sparse, rgb, _ = street()
    change, code = REFUSED[case]
    fused = align(prediction, change(sparse), CONFIG, rgb=rgb, network=network)
    assert (fused.state, fused.metric, fused.sigma) == ('none', None, None)
    assert (fused.refusal.code, fused.map_refusal) == (code, None)


@pytest.mark.parametrize('count', [300, 3000])
def test_noise_is_no_scan_and_a_scan_of_which_a_third_is_wrong_is_one(count, network):
    _, sparse, rgb, _ = street(count)
    rng = np.random.default_rng(count)
    wrong = np.where(rng.random(count) < 1 / 3, rng.uniform(0.3, 3, count), 1.0)
    corrupted = replace(sparse, z=(sparse.z * wrong).astype(np.float32))
    noise = replace(sparse, z=rng.uniform(2, 40, count).astype(np.float32))
    assert align(BLANK, corrupted, CONFIG, rgb=rgb, network=network).state == 'fitted'
    refused = align(BLANK, noise, CONFIG, rgb=rgb, network=network)
    assert refused.refusal.code == 'points_contradict'


@pytest.mark.parametrize('seed', range(3))
def test_a_few_points_on_steep_ground_do_not_contradict_each_other(seed):
    place = np.random.default_rng(seed).choice(SHAPE[0] * SHAPE[1], 24, replace=False)
    v, u = np.divmod(place, SHAPE[1])
    steep = SparseDepth(u, v, (80 * np.exp(-v / 30)).astype(np.float32))
    assert fuse(Alignment(), steep, CONFIG, FusionGuide(SHAPE)).state == 'fitted'


@pytest.mark.parametrize('depth', [CONFIG.min_depth, 7.0, CONFIG.max_depth])
def test_points_at_one_depth_give_that_depth(depth, network):
    prediction, sparse, rgb, _ = street()
    wall = replace(sparse, z=np.full_like(sparse.z, depth))
    fused = align(prediction, wall, CONFIG, rgb=rgb, network=network)
    assert fused.map_refusal.code == 'one_depth'
    assert np.nanmedian(np.abs(fused.metric / depth - 1)) < 0.01
    assert np.isfinite(fused.metric[sparse.v, sparse.u]).all()


@pytest.mark.parametrize('count', [5000, 480 * 640])
def test_a_wall_goes_on_where_nothing_comes_back(count, network):
    v, u = np.mgrid[0:480, 0:640]
    wall = 1 / (0.25 + 0.1 * (u / 640 - 0.5) + 0.1 * (v / 480 - 0.5))
    hole = (abs(2 * v / 480 - 1) < 0.6) & (abs(2 * u / 640 - 1) < 0.6)
    seen = np.where(v < 60, 12.0, wall).astype(np.float32)  # the hole is not out of range
    rng = np.random.default_rng(0)
    place = np.flatnonzero(~hole)
    place = rng.choice(place, min(count, len(place)), replace=False)
    sparse = SparseDepth(place % 640, place // 640, seen.ravel()[place])
    rgb = np.clip(rng.normal(np.where(v < 60, 60, 120)[..., None], 20, (480, 640, 3)), 0, 255)
    guide = FusionGuide((480, 640), rgb.astype(np.uint8), network)
    fused = fuse(Alignment(), sparse, CONFIG, guide)
    assert error(replace(fused, metric=fused.metric[hole]), wall[hole]) < 0.05


def test_points_in_one_corner_leave_sigma_wide_elsewhere(network):
    _, sparse, rgb, _ = street(4000)
    corner = (sparse.u < 40) & (sparse.v > 90)
    few = SparseDepth(sparse.u[corner], sparse.v[corner], sparse.z[corner])
    fused = align(BLANK, few, CONFIG, rgb=rgb, network=network)
    relative = fused.sigma / fused.metric
    assert np.median(relative[:60, 80:]) > 5 * np.median(relative[95:, :35])


@settings(max_examples=min(30, settings().max_examples))
@given(seed=st.integers(0, 10**6), n=st.integers(20, 500), kind=st.sampled_from([*USELESS]))
def test_few_sound_points_suffice_and_two_thirds_are_within_sigma(seed, n, kind):
    right, sparse, rgb, _ = street(n, seed)
    prediction = Prediction(USELESS[kind](right.relative))
    fused = align(prediction, sparse, CONFIG, rgb=rgb)
    assert fused.state == 'fitted'
    wrong = np.abs(fused.metric[sparse.v, sparse.u] - sparse.z)
    within = wrong <= 1.001 * fused.sigma[sparse.v, sparse.u]
    assert np.mean(within[fused.inlier]) >= 0.66


@pytest.mark.parametrize('method', ['fixed', 'median', 'least_squares', 'global', 'local'])
def test_other_methods_are_the_fit_of_the_map(method, network):
    prediction, sparse, rgb, _ = street()
    config = AlignmentConfig(method=method)
    fit = align_map(prediction, sparse, config)
    other = align(prediction, sparse, config, rgb=rgb, network=network)
    np.testing.assert_array_equal(other.metric, fit.metric)
    assert (other.led_by, other.shares, other.sigma) == ('', None, None)


@settings(max_examples=min(20, settings().max_examples))
@given(seed=st.integers(0, 10**6), n=st.integers(3, 12))
def test_three_points_suffice_where_settings_say_so(seed, n):
    _, sparse, rgb, _ = street(n, seed)
    config = AlignmentConfig(min_points=3)
    fused = align(BLANK, sparse, config, rgb=rgb, network=fusion_of(None, 'auto'))
    assert fused.state == 'fitted'
    assert np.isfinite(fused.metric).all()
    assert np.isfinite(fused.sigma).all()
    # No nearer than a third of the nearest point, no farther than thrice the farthest.
    assert sparse.z.min() / 3 < fused.metric.min()
    assert fused.metric.max() < 3 * sparse.z.max()
