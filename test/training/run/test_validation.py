# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Validation scores the model that users run and does not affect training."""

from __future__ import annotations

from dataclasses import replace
import json
import random
import sys
from types import ModuleType

from accelerate import Accelerator
import cv2
from marigold_ros.errors import CheckpointError, ConfigurationError, InputError, MarigoldError
from marigold_ros.models import load_model
from marigold_ros.models.marigold.checkpoint import read_facts
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import BatchRule, Mixture, Part
from marigold_training.families.marigold import engine_model, facts_of, FAMILY
from marigold_training.fusion.model_card import learning_curve
from marigold_training.networks.export import write_checkpoint
from marigold_training.networks.initialise import initialise
from marigold_training.run.loop import Trainer
from marigold_training.run.run_log import NO_CURVES, RunLog
from marigold_training.run.score import HELD_OUT, HeldOutScenes
from marigold_training.run.stages import Stage
from marigold_training.run.validation import Validation
import numpy as np
import pytest
import torch

FACTS = {
    'space': 'log',
    'noise': 'gaussian',
    'default_denoising_steps': 2,
    'default_ensemble_size': 1,
    'default_processing_pixels': 32 * 48,
}
HOW = {'steps': 4, 'batch_size': 2, 'warmup': 1, 'save_every': 1, 'average': 0.5}
GENERATORS = {
    **HELD_OUT,
    'second': HeldOutScenes(
        lambda seed: replace(make_sample(seed + 50), kind='second'), 1, 'other scenes'
    ),
}
STAGES = [
    Stage('first', 'autoencoder', validate_every=2, **HOW),
    Stage('second', 'latent', validate_every=3, **HOW),
]


@pytest.fixture(scope='module')
def accelerator():
    return Accelerator(cpu=True, mixed_precision='bf16')


@pytest.fixture
def chain(toy):
    return initialise(toy['init'], 5, 'log')


@pytest.fixture(scope='module')
def validation(tmp_path_factory):
    data = tmp_path_factory.mktemp('data')
    return Validation({'scenes': 2, 'second': 1}, FAMILY, FACTS, data, GENERATORS)


@pytest.fixture
def new_trainer(toy, planted, accelerator):
    def make(folder, validation=None) -> Trainer:
        mixtures = [
            Mixture([Part(planted(6), 1.0, (32, 48))], BatchRule(2, seed=i), 'log', Augmentation())
            for i in range(len(STAGES))
        ]
        chain = initialise(toy['init'], 5, 'log')
        return Trainer(chain, STAGES, mixtures, folder, accelerator, seed=3, validation=validation)

    return make


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]


@pytest.mark.slow  # trains twice
def test_validation_does_not_change_how_a_run_ends(new_trainer, validation, tmp_path):
    assert new_trainer(tmp_path / 'plain').run()
    assert new_trainer(tmp_path / 'scored', validation).run()
    ends = [torch.load(tmp_path / x / 'state.pt') for x in ('plain', 'scored')]
    for part in ('chain', 'average'):
        for key, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][key]), key
    assert ends[0]['scaling_factor'] == ends[1]['scaling_factor']
    scored = [line for line in lines(tmp_path / 'scored') if 'validation' in line]
    # The autoencoder alone predicts no depth.
    assert [(line['stage'], line['step']) for line in scored] == [('second', 3), ('second', 4)]
    assert {p.name for p in (tmp_path / 'scored' / 'pictures').iterdir()} == {
        'second_000003.png',
        'second_000004.png',
    }


def test_validation_changes_no_weights_or_random_states(chain, validation, tmp_path):
    for weight in chain.parameters():
        weight.grad = torch.ones_like(weight)
    average = {k: v.clone() for k, v in chain.state_dict().items()}
    before = {k: v.clone() for k, v in chain.state_dict().items()}
    layouts = [w.stride() for w in chain.parameters()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    figures = validation.run(chain, average, torch.device('cpu'), tmp_path / 'p.png')
    assert set(figures) == {'scenes', 'second'}
    for key, value in chain.state_dict().items():
        assert torch.equal(value, before[key]), key
        assert torch.equal(average[key], before[key]), key
    assert [w.stride() for w in chain.parameters()] == layouts
    assert all(w.requires_grad and (w.grad == 1).all() for w in chain.parameters())
    assert chain.training
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002


def test_it_predicts_as_the_exported_checkpoint_does(chain, tmp_path):
    chain.autoencoder.register_to_config(scaling_factor=0.37)
    weights = {k: v.clone() + 0.01 for k, v in chain.state_dict().items()}
    model = engine_model(chain, weights, FACTS, torch.device('cpu'))
    chain.load_state_dict(weights)
    folder = tmp_path / 'toy'
    write_checkpoint(folder, chain.autoencoder, chain.unet, FACTS, dtype=torch.float32)
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    expected = load_model(str(folder), device='cpu').predict(rgb)
    answer = model.predict(rgb)
    assert answer.space == expected.space == 'log'
    np.testing.assert_array_equal(answer.relative, expected.relative)


@pytest.mark.parametrize('more', [{}, {'default_processing_resolution': 96}])
def test_its_facts_are_those_of_the_export(chain, tmp_path, more):
    for given in (FACTS, {'space': 'depth', **more}):
        folder = tmp_path / given['space']
        write_checkpoint(folder, chain.autoencoder, chain.unet, given)
        own, exported = facts_of(given), read_facts(folder)
        for name in ('space', 'noise', 'denoising_steps', 'ensemble_size', 'processing_pixels'):
            assert getattr(own, name) == getattr(exported, name), name
        assert own.processing_resolution == exported.processing_resolution


@pytest.mark.slow  # two runs
def test_the_contact_sheet_is_the_same_each_time(chain, validation, tmp_path):
    assert [label for label, _ in validation.shown][1] == 'seconds'
    assert len(validation.shown) == 3
    weights = chain.state_dict()
    files = [tmp_path / 'a.png', tmp_path / 'b.png']
    tables = [validation.run(chain, weights, torch.device('cpu'), path) for path in files]
    assert tables[0] == tables[1]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert cv2.imread(str(files[0])).shape == (2 * 192, 2 * 3 * 256, 3)
    for table in tables[0].values():
        assert set(table) == {'model', 'quadric', 'quadric and model'}
        assert table['quadric']['abs_rel'] < 1.0


def test_a_folder_of_pairs_is_scored_too(chain, tmp_path):
    own = tmp_path / 'data' / 'mine' / 'one'
    own.mkdir(parents=True)
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    ramp = np.linspace(1000, 5000, 64).astype(np.uint16)
    cv2.imwrite(str(own / 'image.png'), rgb)
    cv2.imwrite(str(own / 'depth_mm.png'), np.tile(ramp, (48, 1)))
    validation = Validation({'pairs': 'mine'}, FAMILY, FACTS, tmp_path / 'data')
    assert validation
    validation.prepare()
    table = validation.run(chain, chain.state_dict(), torch.device('cpu'), tmp_path / 'x.png')
    assert table['pairs']['model']['pictures'] == 1
    assert table['pairs']['quadric']['abs_rel'] < 0.05


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        ({'scene': 3}, "'scene'.*'scenes'"),
        ({'scenes': -1}, 'scenes is -1'),
        ({'second': True}, 'second is True'),
        (5, 'validation is 5'),
    ],
)
def test_invalid_validation_entries_are_named(tmp_path, entry, words):
    with pytest.raises(ConfigurationError, match=words):
        Validation(entry, FAMILY, FACTS, tmp_path, GENERATORS)
    with pytest.raises(ConfigurationError, match="validation has 'second'"):  # without GENERATORS
        Validation({'second': 1}, FAMILY, FACTS, tmp_path)


class Curves:
    """TensorBoard's writer as the log uses it."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.purge_step, self.scalars, self.images, self.closed = purge_step, [], [], False
        made.append(self)

    def add_scalar(self, name: str, value: float, at: int) -> None:
        self.scalars.append((name, value, at))

    def add_image(self, name: str, image: np.ndarray, at: int, dataformats: str) -> None:
        self.images.append((name, image.shape, at, dataformats))

    def close(self) -> None:
        self.closed = True


made: list[Curves] = []


def test_curves_are_drawn_where_tensorboard_is_installed(tmp_path, monkeypatch):
    module = ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = Curves
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    cv2.imwrite(str(tmp_path / 'p.png'), np.zeros((4, 6, 3), np.uint8))
    log = RunLog(tmp_path)
    log.write({'stage': 'a', 'step': 20, 'loss': 0.5, 'loss_by_source': {'x': 0.25}}, 120)
    log.write({'validation': {'scenes': {'model': {'abs_rel': 0.1}}}}, 140, tmp_path / 'p.png')
    log.close()
    (curves,) = made
    assert curves.purge_step == 120
    assert curves.scalars == [
        ('loss', 0.5, 120),
        ('loss_by_source/x', 0.25, 120),
        ('validation/scenes/model/abs_rel', 0.1, 140),
    ]
    assert curves.images == [('pictures', (4, 6, 3), 140, 'HWC')]
    assert curves.closed
    assert [line.get('note') for line in lines(tmp_path)] == [None, None]


def test_without_tensorboard_the_log_is_complete_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.write({'step': step, 'loss': 0.5}, step)
    log.close()
    assert [line['step'] for line in lines(tmp_path)] == [1, 2, 3]
    assert [line.get('note') for line in lines(tmp_path)] == [NO_CURVES, None, None]


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'log.jsonl').mkdir()
    with pytest.raises(MarigoldError, match=r'log\.jsonl could not be written .*same command'):
        RunLog(tmp_path).write({'step': 1}, 1)


def test_a_line_that_was_cut_off_is_no_line_of_the_resumed_log(tmp_path):
    path, log = tmp_path / 'log.jsonl', RunLog(tmp_path)
    log.write({'step': 1, 'quality': 0.5}, 1)
    saved = log.size
    with path.open('a') as file:
        file.write('{"step": 2, "qua')
    assert '| 1 | 0.5000 |' in learning_curve(path)
    resumed = RunLog(tmp_path)
    resumed.rewind(saved)
    for step in (2, 3):
        resumed.write({'step': step, 'quality': 0.25}, step)
    assert [line['step'] for line in lines(tmp_path)] == [1, 2, 3]


@pytest.fixture
def stop(tmp_path):
    """Return the entry of two images with their depth, below the folder of the test."""
    for index in range(2):
        sample = make_sample(index + 70, width=48, height=32)
        folder = tmp_path / f'mine/{index}'
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / 'image.png'), sample.rgb)
        metres = np.where(np.isfinite(sample.depth), sample.depth, 0.0)
        cv2.imwrite(str(folder / 'depth_mm.png'), np.minimum(metres * 1000, 65535).astype('u2'))
    patterns = {'images': '*/image.*', 'depths': '*/depth_mm.png'}
    return {'kind': 'folder', 'folder': 'mine', **patterns, 'size': [32, 48]}


def test_images_to_stop_on_select_the_weights(chain, stop, tmp_path):
    validation = Validation({'stop': stop}, FAMILY, FACTS, tmp_path)
    assert validation
    validation.prepare()
    figures = validation.run(chain, chain.state_dict(), torch.device('cpu'), tmp_path / 'p.png')
    assert validation.quality(figures) == figures['stop']['model']['abs_rel']
    metric = {'stop': {**figures['stop'], 'own metres': {'abs_rel': 0.7}}}  # the robot's own
    assert validation.quality(metric) == 0.7
    assert Validation({'scenes': 1}, FAMILY, FACTS, tmp_path).quality({'scenes': {}}) is None
    of_scenes = {'scenes': {'model': {'abs_rel': 0.2, 'delta1': 0.7}}}
    for metric, quality in (('abs_rel', 0.2), ('delta1', -0.7)):  # the least is the best
        entry = {'scenes': 1, 'best': f'scenes.{metric}'}
        assert Validation(entry, FAMILY, FACTS, tmp_path).quality(of_scenes) == quality


def test_figures_of_another_validation_select_no_weights(open_run):
    stage = {'name': 'a', 'objective': 'pixel', 'steps': 1, 'batch_size': 2, 'validate_every': 1}
    more = {**stage, 'name': 'b'}

    def run(metric, *stages):
        return open_run(validation={'scenes': 1, 'best': f'scenes.{metric}'}, stages=stages)

    assert run('delta1', stage).train()
    with pytest.raises(CheckpointError, match='delta1.*and the recipe has .*abs_rel'):
        run('abs_rel', stage, more).train()
    assert run('delta1', stage, more).trainer().best['at'] == 'a 1/1'


def test_images_of_too_few_points_to_be_scored_are_refused_before_training(stop, tmp_path):
    for path in tmp_path.glob('mine/*/depth_mm.png'):
        few = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        few[2:] = 0  # two lines of 48 points
        cv2.imwrite(str(path), few)
    with pytest.raises(InputError, match='validation.stop: none of 2 images .* 100 pixels'):
        Validation({'stop': stop}, FAMILY, FACTS, tmp_path).prepare()
