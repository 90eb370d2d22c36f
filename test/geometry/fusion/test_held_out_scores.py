# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The scored candidates of a frame and the input of the network: what each channel states."""

from dataclasses import replace

import cv2
from hypothesis import example, given, settings
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.fusion_channels import CHANNELS, OF_MAP
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.alignment.local_field import upsample_field
from marigold_ros.geometry.fusion.fuse import fuse, FusionGuide
from marigold_ros.geometry.fusion.held_out_scores import (
    judge_map,
    score_map,
    score_points,
    without_map,
)
from marigold_ros.geometry.fusion.mixing import log_depth_on_grid
from marigold_ros.geometry.fusion.work_grid import work_grid
import numpy as np
import pytest

SHAPE = (120, 160)
SEEDS = st.integers(0, 10_000)


def smooth_scene(seed=0, count=400, shape=SHAPE):
    """Return points of a smooth depth, that depth, and an image of noise."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    depth = (5 + 2 * np.sin(x / 35 + seed) + np.cos(y / 25)).astype(np.float32)
    v, u = np.divmod(rng.choice(depth.size, count, replace=False), shape[1])
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return SparseDepth(u, v, depth[v, u]), depth, image


def fitted(metric, held_out=None):
    return Alignment(state='fitted', metric=metric, held_out=held_out)


def scored_of(sparse, rgb=None, fit=None, shape=SHAPE):
    return score_map(score_points(sparse, rgb, shape), rgb, fit)


def channels_of(sparse, rgb=None, fit=None, shape=SHAPE):
    scored = scored_of(sparse, rgb, fit, shape)
    return scored, dict(zip(CHANNELS, scored.channels, strict=True))


def truth_on_grid(depth, grid):
    return log_depth_on_grid(depth, np.zeros((grid.rows, grid.columns), np.float32))


@pytest.mark.parametrize('place', [(-1, 5), (160, 5), (5, -1), (5, 120)])
def test_points_outside_of_the_image_are_refused(place):
    u, v = (np.append(np.arange(30), part) for part in place)
    with pytest.raises(AlignmentError, match='the image is 160x120'):
        score_points(SparseDepth(u, v, np.full(31, 4.0, np.float32)), None, SHAPE)


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.int32, np.uint64])
def test_pixels_may_be_of_any_type_of_integers(kind):
    sparse, _, image = smooth_scene()
    wanted, _ = channels_of(sparse, image)
    other = SparseDepth(sparse.u.astype(kind), sparse.v.astype(kind), sparse.z)
    found, _ = channels_of(other, image)
    np.testing.assert_array_equal(found.channels, wanted.channels)


@example(seed=0, height=20, width=134, points=2, parts=(True, True))  # both are contradicted
@settings(max_examples=min(30, settings().max_examples))
@given(
    seed=SEEDS,
    height=st.integers(1, 100),
    width=st.integers(1, 150),
    points=st.integers(1, 500),
    parts=st.tuples(st.booleans(), st.booleans()),
)
def test_channels_are_finite_and_bounded_for_any_frame(seed, height, width, points, parts):
    rng, shape = np.random.default_rng(seed), (height, width)
    u, v = rng.integers(0, width, points), rng.integers(0, height, points)
    sparse = SparseDepth(u, v, np.exp(rng.normal(1, 2, points)).astype(np.float32))
    rgb = rng.integers(0, 256, (*shape, 3), dtype=np.uint8) if parts[0] else None
    metric = np.exp(rng.normal(1, 2, shape)).astype(np.float32)
    metric[rng.random(shape) < 0.3] = np.nan
    held_out = np.where(rng.random(points) < 0.5, rng.normal(size=points), np.nan)
    fit = fitted(metric, held_out) if parts[1] else None
    scored, part = channels_of(sparse, rgb, fit, shape)
    grid = work_grid(shape)
    assert scored.channels.shape == (len(CHANNELS), grid.rows, grid.columns)
    assert scored.channels.dtype == np.float32
    assert np.isfinite(scored.channels).all()
    for name in ('smooth', 'nearest', 'low', 'high', 'map'):
        assert np.abs(part[name]).max() <= 1.5
    for name in ('red', 'green', 'blue'):
        assert np.abs(part[name]).max() <= 2
    for name in ('map_proof', 'point_proof'):
        assert np.abs(part[name]).max() <= 2


def test_without_image_and_map_their_channels_are_zero():
    _, part = channels_of(smooth_scene()[0])
    for name in ('red', 'green', 'blue', *OF_MAP):
        assert not part[name].any()


@pytest.mark.parametrize('state', ['held', 'none'])
def test_a_map_that_is_not_fitted_to_the_frame_does_not_count(state):
    sparse, depth, _ = smooth_scene()
    scored, part = channels_of(sparse, None, Alignment(state=state, metric=depth))
    assert scored.fitted is None
    assert not any(part[name].any() for name in OF_MAP)


def test_channels_give_the_candidates_back():
    sparse, depth, image = smooth_scene()
    scored, part = channels_of(sparse, image, fitted(depth))
    level = part['level'] + 1.5
    np.testing.assert_allclose(level, np.median(np.log(sparse.z)), rtol=1e-6)
    linear = part['linear'] + level
    np.testing.assert_allclose(linear, scored.points.candidates.linear, atol=1e-5)
    for name in ('smooth', 'nearest', 'low', 'high'):
        expected = getattr(scored.points.candidates, name)
        np.testing.assert_allclose(linear + part[name], expected, atol=1e-5)
    truth = truth_on_grid(depth, scored.points.candidates.grid)
    np.testing.assert_allclose(linear + part['map'], truth, atol=1e-5)
    assert (part['has_map'] == 1).all()


@settings(max_examples=min(15, settings().max_examples))
@given(seed=SEEDS, scale=st.floats(0.05, 20))
def test_a_factor_on_all_depths_changes_the_level_only(seed, scale):
    sparse, depth, image = smooth_scene(seed)
    ratio = np.random.default_rng(seed).normal(0, 0.1, len(sparse))
    _, plain = channels_of(sparse, image, fitted(depth, ratio))
    far = SparseDepth(sparse.u, sparse.v, np.float32(scale) * sparse.z)
    _, scaled = channels_of(far, image, fitted(np.float32(scale) * depth, ratio))
    np.testing.assert_allclose(scaled.pop('level'), plain.pop('level') + np.log(scale), atol=1e-4)
    for name, channel in plain.items():
        np.testing.assert_allclose(scaled[name], channel, atol=3e-3, err_msg=name)


def test_image_channels_are_those_of_the_image_around_zero():
    sparse, _, _ = smooth_scene()
    for value, expected in ((0, -2), (255, 2), (51, -1.2)):
        image = np.zeros((*SHAPE, 3), np.uint8)
        image[..., 1] = value
        _, part = channels_of(sparse, image)
        np.testing.assert_allclose(part['green'], expected, atol=1e-6)
        np.testing.assert_allclose(part['red'], -2)
        np.testing.assert_allclose(part['blue'], -2)


def test_places_are_marked():
    sparse = SparseDepth(np.array([10, 140, 80]), np.array([100, 100, 15]), np.ones(3, np.float32))
    scored, part = channels_of(sparse)
    grid = scored.points.candidates.grid
    _, count = grid.mean_in_cells(sparse.u, sparse.v, sparse.z)
    np.testing.assert_array_equal(part['occupied'], count > 0)
    assert (part['distance'][count > 0] == -1.5).all()
    assert part['distance'][count == 0].min() > -1
    assert part['inside'][grid.rows // 2, grid.columns // 2] == 1
    assert part['inside'][0, 0] == part['inside'][-1, -1] == 0
    assert (np.diff(part['row'], axis=0) > 0).all()
    assert part['row'][0, 0] == -1
    assert part['row'][-1, 0] == 1


def test_proof_is_worse_where_held_out_points_err_more():
    sparse, depth, _ = smooth_scene(count=800)
    right = sparse.u > 80
    held_out = np.where(right, 0.4, 0.01)
    held_out[::7] = np.nan
    _, part = channels_of(sparse, None, fitted(depth, held_out))
    columns = part['map_proof'].shape[1]
    left, right = part['map_proof'][:, : columns // 3], part['map_proof'][:, -(columns // 3) :]
    # 0.5 log(error + 0.005) + 1.5
    assert np.median(left) == pytest.approx(0.5 * np.log(0.015) + 1.5, abs=0.05)
    assert np.median(right) == pytest.approx(0.5 * np.log(0.405) + 1.5, abs=0.05)


@pytest.mark.parametrize('held_out', [None, np.full(400, np.nan)])
def test_a_map_that_was_not_held_out_at_any_point_has_neutral_proof(held_out):
    sparse, depth, _ = smooth_scene()
    _, part = channels_of(sparse, None, fitted(depth, held_out))
    assert not part['map_proof'][part['inside'] > 0].any()
    assert part['has_map'].all()


def test_outliers_are_left_out_together_with_their_errors():
    sparse, depth, _ = smooth_scene(count=900)
    rng = np.random.default_rng(1)
    wrong = rng.random(900) < 0.15
    z = np.where(wrong, sparse.z * rng.choice([0.4, 2.5], 900), sparse.z).astype(np.float32)
    held_out = np.where(wrong, 1.0, 0.0)
    corrupted = SparseDepth(sparse.u, sparse.v, z)
    scored = scored_of(corrupted, None, fitted(depth, held_out))
    assert scored.points.sound.shape == (900,)
    assert (~scored.points.sound[wrong]).mean() > 0.8
    assert scored.points.sound[~wrong].mean() > 0.95
    np.testing.assert_array_equal(scored.points.sparse.z, z[scored.points.sound])
    np.testing.assert_array_equal(scored.fitted.held_out, held_out[scored.points.sound])
    assert len(scored.points.candidates.held_out) == len(scored.points.sparse)


@pytest.mark.parametrize(
    ('seed', 'count', 'error', 'leaves_out'),
    [
        (1, 4, 0.002, True),
        (2, 4, 0.002, True),
        (1, 1, 0.002, False),  # a thing that it does not show
        (2, 12, 0.002, False),  # with so many it errs more than half as much as the points
        (1, 12, 0.05, False),  # it gains nothing at the others
    ],
)
def test_a_good_map_leaves_points_out_if_it_gains_at_the_others(seed, count, error, leaves_out):
    sparse, depth, _ = smooth_scene(seed, count=60)
    near = np.arange(60) < count
    z = np.where(near, np.float32(0.7) * sparse.z, sparse.z)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), 60)
    held_out = np.where(near, np.log(0.7), error * signs)
    scored = scored_of(SparseDepth(sparse.u, sparse.v, z), None, fitted(depth, held_out))
    np.testing.assert_array_equal(scored.points.sound, ~near if leaves_out else True)


def test_without_the_map_the_other_candidates_stay():
    sparse, depth, image = smooth_scene()
    ratio = np.zeros(len(sparse))
    reduced = without_map(scored_of(sparse, image, fitted(depth, ratio)))
    plain = scored_of(sparse, image)
    assert reduced.fitted is None
    np.testing.assert_array_equal(reduced.channels, plain.channels)


def test_log_depth_on_the_grid_is_a_mean_of_what_is_known():
    linear = np.full((64, 80), 0.5, np.float32)
    metric = np.full((128, 160), 3.0, np.float32)
    np.testing.assert_allclose(log_depth_on_grid(metric, linear), np.log(3), rtol=1e-6)
    metric[:, 80::2] = 12.0
    halves = log_depth_on_grid(metric, linear)
    np.testing.assert_allclose(halves[:, 40:], np.log(6), rtol=1e-6)
    metric[:, 81::2] = np.nan
    metric[:, :20], metric[::2, 20:40], metric[1, 41] = np.nan, 0.0, np.inf
    part = log_depth_on_grid(metric, linear)
    assert (part[:, :20] == 0.5).all()  # unknown, or known by half
    np.testing.assert_allclose(part[:, 20:40], np.log(3), rtol=1e-6)
    assert (part[:, 40:] == 0.5).all()


@pytest.mark.parametrize('factor', [1.0, 1.2])
@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_a_map_that_is_right_proves_it_at_the_border(space, factor):
    # So does one that the field corrects, by the points beside the border.
    sparse, depth, _ = smooth_scene(count=600)
    low = sparse.chosen(sparse.v > 45)
    metric = depth * np.where(np.arange(160) < 80, factor, 1.0).astype(np.float32)
    fit = Alignment(state='fitted', metric=metric, held_out=np.zeros(len(low)), space=space)
    scored = scored_of(low, None, fit)
    border = scored.points.candidates.border
    assert border.any()
    assert np.median(np.abs(scored.fitted.held_border[border])) < 0.03
    assert np.isnan(scored.fitted.held_border[~border]).all()


def test_a_map_that_is_wrong_beyond_a_line_does_not_prove_itself_there():
    sparse, depth, _ = smooth_scene(count=900)
    low = sparse.chosen(sparse.v > 45)
    wrong = depth * np.where(np.arange(SHAPE[0]) < 65, 1.5, 1.0)[:, None].astype(np.float32)
    fit = Alignment(state='fitted', metric=wrong, held_out=np.zeros(len(low)))
    scored = scored_of(low, None, fit)
    at_border = scored.points.candidates.border & (scored.points.sparse.v < 60)
    error = np.abs(scored.fitted.held_border[at_border])
    # The nearest of the others lie on either side of the line.
    assert 0.5 * np.log(1.5) < np.median(error) < 1.2 * np.log(1.5)
    proof = dict(zip(CHANNELS, scored.channels, strict=True))['map_proof']
    assert np.median(proof[: proof.shape[0] // 4]) > np.median(proof[-proof.shape[0] // 4 :]) + 0.5


def blocks_on_a_slope(seed=0):
    """Depth (120, 160) of a slope, with things on it that stand out by a third."""
    y = np.arange(SHAPE[0])[:, None]
    things = np.random.default_rng(seed).normal(0, 0.3, (10, 14))
    things = things.repeat(12, axis=0).repeat(12, axis=1)[:, : SHAPE[1]]
    return (3.0 * np.exp(0.01 * (119 - y) + things)).astype(np.float32)


def rows_of(depth, rows):
    """Points (M,) on rows of the lower two thirds of depth (120, 160)."""
    line = np.linspace(40, 119, rows).astype(int)
    v, u = (part.ravel() for part in np.meshgrid(line, np.arange(0, 160, 2), indexing='ij'))
    return SparseDepth(u, v, depth[v, u])


def relative_of(metric):
    return Prediction((metric - metric.min()) / np.ptp(metric))


def judged_of(sparse, metric):
    """Return a map (H, W) fitted to points, with a field, and judged."""
    fit = align_map(relative_of(metric), sparse, AlignmentConfig())
    return judge_map(scored_of(sparse, None, fit))


@pytest.mark.parametrize('rows', [6, 12, 24, 48, 80])
def test_a_map_that_errs_less_far_from_the_points_leads_there_however_dense_they_are(rows):
    # The closer the rows, the closer the points held out at the border are to the others, and the
    # less the nearest point errs at them; beyond, it is as far away as before.
    depth, rng = blocks_on_a_slope(), np.random.default_rng(0)
    error = cv2.GaussianBlur(rng.normal(0, 1, SHAPE), (0, 0), 8)
    metric = (depth * np.exp(0.2 * error / error.std())).astype(np.float32)
    judged, refusal = judged_of(rows_of(depth, rows), metric)
    assert refusal is None
    proved = judged.channels[CHANNELS.index('has_map')] > 0
    assert proved[~judged.points.candidates.inside].all()


@pytest.mark.parametrize('rows', [6, 24, 48, 80])
@pytest.mark.parametrize('seed', [1, 2, 3])
def test_a_map_of_another_scene_that_meets_the_border_by_chance_does_no_harm_beyond(rows, seed):
    # Its slope is the scene's, as that of any road or room, and its objects are not: the whole
    # map errs .05 more than the nearest point's .22.
    depth, foreign = blocks_on_a_slope(), blocks_on_a_slope(seed)
    sparse, guide = rows_of(depth, rows), FusionGuide(SHAPE)
    fit = align_map(relative_of(foreign), sparse, AlignmentConfig())
    with_map, without = (fuse(of, sparse, AlignmentConfig(), guide) for of in (fit, Alignment()))
    above = slice(0, sparse.v.min() - 1)
    errors = [np.abs(np.log(of.metric / depth))[above].mean() for of in (with_map, without)]
    assert errors[0] < errors[1] + 0.015


def deviation_of(sparse):
    """Return the mean deviation of log depth from its median."""
    log_depth = np.log(sparse.z)
    return np.abs(log_depth - np.median(log_depth)).mean()


def weight_beyond(of_map, at_border, in_blocks=0.55, scatter=0.0, farther=1.0, saw_points=False):
    """
    Weight beyond the points of a map with errors as parts of those of points and nearest.

    Its errors in blocks are parts of the mean deviation; those among points have a ``scatter``.
    """
    sparse, depth, _ = smooth_scene(count=200)
    low = sparse.chosen(sparse.v > 60)
    held_out = np.full(len(low), 0.1)
    scored = scored_of(low, None, fitted(depth, held_out))
    candidates = replace(scored.points.candidates, held_out=held_out, farther=farther)
    border = np.where(candidates.border, 0.1, np.nan)
    candidates = replace(candidates, held_border=border)
    blocks = np.full(len(low), in_blocks * deviation_of(low))
    of_map = of_map * np.resize([1 - scatter, 1 + scatter], len(low))
    parts = {'held_out': of_map * held_out, 'held_border': at_border * border}
    planted = replace(scored.fitted, held_blocks=blocks, **parts)
    points = replace(scored.points, candidates=candidates)
    planted = replace(scored, points=points, fitted=planted, saw_points=saw_points)
    judged, _ = judge_map(planted)
    beyond = ~candidates.inside
    has_map = judged.channels[CHANNELS.index('has_map')][beyond]
    if not has_map.any():
        return 0.0
    assert has_map.all()
    return judged.map_weight


def test_beyond_the_points_the_map_counts_by_its_error_over_that_of_the_nearest_point():
    # That is the one at the border, and 6 % for what no border shows.
    assert weight_beyond(1.0, 1.6) == pytest.approx(1 / 2)
    assert weight_beyond(1.0, 1.6 * 0.5**0.25) == pytest.approx(2 / 3)
    assert weight_beyond(1.0, 0.8) == 1.0  # 16 / 17 is above 0.7: all
    assert weight_beyond(1.0, 0.0) == 1.0
    assert weight_beyond(1.0, 3.2) == 0.0  # 1 / 17 is less than counts
    assert weight_beyond(1.0, 2.0, farther=1.4) == pytest.approx(1 / 2)
    # So do its errors among the points and in blocks.
    assert weight_beyond(2.0, 0.8) == pytest.approx(1 / 2)
    assert weight_beyond(1.0, 0.8, in_blocks=1.1) == pytest.approx(1 / 2)
    # Three standard errors are added, and a map that saw points can only be refuted.
    assert weight_beyond(1.0, 1.2) == 1.0
    assert weight_beyond(1.0, 1.2, scatter=1.0) < 0.7
    assert weight_beyond(1.0, 0.0, saw_points=True) == 0.0
    assert weight_beyond(0.3, 0.0, saw_points=True) == 1.0


def test_a_map_that_saw_points_is_judged_where_it_did_not_see_them_alone():
    sparse, depth, _ = smooth_scene(count=200)
    held_out = np.random.default_rng(0).normal(0, 0.1, 200)
    scored = scored_of(sparse, None, replace(fitted(depth, held_out), saw_points=True))
    border = scored.points.candidates.border
    assert scored.saw_points
    np.testing.assert_array_equal(scored.fitted.held_blocks, held_out)
    np.testing.assert_array_equal(scored.fitted.held_border, np.where(border, held_out, np.nan))


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity', 'metric'])
def test_blocks_of_points_show_what_a_map_misses_that_was_fitted_to_the_others(space):
    sparse, depth, _ = smooth_scene(count=600)
    wrong = sparse.u >= np.quantile(sparse.u, 0.75)
    for factor, least, most in ((1.0, 0.0, 0.01), (0.7, 0.2, 0.5)):
        planted = replace(sparse, z=np.where(wrong, sparse.z / np.float32(factor), sparse.z))
        fit = Alignment(state='fitted', metric=depth, held_out=np.zeros(600), space=space)
        errors = np.abs(scored_of(planted, None, fit).fitted.held_blocks)
        assert least <= np.median(errors[wrong]) <= most


def test_a_map_that_a_few_points_fit_was_held_out_at_no_block():
    sparse, depth, _ = smooth_scene(count=5)
    scored = scored_of(sparse, None, fitted(depth, np.zeros(5)))
    assert np.isnan(scored.fitted.held_blocks).all()


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_above_and_below_a_single_line_a_map_of_this_scene_leads_and_of_another_does_not(seed):
    depth, foreign = blocks_on_a_slope(), blocks_on_a_slope(seed)
    u = np.arange(0, 160, 2)
    line = SparseDepth(u, np.full(len(u), 70), depth[70, u])
    judged, refusal = judged_of(line, depth)
    beyond = ~judged.points.candidates.inside
    assert refusal is None
    assert not judged.points.candidates.border.any()
    assert judged.map_weight > 0.9
    fit = align_map(relative_of(depth), line, AlignmentConfig())
    error = np.log(fuse(fit, line, AlignmentConfig(), FusionGuide(SHAPE)).metric / depth)
    assert np.abs(error).mean() < 0.03  # the nearest point's is 0.3
    judged, refusal = judged_of(line, foreign)
    assert refusal is not None or not judged.channels[CHANNELS.index('has_map')][beyond].any()


def test_depth_at_half_the_weight_is_between_that_with_the_map_and_that_of_no_map(monkeypatch):
    depth, noise = blocks_on_a_slope(), np.log(blocks_on_a_slope(1) / blocks_on_a_slope(2))
    sparse, guide = rows_of(depth, 12), FusionGuide(SHAPE)
    fit = align_map(relative_of(depth * np.exp(noise)), sparse, AlignmentConfig())
    found = {}
    for weight in (1.0, 0.5, 1e-9):
        monkeypatch.setattr(
            'marigold_ros.geometry.fusion.fuse.judge_map',
            lambda scored, weight=weight: (replace(scored, map_weight=weight), None),
        )
        found[weight] = np.log(fuse(fit, sparse, AlignmentConfig(), guide).metric)
    alone = np.log(fuse(Alignment(), sparse, AlignmentConfig(), guide).metric)
    far = slice(0, sparse.v.min() - 12)
    assert np.abs(found[1.0] - alone)[far].mean() > 0.1
    np.testing.assert_allclose(found[1e-9][far], alone[far], atol=1e-6)
    np.testing.assert_allclose(found[0.5][far], (found[1.0] + alone)[far] / 2, atol=0.01)


@pytest.mark.parametrize(
    ('first', 'errors', 'has_share'),
    [
        (5, [0.1], True),
        (0, [0.1], False),  # as those of the points
        (0, [0.059], True),
        (0, [0.01] * 999 + [100.0], True),  # a single outlier decides nothing
        (0, [0.01] * 9 + [0.5], False),  # of the same mean, by chance
        (0, [0.0] + [np.nan] * 9999, False),
    ],
)
def test_a_map_among_points_all_over_has_a_share_only_by_what_it_gains(first, errors, has_share):
    _, depth, _ = smooth_scene()
    v, u = (part.ravel() for part in np.mgrid[first:120, 0:160:3])
    sparse = SparseDepth(u, v, depth[v, u])
    scored = scored_of(sparse, None, fitted(depth, np.full(len(sparse), 0.1)))
    candidates = scored.points.candidates
    assert not candidates.inside.all()
    # Perfect at a border where the nearest point is not, and as good as points among them.
    at_border = np.where(np.arange(len(sparse)) % 10 == 0, 0.3, np.nan)
    candidates = replace(candidates, held_out=np.full(len(sparse), 0.1), held_border=at_border)
    errors = np.resize(errors, len(sparse))
    planted = replace(scored.fitted, held_out=errors, held_border=0.0 * at_border)
    points = replace(scored.points, candidates=candidates)
    judged, refusal = judge_map(replace(scored, points=points, fitted=planted))
    assert (refusal is None) == has_share
    assert judged.channels[CHANNELS.index('has_map')].any() == has_share


def test_the_map_without_its_field_is_that_of_scale_and_shift():
    sparse, depth, _ = smooth_scene()
    field = np.linspace(0.8, 1.25, 12, dtype=np.float32).reshape(3, 4)
    corrected = depth * upsample_field(field, SHAPE)
    fit = Alignment(state='fitted', metric=corrected, field=field, held_out=np.zeros(len(sparse)))
    scored = scored_of(sparse, None, fit)
    truth = truth_on_grid(depth, scored.points.candidates.grid)
    assert np.abs(scored.fitted.affine - truth).max() < 0.01
