# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A run of the fusion network: exact resumption, export, validation, errors of recipes."""

from __future__ import annotations

import json
from pathlib import Path

from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.fusion_channels import CANDIDATES
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_ros.models.locate import verify_sums
from marigold_ros.processes import Stopped
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.fusion import validation
from marigold_training.fusion.run import FusionRun
from marigold_training.fusion.validation import (
    CONDITIONS,
    FusionValidation,
    HeldOutExamples,
    measure,
    score,
)
from marigold_training.run.recipe import TrainingRun
from marigold_training.run.score import HeldOutScenes
import numpy as np
import pytest
import torch
import yaml

CONDITIONS_OF_ALL = [name for names in CONDITIONS.values() for name in names]
SYNTHETIC = {
    'kind': 'synthetic', 'height': 64, 'width': 96, 'count': 4, 'size': [64, 96], 'examples': 6,
}  # fmt: skip
STAGE = {
    'name': 'fusion', 'objective': 'fusion', 'steps': 6, 'batch_size': 2, 'warmup': 1,
    'save_every': 2, 'validate_every': 2, 'average': 0.9, 'clip': 1.0, 'decay': 'cosine',
}  # fmt: skip
RECIPE = {
    'name': 'toy',
    'network': 'fusion',
    'init': {'channels': [8, 8], 'blocks': [1, 1], 'inner': [4, 4]},
    'sources': [SYNTHETIC],
    'validation': {'second': 1},
    'stages': [STAGE],
}


def make_other_sample(seed: int, width: int, height: int):
    return make_sample(seed + 10, width, height, 'room')


GENERATORS = {
    'scenes': HeldOutScenes(make_sample, 2, 'held-out scenes'),
    'second': HeldOutScenes(make_other_sample, 1, 'other scenes'),
}


@pytest.fixture(scope='module')
def precision():
    return 'bf16'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tmp_path_factory.mktemp('data')


@pytest.fixture(autouse=True)
def _small_scenes(monkeypatch):
    monkeypatch.setattr(validation, 'SIZE', (64, 96))


@pytest.fixture
def new_run(data, tmp_path, accelerator):
    def make(name: str = 'run', data: Path = data, **keys: object) -> FusionRun:
        path = tmp_path / f'{name}.yaml'
        path.write_text(yaml.safe_dump({**RECIPE, **keys}))
        return FusionRun(path, tmp_path / name, data, accelerator, generators=GENERATORS)

    return make


def finished(run: FusionRun) -> FusionRun:
    run.prepare()
    assert run.train()
    return run


def log_of(run: FusionRun) -> list[dict]:
    return [json.loads(line) for line in (run.folder / 'log.jsonl').read_text().splitlines()]


@pytest.mark.slow  # trains twice
def test_a_stopped_run_ends_as_one_that_was_not(new_run):
    whole, asked = finished(new_run('whole')), iter([False] * 3 + [True])
    assert not new_run('parts').train(stop=lambda: next(asked))
    parts = finished(new_run('parts')).finished().state_dict()
    for name, value in whole.finished().state_dict().items():
        assert torch.equal(parts[name], value), name


@pytest.mark.slow  # trains for seconds
def test_the_export_answers_as_the_weights_that_validated_best(new_run):
    run = finished(new_run())
    target = run.export(scored=True)
    assert list(verify_sums(target)) == ['model.safetensors']
    lines = [line for line in log_of(run) if 'quality' in line]
    assert [line['step'] for line in lines] == [2, 4, 6]
    state = torch.load(run.folder / 'state.pt', weights_only=True)
    best = {name.removeprefix('fusion.'): v for name, v in state['best']['weights'].items()}
    assert state['best']['quality'] == min(line['quality'] for line in lines)
    loaded = load_fusion_network(target)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, best[name].half().float()), name
    card = (target / 'README.md').read_text()
    assert 'trained from scratch' in card
    assert '| 1 other scenes: azimuth |' in card
    assert '2 held-out scenes: 4 rows' in card


def test_a_run_starts_from_an_exported_network(new_run, tmp_path):
    run = finished(new_run('first'))
    target = run.export()
    further = new_run('further', init={'path': str(target)})
    for name, value in load_fusion_network(target).state_dict().items():
        assert torch.equal(value, further.chain.fusion.state_dict()[name]), name
    assert 'fine-tuned from `toy`' in finished(further).export().joinpath('README.md').read_text()


def test_scan_lines_of_a_bag_train_beside_simulated_examples(new_run, street):
    bag = {
        'kind': 'bag', 'folder': 'bags', 'lidar': '/velodyne_points', 'size': [64, 96],
        'examples': 4, 'weight': 6,
    }  # fmt: skip
    stages = [{**STAGE, 'steps': 20, 'validate_every': 0}]
    run = finished(new_run(data=street, sources=[SYNTHETIC, bag], stages=stages, validation={}))
    (line,) = log_of(run)
    sources = set(line['loss_by_source'])
    assert sources == {'synthetic mixed 64x96', 'line dropout of bag bags'}
    assert all(np.isfinite(loss) for loss in line['loss_by_source'].values())
    assert line['skipped_steps'] == 0


def test_drawing_that_is_stopped_goes_on(new_run, tmp_path):
    asked = iter([False] * 5)
    run = new_run(data=tmp_path / 'other')
    with pytest.raises(Stopped):
        run.prepare(stop=lambda: next(asked, True))
    run.prepare()
    assert run.caches[0].missing() == []


def test_export_before_training_is_refused(new_run):
    with pytest.raises(CheckpointError, match='holds no checkpoint yet'):
        new_run().export()


# scores


class Answer(torch.nn.Module):
    """Gives all to one candidate, with an expected error."""

    def __init__(self, name: str, error: float) -> None:
        super().__init__()
        outputs = [40.0 * (name == candidate) for candidate in CANDIDATES]
        packed = np.repeat([*outputs, 0.0, np.log(error)], 4)
        self.outputs = torch.from_numpy(packed)[None, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outputs.float().expand(len(x), -1, x.shape[2] // 2, x.shape[3] // 2)


@pytest.fixture
def scenes(tmp_path):
    validation = FusionValidation({'second': 1}, tmp_path, GENERATORS)
    validation.prepare()
    return validation


def test_examples_are_drawn_anew_for_scenes_of_another_generation(monkeypatch):
    examples = HeldOutExamples(GENERATORS['second'], 1, next(iter(CONDITIONS)))
    before = examples.fingerprint()
    assert examples.fingerprint() == before
    monkeypatch.setattr(validation, 'GENERATION', validation.GENERATION + 1)
    assert examples.fingerprint() != before


def test_linear_interpolation_scores_one_under_every_condition(scenes):
    cpu = torch.device('cpu')
    table = score(Answer('linear', 1e6), scenes.caches['second'], cpu)
    assert list(table) == CONDITIONS_OF_ALL
    for row in table.values():
        assert row == pytest.approx({'abs_rel': 1, 'rmse': 1, 'worst': 1, 'coverage': 1})
    assert scenes.quality({'second': table}) == pytest.approx(1.0)
    own = {'few': {'abs_rel': 0.2, 'rmse': 0.4}}
    assert scenes.quality({'second': table, 'stop': own}) == pytest.approx(0.3)
    assert scenes.quality({'scenes': table}) is None
    certain = score(Answer('nearest', 1e-6), scenes.caches['second'], cpu)
    assert all(row['coverage'] < 0.2 and row['abs_rel'] != 1 for row in certain.values())


def test_conditions_measure_what_they_say():
    depth = np.full((240, 320), 5.0, np.float32)
    depth[:40] = np.inf
    seen = {name: measure(np.random.default_rng(0), depth, name) for name in CONDITIONS_OF_ALL}
    counts = [20, 50, 500, 2000, 5000]
    assert [len(seen[f'{n} points']) for n in counts] == counts
    assert [len(np.unique(seen[f'{n} rows'].v)) for n in (4, 12, 16, 40, 64)] == [
        4,
        12,
        16,
        40,
        64,
    ]
    assert 0.6 < len(seen['depth camera']) / (200 * 320) < 0.73
    assert set(seen['azimuth'].u % 40) == set(range(5))
    around = seen['2000 points around a hole']
    assert len(around) == 2000
    assert not ((abs(around.v - 119.5) < 60) & (abs(around.u - 159.5) < 80)).any()
    for name, points in seen.items():
        wrong = (points.z != 5.0).mean()
        assert wrong == pytest.approx(0.1, abs=0.04) if 'outliers' in name else wrong == 0


# recipes


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        ({'inti': {}}, "has 'inti'; .*'init'"),
        ({'facts': {}}, "has 'facts'"),
        ({'init': {'width': 3}}, "init has 'width'"),
        ({'init': {'blocks': [1], 'inner': [4]}}, 'channels, blocks, inner, .* many levels'),
        ({'init': {'channels': [8]}}, 'channels, blocks, inner, .* as many levels'),
        ({'init': {'channels': 8, 'blocks': [1]}}, 'a list of whole numbers above 0 each'),
        ({'init': {'channels': [8, 0], 'blocks': [1, 1]}}, 'whole numbers above 0'),
        ({'init': {'path': 'x', 'channels': [8]}}, 'a path leaves no other choice'),
        ({'sources': [{**SYNTHETIC, 'examples': 0}]}, 'examples of a source is 0'),
        ({'sources': [{**SYNTHETIC, 'kind': 'magic'}]}, "kind is 'magic'"),
        ({'sources': [{**SYNTHETIC, 'cells': 1}]}, 'cells of a source is 1; give 49152'),
        ({'sources': [{**SYNTHETIC, 'model': 'tiyn'}]}, "model of a source is 'tiyn'; give tiny"),
        (
            {'sources': [{**SYNTHETIC, 'kind': 'bag', 'model': 'tiny'}]},
            'of a bag no maps are made',
        ),
        ({'validation': {'third': 3}}, "validation has 'third'"),
        ({'validation': {'second': -1}}, r'validation\.second is -1'),
        ({'validation': {}}, 'validate_every of stage fusion'),
        ({'keep_of_start': 0.5}, 'keep_of_start needs an init'),
        ({'stages': [{**STAGE, 'objective': 'latent'}]}, 'objective latent and trains unet'),
        ({'stages': [{**STAGE, 'scale': 0.5}]}, 'scale of stage fusion is 0.5'),
    ],
)
def test_an_invalid_recipe_is_named(new_run, keys, words):
    with pytest.raises(ConfigurationError, match=words):
        new_run(**keys)


def test_each_kind_of_run_refuses_the_other_recipes(new_run, tmp_path, accelerator, toy):
    path = tmp_path / 'other.yaml'
    path.write_text(yaml.safe_dump(RECIPE))
    with pytest.raises(ConfigurationError, match="'fusion', which is no depth model"):
        TrainingRun(path, tmp_path, tmp_path, accelerator)
    path.write_text(yaml.safe_dump({**toy, 'stages': [{**STAGE, 'validate_every': 0}]}))
    with pytest.raises(ConfigurationError, match='this network cannot learn'):
        TrainingRun(path, tmp_path, tmp_path, accelerator)
    with pytest.raises(ConfigurationError, match='examples of a source is None'):
        FusionRun(path, tmp_path, tmp_path, accelerator)
    path.write_text(yaml.safe_dump({**RECIPE, 'network': 'magic'}))
    with pytest.raises(ConfigurationError, match="'magic'; choose one of marigold, .*, fusion"):
        FusionRun(path, tmp_path, tmp_path, accelerator)
    path.write_text(yaml.safe_dump(RECIPE))
    with pytest.raises(ConfigurationError, match='leave it out for fusion'):
        FusionRun(path, tmp_path, tmp_path, accelerator, sharded=True)


def stop_on(street: Path, **keys: object) -> dict[str, object]:
    bag = {'kind': 'bag', 'folder': str(street / 'bags/street'), 'lidar': '/velodyne_points'}
    return {'stop': {**bag, 'size': [64, 96], **keys}}


def test_scans_of_a_recording_select_the_weights(new_run, street, tmp_path):
    run = new_run(data=tmp_path, validation=stop_on(street, frames=[[1, 3]]))
    run.prepare()
    ((cache,),) = run.validation.caches.values()
    assert len(cache) == 6
    assert run.train()
    lines = (tmp_path / 'run/log.jsonl').read_text().splitlines()
    scored = [line for line in map(json.loads, lines) if 'validation' in line]
    assert len(scored) == 3
    for line in scored:
        rows = line['validation']['stop']
        assert list(rows) == list(validation.LINES)
        mean = np.mean([0.5 * (row['abs_rel'] + row['rmse']) for row in rows.values()])
        assert line['quality'] == pytest.approx(mean)


def test_scans_that_select_must_be_of_a_bag(new_run):
    entry = {'kind': 'synthetic', 'height': 8, 'width': 8, 'count': 1, 'size': [8, 8]}
    with pytest.raises(ConfigurationError, match='stop is of kind synthetic; give a bag'):
        new_run(validation={'stop': entry})
