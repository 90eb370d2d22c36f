# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Guidance in the pipeline: what reaches the model, what is refused, what is published."""

from dataclasses import replace

from marigold_ros.commands.terminal.options import read_settings, ReplayConfig
from marigold_ros.config import AlignmentConfig, GuidedConfig, NodeConfig, PipelineConfig
from marigold_ros.errors import AlignmentError, ConfigurationError
from marigold_ros.frame import Frame, Prediction, SparseDepth, SparseInput
from marigold_ros.geometry.alignment.local_field import checkerboard_fold
from marigold_ros.models import load_model
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.settings import build
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest

SHAPE = (60, 80)
SECOND = 1_000_000_000
GUIDED = PipelineConfig(
    guidance='points', alignment=AlignmentConfig(method='local', min_points=20)
)
FUSED = replace(GUIDED, alignment=AlignmentConfig(min_points=20))


def truth() -> np.ndarray:
    v, u = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return (4.0 + 0.1 * u + 0.05 * v).astype(np.float32)


class Fake:
    """Its plain answer is bent; its guided one is the truth, or as set."""

    def __init__(self, answer=None):
        self.answer = truth() if answer is None else answer
        self.guided_by, self.asked = [], {}

    def predict(self, rgb, **_):
        depth = truth()
        relative = (depth - depth.min()) / np.ptp(depth)
        return Prediction((0.1 + 0.8 * relative**1.3).astype(np.float32), None, 'depth')

    def predict_guided(self, rgb, sparse, **asked):
        self.guided_by.append(sparse)
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return Prediction(self.answer, None, 'metric')


def frame(stamp_ns=0, count=300, wrong=0, sparse=..., **more) -> Frame:
    rng = np.random.default_rng(0)
    at = rng.choice(SHAPE[0] * SHAPE[1], count, replace=False)
    u, v = at % SHAPE[1], at // SHAPE[1]
    z = truth()[v, u]
    z[:wrong] *= 3.0
    rgb = np.repeat((8 * truth()).astype(np.uint8)[..., None], 3, axis=2)
    sparse = SparseDepth(u, v, z) if sparse is ... else sparse
    inputs = [SparseInput('pointcloud', sparse=sparse)]
    return Frame(rgb, stamp_ns=stamp_ns, inputs=inputs, **more)


def test_points_whose_pixels_are_unknown_guide_nothing():
    model, given = Fake(), frame().lidar.sparse
    radar = frame(sparse=replace(given, kind=PointKind.RADAR))
    assert FramePipeline(model, GUIDED).process(radar).alignment.state == 'fitted'
    assert model.guided_by == []


def test_guided_depth_is_published_and_relative_stays_plain():
    model = Fake()
    result = FramePipeline(model, GUIDED).process(frame())
    np.testing.assert_array_equal(result.metric, truth())
    np.testing.assert_array_equal(result.relative, model.predict(None).relative)
    assert (result.space, result.alignment.space) == ('depth', 'metric')
    assert (result.alignment.state, result.alignment.n_points) == ('fitted', 300)
    assert model.asked['guided'] == GUIDED.guided
    assert model.asked['seed'] == 0
    plain = FramePipeline(Fake(), replace(GUIDED, guidance='none')).process(frame())
    assert np.abs(plain.metric - truth()).max() > 0.01


def test_a_model_that_points_guide_or_prompt_does_not_predict_beside_the_last_frame():
    prompted = Fake()
    prompted.predict_prompted = prompted.predict_guided
    free = [FramePipeline(model).finishes_without_model for model in (Fake(), prompted)]
    assert free == [True, False]
    assert not FramePipeline(Fake(), GUIDED).finishes_without_model


def test_inconsistent_points_do_not_guide():
    model = Fake()
    sparse = frame(wrong=30).lidar.sparse
    result = FramePipeline(model, GUIDED).process(frame(wrong=30))
    assert result.alignment.state == 'fitted'
    guides = set(zip(model.guided_by[0].u.tolist(), model.guided_by[0].v.tolist(), strict=True))
    wrong = set(zip(sparse.u[:30].tolist(), sparse.v[:30].tolist(), strict=True))
    assert not guides & wrong
    assert len(guides) > 250


def test_a_region_that_the_model_gets_wrong_guides_all_the_same():
    depth = truth()
    depth[:, 60:] *= 2.5
    model = Fake(depth)
    offered = frame()
    u, v = offered.lidar.sparse.u, offered.lidar.sparse.v
    inputs = [SparseInput('pointcloud', sparse=SparseDepth(u, v, depth[v, u]))]
    FramePipeline(model, GUIDED).process(replace(offered, inputs=inputs))
    assert np.count_nonzero(model.guided_by[0].u >= 60) > 0.9 * np.count_nonzero(u >= 60)


def test_sigma_comes_from_points_that_did_not_guide():
    model = Fake()
    result = FramePipeline(model, GUIDED).process(frame())
    whole, half = model.guided_by
    fold = checkerboard_fold(result.sparse.u, result.sparse.v, SHAPE)
    assert 0 < len(half) < len(whole) > 290
    assert set(half.u.tolist()) <= set(result.sparse.u[fold].tolist())
    held_out = result.alignment.held_out
    assert np.isnan(held_out[fold]).all()
    assert np.isfinite(held_out[~fold]).all()
    assert result.sigma is not None

    # A model that only repeats its points is wrong between them, and sigma shows it.
    model.answer = truth() * np.where(np.indices(SHAPE).sum(0) % 2, 1.0, 1.2).astype(np.float32)
    loose = FramePipeline(model, GUIDED).process(frame())
    assert np.median(loose.sigma / loose.metric) > 0.1


@pytest.mark.parametrize(
    ('poor', 'words'),
    [
        ({'sparse': None}, 'no sparse depth'),
        ({'count': 10}, 'needs 20'),
        ({'sparse': SparseDepth([1], [1], np.array([3.0]))}, '1 usable'),
    ],
)
def test_too_few_points_give_relative_depth_and_a_reason(poor, words):
    model = Fake()
    result = FramePipeline(model, GUIDED).process(frame(**poor))
    assert (result.alignment.state, result.metric, result.sigma) == ('none', None, None)
    assert words in result.alignment.reason
    assert result.relative.shape == SHAPE
    assert model.guided_by == []


def test_a_frame_without_points_holds_the_last_fit_and_says_so():
    pipeline = FramePipeline(Fake(), GUIDED)
    pipeline.process(frame(0))
    held = pipeline.process(frame(SECOND // 10, sparse=None))
    assert (held.alignment.state, held.alignment.space) == ('held', 'depth')
    assert 'no sparse depth' in held.alignment.reason
    np.testing.assert_allclose(held.metric, truth(), rtol=0.1)
    assert pipeline.process(frame(SECOND // 5)).alignment.space == 'metric'


@pytest.mark.parametrize(
    ('answer', 'words'),
    [
        (AlignmentError('these points cannot guide'), 'cannot guide'),
        (10.0 * truth(), 'agree with the metric prediction'),
        (np.full(SHAPE, np.nan, np.float32), '0 of 300'),
    ],
    ids=['refused', 'ten times as far', 'nothing'],
)
def test_nonsense_is_refused_with_a_reason(answer, words):
    result = FramePipeline(Fake(answer), GUIDED).process(frame())
    assert (result.alignment.state, result.metric) == ('none', None)
    assert words in result.alignment.reason
    assert result.relative.shape == SHAPE


@pytest.mark.parametrize('factor', [1.0, 10.0])
def test_guided_depth_is_fused_with_its_points(factor):
    result = FramePipeline(Fake(factor * truth()), FUSED).process(frame())
    assert np.abs(result.metric / truth() - 1).mean() < 0.01
    assert result.alignment.state == 'fitted'
    assert np.isfinite(result.alignment.scale) == (factor == 1.0)
    contradicted = 'agree with the metric prediction' in result.alignment.map_reason
    assert contradicted == (factor != 1.0)


def test_a_model_that_cannot_be_guided_is_an_error():
    class Plain:
        predict = Fake.predict

    with pytest.raises(ConfigurationError, match='Plain has none'):
        FramePipeline(Plain(), GUIDED).process(frame())


@pytest.mark.parametrize(
    ('kind', 'values', 'words'),
    [
        (NodeConfig, {'runtime.backend': 'openvino'}, 'torch'),
        (ReplayConfig, {'runtime.backend': 'openvino'}, 'torch'),
        (NodeConfig, {'runtime.compile': 'auto'}, 'off'),
        (PipelineConfig, {'alignment.method': 'fixed'}, 'global or local'),
        (PipelineConfig, {'alignment.method': 'none'}, 'global or local'),
    ],
)
def test_settings_that_exclude_guidance_are_refused(kind, values, words):
    build(kind, values)
    with pytest.raises(ConfigurationError, match=words):
        build(kind, {'guidance': 'points', **values})


def test_evaluate_takes_it_as_a_setting():
    given = [('guidance', 'points'), ('guided.steps', '7'), ('guided.checkpointing', 'true')]
    config = read_settings(ReplayConfig, given).pipeline
    assert config.guidance == 'points'
    assert config.guided == GuidedConfig(steps=7, checkpointing=True)


@pytest.fixture(scope='module')
def tiny():
    return load_model('tiny', device='cpu')


def scene(seed) -> tuple[Frame, np.ndarray, np.ndarray]:
    """A synthetic scene with 300 points, its depth, and the pixels scored."""
    sample = make_sample(seed, 128, 96)
    seen = (sample.depth > 0.1) & (sample.depth < 80.0)
    v, u = np.nonzero(seen)
    at = np.random.default_rng(seed).choice(len(v), 300, replace=False)
    sparse = SparseDepth(u[at], v[at], sample.depth[v[at], u[at]])
    seen[sparse.v, sparse.u] = False
    inputs = [SparseInput('pointcloud', sparse=sparse)]
    return Frame(sample.rgb, inputs=inputs), sample.depth, seen


@pytest.mark.slow  # 25 gradients an image
def test_guidance_beats_the_global_fit_between_points(tiny):
    guided = PipelineConfig(guidance='points', guided=GuidedConfig(steps=25))
    plain = PipelineConfig(alignment=AlignmentConfig(method='global'))
    errors = []
    for seed in (70001, 70002):
        offered, depth, scored = scene(seed)
        metric = [
            FramePipeline(tiny, config).process(offered).metric for config in (guided, plain)
        ]
        errors.append([np.abs(m[scored] / depth[scored] - 1.0).mean() for m in metric])
    ours, fitted = np.mean(errors, axis=0)
    assert ours < 0.6 * fitted


@pytest.mark.slow  # gradients of four frames
def test_two_halves_of_a_frame_give_the_bits_of_a_replay(tiny):
    config = PipelineConfig(guidance='points', guided=GuidedConfig(steps=3))
    frames = [replace(scene(70001)[0], stamp_ns=stamp) for stamp in (0, SECOND // 10)]
    offline, live = FramePipeline(tiny, config), FramePipeline(tiny, config)
    for offered in frames:
        replay = offline.process(offered)
        prediction = live.predict(replace(offered, inputs=()))
        result = live.finish(offered, prediction)
        np.testing.assert_array_equal(result.metric, replay.metric)
        np.testing.assert_array_equal(result.sigma, replay.sigma)
        np.testing.assert_array_equal(result.relative, replay.relative)


def test_evaluate_guides_with_fit_lines_only(tiny, short_drive, tmp_path):
    config = PipelineConfig(guidance='points', guided=GuidedConfig(steps=2))
    seen = []

    class Watched:
        description = tiny.description
        predict = staticmethod(tiny.predict)

        @staticmethod
        def predict_guided(rgb, sparse, **asked):
            seen.append(len(sparse))
            return tiny.predict_guided(rgb, sparse, **asked)

    results = evaluate_bag(short_drive, Watched(), ReplayOptions(config, limit=1), tmp_path)
    assert results['frames']['metric'] == 1
    assert 0.0 < results['protocols']['heldout']['macro']['abs_rel'] < 1.0
    assert results['protocols']['heldout']['sigma_coverage']
    # Published depth and its held-out half, then the same for every eighth line.
    assert len(seen) == 4
    assert seen[2] < 0.3 * seen[0]
