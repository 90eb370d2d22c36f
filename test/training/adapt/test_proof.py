# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Planted errors decide what is installed; stripes on trained scan lines are found."""

from __future__ import annotations

from types import SimpleNamespace

from marigold_ros.frame import Prediction, SparseDepth
from marigold_training.adapt import judge
from marigold_training.adapt.judge import (
    DISPARITY,
    FLICKER,
    MEAN_MAP,
    mean_table,
    MEASURES,
    RANGES,
    Table,
)
from marigold_training.adapt.page import proof_page
from marigold_training.adapt.proof import (
    AFTER,
    BEFORE,
    block_length,
    compare,
    judge_fusion,
    judge_model,
    Proof,
    reasons,
)
import numpy as np
import pytest


def table(**errors: list[float]) -> Table:
    rows = Table()
    for name, values in errors.items():
        for value in values:
            rows.add(name.replace('_', ' '), dict.fromkeys(MEASURES, value))
    return rows


def maps(after: list[float]) -> Table:
    return table(**{BEFORE: [0.3] * 6, AFTER: after, MEAN_MAP.replace(' ', '_'): [0.2] * 6})


def test_short_recordings_need_five_of_six_frames_better():
    assert judge_model(maps([0.1] * 5 + [0.25]), {AFTER: 1.0}, 0.5)[0]
    assert not judge_model(maps([0.1] * 4 + [0.25] * 2), {AFTER: 1.0}, 0.5)[0]
    assert not judge_model(maps([0.25] * 6), {AFTER: 1.0}, 0.5)[0]  # the mean map is better


def test_stripes_are_a_reason_against():
    installed, found = judge_model(maps([0.1] * 6), {AFTER: 1.2}, 0.5)
    assert not installed
    lines = reasons(installed, 'relative model', found, 1.2)
    assert 'the base is kept' in lines[0]
    assert "1.20 times the base's" in lines[1]
    assert judge_model(maps([0.1] * 6), {}, 0.5)[0]


def test_blocks_of_a_correlated_series_are_longer_than_those_of_its_shuffled_frames():
    rng = np.random.default_rng(0)
    drive = np.zeros(400)
    for frame in range(1, 400):
        drive[frame] = 0.8 * drive[frame - 1] + rng.normal()
    assert block_length(drive) > 1.5 * block_length(rng.permutation(drive))


def test_long_recordings_need_an_interval_below_zero():
    rng = np.random.default_rng(0)
    before = rng.normal(0.3, 0.02, 60)
    clear = compare(before - 0.05 + rng.normal(0, 0.01, 60), before, 'a', 'b', 30.0)
    assert clear.better
    assert clear.interval[0] < -0.05 < clear.interval[1] < 0
    chance = compare(before + rng.normal(0, 0.05, 60) - 0.002, before, 'a', 'b', 30.0)
    assert not chance.better
    assert 'not shown to be better' in chance.text()


def test_errors_that_grew_in_all_frames_are_worse_and_not_only_not_better():
    worse = compare(np.full(16, 0.3), np.full(16, 0.2), AFTER, BEFORE, 5.0)
    assert worse.text().startswith('after is worse than before: +0.1000 (0 of 16 frames better)')
    few = compare(np.array([0.3, 0.1, 0.3, 0.1]), np.full(4, 0.19), AFTER, BEFORE, 5.0)
    assert 'not shown to be better' in few.text()
    assert 'as the adapted one is worse: ' in reasons(False, 'relative model', [worse])[0]
    rng = np.random.default_rng(0)
    grown = compare(0.3 + rng.normal(0, 0.01, 60), np.full(60, 0.2), AFTER, BEFORE, 30.0)
    assert grown.worse


def test_a_map_that_improved_and_is_not_kept_comes_with_what_would_help():
    installed, found = judge_model(maps([0.25] * 6), {AFTER: 1.0}, 0.5)
    assert not installed
    assert 'it did improve on before' in reasons(installed, 'relative model', found)[1]
    assert 'record drives of other places' in reasons(installed, 'relative model', found)[1]
    chance = compare(np.array([0.1, 0.1, 0.3, 0.3]), np.full(4, 0.25), AFTER, BEFORE, 1.0)
    assert 'that may be chance' in reasons(False, 'fusion network', [chance])[1]
    installed, found = judge_model(maps([0.1] * 6), {AFTER: 1.0}, 0.5)
    assert len(reasons(installed, 'relative model', found)) == 1


def test_frames_without_a_figure_are_left_out():
    found = compare(np.array([0.1, np.nan, 0.1]), np.array([0.2, 0.2, 0.2]), 'a', 'b', 1.0)
    assert (found.frames, found.better_frames, found.better) == (2, 2, True)
    assert not compare(np.zeros(0), np.zeros(0), 'a', 'b', 1.0).better


def test_fusion_must_beat_the_initial_network_and_interpolation():
    good = table(**{BEFORE: [0.2] * 6, AFTER: [0.1] * 6, DISPARITY.replace(' ', '_'): [0.15] * 6})
    assert judge_fusion(good, AFTER, BEFORE, 1.0)[0]
    worse = table(**{BEFORE: [0.2] * 6, AFTER: [0.1] * 6, DISPARITY.replace(' ', '_'): [0.05] * 6})
    assert not judge_fusion(worse, AFTER, BEFORE, 1.0)[0]


@pytest.mark.parametrize('strength', [0.0, 0.3])
def test_stripes_of_a_map_are_measured_on_the_trained_lines(strength):
    rows = np.arange(4, 60, 4)  # scan lines from below; every 4th of them is held
    # A steeper and steeper map is no stripe.
    ramp = np.repeat(np.linspace(0, 1, 64)[:, None] ** 2, 48, axis=1)
    striped = ramp.copy()
    for place, row in enumerate(rows):
        # A central difference of the step at a row is half of it.
        step = 2 * strength * (ramp[row + 1] - ramp[row - 1]) / 2
        striped[row:] += step * (place % 4 != 2)
    u, v = (part.ravel() for part in np.meshgrid(np.arange(2, 46), rows))
    ring = np.searchsorted(rows, v).astype(np.int32)
    angle = np.deg2rad(-20.0 + ring)  # lines are numbered by their elevation
    points = np.stack([np.cos(angle), 0.001 * u, np.sin(angle)], axis=1)
    lidar = SparseDepth(u, v, np.ones(len(u), np.float32), np.arange(len(u)))
    predictions = {
        BEFORE: Prediction(ramp.astype('f'), 'log'),
        AFTER: Prediction(striped.astype('f'), 'log'),
    }
    frame = SimpleNamespace(points_lidar=points)
    one = SimpleNamespace(
        frame=frame, item=SimpleNamespace(ring=ring), lidar=lidar, predictions=predictions
    )
    found = judge.stripes([one], (BEFORE, AFTER), 4)
    assert found[BEFORE] == pytest.approx(1.0)
    assert found[AFTER] == pytest.approx(1.0 + strength, abs=0.01)


@pytest.mark.parametrize(('space', 'error'), [('metric', 0.5), ('depth', 0.0)])
def test_metres_are_judged_without_a_fit_and_relative_maps_with_one(space, error):
    depth = np.linspace(2.0, 20.0, 64 * 48).reshape(64, 48).astype(np.float32)
    v, u = (part.ravel() for part in np.mgrid[:64:2, :48:2])
    lidar, maps = SparseDepth(u, v, depth[v, u]), {BEFORE: depth, AFTER: 1.5 * depth}
    one = SimpleNamespace(
        frame=SimpleNamespace(stamp_ns=0),
        lidar=lidar,
        predictions={name: Prediction(own, space=space) for name, own in maps.items()},
    )
    means = judge.judge_maps([one], np.log(2.0 * depth), (0.1, 80.0)).means()
    assert means[AFTER]['abs_rel'] == pytest.approx(error, abs=1e-6)
    assert means[BEFORE]['abs_rel'] == pytest.approx(0.0, abs=1e-6)
    of_mean = 1.0 if space == 'metric' else 0.0
    assert means['mean depth map']['abs_rel'] == pytest.approx(of_mean, abs=0.01) or error == 0.0


def points(count: int = 4000, far: float = 60.0) -> SparseDepth:
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, 320, count), rng.integers(0, 160, count)
    return SparseDepth(u, v, rng.uniform(1.0, far, count).astype(np.float32))


def test_ranges_hold_the_error_of_their_own_points():
    at = points()
    wrong = np.where(at.z < 10.0, 1.5, np.where(at.z < 20.0, 1.2, 1.0))
    scored = Table()
    scored.score('row', at.z * wrong, at, (160, 320), 0)
    means = scored.means()['row']
    expected = [0.5, 0.2, 0.0, 0.0]
    assert [means[name] for name in RANGES] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(means[FLICKER])  # of a single frame
    scored.score('near', points(far=9.0).z.astype(float), points(far=9.0), (160, 320), 0)
    assert np.isnan(scored.means()['near']['abs_rel 40 to 80 m'])


def test_flicker_is_the_change_of_the_error_and_not_of_the_scene():
    scored, at = Table(), points()
    for frame, factor in enumerate([1.0, 1.0, 1.1, 1.1 * 1.2]):
        nearer = SparseDepth(at.u, at.v, at.z * 0.9**frame)
        for row, error in (('steady', 1.3), ('flickering', factor)):
            depth = nearer.z.astype(float) * error
            scored.score(row, depth, nearer, (160, 320), frame * 100_000_000)
    assert scored.rows['steady'][FLICKER][1:] == pytest.approx([0.0] * 3, abs=1e-6)
    expected = np.log([1.0, 1.1, 1.2])
    assert scored.rows['flickering'][FLICKER][1:] == pytest.approx(expected, abs=1e-6)
    scored.score('steady', at.z * 2.0, at, (160, 320), 10**12)  # seconds later
    assert np.isnan(scored.rows['steady'][FLICKER][-1])


def test_the_mean_over_patterns_leaves_out_frames_that_one_lacks():
    one, other = table(after=[0.1, 0.3]), Table()
    other.add('after', dict.fromkeys(MEASURES, 0.5))
    other.add('after', {})
    mean = mean_table([one, other])
    assert mean.rows['after']['abs_rel'] == pytest.approx([0.3, 0.3])


def test_maps_of_a_close_scene_are_drawn_on_a_scale_that_is_not_zero():
    z = np.linspace(0.2, 0.4, 12, dtype=np.float32)
    v, u = np.divmod(np.arange(12), 4)
    seen = Prediction(z.reshape(3, 4), space='depth')
    frame = SimpleNamespace(rgb=np.zeros((3, 4, 3), np.uint8))
    judged = judge.Judged(None, frame, SparseDepth(u, v, z), {BEFORE: seen, AFTER: seen})
    page = proof_page(Proof(False, False, {}, {}, [], {}, 1.0, 1), [judged], {})
    assert 'map before; near, 0.2 m (yellow); far, 0.4 m (violet)' in page
