# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The training loop: exact resumption, the log, the schedule, and errors of recipes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
import json
from pathlib import Path
import re

from accelerate import Accelerator
from marigold_ros.errors import CheckpointError, ConfigurationError, MarigoldError
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import BatchRule, Mixture, Part
from marigold_training.objectives.trained_networks import as_image
from marigold_training.run.loop import Trainer
from marigold_training.run.optimizer import learning_rate, new_optimizer
from marigold_training.run.recipe import read_recipe
from marigold_training.run.run_state import load_averaged, trained_stages
from marigold_training.run.stages import read_stages, Stage
import pytest
from safetensors.torch import load_file
import torch

SMALL = {'steps': 3, 'batch_size': 2, 'warmup': 1, 'average': 0.9, 'clip': 1.0}
STAGES = [
    Stage('a', 'autoencoder', **SMALL),
    Stage('b', 'latent', accumulation=2, **SMALL),
    Stage('c', 'pixel', trains=('autoencoder', 'unet'), **SMALL),
]


@pytest.fixture(scope='module')
def accelerator():
    return Accelerator(cpu=True, mixed_precision='bf16')


@pytest.fixture(scope='module')
def new_trainer(planted, new_chain, accelerator):
    def make(folder: Path, stages=tuple(STAGES), latent_channels: int = 4) -> Trainer:
        chain = new_chain(latent_channels)
        how = Augmentation(colour=1.0, sensor=0.5)
        mixtures = [
            Mixture([Part(planted(6), 1.0, (32, 48))], BatchRule(s.batch_size, i), 'log', how)
            for i, s in enumerate(stages)
        ]
        return Trainer(chain, list(stages), mixtures, folder, accelerator, seed=3)

    return make


@pytest.fixture(scope='module')
def whole(new_trainer, tmp_path_factory) -> Trainer:
    """Return a trainer at the end of all stages."""
    trainer = new_trainer(tmp_path_factory.mktemp('whole'))
    assert trainer.run()
    return trainer


class Killed(Exception):
    pass


def assert_same_end(whole: Trainer, resumed: Trainer) -> None:
    found = resumed.chain.state_dict()
    for key, value in whole.chain.state_dict().items():
        assert torch.equal(value, found[key]), key
    ends = [t.chain.autoencoder.config.scaling_factor for t in (whole, resumed)]
    assert ends[0] == ends[1]


OTHER_MOMENTS = [pytest.param(at, marks=pytest.mark.slow) for at in ((0, 2), (1, 2), (2, 1))]


@pytest.mark.parametrize('kill_at', [(1, 0), *OTHER_MOMENTS])
def test_a_killed_run_ends_bitwise_as_an_unkilled_one(
    new_trainer, whole, tmp_path, monkeypatch, kill_at
):
    killed = new_trainer(tmp_path / 'killed', [replace(s, save_every=1) for s in STAGES])
    save = killed.save

    def save_and_die():
        save()
        if (killed.stage_index, killed.step) == kill_at:
            raise Killed

    monkeypatch.setattr(killed, 'save', save_and_die)
    with pytest.raises(Killed):
        killed.run()
    resumed = new_trainer(tmp_path / 'killed')
    assert (resumed.stage_index, resumed.step) == kill_at
    assert resumed.run()
    assert_same_end(whole, resumed)


def test_a_run_out_of_time_or_stopped_resumes_and_its_stages_are_known(
    new_trainer, whole, tmp_path
):
    state, name = tmp_path / 'state.pt', STAGES[0].name
    assert trained_stages(state, STAGES) == ([], f'{name} 0/{STAGES[0].steps}')
    assert not new_trainer(tmp_path).run(minutes=0.0)
    asked = iter([False, False, True])
    assert not new_trainer(tmp_path).run(stop=lambda: next(asked))
    first = replace(STAGES[0], steps=2)
    assert trained_stages(state, STAGES) == ([first], f'{name} 2/{STAGES[0].steps}')
    resumed = new_trainer(tmp_path)
    assert resumed.step == 2
    assert resumed.run()
    assert trained_stages(state, STAGES) == (list(STAGES), '')
    assert_same_end(whole, resumed)


@pytest.mark.parametrize('save_every', [3, 100])
def test_steps_that_a_killed_run_repeats_are_logged_once(
    new_trainer, tmp_path, monkeypatch, save_every
):
    monkeypatch.setattr('marigold_training.run.loop.LOG_EVERY', 1)
    stages = [replace(STAGES[0], steps=6, save_every=save_every)]
    killed = new_trainer(tmp_path, stages)
    write = killed.log.write

    def write_and_die(line, at):
        write(line, at)
        if at == 5:
            raise Killed

    monkeypatch.setattr(killed.log, 'write', write_and_die)
    with pytest.raises(Killed):
        killed.run()
    assert new_trainer(tmp_path, stages).run()
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_stage_is_logged_up_to_its_last_step(new_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr('marigold_training.run.loop.LOG_EVERY', 2)
    stages = [replace(STAGES[0], steps=steps) for steps in (1, 3, 2)]
    assert new_trainer(tmp_path, stages).run()
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [1, 2, 3, 2]


def test_networks_that_drop_features_at_random_resume_exactly(new_trainer, tmp_path):
    def dropping(folder):
        trainer = new_trainer(folder, [replace(STAGES[0], steps=6)])
        layer = trainer.chain.autoencoder.encoder.conv_in
        layer.register_forward_hook(lambda *given: torch.nn.functional.dropout(given[-1], 0.5))
        return trainer

    whole, begun = dropping(tmp_path / 'whole'), dropping(tmp_path / 'stopped')
    assert whole.run()
    assert not begun.run(stop=lambda: begun.step == 4)
    torch.rand(3)  # as another process has another state
    resumed = dropping(tmp_path / 'stopped')
    assert resumed.run()
    assert_same_end(whole, resumed)


def test_a_run_resumed_without_averaging_goes_on_from_its_own_weights(new_trainer, tmp_path):
    begun = new_trainer(tmp_path, [STAGES[0]])
    asked = iter([False, False, True])
    assert not begun.run(stop=lambda: next(asked))
    resumed = new_trainer(tmp_path, [replace(STAGES[0], average=0.0)])
    assert_same_end(begun, resumed)


def test_a_resumed_stage_has_the_weight_decay_and_betas_of_its_recipe_now(new_trainer, tmp_path):
    stage = replace(STAGES[0], steps=6)
    begun = new_trainer(tmp_path, [stage])
    assert not begun.run(stop=lambda: begun.step == 3)
    changed = replace(stage, weight_decay=0.5, betas=(0.8, 0.9))
    resumed = new_trainer(tmp_path, [changed])
    (group,) = resumed.optimizer.param_groups
    assert (group['weight_decay'], group['betas']) == (0.5, (0.8, 0.9))
    moments = [t.optimizer.state_dict()['state'] for t in (begun, resumed)]
    for number, moment in moments[0].items():
        for name, value in moment.items():
            assert torch.equal(value, moments[1][number][name])


class Planned:
    """A validation with planned qualities, which keeps the weights that it saw."""

    def __init__(self, qualities: dict[int, float]) -> None:
        self.qualities, self.seen = qualities, {}

    def run(self, chain, weights, device, image):
        step = int(image.stem.rpartition('_')[2])
        self.seen[step] = {name: value.clone() for name, value in weights.items()}
        return {'figure': self.qualities[step]}

    def quality(self, figures):
        return figures['figure']


def test_the_weights_of_the_best_validation_are_kept_over_a_restart(new_trainer, tmp_path):
    stage = Stage('a', 'latent', **{**SMALL, 'steps': 4}, validate_every=1)
    planned = Planned({1: 3.0, 2: 1.0, 3: 2.0, 4: 1.5})
    asked = iter([False] * 3 + [True])
    trainer = new_trainer(tmp_path, [stage])
    trainer.validation = planned
    assert not trainer.run(stop=lambda: next(asked))
    resumed = new_trainer(tmp_path, [stage])
    resumed.validation = planned
    assert resumed.run()
    loaded = new_trainer(tmp_path, [stage])
    load_averaged(tmp_path / 'state.pt', loaded.chain)
    for key, value in loaded.chain.state_dict().items():
        assert torch.equal(value, planned.seen[2][key]), key
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['quality'] for line in lines if 'quality' in line] == [3.0, 1.0, 2.0, 1.5]


def test_the_log_has_loss_by_source_and_waiting_time(new_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr('marigold_training.run.loop.LOG_EVERY', 1)
    new_trainer(tmp_path, STAGES[1:2]).run()
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line['loss_by_source'] == {'planted': line['loss']}
        assert 0.0 <= line['waiting_for_data'] <= 1.0
        assert line['skipped_steps'] == 0


def test_the_time_left_is_that_of_all_stages(new_trainer, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr('marigold_training.run.loop.LOG_EVERY', 1)
    new_trainer(tmp_path, [STAGES[0], replace(STAGES[0], name='b')]).run()
    shown = capfd.readouterr().err
    assert re.search(r'loss [\d.]+, \d\d:\d\d left of all stages', shown)
    assert '00:00 left of all stages' in shown  # at the end of the last one


def test_five_steps_without_a_finite_loss_end_the_run(new_trainer, tmp_path, monkeypatch):
    stage = Stage('x', 'latent', steps=9, batch_size=2, warmup=1)
    trainer = new_trainer(tmp_path, [stage])
    before = {k: v.clone() for k, v in trainer.chain.state_dict().items()}
    forward = trainer.chain.forward
    monkeypatch.setattr(trainer.model, 'forward', lambda *given: forward(*given) * float('nan'))
    with pytest.raises(MarigoldError, match='5 steps in a row.*learning_rate'):
        trainer.run()
    for key, value in trainer.chain.state_dict().items():
        assert torch.equal(value, before[key])


def test_after_the_autoencoder_the_latents_have_unit_deviation(new_trainer, tmp_path):
    trainer = new_trainer(tmp_path, STAGES[:1])
    trainer.run()
    chain, deviations = trainer.chain, []
    with torch.no_grad():
        for number in range(8):
            batch = trainer.mixtures[0][number]
            for image in (batch.rgb, as_image(batch.relative)):
                deviations.append(chain.encode(image).flatten())
    assert torch.cat(deviations).std().item() == pytest.approx(1.0, rel=0.02)


def test_a_checkpoint_of_other_networks_or_damaged_is_refused(new_trainer, tmp_path):
    new_trainer(tmp_path, STAGES[:1]).run()
    with pytest.raises(CheckpointError, match='another architecture'):
        new_trainer(tmp_path, STAGES[:1], latent_channels=8)
    path = tmp_path / 'state.pt'
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='is damaged'):
        new_trainer(tmp_path, STAGES[:1])
    torch.save({'step': 1}, path)
    with pytest.raises(CheckpointError, match='has no average, chain, .* of another release'):
        new_trainer(tmp_path, STAGES[:1])


def test_a_full_disk_keeps_the_last_checkpoint_only(new_trainer, tmp_path, monkeypatch, capsys):
    trainer = new_trainer(tmp_path, STAGES[:1])
    trainer.run()
    before = (tmp_path / 'state.pt').read_bytes()

    def fill_up(state, path):
        path.write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', fill_up)
    with pytest.raises(CheckpointError, match='No space left.*untouched'):
        trainer.save()
    again = [replace(STAGES[0], steps=9, save_every=1)]
    with pytest.raises(CheckpointError, match='No space left') as held:
        new_trainer(tmp_path / 'other', again).run()
    assert held.tb  # with all that the step holds, as when the message is printed
    assert capsys.readouterr().err.endswith('\n')  # what is said begins on a line of its own
    assert (tmp_path / 'state.pt').read_bytes() == before
    assert not list(tmp_path.glob('*.tmp'))


def test_the_learning_rate_rises_stays_and_falls_to_a_hundredth():
    stage = Stage('x', 'pixel', steps=1000, learning_rate=1.0, warmup=100, decay_from=0.5)
    assert learning_rate(stage, 0) == pytest.approx(0.01)
    assert learning_rate(stage, 99) == pytest.approx(1.0)
    assert learning_rate(stage, 500) == pytest.approx(1.0)
    assert learning_rate(stage, 1000) == pytest.approx(0.01)


def test_a_cosine_falls_to_its_final_rate_with_no_step_at_the_ends():
    stage = Stage(
        'x', 'pixel', 1000, learning_rate=1.0, warmup=0, decay='cosine', decay_from=0.0,
        final_rate=0.02,
    )  # fmt: skip
    rates = [learning_rate(stage, step) for step in range(1001)]
    assert rates[0] == pytest.approx(1.0)
    assert rates[500] == pytest.approx(0.51)
    assert rates[1000] == pytest.approx(0.02)
    assert all(before > after for before, after in pairwise(rates))
    assert rates[0] - rates[1] < 0.01 * (rates[500] - rates[501])


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        ({'stepz': 3}, "a stage has 'stepz'; did you mean 'steps'"),
        ({'objective': 'magic'}, "'magic'; choose one of autoencoder"),
        ({'steps': 0}, 'steps is 0'),
        ({'scale': 2.0}, 'scale is 2.0'),
        ({'trains': ['text']}, "'text'; choose from autoencoder, unet"),
        ({'trains': ['autoencoder']}, 'at least unet'),
        ({'trains': 'unet'}, r"trains is 'unet'; give a list, as \[unet\]"),
        ({'name': 1}, 'name is 1; give text'),
        ({'decay': 'linear'}, "'linear'; choose one of exponential, cosine"),
        ({'betas': [0.9, 1.0]}, r'betas is \[0.9, 1.0\]'),
        ({'betas': 0.9}, 'betas is 0.9; give two numbers'),
        ({'learning_rate': '1e-4'}, "learning_rate is '1e-4'; give a number .* write 1.0e-4"),
        ({'steps': '1e4'}, "steps is '1e4'; give a whole number .* write 10000"),
        ({'batch_size': True}, 'batch_size is True'),
        ({'gradient_checkpointing': 'no'}, "gradient_checkpointing is 'no'; give true or false"),
        ({'learning_rate': float('nan')}, 'learning_rate is nan'),
        ({'clip': -1.0}, 'clip is -1.0; choose 0 or more'),
        ({'warmup': -1}, 'warmup is -1'),
        ({'validate_every': -1}, 'validate_every is -1'),
        ({'final_rate': 2.0}, 'final_rate is 2.0; choose from 0 to 1'),
        ({'final_rate': 0.0}, 'exponential decay never reaches; .* cosine'),
    ],
)
def test_an_invalid_stage_is_named(entry, words):
    with pytest.raises(ConfigurationError, match=words):
        read_stages([{'name': 'a', 'objective': 'pixel', 'steps': 3} | entry], {})


@pytest.mark.parametrize('names', [('a', 'b', 'a'), ('a', '../b')])
def test_stages_whose_files_would_replace_others_are_refused(names):
    with pytest.raises(ConfigurationError, match='give each a name of its own, without /'):
        read_stages([{'name': name} for name in names], {'objective': 'pixel', 'steps': 3})


def test_betas_may_be_whole_numbers():
    (stage,) = read_stages(
        [{'name': 'a', 'objective': 'pixel', 'steps': 3, 'betas': [0, 0.99]}], {}
    )
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    new_optimizer(stage, [weight]).step()
    assert weight < 1.0


def filled(line):
    key, _, value = line.partition(':')
    usual = {'name': 'x', 'init': '{}', 'sources': '[]', 'stages': '[]', 'facts': '{space: log}'}
    return '\n'.join(f'{key}: {value}' for key, value in {**usual, key: value}.items())


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('name: x\n', 'lacks init, sources'),
        ('nam: x\n', "bad.yaml has 'nam'; .*'name'"),
        ('1: x\n', "bad.yaml has '1'; known are name"),
        ('[1, 2]\n', 'holds no keys'),
        ('{name: a, init: {}, sources: [], stages: [], facts: {}}', 'facts.space'),
        (filled('facts: {spce: log}'), "facts of bad.yaml has 'spce'; .*'space'"),
        (filled('init: tiny'), "init is 'tiny'; give keys with values"),
        (filled('init:'), 'lacks init'),
        (filled('sources: {kind: folder}'), 'sources is .*; give a list'),
        (filled('sources: [synthetic]'), "an entry of sources is 'synthetic'"),
        (filled('name: 2024'), 'name of bad.yaml is 2024; give text'),
        (filled("name: ''"), "name of bad.yaml is ''"),
        (filled('name: .'), "name of bad.yaml is '.'"),
        (filled('name: ../mine'), "name of bad.yaml is '../mine'; give text without /"),
        (filled('name: state.pt'), "'state.pt', which the run's folder has"),
        ('a: [', 'not valid YAML'),
        ('a: [{b: 1, c: 2, b: 3}]', "not valid YAML: 'b' is given twice; leave one of them out"),
        ('[' * 5000, 'not valid YAML'),
        ('a: ' + '9' * 5000, 'not valid YAML'),
        ('a: 2020-13-45', 'not valid YAML'),
        ('\udcff', 'not valid YAML'),  # no UTF-8
    ],
)
def test_an_invalid_recipe_is_named(tmp_path, text, words):
    path = tmp_path / 'bad.yaml'
    path.write_text(text, errors='surrogateescape')
    with pytest.raises(ConfigurationError, match=words):
        read_recipe(path)
    with pytest.raises(ConfigurationError, match='no recipe'):
        read_recipe(tmp_path / 'none.yaml')


SEEDS = 'x', -1, 1.5, 2**32
FACTS = {
    'noise': 'zero',
    'default_denoising_steps': 0,
    'default_ensemble_size': 'x',
    'default_processing_pixels': -1,
    'default_processing_resolution': 1.5,
}
CACHED = {'objective': 'latent', 'latent_cache': True}


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        *(({'seed': seed}, f"seed is '?{seed}'?; give a whole number") for seed in SEEDS),
        *(
            ({'facts': {'space': 'log', k: v}}, f'{k} of the recipe is .?{v}')
            for k, v in FACTS.items()
        ),
        ({'mixing': 'shuffled'}, "mixing is 'shuffled'"),
        ({'validation': 5}, 'validation is 5; give keys'),
        ({'validation': {'stop': 5}}, 'a source is 5; give keys'),
        ({'stage': {'objective': 'anchored'}}, 'kind checkpoint'),
        ({'facts': {'space': 'log'}}, "noise is 'gaussian', and stage a .objective pixel.*zeros"),
        ({'stage': {'validate_every': 1}}, 'validate_every of stage a'),
        ({'stage': CACHED, 'augment': {'colour': 0.5}}, 'augment.colour is 0.5'),
        ({'keep_of_start': 1.0}, 'keep_of_start is 1.0; choose from 0 to below 1'),
        ({'keep_of_start': 'half'}, "is 'half'"),
        ({'keep_of_start': 0.5}, 'needs an init of kind checkpoint'),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_at_once(open_run, changes, words):
    with pytest.raises((ConfigurationError, CheckpointError), match=words):
        open_run(**changes)


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        ({'stage': {'objective': 'anchored'}}, 'anchored'),
        ({'keep_of_start': 0.5}, 'keep_of_start'),
    ],
)
def test_a_checkpoint_is_kept_in_its_own_space_only(
    open_run, toy, small_checkpoint, changes, what
):
    init = {'kind': 'checkpoint', 'path': str(small_checkpoint)}
    with pytest.raises(ConfigurationError, match=f"is 'log' and .* predicts 'depth', .*{what}"):
        open_run(**changes, init=init)
    open_run(init=init)
    open_run(**changes, init=init, facts={**toy['facts'], 'space': 'depth'})


@pytest.mark.parametrize('more', [{'objective': 'latent'}, {'trains': ['autoencoder', 'prompt']}])
def test_a_model_may_begin_with_noise_that_its_unet_has_not_unlearned(open_run, toy, more):
    open_run(more, facts={'space': 'log'}, init={**toy['init'], 'prompt': 8})


@pytest.mark.parametrize(
    ('entries', 'common', 'words'),
    [
        ({'name': 'a'}, {}, 'stages is .*; give a list'),
        ([{'name': 'a', 'objective': 'pixel'}], {}, 'entry 1 of stages lacks steps'),
        ([{'name': 'a', 'objective': 'pixel', 'steps': 1}], 5, 'common is 5'),
    ],
)
def test_stages_of_another_form_are_named(entries, common, words):
    with pytest.raises(ConfigurationError, match=words):
        read_stages(entries, common)


def test_a_folder_that_no_run_has_exported_is_never_replaced(open_run, toy, tmp_path):
    (tmp_path / 'out' / toy['name']).mkdir(parents=True)
    with pytest.raises(ConfigurationError, match='is no exported checkpoint'):
        open_run()


def test_a_key_without_a_value_is_as_if_left_out(tmp_path):
    path = tmp_path / 'r.yaml'
    path.write_text(filled('augment:\n  # flip: 0.5\ncommon:'))
    assert set(read_recipe(path)) == {'name', 'init', 'sources', 'stages', 'facts'}


def test_backups_keep_the_averaged_weights_of_their_step(new_trainer, tmp_path):
    stages = [replace(STAGES[1], steps=4, backup_every=2)]
    trainer = new_trainer(tmp_path, stages)
    kept, back_up = [], trainer.back_up

    def note(stage):
        kept.append({k: v.clone() for k, v in trainer.average.weights.items()})
        back_up(stage)

    trainer.back_up = note
    assert trainer.run()
    files = sorted((tmp_path / 'backups').iterdir())
    assert [file.name for file in files] == ['b_000002.safetensors', 'b_000004.safetensors']
    chain = trainer.chain
    for file, weights in zip(files, kept, strict=True):
        load_averaged(tmp_path / 'state.pt', chain, str(file))
        for name, value in chain.state_dict().items():
            assert torch.equal(value, weights[name]), name
    assert all(name.startswith('unet.') for name in load_file(files[0]))
    with pytest.raises(CheckpointError, match='no.safetensors cannot be read'):
        load_averaged(tmp_path / 'state.pt', chain, str(tmp_path / 'no.safetensors'))


@pytest.mark.slow  # trains for seconds
def test_a_card_names_its_weights_and_has_their_figures_only(open_run, tmp_path, monkeypatch):
    validated = {'scenes': 1, 'best': 'scenes.abs_rel'}
    run = open_run({'steps': 2, 'backup_every': 1, 'validate_every': 1}, validation=validated)
    planned = Planned({1: 1.0, 2: 2.0})
    monkeypatch.setattr(run.validation, 'run', planned.run)
    monkeypatch.setattr(run.validation, 'quality', planned.quality)
    assert run.train()

    def card(figure: float = 0.0, **given: str) -> str:
        monkeypatch.setattr(run, 'figures', lambda chain: {'rooms': {'abs_rel': figure}})
        text = (run.export(bool(figure), **given) / 'README.md').read_text()
        assert run.measured() in text
        return text

    backup = str(tmp_path / 'out/backups/a_000001.safetensors')
    assert '0.1250' in card(0.125)
    assert 'The weights are those of the backup a_000001.' in card(weights=backup)
    assert '| rooms |' not in card(weights=backup)
    assert '0.2500' in card(0.25, weights=backup)
    assert 'The weights are' not in card(weights='last')
    assert '| rooms |' not in card(weights='last')
    assert '0.1250' in card()
    assert 'The weights are those of a 1/2, which validation selected.' in card()


def test_the_last_weights_stay_beside_the_best(new_trainer, tmp_path):
    trainer = new_trainer(tmp_path, [STAGES[1]])
    first = {k: v.clone() for k, v in trainer.average.weights.items()}
    trainer.best = {'quality': 0.1, 'weights': first}
    assert trainer.run()
    last = {k: v.clone() for k, v in trainer.average.weights.items()}
    assert any(not torch.equal(last[name], first[name]) for name in first)
    for weights, wanted in (('', first), ('last', last)):
        load_averaged(tmp_path / 'state.pt', trainer.chain, weights)
        for name, value in trainer.chain.state_dict().items():
            assert torch.equal(value, wanted[name]), name


def test_data_are_prepared_without_the_weights_that_training_starts_with(open_run):
    init = {'kind': 'stable_diffusion', 'path': 'not/there'}
    run = open_run(init=init, options={'networks': False})
    run.prepare()
    assert [len(source) for source in run.sources] == [8]
    with pytest.raises(CheckpointError, match='not/there'):
        open_run(init=init)


def test_every_recipe_of_the_project_is_readable():
    folder = Path(__file__).resolve().parents[3] / 'training' / 'recipes'
    for path in folder.glob('*.yaml'):
        recipe = read_recipe(path)
        assert read_stages(recipe['stages'], recipe.get('common', {})), path
