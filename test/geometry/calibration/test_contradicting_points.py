# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Points of another image, of a LiDAR that is turned, or of no things, in the pipeline."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import cv2
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Camera, Frame, SparseInput
from marigold_ros.geometry import unproject_depth
from marigold_ros.geometry.calibration.monitor import Calibration
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest

from test.test_pipeline import LOCAL, Oracle, scene


@cache
def street():
    return make_sample(900_001, 320, 240, 'street')


def turned_scan(angle_deg):
    """Return a frame of a street whose LiDAR is turned by an angle; the image is of 320x240."""
    sample = street()
    camera = Camera(np.array([[250.0, 0, 159.5], [0, 250.0, 119.5], [0, 0, 1]]), 320, 240)
    depth = np.where(sample.depth < 80, sample.depth, np.nan).astype(np.float32)
    points = unproject_depth(depth, camera.K)[80::5, ::2].reshape(-1, 3).astype(np.float64)
    angle = np.deg2rad(angle_deg)
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0.0, angle, 0.0]))[0]
    return Frame(sample.rgb, camera, points_lidar=points, T_cam_lidar=turn)


def test_points_that_do_not_fit_the_image_make_no_metres_until_they_do():
    pipeline = FramePipeline(Oracle())
    assert pipeline.process(turned_scan(0.0)).alignment.state == 'fitted'
    pipeline.reset()
    for _ in range(3):
        wrong = pipeline.process(turned_scan(6.0))
    assert wrong.metric is None
    assert 'contradict' in str(wrong.alignment.reason)
    assert 'camera_info' in str(wrong.alignment.reason)
    assert str(wrong.alignment.reason).endswith('; metres come back once it fits')
    states = [pipeline.process(turned_scan(0.0)).alignment.state for _ in range(6)]
    assert states[-1] == 'fitted'


@pytest.mark.parametrize(
    ('kind', 'lidar_first'),
    [(PointKind.RADAR, True), (PointKind.DEPTH_CAMERA, True), (PointKind.DEPTH_CAMERA, False)],
)
def test_a_scan_that_does_not_fit_is_left_out_beside_another_source(kind, lidar_first):
    depth, echoes = street().depth, turned_scan(0.0).points_lidar[::20]
    near = np.where(depth < 12, depth, np.nan).astype(np.float32)
    other = {
        PointKind.RADAR: SparseInput('other', echoes, np.eye(4), kind=PointKind.RADAR),
        PointKind.DEPTH_CAMERA: SparseInput('other', sparse_image=near),
    }[kind]

    def both(angle_deg):
        frame = turned_scan(angle_deg)
        inputs = frame.lidar, other
        return replace(frame, inputs=inputs if lidar_first else inputs[::-1])

    pipeline = FramePipeline(Oracle())
    assert {one.reason for one in pipeline.process(both(0.0)).sources} == {''}
    pipeline.reset()
    for _ in range(3):
        wrong = pipeline.process(both(6.0))
    found = {one.source: one for one in wrong.sources}
    assert 'contradict' in found['pointcloud'].reason
    assert (found['pointcloud'].points, found['other'].reason) == (0, '')
    assert (wrong.sparse.kind, wrong.alignment.n_points) == (kind, found['other'].points)
    assert wrong.alignment.state == 'fitted' or kind is PointKind.RADAR
    for _ in range(6):
        right = pipeline.process(both(0.0))
    assert min(one.points for one in right.sources) > 0


def test_metres_of_points_that_do_not_fit_are_not_held():
    pipeline = FramePipeline(Oracle())
    pipeline.process(turned_scan(6.0))
    evidence = pipeline.state.edges
    pipeline.reset()
    assert pipeline.process(turned_scan(0.0)).alignment.state == 'fitted'
    pipeline.state = replace(pipeline.state, edges=evidence)
    later = replace(turned_scan(6.0), stamp_ns=1)
    assert pipeline.process(later).alignment.state == 'none'


def test_an_angle_that_edges_exclude_is_neither_reported_nor_a_result():
    pipeline = FramePipeline(Oracle())
    for _ in range(3):
        pipeline.process(turned_scan(0.0))
    assert pipeline.state.edges.is_right
    turned = Calibration({'yaw_deg': (-2.4, 0.1), 'pitch_deg': (0.1, 0.1)}, 'turned')
    monitor = replace(pipeline.state.calibration, calibration=turned)
    pipeline.state = replace(pipeline.state, calibration=monitor)
    assert pipeline.calibration.text == ''
    assert pipeline.process(turned_scan(0.0)).calibration == ''


def test_points_that_do_not_fit_the_image_are_but_a_warning_if_that_is_set():
    config = PipelineConfig(alignment=AlignmentConfig(contradiction='warn'))
    pipeline = FramePipeline(Oracle(), config)
    for _ in range(3):
        wrong = pipeline.process(turned_scan(6.0))
    assert wrong.alignment.state == 'fitted'
    assert 'contradict' in wrong.calibration
    assert 'come back' not in wrong.calibration  # they are there


def test_calibration_is_observed_by_points_of_one_source_a_lidar_if_there_is_one(monkeypatch):
    seen = []

    def observe(before, current, prediction, sparse, fit, config):
        seen.append(None if sparse is None else sparse.kind)
        return before

    monkeypatch.setattr('marigold_ros.pipeline.update_calibration', observe)
    pipeline, (frame, _) = FramePipeline(Oracle(), LOCAL), scene()
    lidar, points = frame.lidar, frame.lidar.points_lidar
    kinds = (PointKind.LIDAR, PointKind.GROUND, PointKind.RADAR)
    alone = [[replace(lidar, kind=kind)] for kind in kinds]
    two = [replace(lidar, source=f'lidar {i}', points_lidar=points[i::2]) for i in range(2)]
    beside = [replace(two[0], kind=PointKind.DEPTH_CAMERA), two[1]]
    for inputs in (*alone, two, beside, beside[::-1], beside[:1]):
        pipeline.process(replace(frame, inputs=inputs))
    of_lidar = PointKind.LIDAR
    assert seen == [of_lidar, None, None, *[of_lidar] * 3, PointKind.DEPTH_CAMERA]


@pytest.mark.parametrize('kind', [PointKind.GROUND, PointKind.RADAR])
def test_points_that_see_no_things_make_no_metres_of_a_black_image(kind):
    frame, _ = scene()
    answer = Oracle().predict(frame.rgb)
    pipeline = FramePipeline(SimpleNamespace(predict=lambda rgb, **asked: answer), LOCAL)
    seen = replace(frame, inputs=[replace(frame.lidar, kind=kind)])
    assert pipeline.process(seen).alignment.state == 'fitted'
    black = pipeline.process(replace(seen, rgb=np.zeros_like(frame.rgb)))
    assert black.metric is None
    assert 'black' in str(black.alignment.reason)
