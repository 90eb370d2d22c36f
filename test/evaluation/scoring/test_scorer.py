# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Planted frames through scorer, results and report."""

import csv
from dataclasses import replace
import json
import math
import re

import cv2
from marigold_ros.bags.frames import BagFrame
from marigold_ros.config import AlignmentConfig, LidarConfig, PipelineConfig
from marigold_ros.evaluation import depth_metrics
from marigold_ros.evaluation.baselines import BASELINE_TEXT, BASELINES
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.metrics.surfaces import surface_scores
from marigold_ros.evaluation.protocols.held_out import hold_out
from marigold_ros.evaluation.report.report import write_all
from marigold_ros.evaluation.results.results import assemble, describe, describe_bag
from marigold_ros.evaluation.scoring.report_frames import FrameSelector, ReportFrame
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.frame import (
    Alignment,
    Camera,
    Frame,
    FrameResult,
    Prediction,
    SparseDepth,
    SparseInput,
)
from marigold_ros.geometry import unproject_depth
from marigold_ros.pipeline import FramePipeline
from marigold_ros.spaces import from_metres
import numpy as np
import pytest

K = np.array([[120.0, 0, 79.5], [0, 120, 59.5], [0, 0, 1]])
T_CAM_LIDAR = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, -0.1], [0, 0, 0, 1]])


def planted(seed=0, lines=40):
    """A street-like truth and a scan of it: rows of the image are the scanner's lines."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:120, 0:160]
    truth = 4 + 20 * (1 - v / 119) + 2 * np.sin(u / 25) + rng.uniform(0, 0.1)
    truth[30:80, 60:90] = 6.0
    points_cam = unproject_depth(truth.astype(np.float32), K).astype(np.float64)
    rows = np.linspace(5, 114, lines).astype(int)
    chosen = points_cam[rows][:, 4:156:2]
    to_lidar = np.linalg.inv(T_CAM_LIDAR)
    points = chosen.reshape(-1, 3) @ to_lidar[:3, :3].T + to_lidar[:3, 3]
    ring = np.repeat(np.arange(lines), chosen.shape[1])
    rgb = np.repeat((truth * 8).astype(np.uint8)[..., None], 3, axis=2)
    frame = Frame(rgb, Camera(K, 160, 120), points, T_CAM_LIDAR, stamp_ns=seed * 100_000_000)
    return frame, truth.astype(np.float32), ring


def normalised(truth, space):
    value = {'log': np.log, 'disparity': lambda x: 1 / x}.get(space, lambda x: x)(truth)
    return ((value - value.min()) / (value.max() - value.min())).astype(np.float32)


# A planted map is recovered exactly by the fit of the map.
LOCAL = PipelineConfig(alignment=AlignmentConfig(method='local'))


def scorer_of(config=LOCAL):
    return Scorer(config.alignment, FramePipeline(None, config).finish)


def result_of(frame, prediction, metric, alignment=None, sigma=None, timings_ms=None):
    """Results of a frame whose published depth is known."""
    alignment = alignment or Alignment('none' if metric is None else 'fitted')
    seen = (frame.camera, frame.rgb, None, frame.stamp_ns, timings_ms or {})
    relative, space = prediction.relative, prediction.space
    return FrameResult(relative, space, alignment, metric, sigma, None, *seen)


def add(
    scorer,
    frame,
    prediction,
    metric,
    truth=None,
    ring=None,
    scan_stamp_ns=None,
    truth_is_rectified=False,
    **published,
):
    """Score a frame, and return its row."""
    item = BagFrame(frame, None, frame.stamp_ns, truth, scan_stamp_ns, ring)
    item = replace(item, truth_is_rectified=truth_is_rectified)
    return scorer.add(item, prediction, result_of(frame, prediction, metric, **published))


def scored(metric=None, space='depth', config=LOCAL):
    """Row and results of a planted frame of which this was published, the truth by default."""
    frame, truth, ring = planted()
    scorer, metric = scorer_of(config), truth if metric is None else metric
    prediction = Prediction(normalised(truth, space), space=space)
    return add(scorer, frame, prediction, metric, truth, ring), scorer.results()


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_a_plane_for_a_prediction_is_worth_a_plane_alone_and_the_truth_more(space):
    frame, truth, ring = planted()
    v, u = np.mgrid[0:120, 0:160]
    terms = np.stack([np.ones(u.size), u.ravel(), v.ravel()], axis=1)
    plane = terms @ np.linalg.lstsq(terms, from_metres(truth, space).ravel(), rcond=None)[0]
    predicted = plane.reshape(truth.shape), normalised(truth, space)
    for relative, is_better in zip(predicted, (False, True), strict=True):
        scorer = scorer_of(LOCAL)
        add(scorer, frame, Prediction(relative, space=space), truth, truth, ring)
        gained = -scorer.alone()['plane']['difference']
        assert gained > 0.05 if is_better else gained == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_a_perfect_prediction_scores_nothing_in_every_protocol(space):
    row, results = scored(space=space)
    protocols = results['protocols']
    assert set(protocols) == {'heldout', 'truth', 'oracle'}
    assert protocols['truth']['macro']['abs_rel'] == 0
    assert protocols['truth']['median_abs_rel'] == 0
    assert protocols['oracle']['macro']['abs_rel'] < 1e-5
    assert protocols['heldout']['macro']['abs_rel'] < 2e-3
    assert protocols['heldout']['n_points'] > 20 * row['n_lines']
    assert row['n_lines'] == 40


def test_truth_of_a_camera_that_rectification_turns_is_scored_along_its_new_axis():
    frame, _, _ = planted()
    angle = np.deg2rad(8.0)
    R = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    wall = np.full((120, 160), 10.0, np.float32)  # before the raw camera
    columns = (np.arange(160) - K[0, 2]) / K[0, 0]
    metric = np.tile(10.0 / (R[0, 2] * columns + R[2, 2]), (120, 1)).astype(np.float32)
    frame = replace(frame, camera=Camera(K, 160, 120, R=R))
    prediction = Prediction(normalised(metric, 'depth'))
    scorer = Scorer(AlignmentConfig())
    row = add(scorer, frame, prediction, metric, wall)
    assert row['truth_abs_rel'] < 1e-5
    # At the held-out points too, which themselves are not of the wall.
    heldout = scorer.results()['protocols']['heldout']
    assert heldout['at_truth']['macro']['abs_rel'] < 1e-5 < heldout['macro']['abs_rel']
    # Truth of the rectified image is along that axis already.
    row = add(scorer_of(), frame, prediction, metric, metric, truth_is_rectified=True)
    assert row['truth_abs_rel'] == 0


def test_ten_per_cent_too_far_is_a_tenth_and_the_median_too():
    _, results = scored(np.float32(1.1) * planted()[1])
    scores = results['protocols']['truth']
    assert scores['macro']['abs_rel'] == pytest.approx(0.1, abs=1e-6)
    assert scores['micro']['abs_rel'] == pytest.approx(0.1, abs=1e-6)
    assert scores['median_abs_rel'] == pytest.approx(0.1, rel=0.004)


def test_parts_of_the_image_and_surfaces_have_the_scores_of_their_pixels():
    frame, truth, ring = planted()
    v, u = np.mgrid[0:120, 0:160]
    metric = (truth * (1.1 + 0.3 * (u > 120) + 0.1 * (v < 30))).astype(np.float32)
    metric = cv2.blur(metric, (5, 5))  # with flying pixels
    scorer = Scorer(AlignmentConfig())
    row = add(scorer, frame, Prediction(normalised(truth, 'depth')), metric, truth, ring)
    parts = scorer.results()['protocols']['truth']['by_region']
    for name, valid in {'left': u < 54, 'right': u >= 107, 'top': v < 40}.items():
        expected = depth_metrics(metric, truth, valid)
        assert parts[name]['abs_rel'] == pytest.approx(expected['abs_rel'], rel=1e-6)
    surfaces = surface_scores(metric, truth, K)
    assert surfaces['flying_rate'] > 1
    np.testing.assert_equal({name: row[name] for name in surfaces}, surfaces)


@pytest.mark.parametrize('held_out', ['rings', 'azimuth'])
@pytest.mark.parametrize('every', [3, 8])
def test_the_depth_is_scored_at_the_points_of_the_chosen_split(held_out, every):
    frame, truth, ring = planted()
    metric = np.float32(1.1) * truth
    scorer = Scorer(AlignmentConfig(), None, every, held_out)
    row = add(scorer, frame, Prediction(normalised(truth, 'depth')), metric, truth, ring)
    split = hold_out(frame, AlignmentConfig(), every, ring, held_out)
    expected = len(split.fit), len(split.score), split.scan_lines.count
    assert (row['n_fit'], row['n_score'], row['n_lines']) == expected
    assert scorer.line_sources == {split.scan_lines.found_by: 1}
    # The report shows the frame at these points, beside the best baseline at them.
    ((_, shown),) = scorer.report_frames
    assert (shown.score.z == split.score.z).all()
    assert shown.abs_rel == pytest.approx(row['heldout_abs_rel'])
    errors = {name: row[f'heldout_{name}_abs_rel'] for name in BASELINES if name != 'global'}
    assert shown.baseline == min(errors, key=errors.get)
    assert shown.baseline_abs_rel == min(errors.values())
    assert (shown.K == K).all()


def test_scans_without_metric_depth_leave_the_baselines_of_the_truth_alone():
    frame, truth, ring = planted()
    scorer = Scorer(AlignmentConfig())
    add(scorer, frame, Prediction(normalised(truth, 'depth')), None, truth, ring)
    assert list(scorer.results()['protocols']) == ['oracle']
    assert (scorer.baselines_protocol, scorer.results()['baselines']) == ('truth', {})


@pytest.mark.parametrize('has_truth', [False, True])
def test_depth_that_grows_by_a_tenth_drifts_by_a_tenth(has_truth):
    frame, truth, ring = planted()
    scorer = Scorer(AlignmentConfig())
    for number, factor in enumerate((1.0, 1.1)):
        now = replace(frame, stamp_ns=number * 100_000_000)
        metric = (factor * truth).astype(np.float32)
        dense = truth if has_truth else None
        add(scorer, now, Prediction(normalised(truth, 'depth')), metric, dense, ring)
    drift = scorer.results()['temporal']['scale_drift']['ratio']
    assert drift == pytest.approx(np.log(1.1), rel=1e-3)


def test_figures_of_a_run_are_those_of_its_rows():
    rng = np.random.default_rng(0)
    scorer = Scorer(AlignmentConfig())
    scored_with_holes(0.0, scorer)
    one, two, alone, plane = rng.uniform(0.97, 1, (4, 40))
    two[:3] = 0.5
    scorer.rows = [
        {'heldout_within_1_sigma': a, 'heldout_within_2_sigma': b}
        | {'oracle_abs_rel': c, 'alone_plane_abs_rel': d}
        for a, b, c, d in zip(one, two, alone, plane, strict=True)
    ]
    low, high = mean_interval(two)
    assert high > 1
    assert scorer.results()['protocols']['heldout']['sigma_interval'] == [low, 1.0]
    assert set(scorer.alone()) == {'plane'}
    paired = scorer.alone()['plane']
    assert paired['abs_rel'] == pytest.approx(plane.mean())
    assert paired['difference'] == pytest.approx(alone.mean() - plane.mean())
    scorer.rows = scorer.rows[:7]
    assert scorer.results()['protocols']['heldout']['sigma_interval'] is None
    for milliseconds in range(101):
        scorer.time('predict', milliseconds)
    expected = {'p50': 50, 'p95': 95, 'p99': 99, 'max': 100, 'mean': 50, 'n': 101}
    assert scorer.results()['latency_ms']['predict'] == expected


def test_points_that_are_held_out_do_not_change_the_depth_scored_at_them():
    frame, truth, ring = planted()
    scan = replace(frame.lidar, points_sigma=np.linspace(0.01, 0.03, len(ring)))
    split = hold_out(frame, LOCAL.alignment, ring=ring)
    fitted = split.to_fit(replace(frame, inputs=(scan,))).lidar
    assert (fitted.points_sigma == scan.points_sigma[split.in_fit]).all()
    ratios = []
    for factor in (1.0, 1.05):
        # Along their rays: in the same pixels.
        camera_in_lidar = np.linalg.inv(T_CAM_LIDAR)[:3, 3]
        rays = factor * (scan.points_lidar - camera_in_lidar) + camera_in_lidar
        points = np.where(split.in_fit[:, None], scan.points_lidar, rays)
        moved = replace(frame, inputs=(replace(scan, points_lidar=points),))
        row = add(scorer_of(), moved, Prediction(normalised(truth, 'depth')), truth, ring=ring)
        ratios.append(row['heldout_median_ratio'])
    assert ratios[0] / ratios[1] == pytest.approx(1.05)


def test_metres_of_a_metric_model_are_scored_raw():
    frame, truth, ring = planted()
    scorer = scorer_of()
    prediction = Prediction((1.1 * truth).astype(np.float32), space='metric')
    add(scorer, frame, prediction, truth, truth, ring)
    assert scorer.results()['protocols']['raw']['macro']['abs_rel'] == pytest.approx(0.1, abs=1e-6)


def test_truth_beyond_the_depth_range_is_no_truth():
    row, _ = scored(config=PipelineConfig(alignment=AlignmentConfig(max_depth=10.0)))
    assert row['truth_n'] == np.count_nonzero(planted()[1] <= 10)


def test_a_frame_without_metric_depth_counts_as_processed_only():
    frame, truth, _ = planted()
    bare = Frame(frame.rgb)
    scorer = scorer_of()
    row = add(scorer, bare, Prediction(normalised(truth, 'depth')), None)
    assert not any(scorer.results().values())
    assert (scorer.n_metric, row['state']) == (0, 'none')


def test_baselines_are_scored_at_the_pixels_of_the_prediction():
    _, results = scored()
    assert set(results['baselines']) == set(BASELINE_TEXT)
    order = [results['baselines'][name]['abs_rel'] for name in ('constant', 'plane', 'quadric')]
    assert order[0] > order[1] > order[2] > results['protocols']['heldout']['macro']['abs_rel']


def test_a_useless_map_is_scored_by_what_led():
    frame, truth, ring = planted()
    prediction = Prediction(np.full(truth.shape, 0.5, np.float32))
    result = FramePipeline(None).finish(frame, prediction)
    scorer = scorer_of(PipelineConfig())
    row = add(scorer, frame, prediction, result.metric, truth, ring, alignment=result.alignment)
    assert (row['state'], row['led_by'], row['map_share']) == ('fitted', 'points', 0.0)
    assert 'constant' in row['map_reason']
    assert math.isnan(row['scale'])
    results = scorer.results()
    assert results['protocols']['truth']['macro']['abs_rel'] < 0.02
    # Without a fit the baseline has no depth of its own.
    baselines = results['baselines']
    assert baselines['global'] == {**baselines['nearest'], 'coverage': 0.0}


def test_without_scans_the_baselines_belong_to_the_dense_truth():
    frame, truth, _ = planted()
    v, u = np.mgrid[2:118:6, 2:158:6]
    sparse = SparseDepth(u.ravel(), v.ravel(), truth[v, u].ravel())
    scorer = scorer_of()
    inputs = [SparseInput('pointcloud', sparse=sparse)]
    frame = Frame(frame.rgb, frame.camera, inputs=inputs)
    metric = truth * np.tile(np.float32([1.0, 1.3]), (120, 80))
    add(scorer, frame, Prediction(normalised(truth, 'depth')), metric, truth)
    assert scorer.baselines_protocol == 'truth'
    results = scorer.results()
    assert set(results['baselines']) == set(BASELINE_TEXT)
    own, plane = results['protocols']['truth']['macro'], results['baselines']['plane']
    difference = results['baselines_paired']['plane']['rmse']['difference']
    assert difference == pytest.approx(own['rmse'] - plane['rmse'])  # at the same pixels


def with_holes(share, seed=5):
    """A frame, ten per cent too far, whose depth is missing at this share of the pixels."""
    frame, truth, ring = planted()
    metric = np.float32(1.1) * truth
    metric[np.random.default_rng(seed).random(truth.shape) < share] = np.nan
    return frame, truth, ring, metric


def scored_with_holes(share, scorer=None):
    frame, truth, ring, metric = with_holes(share)
    scorer, sigma = scorer or Scorer(AlignmentConfig()), np.full_like(metric, 1.0)
    prediction = Prediction(normalised(truth, 'depth'))
    row = add(scorer, frame, prediction, metric, truth, ring, sigma=sigma)
    return row, scorer.results()


@pytest.mark.parametrize('protocol', ['heldout', 'truth'])
def test_missing_depth_is_scored_as_that_of_the_nearest_fit_point(protocol):
    (whole, _), (holes, results), (empty, _) = map(scored_with_holes, (0.0, 0.5, 1.0))
    assert whole[f'{protocol}_n'] == holes[f'{protocol}_n'] == empty[f'{protocol}_n']
    shares = [row[f'{protocol}_coverage'] for row in (whole, holes, empty)]
    assert shares == [1.0, pytest.approx(0.5, abs=0.03), 0.0]
    scores = results['protocols'][protocol]
    assert scores['macro']['coverage'] == scores['micro']['coverage'] == shares[1]
    # Random holes: the error is about the mean of that of the depth and that of the substitutes.
    errors = [row[f'{protocol}_abs_rel'] for row in (whole, holes, empty)]
    assert errors[0] == pytest.approx(0.1, abs=1e-5)
    assert errors[1] == pytest.approx((errors[0] + errors[2]) / 2, abs=0.005)


def test_a_frame_that_leaves_every_pixel_out_scores_like_the_nearest_point():
    row, results = scored_with_holes(1.0)
    assert row['heldout_abs_rel'] == row['heldout_nearest_abs_rel'] > 0
    nearest, macro = results['baselines']['nearest'], results['protocols']['heldout']['macro']
    assert {**nearest, 'coverage': 0.0} == {
        **macro,
        'median_abs_rel': results['protocols']['heldout']['median_abs_rel'],
    }
    assert math.isnan(row['heldout_median_ratio'])


def test_what_is_left_out_changes_no_baseline_and_no_sigma():
    (_, whole), (row, holes) = scored_with_holes(0.0), scored_with_holes(0.5)
    for name in set(BASELINES) | {'mean_map'}:
        assert holes['baselines'][name] == whole['baselines'][name]
    # Sigma is 1 m at every pixel; depth is a tenth too far: within sigma below 10 m.
    truth, metric = with_holes(0.5)[1::2]
    within = (0.1 * truth < 1)[np.isfinite(metric)].mean()
    assert row['heldout_within_1_sigma'] == pytest.approx(within, abs=0.03)


def test_without_a_fit_point_missing_depth_is_left_out():
    frame, truth, _, metric = with_holes(0.5)
    scorer = scorer_of()
    bare = Frame(frame.rgb, frame.camera)
    row = add(scorer, bare, Prediction(normalised(truth, 'depth')), metric, truth)
    assert row['truth_n'] == np.isfinite(metric).sum()
    ((_, shown),) = scorer.report_frames
    assert (row['truth_abs_rel'], shown.abs_rel) == pytest.approx((0.1, 0.1), abs=1e-5)


def test_the_metres_of_the_model_itself_have_no_substitutes():
    frame, truth, ring, metric = with_holes(0.5)
    scorer = Scorer(AlignmentConfig())
    prediction = Prediction(metric, space='metric')
    row = add(scorer, frame, prediction, metric, truth, ring)
    for protocol in ('raw', 'oracle'):
        assert row[f'{protocol}_n'] == np.isfinite(metric).sum() < row['truth_n']


def sample(index, abs_rel):
    nothing = SparseDepth(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    rgb = np.zeros((2, 2, 3), np.uint8)
    blank = np.zeros((2, 2))
    return ReportFrame(
        index, rgb, blank, 'depth', None, nothing, nothing, np.zeros(0), abs_rel, math.nan
    )


@pytest.mark.parametrize('count', [1, 2, 5, 6, 7, 9, 13, 1000])
def test_at_most_eight_first_worst_and_best_frames_are_shown(count):
    errors = np.random.default_rng(count).random(count)
    keeper = FrameSelector()
    for index, error in enumerate(errors):
        keeper.add(sample(index, error))
    chosen = keeper.chosen()
    shown = [item.index for _, item in chosen]
    assert shown == sorted(set(shown))
    assert min(count, 6) <= len(shown) <= 8
    order = np.argsort(errors)
    assert {0, *order[:2], *order[-3:]} <= set(shown)
    named = {item.index: meaning.split(', ') for meaning, item in chosen}
    assert 'first' in named[0]
    assert 'best' in named[order[0]]
    assert 'worst' in named[order[-1]]
    if count > 6:
        ranks = {order[-2]: '2nd worst', order[-3]: '3rd worst', order[1]: '2nd best'}
        # The first frame bears no second rank.
        expected = {index: ['first' if index == 0 else rank] for index, rank in ranks.items()}
        assert {index: named[index] for index in ranks} == expected


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A folder with the results of three planted frames."""
    folder = tmp_path_factory.mktemp('results')
    bag = folder / 'a_bag'
    bag.mkdir()
    (bag / 'metadata.yaml').write_text('x')
    scorer = scorer_of()
    for seed in range(3):
        frame, truth, ring = planted(seed)
        add(
            scorer,
            frame,
            Prediction(normalised(truth, 'log'), space='log'),
            None if seed == 2 else truth,
            truth=truth,
            ring=ring,
            scan_stamp_ns=frame.stamp_ns + 3_000_000 * (-1) ** seed,
            timings_ms={'predict': 10.0 + seed, 'total': 20.0 + seed},
        )
    provenance = describe(
        [describe_bag(bag)],
        {'image': '/camera'},
        {'name': 'planted', 'path': str(folder)},
        LOCAL,
        LidarConfig(),
        {'sparse_source': 'bag'},
    )
    results = assemble(
        scorer, read=5, dropped=1, rejected={'step': 1}, rate=0.5, provenance=provenance
    )
    write_all(folder / 'out', results, scorer, 'Planted <frames>')
    return folder / 'out'


def test_results_json_has_the_promised_shape(written):
    results = json.loads((written / 'results.json').read_text())
    assert list(results) == [
        'schema',
        'frames',
        'rate',
        'protocols',
        'baselines',
        'baselines_paired',
        'latency_ms',
        'temporal',
        'surfaces',
        'alone',
        'provenance',
    ]
    assert results['schema'] == 1
    assert results['frames'] == {
        'read': 5,
        'processed': 3,
        'metric': 2,
        'dropped': 1,
        'rejected': {'step': 1},
    }
    for scores in results['protocols'].values():
        assert {'macro', 'micro', 'median_abs_rel', 'n_frames', 'n_points'} <= set(scores)
        assert {'by_range', 'near_field', 'by_region'} <= set(scores)
        assert scores['interval'] == {}  # of so few frames
        assert set(scores['macro']) == set(scores['micro']) == set(METRICS)
    assert results['protocols']['truth']['n_frames'] == 2
    assert results['protocols']['heldout']['n_frames'] == 3
    assert set(results['baselines']) == set(BASELINE_TEXT)
    assert results['latency_ms']['total']['p50'] == 21.0
    assert set(results['latency_ms']['predict']) == {'p50', 'p95', 'p99', 'max', 'mean', 'n'}
    provenance = results['provenance']
    assert provenance['scoring']['scan_dt_ms'] == {'mean': 3.0, 'p95': 3.0, 'max': 3.0}
    assert re.fullmatch('[0-9a-f]{64}', provenance['bags'][0]['sha256'])
    assert provenance['options']['alignment.method'] == 'local'
    assert provenance['options']['lidar.max_dt'] == 0.06
    assert {'python', 'numpy', 'torch'} <= set(provenance['versions'])


def test_nothing_written_names_a_folder_of_this_machine(written):
    for name in ('results.json', 'report.html', 'per_frame.csv'):
        assert str(written.parent) not in (written / name).read_text()


def test_per_frame_csv_has_a_row_a_frame_and_empty_cells(written):
    with (written / 'per_frame.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['stamp_ns'] for row in rows] == ['0', '100000000', '200000000']
    assert {(row['width'], row['height']) for row in rows} == {('160', '120')}
    assert [row['scan_dt_ms'] for row in rows] == ['3', '-3', '3']
    assert rows[2]['state'] == 'none'
    assert rows[2]['truth_abs_rel'] == rows[2]['map_share'] == ''
    assert float(rows[0]['heldout_abs_rel']) < 2e-3
    assert float(rows[0]['heldout_quadric_abs_rel']) > 0


def test_single_images_lie_beside_the_report(written):
    names = {path.name for path in (written / 'pictures').iterdir()}
    assert {f'frame_0000_{part}.png' for part in ('input', 'lidar', 'depth', 'error')} <= names
    assert 'frame_0002_relative.png' in names
