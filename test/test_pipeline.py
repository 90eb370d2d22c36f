# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The pipeline on planted scenes: an oracle stands in for the model."""

from dataclasses import replace
from types import SimpleNamespace
import weakref

import cv2
from marigold_ros.config import AlignmentConfig, EngineConfig, PipelineConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Camera, Frame, Prediction
from marigold_ros.geometry import unproject_depth
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest

K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
CAMERA = Camera(K, 160, 120)
SECOND = 1_000_000_000
LOCAL = PipelineConfig(alignment=AlignmentConfig(method='local'))
T_CAM_LIDAR = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])


class Oracle:
    """Reads relative depth from the brightness of the image; remembers what it was asked."""

    def __init__(self, space='depth', spread=None):
        self.space, self.spread, self.asked = space, spread, {}

    def predict(self, rgb, **asked):
        self.asked = asked
        relative = rgb.mean(axis=2, dtype=np.float32) / 255
        spread = None if self.spread is None else np.full(relative.shape, self.spread, np.float32)
        return Prediction(relative, spread, self.space)


def scene(stamp_ns=0, camera=CAMERA, seed=0, **more):
    """Return a frame whose brightness is depth from 4 to 24 m, and the depth."""
    v, u = np.mgrid[0:120, 0:160]
    grey = (20 + 1.6 * (120 - v) + 20 * np.sin(u / 25)).astype(np.uint8)
    depth = 4 + 20 * (grey / 255)
    points = unproject_depth(depth, K)[2::5, 2::5].reshape(-1, 3).astype(np.float64)
    inverse = np.linalg.inv(T_CAM_LIDAR)
    scan = points @ inverse[:3, :3].T + inverse[:3, 3]
    values = {'camera': camera, 'points_lidar': scan, 'T_cam_lidar': T_CAM_LIDAR} | more
    return Frame(np.repeat(grey[..., None], 3, axis=2), stamp_ns=stamp_ns, **values), depth


def with_scan(frame, points):
    """Return the frame with other points of its LiDAR."""
    return replace(frame, inputs=[replace(frame.lidar, points_lidar=points)])


def test_planted_depth_comes_back_through_the_whole_pipeline():
    frame, depth = scene(stamp_ns=5)
    result = FramePipeline(Oracle()).process(frame)
    assert result.alignment.state == 'fitted'
    assert np.abs(result.metric / depth - 1).mean() < 0.005
    np.testing.assert_allclose(result.metric, depth, rtol=0.05)
    assert result.metric is result.alignment.metric
    assert result.sigma is result.alignment.sigma
    assert (result.space, result.stamp_ns, result.camera.width) == ('depth', 5, 160)
    assert result.sparse.counts['kept'] == result.alignment.n_points == 24 * 32
    assert set(result.counts) == {
        *('invalid', 'below_min_depth', 'beyond_max_depth', 'sky', 'withheld')
    }
    assert not any(result.counts.values())
    stages = {'predict', 'project', 'align', 'fuse', 'sigma', 'sky', 'calibration', 'total'}
    assert set(result.timings_ms) == stages
    assert result.timings_ms['total'] == pytest.approx(
        sum(ms for stage, ms in result.timings_ms.items() if stage != 'total')
    )


@pytest.mark.parametrize('method', ['local', 'fused'])
def test_depth_nearer_than_the_range_is_invalid_and_counted(method):
    frame, depth = scene()
    config = PipelineConfig(alignment=AlignmentConfig(method=method, min_depth=10.0))
    result = FramePipeline(Oracle(), config).process(frame)
    assert np.nanmin(result.metric) == pytest.approx(10.0, rel=0.01)
    assert result.counts['below_min_depth'] == np.isnan(result.metric).sum()
    assert np.isnan(result.metric[depth < 9.0]).mean() > 0.5
    assert np.isfinite(result.metric[depth > 11.0]).all()


class Flat(Oracle):
    """A map in metres of whatever the image shows."""

    def predict(self, rgb, **asked):
        return Prediction(np.full(rgb.shape[:2], 5.0, np.float32), space='metric')


class Blank(Oracle):
    """A map that no points fit."""

    def predict(self, rgb, **asked):
        return Prediction(np.full(rgb.shape[:2], 0.5, np.float32))


@pytest.mark.parametrize(('grey', 'word'), [(0, 'black'), (255, 'white')])
@pytest.mark.parametrize('model', [Oracle(), Flat(), Blank()])
def test_of_an_image_that_shows_nothing_only_points_make_metres(grey, word, model):
    frame, depth = scene()
    blind = replace(frame, rgb=np.full_like(frame.rgb, grey))
    pipeline = FramePipeline(model)
    assert pipeline.process(blind).alignment.state == 'fitted'
    assert word in pipeline.process(replace(blind, inputs=(), stamp_ns=1)).alignment.reason
    assert pipeline.process(replace(frame, stamp_ns=2)).alignment.state == 'fitted'
    result = pipeline.process(replace(blind, inputs=(), stamp_ns=3))
    assert result.metric is None
    if isinstance(model, Flat):
        assert word in str(result.alignment.reason)
        assert pipeline.process(replace(frame, inputs=(), stamp_ns=4)).metric is not None


class Pair(Oracle):
    """An average of a map that is right and one that is not."""

    def predict(self, rgb, **asked):
        right = super().predict(rgb).relative
        members = np.stack([right, np.roll(right, 40, axis=1)]).astype(np.float32)
        return Prediction(members.mean(0), space=self.space, members=members)


def test_members_of_an_average_are_weighed_at_the_points_and_held_without():
    pipeline = FramePipeline(Pair())
    frame, depth = scene()
    silent, _ = scene(stamp_ns=SECOND // 10, points_lidar=None)
    for result in pipeline.process(frame), pipeline.process(silent):
        assert np.abs(result.metric / depth - 1).mean() < 0.01
        np.testing.assert_allclose(
            result.relative, Oracle().predict(frame.rgb).relative, atol=0.03
        )
    pipeline.reset()
    mean = pipeline.process(silent).relative
    np.testing.assert_array_equal(mean, Pair().predict(silent.rgb).relative)


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        (PipelineConfig(), (None, None, None, 0)),
        (
            PipelineConfig(denoising_steps=3, ensemble_size=2, processing_resolution=0, seed=7),
            (3, 2, 0, 7),
        ),
        (PipelineConfig(processing_resolution=256), (None, None, 256, 0)),
        (PipelineConfig(profile='balanced'), (4, 3, None, 0)),
        (PipelineConfig(profile='paper', ensemble_size=2), (50, 2, None, 0)),
        (PipelineConfig(engine=EngineConfig(merge='reference')), (None, None, None, 0)),
    ],
)
def test_settings_reach_the_model_and_unset_ones_are_none(config, expected):
    oracle = Oracle()
    FramePipeline(oracle, config).process(scene()[0])
    assert oracle.asked['engine'] == config.engine
    names = ('denoising_steps', 'ensemble_size', 'processing_resolution', 'seed')
    assert tuple(oracle.asked[name] for name in names) == expected


@pytest.mark.parametrize(
    ('missing', 'words'),
    [
        ({'camera': None}, 'camera_info'),
        ({'points_lidar': None}, 'its topic and lidar.max_dt'),
        ({'T_cam_lidar': None}, 'extrinsics'),
        ({'T_cam_lidar': np.diag([2.0, 1, 1, 1])}, 'orthonormality'),
        ({'points_lidar': np.zeros((0, 3))}, 'check that the sensor works'),
        ({'points_lidar': np.full((99, 3), np.nan)}, 'check that the sensor works'),
    ],
)
def test_missing_input_is_named_and_the_last_fit_held(missing, words):
    poor = FramePipeline(Oracle()).process(scene(**missing)[0])
    assert (poor.alignment.state, poor.metric, poor.sigma) == ('none', None, None)
    assert words in poor.alignment.reason
    assert poor.relative.shape == (120, 160)

    pipeline = FramePipeline(Oracle(), LOCAL)
    first = pipeline.process(scene(10 * SECOND)[0])
    for step in (1, 5, 10):
        later = pipeline.process(scene(10 * SECOND + step * SECOND // 10, **missing)[0])
        assert later.alignment.state == 'held'
        assert later.alignment.age_ns == step * SECOND // 10
        assert words in later.alignment.reason
        np.testing.assert_allclose(later.metric, first.metric, rtol=1e-3)
    assert pipeline.process(scene(12 * SECOND, **missing)[0]).alignment.state == 'none'


@pytest.mark.parametrize('method', ['fused', 'local', 'global'])
def test_nothing_is_held_while_the_stamps_stand_still(method):
    pipeline = FramePipeline(Oracle(), PipelineConfig(alignment=AlignmentConfig(method=method)))
    assert pipeline.process(scene()[0]).alignment.state == 'fitted'
    for _ in range(2):  # for ever, as the age would stay 0
        assert pipeline.process(scene(points_lidar=None)[0]).metric is None
    assert pipeline.process(scene(1, points_lidar=None)[0]).alignment.state == 'held'


def test_clock_jump_size_reset_and_rules_forget_the_fit():
    blind, _ = scene(11 * SECOND, points_lidar=None)
    small = Frame(np.full((60, 80, 3), 9, np.uint8), stamp_ns=11 * SECOND)

    def fitted():
        pipeline = FramePipeline(Oracle())
        pipeline.process(scene(10 * SECOND)[0])
        return pipeline

    assert fitted().process(blind).alignment.state == 'held'
    overtaken = replace(blind, stamp_ns=10 * SECOND - SECOND // 2)
    assert fitted().process(overtaken).alignment.state == 'held'
    looped = fitted()
    looped.process(replace(blind, stamp_ns=2 * SECOND))
    assert looped.process(blind).alignment.state == 'none'
    assert fitted().process(small).alignment.state == 'none'
    reset = fitted()
    reset.reset()
    assert reset.process(blind).alignment.state == 'none'
    changed = fitted()
    changed.config = PipelineConfig(alignment=AlignmentConfig(method='global'))
    assert changed.process(blind).alignment.state == 'none'
    kept = fitted()
    kept.config = PipelineConfig(seed=3)
    assert kept.process(blind).alignment.state == 'held'


def test_distorted_images_are_rectified_before_prediction():
    distortion = (-0.25, 0.05, 0.0, 0.0, 0.0)
    frame, depth = scene()
    # Distort the ideal image: each raw pixel takes the ideal one that it shows by OpenCV.
    v, u = np.mgrid[0:120, 0:160].astype(np.float32)
    raw_pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
    ideal = cv2.undistortPoints(raw_pixels, K, np.array(distortion), P=K).reshape(120, 160, 2)
    raw = cv2.remap(frame.rgb, ideal[..., 0], ideal[..., 1], cv2.INTER_LINEAR)
    camera = Camera(K, 160, 120, distortion)
    result = FramePipeline(Oracle()).process(replace(frame, rgb=raw, camera=camera))
    inner = np.s_[20:100, 30:130]
    np.testing.assert_allclose(result.metric[inner], depth[inner], rtol=0.03)
    assert np.abs(result.rgb[inner].astype(int) - frame.rgb[inner]).mean() < 2
    assert result.camera.distortion == ()


@pytest.mark.parametrize(('distortion', 'state'), [(-0.25, 'none'), (0.0, 'held')])
@pytest.mark.parametrize('method', ['fused', 'global'])
def test_nothing_is_held_over_where_images_are_rectified_no_more(distortion, state, method):
    camera = Camera(K, 160, 120, (distortion, 0.0, 0.0, 0.0))
    pipeline = FramePipeline(Oracle(), PipelineConfig(alignment=AlignmentConfig(method=method)))
    frame, _ = scene(camera=camera)
    assert pipeline.process(frame).alignment.state == 'fitted'
    silent = replace(frame, inputs=(), stamp_ns=1)
    assert pipeline.process(silent).alignment.state == 'held'
    later = replace(frame, camera=None, stamp_ns=2)
    assert pipeline.process(later).alignment.state == state


def test_pixels_that_rectifying_leaves_empty_are_invalid():
    P = np.array([[60.0, 0, 79.5], [0, 60.0, 59.5], [0, 0, 1]])
    camera = Camera(K, 160, 120, (-0.05, 0, 0, 0, 0), P=P)
    config = PipelineConfig(alignment=AlignmentConfig(method='fixed', scale=20.0, shift=4.0))
    result = FramePipeline(Oracle(), config).process(scene(camera=camera)[0])
    assert np.isnan(result.metric[[0, 0, -1, -1], [0, -1, 0, -1]]).all()
    assert np.isfinite(result.metric[50:70, 60:100]).all()
    assert result.counts['invalid'] == np.isnan(result.metric).sum() > 0
    assert result.counts['below_min_depth'] == 0
    np.testing.assert_array_equal(result.camera.K, P)


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity', 'metric'])
def test_sigma_carries_the_ensembles_deviation_to_metres(space):
    scale, shift = {
        'depth': (20.0, 4.0),
        'log': (1.5, 1.0),
        'disparity': (0.2, 0.05),
        'metric': (1.0, 0.3),
    }[space]
    config = PipelineConfig(
        alignment=AlignmentConfig(method='fixed', scale=scale, shift=shift, min_depth=0.01)
    )
    step = 1e-3
    frame, _ = scene(points_lidar=None)
    result = FramePipeline(Oracle(space, spread=step), config).process(frame)
    inverse = {'log': np.exp, 'disparity': lambda x: 1 / x}.get(space, lambda x: x)
    relative = result.relative.astype(np.float64)
    up, down = (inverse(scale * (relative + s * step / 2) + shift) for s in (1, -1))
    np.testing.assert_allclose(result.sigma, np.abs(up - down), rtol=1e-2)
    # Without any measure of the error nothing is claimed.
    assert FramePipeline(Oracle(space), config).process(frame).sigma is None


def test_sigma_joins_fit_and_ensemble_in_quadrature():
    frame, _ = scene()
    config = PipelineConfig(alignment=AlignmentConfig(method='global'))
    alone = FramePipeline(Oracle(), config).process(frame)
    joint = FramePipeline(Oracle(spread=0.01), config).process(frame)
    # The spread exceeds all errors of the fit: it alone makes sigma.
    np.testing.assert_allclose(joint.sigma, 0.01 * joint.alignment.scale, rtol=0.05)
    assert (alone.sigma < 0.1 * joint.sigma).all()


@pytest.mark.parametrize('method', ['local', pytest.param('fused', marks=pytest.mark.slow)])
def test_fit_is_held_with_growing_sigma_while_lidar_is_silent(method):
    config = PipelineConfig(alignment=AlignmentConfig(method=method))
    pipeline, seen = FramePipeline(Oracle(), config), []
    for tenth in range(60):
        silent = {'points_lidar': None} if 10 <= tenth < 40 else {}
        frame, depth = scene(tenth * SECOND // 10, **silent)
        seen.append(pipeline.process(frame))
    states = [result.alignment.state for result in seen]
    assert states == 10 * ['fitted'] + 10 * ['held'] + 20 * ['none'] + 20 * ['fitted']
    for result in seen:
        assert (
            (result.metric is None) == (result.sigma is None) == (result.alignment.state == 'none')
        )
        if result.metric is not None:
            error = np.abs(result.metric / depth - 1)
            assert error.mean() < {'local': 0.005, 'fused': 0.02}[method]
    level = [np.median(result.sigma) for result in seen if result.sigma is not None]
    assert (np.diff(level[9:20]) > 0).all()
    # The last held frame is a second old: a fifth of the depth, by alignment.hold_growth.
    assert level[19] > 0.19 * np.median(depth)
    assert level[20] < 0.2 * level[19]


@pytest.mark.parametrize('method', ['fused', 'local', 'global'])
@pytest.mark.parametrize(('measured', 'left'), [(0, 0), (4, 0), (4, 5)])
def test_without_lidar_sigma_is_no_less_than_a_metric_model_states(method, measured, left):
    config = PipelineConfig(alignment=AlignmentConfig(method=method), sky='fitted')
    metric = Prediction(1.2 * scene()[1], space='metric', relative_error=0.12)
    pipeline = FramePipeline(SimpleNamespace(predict=lambda rgb, **asked: metric), config)
    for tenth in range(8):
        frame, _ = scene(tenth * SECOND // 10)
        some = frame.points_lidar[:: len(frame.points_lidar) // left] if left else None
        result = pipeline.process(frame if tenth < measured else with_scan(frame, some))
    assert (result.sigma / result.metric).min() == pytest.approx(0.12) or method != 'fused'
    assert (result.sigma / result.metric).min() > 0.1199


@pytest.mark.parametrize('method', ['fused', 'local', 'global'])
def test_two_points_that_agree_with_a_metric_model_state_no_sigma(method):
    metric = Prediction(scene()[1].astype(np.float32), space='metric')
    config = PipelineConfig(alignment=AlignmentConfig(method=method))
    pipeline = FramePipeline(SimpleNamespace(predict=lambda rgb, **asked: metric), config)
    frame, _ = scene()
    result = pipeline.process(with_scan(frame, frame.points_lidar[100:700:300]))
    assert (result.alignment.state, result.alignment.n_points) == ('fitted', 2)
    assert result.sigma is None
    assert pipeline.process(frame).sigma is not None


class Useless:
    """A model whose map is noise, another one in each frame."""

    def __init__(self):
        self._rng = np.random.default_rng(0)

    def predict(self, rgb, **asked):
        return Prediction(self._rng.random(rgb.shape[:2]).astype(np.float32))


def test_the_points_make_a_frame_metric_whatever_the_model_says():
    pipeline = FramePipeline(Useless())
    for tenth in range(20):
        frame, depth = scene(
            tenth * SECOND // 10, **({'points_lidar': None} if tenth > 15 else {})
        )
        result = pipeline.process(frame)
        alignment = result.alignment
        assert alignment.state == ('held' if tenth > 15 else 'fitted')
        assert alignment.led_by == ('memory' if tenth > 15 else 'points')
        assert alignment.shares.get('map', 0) < 0.5
        assert np.abs(result.metric / depth - 1).mean() < 0.02
        assert np.isfinite(result.sigma).all()


@pytest.mark.parametrize(
    ('factor', 'sigma', 'count', 'kind', 'state'),
    [
        (1.0, None, 9, PointKind.LIDAR, 'held'),
        (2.5, 3.0, 9, PointKind.LIDAR, 'none'),
        (2.5, 30.0, 9, PointKind.LIDAR, 'held'),
        (2.5, None, 4, PointKind.LIDAR, 'held'),
        (2.5, None, 9, PointKind.RADAR, 'held'),
    ],
)
def test_points_too_few_for_a_fit_still_refuse_a_held_depth_by_their_sigma(
    factor, sigma, count, kind, state
):
    pipeline = FramePipeline(Oracle())
    pipeline.process(scene()[0])
    frame, _ = scene(SECOND // 10)
    few = frame.points_lidar[:: len(frame.points_lidar) // 9][:count]
    frame = with_scan(frame, few * factor)
    stated = sigma and np.full(len(few), sigma)
    noisy = replace(frame.inputs[0], points_sigma=stated, kind=kind)
    result = pipeline.process(replace(frame, inputs=(noisy,)))
    assert result.alignment.state == state
    assert (result.metric is None) == (result.sigma is None) == (state == 'none')
    assert ('sigma at the' in result.alignment.reason) == (state == 'none')


class Remembering(Oracle):
    """Its answers depend on the frames since its reset."""

    count = 0

    def reset(self):
        self.count = 0

    def predict(self, rgb, **asked):
        self.count += 1
        found = super().predict(rgb, **asked)
        return replace(found, relative=found.relative + np.float32(0.003) * self.count)


def test_a_looped_sequence_gives_the_same_bits_again():
    frames = [scene(tenth * SECOND // 10)[0] for tenth in range(12)]
    frames[7] = replace(frames[7], inputs=())
    pipeline = FramePipeline(Remembering(spread=0.001))
    first, again = ([pipeline.process(frame) for frame in frames] for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.metric, other.metric)
        np.testing.assert_array_equal(one.sigma, other.sigma)


def test_frames_that_are_predicted_before_the_last_is_finished_give_the_same_bits():
    frames = [scene(tenth * SECOND // 10)[0] for tenth in (50, 51, 52, 53, 2, 3, 4, 5)]
    frames[2] = replace(frames[2], inputs=())
    smaller = Camera(K, 160, 100)
    frames[6:] = [replace(frame, rgb=frame.rgb[:100], camera=smaller) for frame in frames[6:]]
    config = PipelineConfig(alignment=AlignmentConfig(hold_limit=60.0, smoothing=0.6))
    one_by_one, overlapping = (FramePipeline(Remembering(), config) for _ in range(2))
    expected = [one_by_one.process(frame) for frame in frames]
    ahead = overlapping.predict(frames[0])
    for frame, following, result in zip(frames, [*frames[1:], None], expected, strict=True):
        prediction = ahead
        ahead = None if following is None else overlapping.predict(following)
        got = overlapping.finish(frame, prediction)
        assert got.alignment.state == result.alignment.state
        np.testing.assert_array_equal(got.metric, result.metric)
        np.testing.assert_array_equal(got.sigma, result.sigma)
        assert got.timings_ms['predict'] > 0


def test_predictions_that_nobody_finishes_are_forgotten():
    pipeline = FramePipeline(Oracle())
    made = [weakref.ref(pipeline.predict(scene(stamp_ns)[0])) for stamp_ns in range(5)]
    assert [kept() is not None for kept in made] == [False, False, False, True, True]


def test_a_frames_pose_says_where_the_last_depth_is_looked_up():
    def second(sideways, smoothing=0.6):
        settings = AlignmentConfig(smoothing=smoothing)
        pipeline = FramePipeline(Oracle(), PipelineConfig(alignment=settings))
        for index, noise in enumerate((1.0, 1.005)):
            frame, _ = scene(index * SECOND // 10)
            pose = np.eye(4)
            pose[0, 3] = sideways * index
            scan = frame.points_lidar * noise
            result = pipeline.process(replace(with_scan(frame, scan), T_world_camera=pose))
        return result.metric

    alone = second(0.0, smoothing=0.0)
    carried = np.abs(second(0.0) / alone - 1).mean()
    assert carried > 1e-3
    assert np.abs(second(8.0) / alone - 1).mean() < 0.5 * carried
    # Out of sight of the last image there is nothing to take over.
    np.testing.assert_array_equal(second(1000.0), alone)


def test_a_scene_cut_is_not_held_over():
    pipeline = FramePipeline(Oracle())
    pipeline.process(scene(0)[0])
    blind = scene(SECOND // 10, points_lidar=None)[0]
    other = replace(blind, rgb=255 - blind.rgb)
    assert pipeline.process(other).alignment.state == 'none'


def test_an_unknown_distortion_stops_the_frame():
    camera = Camera(K, 160, 120, (0.1,), 'mirror_ball')
    with pytest.raises(CalibrationError, match='mirror_ball'):
        FramePipeline(Oracle()).process(scene(camera=camera)[0])


def test_a_prediction_of_another_size_is_refused():
    frame, _ = scene()
    with pytest.raises(InputError, match='size'):
        FramePipeline(Oracle()).finish(frame, Prediction(np.zeros((60, 80), np.float32)))


def test_sky_is_unknown_infinite_or_as_fitted():
    frame, _ = scene()
    rgb = frame.rgb.copy()
    rgb[:40] = 255
    inverse = np.linalg.inv(T_CAM_LIDAR)
    points = frame.points_lidar @ T_CAM_LIDAR[:3, :3].T + T_CAM_LIDAR[:3, 3]
    above = points[:, 1] / points[:, 2] * K[1, 1] + K[1, 2] < 45
    scan = points[~above] @ inverse[:3, :3].T + inverse[:3, 3]
    frame = replace(with_scan(frame, scan), rgb=rgb)
    results = {
        sky: FramePipeline(Oracle(), PipelineConfig(sky=sky)).process(frame)
        for sky in ('nan', 'inf', 'fitted')
    }
    fitted = results['fitted']
    assert np.isfinite(fitted.metric).all()
    assert fitted.counts['sky'] == 0
    sky = np.isinf(results['inf'].metric)
    assert sky[:35].all()
    assert not sky[45:].any()
    np.testing.assert_array_equal(np.isnan(results['nan'].metric), sky)
    for name in ('nan', 'inf'):
        result = results[name]
        np.testing.assert_array_equal(result.alignment.metric, fitted.metric)
        np.testing.assert_array_equal(result.metric[~sky], fitted.metric[~sky])
        np.testing.assert_array_equal(np.isnan(result.sigma), sky)
        assert result.counts['sky'] == sky.sum()


class NoisyOracle(Oracle):
    """Off at every pixel by a factor or its inverse."""

    def __init__(self, log_factor):
        super().__init__()
        self._log_factor = log_factor

    def predict(self, rgb, **asked):
        prediction = super().predict(rgb, **asked)
        noise = np.random.default_rng(0).choice((-1, 1), prediction.relative.shape)
        noisy = prediction.relative * np.exp(self._log_factor * noise)
        return replace(prediction, relative=np.clip(noisy, 0.02, 0.98).astype(np.float32))


@pytest.mark.parametrize(
    ('method', 'log_factor', 'following'),
    [('local', 0.7, 'held'), ('fused', 0.7, 'none'), ('fused', 0.5, 'held')],
)
def test_a_map_that_gains_nothing_is_held_and_a_contradicted_one_is_not(
    method, log_factor, following
):
    config = PipelineConfig(alignment=AlignmentConfig(method=method, smoothing=0.0))
    pipeline = FramePipeline(NoisyOracle(log_factor), config)
    frame, depth = scene(SECOND)
    fitted = pipeline.process(frame)
    assert fitted.alignment.state == 'fitted'
    assert np.isfinite(fitted.alignment.scale) == (following == 'held')
    blind = pipeline.process(scene(SECOND + 1, points_lidar=None)[0])
    assert blind.alignment.state == following
    if method == 'fused':
        assert 'the map errs by' in fitted.alignment.map_reason
        assert fitted.alignment.shares['map'] == 0
        assert np.mean(np.abs(fitted.metric / depth - 1)) < 0.02
