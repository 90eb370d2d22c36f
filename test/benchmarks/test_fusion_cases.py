# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The scores of fused depth: planted truth, missing depth, networks that are known."""

from functools import partial
import time

from fusion_cases import (
    ABLATIONS,
    CONDITIONS,
    FusionScene,
    MAPS,
    measure,
    METHODS,
    MODEL,
    only,
    thin_objects,
)
from fusion_cost import stage_ms
from marigold_ros.frame import Alignment, Prediction
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
from simulated_predictions import PointPattern

EXACT = partial(PointPattern, outliers=0.0, noise=0.0)


def road(height=96, width=128):
    """Return a scene whose disparity is linear in the image, without texture."""
    v, u = np.mgrid[0:height, 0:width]
    depth = (1 / (0.05 + 0.004 * v + 0.0005 * u)).astype(np.float32)
    return FusionScene(np.full((height, width, 3), 120, np.uint8), depth)


@pytest.fixture(scope='module')
def room():
    sample = make_sample(3, 128, 96, kind='room')
    return FusionScene(sample.rgb, sample.depth)


def score(scenes, pattern, network=None, ablate=False):
    found = measure(scenes, network, [pattern], lambda: None, ablate)
    return {case['map']: case for case in found}


def test_every_case_has_every_method_and_is_stepped_once(room):
    steps = []
    kinds = [kind for kind in MAPS if kind != MODEL]
    found = measure([room], None, CONDITIONS[1:3], lambda: steps.append(1), True)
    assert len(steps) == len(found) == 2 * len(kinds)
    for case in found:
        expected = set(METHODS)
        if case['map'] == 'none':
            expected -= {'local', 'global'}
        if case['map'] in ('none', 'objects'):
            expected |= set(ABLATIONS)
        assert set(case['methods']) == expected
        assert case['methods']['linear']['ratio'] == pytest.approx(
            {'abs_rel': 1, 'mae': 1, 'rmse': 1}
        )
        pixels = sum(part['pixels'] for part in case['by_range'])
        assert pixels == pytest.approx(96 * 128 / 4, rel=0.1)
        assert pixels == sum(case[f'{place}_points']['pixels'] for place in ('among', 'beyond'))
        assert 0 <= case['coverage'] <= 1
    assert {case['map'] for case in found} == set(kinds)


def test_on_a_road_disparity_is_better_than_depth_and_named_the_best():
    case = score([road()], EXACT('', 400))['none']
    errors = {name: found['abs_rel'] for name, found in case['methods'].items()}
    # Only at the border, outside of the points' hull, is it not exact.
    assert errors['disparity'] < 0.35 * errors['linear']
    assert errors['closed form'] < 0.7 * errors['linear']
    assert errors['nearest'] > errors['linear']
    assert case['best'] == 'disparity'
    expected = errors['fused'] / errors['disparity']
    assert case['of_best']['abs_rel'] == pytest.approx(expected, rel=1e-6)


def test_errors_are_those_of_the_planted_depth(monkeypatch):
    scenes = [road()]
    monkeypatch.setattr(
        'fusion_cases.interpolate_linear',
        lambda sparse, u, v, *more: (1.1 * scenes[0].depth[v, u],) * 2,
    )
    case = score(scenes, EXACT('', 400))['none']
    assert case['methods']['linear']['abs_rel'] == pytest.approx(0.1, rel=1e-4)
    fused = case['methods']['fused']
    assert fused['ratio']['abs_rel'] == pytest.approx(fused['abs_rel'] / 0.1, rel=1e-4)
    assert case['difference']['abs_rel']['mean'] == pytest.approx(fused['abs_rel'] - 0.1, rel=1e-4)
    assert case['worst_abs_rel'] == pytest.approx(fused['ratio']['abs_rel'], rel=1e-6)
    parts = [part for part in case['by_range'] if part['pixels']]
    assert len(parts) > 2
    assert all(part['linear'] == pytest.approx(0.1, rel=1e-4) for part in parts)


def test_the_map_of_a_model_is_one_of_the_maps():
    scene = road()
    planted = Prediction((scene.depth / scene.depth.max()).astype(np.float32))
    found = measure([scene], None, [EXACT('', 60)], lambda: None, predict=lambda rgb: planted)
    errors = {case['map']: case['methods']['local']['abs_rel'] for case in found[1:]}
    assert errors['model'] < 0.2 * min(errors['smooth'], errors['objects'])


def test_thin_objects_are_those_in_front_and_errors_count_where_they_are_too_far():
    depth = np.full((96, 128), 6.0, np.float32)
    depth[:, 60:63], depth[20:90, 80:125] = 3.0, 3.0
    thin = thin_objects(depth)
    assert thin[:, 60:63].all()
    assert not thin[:, :60].any()
    assert not thin[30:80, 90:115].any()
    scene = FusionScene(np.full((96, 128, 3), 120, np.uint8), depth)
    case = score([scene], EXACT('', 60), only('linear'))['none']
    shares = case['thin_too_far']
    assert 0.5 < shares['linear'] <= 1.0
    assert shares['fused'] == pytest.approx(shares['linear'], abs=0.15)


def test_without_depth_the_nearest_point_counts(monkeypatch):
    fuse = 'fusion_cases.fuse'
    monkeypatch.setattr(fuse, lambda *arguments: Alignment())
    case = score([road()], EXACT('', 100))['none']
    assert case['without_depth'] == 1
    assert np.isnan(case['coverage'])
    methods = case['methods']
    assert methods['fused'] == methods['closed form'] == methods['nearest']


def test_scenes_with_hardly_any_points_are_left_out(room):
    assert score([room], EXACT('', 19)) == {}


def test_a_network_that_chooses_a_candidate_gives_its_depth(room):
    methods = score([room], EXACT('', 300), only('linear'), ablate=True)['none']['methods']
    assert methods['fused'] == methods['linear alone']
    assert methods['closed form'] != methods['fused']


def test_coverage_is_the_share_of_errors_below_sigma(monkeypatch):
    scene = road()
    # A tenth off everywhere: within sigma on the left, where it is a fifth, not on the right.
    share = np.where(np.arange(128) < 64, 0.2, 0.05)
    stated = Alignment('fitted', metric=1.1 * scene.depth, sigma=share * scene.depth)
    monkeypatch.setattr('fusion_cases.fuse', lambda *more: stated)
    case = score([scene], EXACT('', 50))['none']
    assert case['coverage'] == pytest.approx(0.5, abs=0.02)
    among, beyond = case['among_points'], case['beyond_points']
    within = sum(part['coverage'] * part['pixels'] for part in (among, beyond))
    assert within == pytest.approx(case['coverage'] * (among['pixels'] + beyond['pixels']))


def test_half_of_an_image_without_points_is_mostly_beyond_them(room):
    every = score([room], EXACT('', 300))['none']['beyond_points']['pixels']
    half = score([room], EXACT('', 300, part='left'))['none']['beyond_points']['pixels']
    assert half > 96 * 128 / 4 * 0.48 > 2 * every


@pytest.mark.slow  # eight scenes
def test_eight_scenes_have_an_interval_around_the_mean_difference():
    scenes = [road(), road()] * 4
    difference = score(scenes, EXACT('', 200))['none']['difference']['abs_rel']
    low, high = difference['interval']
    assert low < difference['mean'] < high


@pytest.mark.parametrize('network', [None, only('smooth')])
def test_every_stage_is_timed_and_they_make_up_the_total(room, network, monkeypatch):
    # Of this process alone: on a busy machine, parts and total wait for different times.
    monkeypatch.setattr('fusion_cost.perf_counter', time.process_time)
    stages = stage_ms(room, 400, network, 5)
    assert ('network' in stages) == (network is not None)
    for times in stages.values():
        assert 0 < times['p50'] <= times['p95']
    whole = ('total', 'scoring sigma', 'scaling sigma')
    parts = sum(times['p50'] for name, times in stages.items() if name not in whole)
    assert 0.5 < parts / stages['total']['p50'] < 1.3


def test_claims_are_those_at_points_held_out_beside_the_true_errors(room):
    far = np.where(np.arange(128) < 64, 1.0, 1.3) * room.depth
    found = measure(
        [room],
        None,
        [EXACT('', 2000)],
        lambda: None,
        predict=lambda rgb: Prediction(far.astype(np.float32), space='metric'),
    )
    (case,) = (case for case in found if case['map'] == MODEL)
    of_map, of_points = case['claims']['map among'], case['claims']['points among']
    assert 0.5 < of_points['ratio'] < 2
    assert of_map['claimed'] < np.log(1.3)
    assert of_map['claimed'] == pytest.approx(of_map['ratio'] * of_map['true'])
    (plain,) = (case for case in found if case['map'] == 'none')
    assert plain['claims'] == {}
