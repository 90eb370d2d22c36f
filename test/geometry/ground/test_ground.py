# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Points on the ground: found where there is ground, refused with a reason where there is none."""

from dataclasses import replace
from types import SimpleNamespace

from marigold_ros.config import AlignmentConfig, GroundConfig, PipelineConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Camera, Frame, Prediction, SparseDepth, SparseInput, UNBOUNDED
from marigold_ros.geometry.ground.plane import ground_plane, plane_depth, plane_of_pose
from marigold_ros.geometry.ground.points import find_ground, tilted
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import as_reason
from marigold_ros.spaces import from_metres
import numpy as np
import pytest

WIDTH, HEIGHT = 320, 240
K = np.array([[210.0, 0, 159.5], [0, 210.0, 119.5], [0, 0, 1]])
CONFIG = AlignmentConfig()
SETTINGS = GroundConfig(height=1.6, pitch=4.0)
FAR = 60.0


def plane_of(config=SETTINGS):
    return ground_plane(config, pose=None)


def rays():
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], -1)


def road(plane):
    """Depth of ground and a wall far away."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    return np.fmin(plane_depth(plane, K, u, v), FAR)


def street(plane):
    """Depth of ground, two boxes on it, and a wall far away."""
    depth = road(plane)
    for left, right, z in ((30, 90, 6.0), (240, 300, 9.0)):
        box = np.s_[91:, left:right]
        depth[box] = np.minimum(depth[box], z)
    return depth


def surface(depth_at, plane):
    """
    Depth of a height profile over the distance along the ground, by marching along the rays.

    ``depth_at`` maps distances (n,) to heights above the ground.
    """
    down = rays() @ plane.normal
    forward = np.array([0.0, -plane.normal[2], plane.normal[1]])
    along = rays() @ forward
    depth = np.full(down.shape, FAR)
    for z in np.geomspace(FAR, 0.5, 300):
        hit = plane.height - z * down <= depth_at(z * along)
        depth[hit] = z
    return depth


def prediction_of(depth, space='log', noise=0.0):
    value = from_metres(depth, space)
    low, high = value.min(), value.max()
    relative = 0.05 + 0.9 * (value - low) / (high - low)
    relative += np.random.default_rng(0).normal(0, noise, depth.shape)
    return Prediction(relative.astype(np.float32), None, space, UNBOUNDED)


def pipeline_of(*predictions, config=None):
    """A pipeline whose model gives the predictions in turn."""
    maps = list(predictions)
    model = SimpleNamespace(description={}, predict=lambda rgb, **options: maps.pop(0))
    return FramePipeline(model, config)


def frame_of(*inputs):
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return Frame(image, Camera(K, WIDTH, HEIGHT), inputs=inputs)


def processed(prediction, plane, config=None):
    frame = frame_of(SparseInput('ground', ground=plane))
    return pipeline_of(prediction, config=config).process(frame)


@pytest.mark.parametrize('space', ['log', 'disparity', 'depth'])
def test_points_lie_on_the_ground_and_not_on_the_boxes(space):
    plane = plane_of(replace(SETTINGS, height=1.1))
    depth = street(plane)
    points, refused = find_ground(prediction_of(depth, space, 0.002), K, plane, CONFIG)
    assert refused is None
    assert len(points) > 1000
    right = np.abs(points.z / depth[points.v, points.u] - 1) < 0.01
    assert right.mean() > 0.95
    assert points.kind is PointKind.GROUND


@pytest.mark.parametrize('space', ['log', 'disparity', 'depth'])
def test_the_pixels_of_the_ground_do_not_depend_on_the_unit(space):
    plane, any_depth = plane_of(), replace(CONFIG, min_depth=1e-3, max_depth=1e4)
    prediction = prediction_of(street(plane), space, 0.002)
    lower = replace(plane, height=0.3 * plane.height)
    one, other = (find_ground(prediction, K, at, any_depth)[0] for at in (plane, lower))
    np.testing.assert_array_equal(one.u, other.u)
    np.testing.assert_array_equal(one.v, other.v)
    np.testing.assert_allclose(other.z, 0.3 * one.z, rtol=1e-6)


def test_points_lie_within_the_range_of_depth_and_where_the_pitch_is_certain():
    plane = plane_of()
    limited = replace(CONFIG, min_depth=6.0, max_depth=15.0)
    points, _ = find_ground(prediction_of(road(plane)), K, plane, limited)
    assert 6.0 <= points.z.min() < 7.0 < 13.0 < points.z.max() <= 15.0
    unsure = plane_of(replace(SETTINGS, pitch_error=3.0))
    points, _ = find_ground(prediction_of(road(plane)), K, unsure, CONFIG)
    assert 0.18 < (points.sigma / points.z).max() <= 0.2


@pytest.mark.parametrize('gap', [0, 6])
def test_ground_beyond_something_that_divides_it_is_left_out(gap):
    plane = plane_of()
    depth = road(plane)
    depth[:200, 250:262] = depth[200 + gap :, 250:262] = 1.0
    points, _ = find_ground(prediction_of(depth), K, plane, CONFIG)
    assert 240 < points.u.max() < 250


@pytest.mark.parametrize('unknown', [np.nan, 0.0, 1.0])
def test_ground_is_not_looked_for_where_the_map_is_unknown_or_clipped(unknown):
    plane = plane_of()
    clear = prediction_of(road(plane))
    holed = clear.relative.copy()
    holed[:, 100:130] = unknown
    holed = replace(clear, relative=holed, censored=(0.0, 1.0))
    cells, found = (find_ground(one, K, plane, CONFIG)[0] for one in (clear, holed))
    assert not ((found.u >= 100) & (found.u < 130)).any()
    assert len(found) == found.counts['kept'] < found.counts['points']
    assert found.counts['points'] < 0.95 * cells.counts['points']


@pytest.mark.parametrize('method', ['global', 'local', 'fused'])
def test_the_ground_alone_gives_the_whole_image_its_metres(method):
    plane = plane_of()
    depth = street(plane)
    config = PipelineConfig(
        alignment=AlignmentConfig(method=method, ground_alone='all'), sky='fitted'
    )
    result = processed(prediction_of(depth, noise=0.002), plane, config)
    assert result.alignment.state == 'fitted'
    assert str(result.caution).startswith('metres from the ground plane alone')
    assert np.median(np.abs(result.metric / depth - 1)) < 0.01
    assert np.quantile(np.abs(result.metric / depth - 1), 0.95) < 0.05


def test_of_a_camera_that_rolls_too_the_points_at_that_depth_lie_on_the_plane():
    matrix = np.array([[210.0, 9.0, 131.5], [0, 190.0, 119.5], [0, 0, 1]])
    plane = replace(plane_of(), normal=np.array([0.3, 0.9, 0.1]) / np.sqrt(0.91))
    v, u = np.mgrid[:HEIGHT:8, :WIDTH:8]
    z = plane_depth(plane, matrix, u, v)
    seen = np.isfinite(z)
    rays = np.linalg.inv(matrix) @ np.stack([u, v, np.ones(u.shape)])[:, seen]
    np.testing.assert_allclose(plane.normal @ (rays * z[seen]), plane.height)
    assert 100 < seen.sum() < seen.size


def test_sigma_is_what_a_camera_tilted_by_the_error_of_the_pitch_changes():
    plane = plane_of()
    prediction = prediction_of(street(plane), noise=0.005)
    points, _ = find_ground(prediction, K, plane, CONFIG)
    np.testing.assert_allclose(points.sigma, points.z**2 / 1.6 * np.deg2rad(1.0), rtol=1e-5)
    sigma = processed(prediction, plane_of(replace(SETTINGS, pitch_error=2.0))).sigma
    # What a camera tilted so far changes, and a little for the map.
    straight, turned = (
        processed(prediction, tilted(plane, np.deg2rad(degrees))).metric for degrees in (0.0, 2.0)
    )
    part = (sigma / np.abs(turned - straight))[HEIGHT // 2 :]
    assert np.nanquantile(part, 0.05) > 0.9
    assert np.nanquantile(part, 0.95) < 1.4


def test_a_pitch_that_is_off_by_a_degree_changes_metres_by_a_few_per_cent():
    plane = plane_of()
    depth = street(plane)
    for degrees in (1.0, -1.0):
        wrong = tilted(plane, np.deg2rad(degrees))
        result = processed(prediction_of(depth, noise=0.002), wrong)
        near = (depth < 15.0) & np.isfinite(result.metric)
        assert near.mean() > 0.1
        assert abs(np.median((result.metric / depth)[near]) - 1) < 0.09


def test_by_default_what_stands_on_the_ground_is_withheld_with_its_sigma():
    plane = plane_of()
    depth = street(plane)
    result = processed(prediction_of(depth, noise=0.002), plane)
    shown = np.isfinite(result.metric)
    np.testing.assert_array_equal(np.isfinite(result.sigma), shown)
    assert result.counts['withheld'] == np.count_nonzero(~shown)
    rows, columns = np.nonzero(shown)
    on_plane = plane_depth(plane, K, columns, rows)
    assert np.quantile(np.abs(depth[shown] / on_plane - 1), 0.99) < 0.1
    assert 'not published' in str(result.caution)


def refusal(depth, plane, space='log'):
    points, reason = find_ground(prediction_of(depth, space, 0.002), K, plane, CONFIG)
    assert points is None
    return reason.code


HEIGHTS = {
    'stairs upwards': lambda d: np.clip(np.ceil((d - 1.5) / 0.3) * 0.17, 0, 2.5),
    'stairs downwards': lambda d: -np.clip(np.ceil((d - 2.5) / 0.3) * 0.17, 0, 3.0),
    'a ramp of 15 degrees': lambda d: np.clip((d - 1.0) * np.tan(np.deg2rad(15.0)), 0, 4.0),
    'a ramp of 25 degrees': lambda d: np.clip((d - 1.0) * np.tan(np.deg2rad(25.0)), 0, 4.0),
}


@pytest.mark.parametrize('kind', HEIGHTS)
def test_what_is_not_level_is_refused(kind):
    plane = plane_of()
    assert refusal(surface(HEIGHTS[kind], plane), plane)


@pytest.mark.parametrize('degrees', [-15.0, -6.0, 6.0, 9.0, 15.0])
def test_ground_that_is_tilted_by_more_than_ten_degrees_is_refused(degrees):
    plane = plane_of()
    wrong = tilted(plane, np.deg2rad(degrees))
    _, reason = find_ground(prediction_of(road(plane), noise=0.002), K, wrong, CONFIG)
    if abs(degrees) < 10.0:
        assert reason is None
    else:
        assert reason.code == 'ground_tilted'
        assert reason.values['tilt'] == -degrees


def test_a_wall_at_one_metre_is_refused():
    wall = 1.0 / np.maximum(rays() @ np.array([0.05, 0.0, 1.0]), 0.1)
    assert refusal(wall, plane_of())


def test_ground_hidden_by_a_wall_of_boxes_is_refused():
    plane = plane_of()
    depth = np.minimum(street(plane), 3.0)
    assert refusal(depth, plane) == 'ground_disagrees'


def test_a_camera_that_looks_at_the_sky_is_refused():
    plane = plane_of(GroundConfig(height=1.6, pitch=-24.0))
    assert refusal(street(plane_of()), plane) == 'ground_out_of_view'


def test_a_camera_that_looks_steeply_down_sees_too_short_a_piece():
    plane = plane_of(GroundConfig(height=1.6, pitch=70.0))
    assert refusal(surface(np.zeros_like, plane), plane) == 'ground_too_short'


def test_ground_beside_a_drop_is_refused():
    plane = plane_of()
    lower = surface(np.zeros_like, replace(plane, height=2.0 * plane.height))
    depth = np.where(np.arange(WIDTH) < 250, surface(np.zeros_like, plane), lower)
    assert refusal(depth, plane) == 'below_ground'


def test_noise_is_refused():
    plane = plane_of()
    noise = np.random.default_rng(1).uniform(1, 20, (HEIGHT, WIDTH))
    assert refusal(noise, plane)


def test_a_single_cell_of_ground_is_refused():
    intrinsics = np.array([[4.0, 0, 0.0], [0, 4.0, -1.0], [0, 0, 1]])
    plane, map_ = replace(plane_of(), pitch_error=0.0), np.full((1, 1), 0.5, np.float32)
    points, reason = find_ground(Prediction(map_), intrinsics, plane, CONFIG)
    assert points is None
    assert reason.code == 'ground_disagrees'


def test_the_pose_of_a_frame_on_the_ground_gives_the_same_plane_as_height_and_pitch():
    pitch, height = np.deg2rad(4.0), 1.6
    up = -np.array([0.0, np.cos(pitch), np.sin(pitch)])
    forward = np.array([0.0, -np.sin(pitch), np.cos(pitch)])
    T = np.eye(4)
    T[:3, :3] = np.stack([forward, np.cross(up, forward), up], axis=1)
    T[:3, 3] = -height * up + 0.7 * forward  # the frame may lie ahead of the camera
    plane, expected = ground_plane(GroundConfig(frame='floor'), {'floor': T}.get), plane_of()
    np.testing.assert_allclose(plane.normal, expected.normal, atol=1e-12)
    assert plane.height == pytest.approx(height)
    assert plane.pitch_error == expected.pitch_error == np.deg2rad(1.0)


@pytest.mark.parametrize('height', [-1.2, 0.0])
def test_a_camera_below_its_ground_and_an_unknown_height_are_errors(height):
    T = np.eye(4)
    T[:3, :3] = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    T[1, 3] = height
    with pytest.raises(CalibrationError, match=rf'{height:.2f} m above base_footprint'):
        plane_of_pose(T, GroundConfig())
    with pytest.raises(CalibrationError, match='height of the camera is unknown'):
        ground_plane(GroundConfig(frame=''), pose=None)


def test_a_refused_frame_holds_the_last_fit():
    plane = plane_of()
    maps = [
        prediction_of(street(plane), noise=0.002),
        prediction_of(np.minimum(street(plane), 3.0), noise=0.002),
    ]
    pipeline, frame = pipeline_of(*maps), frame_of(SparseInput('ground', ground=plane))
    assert pipeline.process(frame).alignment.state == 'fitted'
    held = pipeline.process(replace(frame, stamp_ns=100_000_000))
    assert held.alignment.state == 'held'
    assert 'ground plane' in held.alignment.reason


def test_depth_of_measured_points_is_published_whole_and_so_while_it_is_held():
    plane = plane_of()
    depth = street(plane)
    v, u = np.mgrid[4:HEIGHT:12, 4:WIDTH:12].reshape(2, -1)
    points = SparseInput('pointcloud', sparse=SparseDepth(u, v, np.float32(depth[v, u])))
    hidden = np.minimum(depth, 3.0)
    pipeline = pipeline_of(
        *(prediction_of(known, noise=0.002) for known in (depth, hidden)),
        config=PipelineConfig(sky='fitted'),
    )
    ground = SparseInput('ground', ground=plane)
    fitted = pipeline.process(frame_of(points, ground))
    held = pipeline.process(
        replace(frame_of(SparseInput('pointcloud'), ground), stamp_ns=100_000_000)
    )
    for result, state in ((fitted, 'fitted'), (held, 'held')):
        assert result.alignment.state == state
        assert result.caution is None
        assert np.isfinite(result.metric).mean() > 0.99


def test_depth_that_is_held_from_the_ground_is_withheld_without_its_pose_too():
    plane = plane_of()
    map_ = prediction_of(street(plane), noise=0.002)
    pipeline = pipeline_of(map_, map_)
    pipeline.process(frame_of(SparseInput('ground', ground=plane)))
    lost = SparseInput('ground', no_points=as_reason('no transform'))
    held = pipeline.process(replace(frame_of(lost), stamp_ns=100_000_000))
    assert held.alignment.state == 'held'
    assert 'not published' in str(held.caution)
    assert not np.isfinite(held.metric).any()


@pytest.mark.parametrize('count', [1, 60])
def test_points_of_a_radar_leave_the_ground_alone(count):
    plane = plane_of()
    depth = street(plane)
    v, u = np.random.default_rng(0).integers(10, (HEIGHT - 10, WIDTH - 10), (count, 2)).T
    z = depth[v, u]
    seen = rays()[v, u] * z[:, None]
    radar = SparseInput('radar', seen, np.eye(4), points_sigma=0.3 * z, kind=PointKind.RADAR)
    pipeline = pipeline_of(prediction_of(depth, noise=0.002))
    result = pipeline.process(frame_of(radar, SparseInput('ground', ground=plane)))
    assert result.alignment.state == 'fitted'
    assert 'not published' in str(result.caution)
    assert np.isfinite(result.metric).mean() < 0.9
