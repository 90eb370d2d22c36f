# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Several sources at once: each with its own noise, and the others go on without one."""

from dataclasses import replace
from itertools import permutations
import re

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError, InputError
from marigold_ros.frame import (
    Camera,
    Frame,
    GroundPlane,
    Prediction,
    SparseDepth,
    SparseInput,
    UNBOUNDED,
)
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.camera.rectification import rectified_valid
from marigold_ros.geometry.fusion.fuse import align
from marigold_ros.geometry.ground.plane import plane_depth
from marigold_ros.geometry.measured_points import measure_points, merge_points
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import as_reason
import numpy as np
import pytest

CONFIG = AlignmentConfig()
WIDTH, HEIGHT = 160, 120
CAMERA = Camera(np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]]), WIDTH, HEIGHT)
PLANE = GroundPlane(np.array([0.0, 1.0, 0.0]), 1.2, np.deg2rad(1.0))
WALL = 9.0


def scene():
    """Depth (H, W) of ground 1.2 m below the camera, and of a wall at 9 m."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    ground = plane_depth(PLANE, CAMERA.K, u, v)
    return np.where(np.isfinite(ground), np.minimum(np.nan_to_num(ground, nan=WALL), WALL), WALL)


def prediction():
    return Prediction((scene() / 20.0 - 0.02).astype(np.float32), None, 'depth', UNBOUNDED)


def points(z, u, v, **more):
    u, v = (part.ravel() for part in np.meshgrid(u, v))
    return SparseDepth(u, v, np.broadcast_to(np.float32(z), u.shape), **more)


def scan(row=55):
    """Points of a planar scanner on the wall, in the camera's frame."""
    u = np.arange(2, WIDTH, 3)
    x = (u - CAMERA.K[0, 2]) / CAMERA.K[0, 0] * WALL
    y = np.full(len(u), (row - CAMERA.K[1, 2]) / CAMERA.K[1, 1] * WALL)
    return np.stack([x, y, np.full(len(u), WALL)], axis=1)


def gathered(*inputs):
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), CAMERA, inputs=inputs)
    return measure_points(frame, prediction(), CONFIG)


@pytest.mark.parametrize('count', [1, 1000])
def test_each_point_of_a_scan_has_its_own_deviation(count):
    inputs = SparseInput('radar', scan(), np.eye(4), points_sigma=np.ones(count))
    with pytest.raises(InputError, match=rf'points_sigma \({count},\); .*each point'):
        gathered(inputs)


def test_deviations_follow_their_points_and_unknown_ones_add_nothing():
    given = np.float32(np.arange(len(scan())) + 1.0)
    given[[3, 7]] = np.nan, -1.0
    order = np.random.default_rng(0).permutation(len(given))
    radar = SparseInput('radar', scan()[order], np.eye(4), points_sigma=given[order])
    expected = np.nan_to_num(given).clip(0.0)
    np.testing.assert_array_equal(gathered(radar).sparse.sigma, expected)


def test_no_point_lies_where_rectification_leaves_the_image_empty():
    P = CAMERA.K * [[0.6, 1, 1], [1, 0.6, 1], [1, 1, 1]]
    camera = replace(CAMERA, distortion=(-0.05, 0, 0, 0, 0), P=P)
    wide = SparseInput('scan', scan() * (3.0, 1.0, 1.0), np.eye(4))
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), camera, inputs=[wide])
    sparse = measure_points(frame, None, CONFIG).sparse
    assert rectified_valid(camera)[sparse.v, sparse.u].all()
    assert 0 < len(sparse) < np.count_nonzero(np.abs(wide.points_lidar[:, 0]) < WALL * 80 / 60)


def test_one_source_alone_has_no_report():
    only = gathered(SparseInput('scan', points_lidar=scan(), T_cam_lidar=np.eye(4)))
    assert (len(only.sparse), only.reports) == (len(scan()), ())


@pytest.mark.parametrize(
    'given',
    [
        {'points_lidar': 1000.0 * scan(), 'T_cam_lidar': np.eye(4)},
        {'sparse_image': np.float32(1000.0 * scene())},
    ],
)
def test_points_in_millimetres_are_named_as_such_and_no_wrong_transform(given):
    found = gathered(SparseInput('sensor', **given))
    assert (found.sparse, found.refusal.code) == (None, 'too_far')
    assert 'max_depth is 100 m: check that their driver gives metres' in str(found.refusal)
    near = {name: value / 1000.0 for name, value in given.items() if name != 'T_cam_lidar'}
    assert len(gathered(SparseInput('sensor', **{**given, **near})).sparse) > 50
    many = np.repeat(-scan(), 99, axis=0)
    behind = SparseInput('sensor', points_lidar=many, T_cam_lidar=np.eye(4))
    assert (len(gathered(behind).sparse), gathered(behind).refusal) == (0, None)


@pytest.mark.parametrize(
    'given',
    [
        {'points_lidar': np.zeros((9, 3)), 'T_cam_lidar': np.eye(4)},
        {'points_lidar': np.full((9, 3), np.nan), 'T_cam_lidar': np.eye(4)},
        {'points_lidar': np.zeros((0, 3)), 'T_cam_lidar': np.eye(4)},
        {'sparse_image': np.full((HEIGHT, WIDTH), np.nan)},
        {'sparse_image': np.zeros((HEIGHT, WIDTH))},
    ],
)
def test_a_sensor_that_measures_nothing_is_no_wrong_transform(given):
    dead, lidar = SparseInput('sensor', **given), SparseInput('scan', scan(), np.eye(4))
    assert gathered(dead).refusal.code == 'nothing_measured'
    assert [one.refusal and one.refusal.code for one in gathered(dead, lidar).reports] == [
        'nothing_measured',
        None,
    ]


def test_scan_and_ground_together_fit_what_neither_fits_alone():
    flat = SparseInput('scan', points_lidar=scan(), T_cam_lidar=np.eye(4))
    alone = gathered(flat)
    assert align_map(prediction(), alone.sparse, CONFIG).state == 'none'  # all at one depth
    both = gathered(flat, SparseInput('ground', ground=PLANE))
    assert [(report.source, report.points > 20) for report in both.reports] == [
        ('scan', True),
        ('ground', True),
    ]
    for method in ('global', 'fused'):
        config = AlignmentConfig(method=method)
        found = align_map(prediction(), both.sparse, config, further=both.further)
        assert found.state == 'fitted'
        np.testing.assert_allclose(found.metric, scene(), rtol=0.05)


@pytest.mark.parametrize('factor', [0.7, 0.95, 1.0, 1.05, 1.3])
@pytest.mark.parametrize('source', ['depth_image', 'ground'])
def test_sources_that_disagree_in_depth_are_named_with_their_ratio(source, factor):
    v, u = (part.ravel() for part in np.mgrid[5:HEIGHT:7, 2:WIDTH:4])
    lidar = SparseInput('pointcloud', sparse=SparseDepth(u, v, np.float32(scene()[v, u])))
    further = SparseInput(source, sparse_image=np.float32(factor * scene()))
    if source == 'ground':
        further = SparseInput(source, ground=replace(PLANE, height=factor * PLANE.height))
    found = gathered(lidar, further)
    first, report = found.reports
    assert report.points > 0
    # The ground does not lead beside a LiDAR, so that no depth is in dispute.
    assert (found.dispute > 0) == (source == 'depth_image' and abs(factor - 1.0) > 0.1)
    if abs(factor - 1.0) < 0.1:
        assert first.reason == report.reason == ''
    else:  # which of the two errs is unknown
        assert report.refusal.values['ratio'] == pytest.approx(factor, rel=0.05)
        assert 'times that of pointcloud' in report.reason
        assert first.refusal.values['ratio'] == pytest.approx(1.0 / factor, rel=0.05)


def depth_images(*factors):
    """Registered depth images of the scene, each wrong by a factor, as sources a, b, …."""
    return [
        SparseInput(name, sparse_image=np.float32(factor * scene()))
        for name, factor in zip('abcd', factors, strict=False)
    ]


@pytest.mark.parametrize('place', [0, 2])
def test_a_radar_disagrees_with_none_and_leaves_the_others_comparable(place):
    inputs = depth_images(1.0, 1.3)
    inputs.insert(place, SparseInput('radar', radar(0), np.eye(4), kind=PointKind.RADAR))
    reports = {report.source: report for report in gathered(*inputs).reports}
    assert [reports[name].reason != '' for name in ('radar', 'a', 'b')] == [False, True, True]
    assert reports['b'].refusal.values['other'] == 'a'


@pytest.mark.parametrize('factor', [0.5, 2.0])
@pytest.mark.parametrize('place', range(3))
def test_of_three_sources_the_one_that_two_contradict_is_left_out(factor, place):
    found = gathered(*depth_images(*np.where(np.arange(3) == place, factor, 1.0)))
    reasons = [report.refusal for report in found.reports]
    assert [reason is not None for reason in reasons] == (np.arange(3) == place).tolist()
    assert reasons[place].values['ratio'] == pytest.approx(factor)
    assert 'left out' in str(reasons[place])
    assert found.reports[place].points == found.dispute == 0
    np.testing.assert_allclose(found.sparse.z, scene()[found.sparse.v, found.sparse.u], rtol=1e-5)


def test_where_each_of_three_sources_differs_none_is_left_out():
    found = gathered(*depth_images(1.0, 0.7, 1.5))
    assert {one.refusal.code for one in found.reports} == {'sources_disagree'}
    assert [one.refusal.values['other'] for one in found.reports] == ['c', 'c', 'b']
    assert found.dispute == pytest.approx(1.5 / 0.7 - 1.0)


@pytest.mark.parametrize(
    'factors',
    [
        (1.0, 1.2, 1.15, 1.07),  # the second is contradicted as often as the first
        (1.0, 1.2, 1.34, 1.27),  # of those that contradict the first, two contradict each other
    ],
)
def test_none_is_left_out_where_the_others_agree_on_no_other_depth(factors):
    reports = gathered(*depth_images(*factors)).reports
    assert {one.refusal.code for one in reports} == {'sources_disagree'}


def test_none_is_left_out_between_one_that_is_nearer_and_one_that_is_farther():
    whole, nearer, farther = depth_images(1.0, 0.7, 1.3)
    nearer.sparse_image[:, WIDTH // 2 :] = farther.sparse_image[:, : WIDTH // 2] = np.nan
    reports = gathered(whole, nearer, farther).reports
    assert {one.refusal.code for one in reports} == {'sources_disagree'}


@pytest.mark.parametrize('factors', [(1.0, 1.0, 1.4, 1.4), (1.0, 1.3, 0.7), (1.0, 1.0, 0.5)])
def test_which_sources_are_doubted_does_not_depend_on_their_order(factors):
    ground = SparseInput('ground', ground=replace(PLANE, height=1.3 * PLANE.height))
    inputs = [ground, *depth_images(*factors)]
    found = [gathered(*some) for some in list(permutations(inputs))[::11]]
    outcomes = {
        frozenset((one.source, one.points, one.refusal and one.refusal.code) for one in f.reports)
        for f in found
    }
    assert len(outcomes) == 1
    np.testing.assert_allclose([f.dispute for f in found], found[0].dispute)


def noise(count, away=0.3):
    """Points of no surface, of a LiDAR above the camera."""
    rng, above = np.random.default_rng(0), np.eye(4)
    above[1, 3] = -away
    given = rng.uniform((-5.0, -4.0, 0.5), (5.0, 4.0, 12.0), (count, 3))
    return SparseInput('pointcloud', points_lidar=given, T_cam_lidar=above)


@pytest.mark.parametrize(
    ('wrong', 'code'),
    [
        (noise(1000), 'points_contradict'),
        (noise(20000), 'scattered'),
    ],
)
def test_of_two_sources_the_one_that_is_noise_is_left_out(wrong, code):
    for inputs in permutations((wrong, *depth_images(1.0))):
        found = gathered(*inputs)
        refusals = {report.source: report.refusal for report in found.reports}
        assert (refusals['pointcloud'].code, refusals['a']) == (code, None)
        assert (found.mounted is found.sparse, found.dispute) == (True, 0.0)


def test_points_that_are_scattered_stay_where_contradictions_only_warn():
    config = AlignmentConfig(contradiction='warn')
    inputs = noise(20000), SparseInput('landmarks', sparse=points(WALL, range(9), range(9)))
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), CAMERA, inputs=inputs)
    report = measure_points(frame, None, config).reports[0]
    assert (report.points > 0, report.refusal.code) == (True, 'scattered')


@pytest.mark.parametrize('turned', [np.s_[:, ::-1], np.s_[::-1]], ids=['mirrored', 'upside down'])
def test_a_source_of_mirrored_points_disagrees_although_its_depth_is_right_in_the_mean(turned):
    depth = np.float32(np.where(np.arange(WIDTH) < 80, scene() / 2, scene()))
    right, wrong = (
        SparseInput(n, sparse_image=z) for n, z in (('a', depth), ('b', depth[turned]))
    )
    for inputs in permutations((right, wrong)):
        found = gathered(*inputs)
        assert [one.refusal.code for one in found.reports] == 2 * ['sources_disagree']
        assert ' or 0.' in found.reports[0].reason
        assert found.dispute > 0.3
    rng = np.random.default_rng(0)
    noisy = SparseInput('c', sparse_image=depth * rng.lognormal(0.0, 0.2, depth.shape))
    assert [one.refusal for one in gathered(right, noisy).reports] == [None, None]


def test_a_sparse_source_disagrees_before_a_dense_one_as_after_it():
    v, u = (part.ravel() for part in np.mgrid[5:HEIGHT:30, 2:WIDTH:64])
    few = SparseInput('pointcloud', sparse=SparseDepth(u, v, np.float32(1.5 * scene()[v, u])))
    (dense,) = depth_images(1.0)
    assert [gathered(*some).dispute for some in ((few, dense), (dense, few))] == [0.0, 0.0]


def test_the_mounting_is_judged_by_the_most_points_that_a_scanner_has():
    landmarks = SparseInput('landmarks', sparse=points(WALL, range(2, 40, 4), range(8)))
    lidar = SparseInput('pointcloud', sparse=points(WALL, range(60, 150), range(8)))
    for inputs in permutations((landmarks, lidar, *depth_images(1.0))):
        assert len(gathered(*inputs).mounted) == len(lidar.sparse)


def test_two_sources_of_one_name_are_told_apart():
    same = [replace(item, source='pointcloud') for item in depth_images(1.0, 1.0, 1.4)]
    found = gathered(*same)
    assert [report.points > 0 for report in found.reports] == [True, True, False]
    np.testing.assert_allclose(found.sparse.z, scene()[found.sparse.v, found.sparse.u], rtol=1e-5)


def test_what_a_lidar_sees_past_a_thing_in_front_of_a_depth_camera_is_hidden():
    thing = np.zeros((HEIGHT, WIDTH), bool)
    thing[60:, 60:100] = True
    v, u = (part.ravel() for part in np.mgrid[:HEIGHT:2, :WIDTH:2])
    z = np.float32(np.where(thing, 0.9, scene()))[v, u]
    seen = SparseDepth(u, v, z, kind=PointKind.DEPTH_CAMERA).chosen(u < 120)
    camera = SparseInput('depth_image', sparse=seen)
    v, u = (part.ravel() for part in np.mgrid[5:HEIGHT:7, 1:WIDTH:4])
    past = SparseInput('pointcloud', sparse=SparseDepth(u, v, np.float32(scene()[v, u])))
    for inputs in ((camera, past), (past, camera)):
        lidar = gathered(*inputs).sparse
        lidar = lidar.chosen(lidar.part == inputs.index(past))
        inner = cv2.erode(thing.astype(np.uint8), np.ones((7, 7))) > 0
        assert not inner[lidar.v, lidar.u].any()
        # What it sees beside the thing, and where the camera sees nothing, stays.
        far = cv2.dilate(thing.astype(np.uint8), np.ones((7, 7)))[v, u] == 0
        assert set(zip(u[far], v[far], strict=True)) <= set(zip(lidar.u, lidar.v, strict=True))
    behind = replace(seen, z=2.0 * seen.z, kind=PointKind.LIDAR)
    for window in (1, 3):
        config = AlignmentConfig(occlusion_window=window)
        hidden = merge_points([seen, behind], config)[0].counts.get('occluded', 0)
        assert hidden == (0 if window == 1 else len(behind))


def test_a_source_without_points_is_named_and_leaves_the_others():
    found = gathered(
        SparseInput('pointcloud', no_points=as_reason('no scan')),
        SparseInput('radar', points_lidar=np.zeros((3, 2)), T_cam_lidar=np.eye(4)),
        SparseInput('landmarks', points_lidar=scan(), T_cam_lidar=None),
        SparseInput('behind', points_lidar=-scan(), T_cam_lidar=np.eye(4)),
        SparseInput('mirrored', points_lidar=scan(), T_cam_lidar=np.diag([-1.0, 1.0, 1.0, 1.0])),
        SparseInput('scan', points_lidar=scan(), T_cam_lidar=np.eye(4)),
    )
    reasons = {report.source: report.reason for report in found.reports}
    assert found.reports[3].refusal.code == 'none_in_view'
    assert 'T_cam_lidar' in reasons['mirrored']
    assert reasons['pointcloud'] == 'no scan'
    assert 'shape (3, 2)' in reasons['radar']
    assert 'no transform' in reasons['landmarks']
    assert reasons['scan'] == ''
    assert len(found.sparse) == found.reports[-1].points > 20


@pytest.mark.parametrize('further', [(), ('scan',)])
def test_a_depth_camera_of_unknown_distortion_leaves_the_frame_and_other_sources(further):
    known = np.full((30, 40), np.float32(WALL))
    unknown = Camera(np.diag([25.0, 25.0, 1.0]), 40, 30, (0.1, 0.2), 'unified')
    depth = SparseInput(
        'depth_image', sparse_image=known, sparse_camera=unknown, T_cam_lidar=np.eye(4)
    )
    others = [SparseInput(name, scan(), np.eye(4)) for name in further]
    found = gathered(depth, *others)
    refusal = found.reports[0].refusal if further else found.refusal
    assert "distortion model is 'unified'" in str(refusal)
    assert len(found.sparse or ()) == len(further) * len(scan())


def test_without_any_points_the_reason_names_every_source():
    found = gathered(
        SparseInput('scan', no_points=as_reason('late')),
        SparseInput('radar', no_points=as_reason('off')),
    )
    assert found.sparse is None
    assert str(found.refusal) == 'scan: late; radar: off'


def test_without_a_camera_the_ground_says_so():
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), inputs=(SparseInput('g', ground=PLANE),))
    assert measure_points(frame, prediction(), CONFIG).refusal.code == 'no_camera'


def test_points_at_pixels_without_a_depth_are_left_out_and_counted():
    given = points(WALL, np.arange(5), [7], counts={'points': 5})
    z = np.float32([WALL, np.nan, 0.0, -1.0, np.inf])
    measured = gathered(SparseInput('landmarks', sparse=replace(given, z=z)))
    np.testing.assert_array_equal(measured.sparse.z, np.float32([WALL]))
    assert measured.sparse.counts == {
        'points': 5,
        'not_finite': 4,
        'farther_in_pixel': 0,
        'kept': 1,
    }


@pytest.mark.parametrize(
    'wrong', [np.zeros(5), np.zeros((0, 0)), np.ones((4, 5, 1)), np.ones((4, 5), object)]
)
def test_a_depth_image_that_is_none_is_refused_and_leaves_other_sources(wrong):
    bad, scanner = SparseInput('a', sparse_image=wrong), SparseInput('b', scan(), np.eye(4))
    with pytest.raises(InputError, match=re.escape(f'depth has shape {wrong.shape}')):
        gathered(bad)
    assert [one.points for one in gathered(bad, scanner).reports] == [0, len(scan())]


@pytest.mark.parametrize('u', [-1, WIDTH])
def test_a_point_outside_of_the_image_is_refused_by_its_place(u):
    with pytest.raises(AlignmentError, match=r'image is 160x120'):
        gathered(SparseInput('landmarks', sparse=points(WALL, [u], [7])))


def test_joining_keeps_each_point_with_its_own_deviation():
    one, other = points(2.0, [1, 2], [3]), points(5.0, [7], [8], sigma=np.array([0.4]))
    both = SparseDepth.joined([one, other])
    assert both.z.tolist() == [2.0, 2.0, 5.0]
    np.testing.assert_allclose(both.sigma, [0.0, 0.0, 0.4])
    assert SparseDepth.joined([one]) is one


def test_of_two_points_in_a_pixel_the_one_of_less_noise_stays():
    near = points(4.0, [5], range(30), sigma=np.full(30, 2.0))
    exact = points(5.0, [5, 9], range(30))
    found, _ = merge_points([near, exact], CONFIG)
    assert len(found) == 60
    assert set(found.z.tolist()) == {5.0}
    assert found.part.tolist() == [1] * 60
    assert found.chosen(np.arange(3)).part.tolist() == [1] * 3
    for pair in permutations(
        (points(5.0, [5], range(30), sigma=np.zeros(30)), replace(near, sigma=None))
    ):
        assert set(merge_points(pair, CONFIG)[0].z.tolist()) == {4.0}  # noise grows with depth


def test_points_that_extend_lead_and_the_others_count_in_the_fit_only():
    lidar = points(4.0, range(10), range(10))
    ground = points(6.0, range(9), range(9), kind=PointKind.GROUND)
    radar = points(7.0, range(8), range(8), kind=PointKind.RADAR)
    lead, further = merge_points([radar, ground, lidar], CONFIG)
    assert (lead.kind, len(lead), len(further)) == (PointKind.LIDAR, 100, 145)
    assert further.kind is PointKind.RADAR
    assert len(merge_points([ground, radar], CONFIG)[1]) == 64
    assert merge_points([radar], CONFIG) == (radar, None)


def test_merged_points_are_the_same_in_each_order_of_the_sources():
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, 20, (2, 300))
    seen = SparseDepth(u, v, np.float32(rng.uniform(3.0, 5.0, 300)))
    parts = [
        replace(seen, kind=PointKind.DEPTH_CAMERA),
        replace(seen, kind=PointKind.DEPTH_CAMERA).chosen(np.arange(0, 300, 2)),
        seen.chosen(np.arange(100)),
        replace(seen, z=2.0 * seen.z, sigma=seen.z).chosen(np.arange(40, 240)),
    ]
    merged = []
    for some in permutations(range(4)):
        lead, _ = merge_points([parts[number] for number in some], CONFIG)
        merged.append(np.stack([lead.u, lead.v, lead.z, lead.sigma, np.take(some, lead.part)]))
    for one in merged:
        np.testing.assert_array_equal(one, merged[0])


def test_too_few_points_that_extend_do_not_lead():
    few = points(4.0, range(5), [20])
    ground = points(6.0, range(9), range(9), kind=PointKind.GROUND)
    found, further = merge_points([few, ground], CONFIG)
    assert (found.kind, len(found) + len(further or ())) == (PointKind.GROUND, 86)


@pytest.mark.parametrize('sigma', [None, 3.0])
def test_a_source_of_large_deviation_hardly_moves_the_fit(sigma):
    truth = scene()
    v, u = (part.ravel() for part in np.mgrid[4:HEIGHT:8, 4:WIDTH:8])
    exact = SparseDepth(u, v, truth[v, u])
    stated = None if sigma is None else np.full(len(u), sigma)
    biased = SparseDepth(u, v, truth[v, u] * 1.2, sigma=stated, kind=PointKind.RADAR)
    config = AlignmentConfig(method='least_squares')
    lead, further = merge_points([exact, biased], config)
    found = align_map(prediction(), lead, config, further=further)
    change = float(np.abs(found.metric / truth - 1.0).mean())
    assert change > 0.08 if sigma is None else change < 0.02


def radar(seed, degrees=10.0, count=80):
    """Radar points of the scene, of elevations wrong by up to some degrees, a tenth ghosts."""
    rng = np.random.default_rng(seed)
    v, u = rng.integers(0, HEIGHT, count), rng.integers(0, WIDTH, count)
    z = scene()[v, u]
    ray = np.stack([(u - 79.5) / 100.0, (v - 59.5) / 100.0, np.ones(count)], axis=1) * z[:, None]
    reach = np.linalg.norm(ray, axis=1) * np.where(rng.random(count) < 0.1, 1.5, 1.0)
    azimuth = np.arctan2(ray[:, 0], ray[:, 2])
    height = np.arctan2(-ray[:, 1], np.hypot(ray[:, 0], ray[:, 2]))
    height += np.deg2rad(rng.uniform(-degrees, degrees, count))
    forward = reach * np.cos(height)
    return np.stack(
        [forward * np.sin(azimuth), -reach * np.sin(height), forward * np.cos(azimuth)], axis=1
    )


@pytest.mark.parametrize('seed', range(8))
def test_a_radar_of_wrong_elevations_gives_about_right_metres_or_a_reason(seed):
    seen = radar(seed)
    given = SparseInput(
        'radar',
        points_lidar=seen,
        T_cam_lidar=np.eye(4),
        points_sigma=0.3 * np.linalg.norm(seen, axis=1),
        kind=PointKind.RADAR,
    )
    found = align(prediction(), gathered(given).sparse, CONFIG)
    if found.state == 'fitted':
        assert abs(np.median(found.metric / scene()) - 1.0) < 0.25
        assert found.field is None
    else:
        assert found.reason
        assert found.metric is None


T_ABOVE = np.eye(4)
T_ABOVE[1, 3] = -0.5
RAW = replace(CAMERA, distortion=(-0.3, 0.1, 0, 0, 0), distortion_model='plumb_bob')
LARGE = SparseInput('d', sparse_image=np.kron(scene(), np.ones((2, 2))).astype(np.float32))
ABOVE = SparseInput('l', points_lidar=scan(), T_cam_lidar=T_ABOVE)
AT_PIXELS = SparseInput('p', sparse=points([WALL, np.nan], [3, 4], [7], counts={'points': 2}))


@pytest.mark.parametrize('camera', [CAMERA, RAW])
def test_points_at_pixels_and_those_of_a_registered_depth_image_are_the_same(camera):
    v, u = (part.ravel() for part in np.mgrid[5:HEIGHT:11, 4:WIDTH:9])
    z = np.float32(scene()[v, u])
    image = np.zeros((HEIGHT, WIDTH), np.float32)
    image[v, u] = z
    found = []
    for given in ({'sparse': SparseDepth(u, v, z)}, {'sparse_image': image.tolist()}):
        rgb, inputs = np.zeros((HEIGHT, WIDTH, 3), np.uint8), [SparseInput('one', **given)]
        sparse = measure_points(Frame(rgb, camera, inputs=inputs), None, CONFIG).sparse
        found.append(np.stack([sparse.u, sparse.v, sparse.z]))
    np.testing.assert_array_equal(*found)
    assert (found[0].shape == (3, len(u))) == (camera is CAMERA)


@pytest.mark.parametrize('camera', [CAMERA, RAW])
@pytest.mark.parametrize('inputs', [[LARGE], [ABOVE], [AT_PIXELS], [LARGE, ABOVE], [ABOVE, ABOVE]])
def test_each_point_is_kept_or_counted_by_why_it_is_not(inputs, camera):
    frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), camera, inputs=inputs)
    sparse = measure_points(frame, None, CONFIG).sparse
    counts = dict(sparse.counts)
    assert counts['kept'] == len(sparse)
    assert counts.pop('points') == sum(counts.values())
