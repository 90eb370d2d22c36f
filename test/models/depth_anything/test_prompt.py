# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Prompt Depth Anything: points enter the network, and others of the frame judge its map."""

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.errors import AlignmentError, ConfigurationError
from marigold_ros.frame import Frame, Prediction, SparseDepth, SparseInput
from marigold_ros.geometry.alignment.local_field import checkerboard_fold
from marigold_ros.models import load_model
from marigold_ros.models.depth_anything.prompt import prompt_depth
from marigold_ros.node.loading import SharedModel
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

SHAPE = (90, 120)


@pytest.fixture(scope='module')
def folder(kin_folders):
    return str(kin_folders / 'prompt_depth_anything')


@pytest.fixture(scope='module')
def model(folder):
    return load_model(folder, device='cpu')


def image() -> np.ndarray:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return np.stack([2 * y, 120 + 80 * np.sin(x / 9), 2 * x], axis=-1).astype(np.uint8)


def slope() -> np.ndarray:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return (4.0 + 0.05 * x + 0.1 * y).astype(np.float32)


def points(count=200, depth=None) -> SparseDepth:
    at = np.random.default_rng(0).choice(SHAPE[0] * SHAPE[1], count, replace=False)
    u, v = at % SHAPE[1], at // SHAPE[1]
    return SparseDepth(u, v, (slope() if depth is None else depth)[v, u])


def frame(sparse) -> Frame:
    return Frame(image(), inputs=[SparseInput('pointcloud', sparse=sparse)])


def test_the_prompt_is_a_small_depth_image_through_the_points():
    prompt = prompt_depth(points(600), SHAPE)
    assert (prompt.shape, prompt.dtype) == ((192, 256), np.float32)
    rows, columns = np.mgrid[0.5:192, 0.5:256]
    truth = 4.0 + 0.05 * (columns * 120 / 256 - 0.5) + 0.1 * (rows * 90 / 192 - 0.5)
    assert np.abs(prompt / truth - 1).mean() < 0.02
    whole = prompt_depth(points(SHAPE[0] * SHAPE[1]), SHAPE)
    assert np.abs(whole / truth - 1).mean() < 0.0014
    np.testing.assert_allclose(prompt_depth(points(600, 3.0 * slope()), SHAPE), 3 * prompt, 1e-5)


@pytest.mark.parametrize(
    ('sparse', 'words'),
    [
        (points(3), '3 usable points of 3'),
        (points(50, np.full(SHAPE, 5.0, np.float32)), 'at different depths'),
        (SparseDepth([1, 2, 3, 400], [1, 2, 3, 4], np.arange(1.0, 5.0)), 'the image is 120x90'),
    ],
    ids=['few', 'of one depth', 'outside'],
)
def test_points_that_are_no_prompt_are_refused(model, sparse, words):
    with pytest.raises(AlignmentError, match=words):
        model.predict_prompted(image(), sparse)


def test_the_map_is_that_of_transformers_for_the_same_prompt(model, folder):
    prompt = prompt_depth(points(), SHAPE)
    processor = AutoImageProcessor.from_pretrained(folder)
    inputs = processor(
        images=[image()], prompt_depth=prompt, prompt_scale_to_meter=1.0, return_tensors='pt'
    )
    with torch.inference_mode():
        outputs = AutoModelForDepthEstimation.from_pretrained(folder)(**inputs)
    expected = processor.post_process_depth_estimation(outputs, [SHAPE])[0]['predicted_depth']
    found = model.predict_prompted(image(), points())
    assert found.space == 'metric'
    np.testing.assert_allclose(found.relative, expected.numpy(), rtol=1e-4)


def test_moving_the_points_moves_the_depth(model):
    first = model.predict_prompted(image(), points()).relative
    farther = model.predict_prompted(image(), points(depth=2.0 * slope())).relative
    np.testing.assert_allclose(farther, 2.0 * first, rtol=1e-4)
    bent = slope()
    bent[:, 60:] += 12.0
    change = np.abs(model.predict_prompted(image(), points(depth=bent)).relative - first)
    assert change[:, 80:].mean() > 0.1


def test_a_frame_with_points_runs_the_backbone_once(folder):
    images, calls = (image(), 255 - image()), []
    alone = [load_model(folder, device='cpu').predict_prompted(rgb, points()) for rgb in images]
    model = load_model(folder, device='cpu')
    hook = register_module_forward_hook(lambda module, *_: calls.append(type(module).__name__))
    try:
        FramePipeline(model, CONFIG).process(frame(points()))
        assert calls.count('Dinov2Backbone') == 1
        assert calls.count('PromptDepthAnythingNeck') > 1  # alone, with all points, with half
        again = [model.predict_prompted(rgb, points()) for rgb in images]
    finally:
        hook.remove()
    assert calls.count('Dinov2Backbone') == 2
    for one, other in zip(again, alone, strict=True):
        np.testing.assert_array_equal(one.relative, other.relative)


def test_settings_without_meaning_are_refused_with_a_prompt_too(model):
    with pytest.raises(ConfigurationError, match='ensemble_size is 4'):
        model.predict_prompted(image(), points(), ensemble_size=4)


class Fake:
    """Predicts a bent map alone, and with points what it was given."""

    def __init__(self, answer):
        self.answer, self.prompts = answer, []

    def predict(self, rgb, **_):
        share = (slope() - slope().min()) / np.ptp(slope())
        return Prediction((0.1 + 0.8 * share**1.3).astype(np.float32), None, 'depth')

    def predict_prompted(self, rgb, sparse, **_):
        self.prompts.append(sparse)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Prediction(self.answer, None, 'metric')


CONFIG = PipelineConfig(alignment=AlignmentConfig(min_points=20))


def test_points_prompt_the_network_and_half_of_them_judge_it():
    fake, sparse = Fake(slope()), points()
    result = FramePipeline(fake, CONFIG).process(frame(sparse))
    whole, half = fake.prompts
    fold = checkerboard_fold(sparse.u, sparse.v, SHAPE)
    assert len(whole) > 190
    assert 0 < len(half) < len(whole)
    assert set(half.u.tolist()) <= set(sparse.u[fold].tolist())
    np.testing.assert_array_equal(result.relative, fake.predict(None).relative)
    assert result.alignment.space == 'metric'
    assert result.alignment.shares['map'] > 0.3
    assert np.abs(result.metric / slope() - 1).mean() < 0.01


class Repeats(Fake):
    """Knows depth where the points are, and nothing between them."""

    def predict_prompted(self, rgb, sparse, **_):
        self.prompts.append(sparse)
        noise = np.random.default_rng(1).uniform(0.4, 2.5, SHAPE)
        depth = (slope() * noise).astype(np.float32)
        depth[sparse.v, sparse.u] = sparse.z
        return Prediction(depth, None, 'metric')


def test_a_map_that_only_repeats_its_points_has_no_share():
    result = FramePipeline(Repeats(None), CONFIG).process(frame(points()))
    assert result.alignment.shares['map'] < 0.05
    assert np.abs(result.metric / slope() - 1).mean() < 0.02


def test_a_map_that_saw_points_earns_nothing_beyond_them_by_their_border_alone():
    """Others of the border were in its prompt: it would beat the nearest point by these."""
    answer = slope() * np.random.default_rng(1).uniform(0.75, 1.35, SHAPE).astype(np.float32)
    inside = np.zeros(SHAPE, bool)
    inside[24:66, 34:86] = True
    answer[~inside] = slope()[~inside]
    whole = points(1500)
    near = (np.abs(whole.u - 59.5) < 34) & (np.abs(whole.v - 44.5) < 28)
    result = FramePipeline(Fake(answer), CONFIG).process(frame(whole.chosen(near)))
    assert result.alignment.shares['map'] == 0.0


@pytest.mark.parametrize(
    ('sparse', 'config'),
    [
        (None, CONFIG),
        (points(10), CONFIG),
        (SparseDepth(*(points().u, points().v, points().z), kind=PointKind.GROUND), CONFIG),
        (points(), PipelineConfig(alignment=AlignmentConfig(method='none'))),
    ],
    ids=['none', 'few', 'ground', 'not metric'],
)
def test_what_is_no_prompt_leaves_the_map_of_the_image_alone(sparse, config):
    fake = Fake(slope())
    FramePipeline(fake, config).process(frame(sparse))
    assert fake.prompts == []


def test_a_prompt_that_the_network_refuses_leaves_the_fit():
    fake = Fake(AlignmentError('no prompt'))
    result = FramePipeline(fake, CONFIG).process(frame(points()))
    plain = FramePipeline(Fake(None), CONFIG)
    plain.model = type('Plain', (), {'predict': fake.predict})()
    np.testing.assert_array_equal(result.metric, plain.process(frame(points())).metric)


def test_the_node_s_cameras_prompt_the_shared_model(model):
    camera = SharedModel(model).for_camera()
    found = camera.predict_prompted(image(), points()).relative
    np.testing.assert_array_equal(found, model.predict_prompted(image(), points()).relative)
    result = FramePipeline(camera, CONFIG).process(frame(points()))
    assert result.alignment.state == 'fitted'
