# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""States and backups of runs: what of a recipe may change when a run goes on, or is exported."""

from __future__ import annotations

from pathlib import Path

from marigold_ros.errors import CheckpointError
from marigold_training.run.recipe import TrainingRun
from marigold_training.run.run_state import load_averaged, trained_stages
import pytest
from safetensors.torch import load_file, save_file
import torch
import yaml


def own_stages(*changes: dict) -> list[dict]:
    """Return the entries of stages a, b and c as far as there are changes of them."""
    own = {'objective': 'pixel', 'trains': ['unet'], 'steps': 2, 'batch_size': 2}
    return [{'name': name, **own, **more} for name, more in zip('abc', changes, strict=False)]


@pytest.fixture(scope='module')
def open_in(toy, tmp_path_factory, accelerator):
    """Return a function that opens a run of the toy recipe with these stages in a folder."""
    data = tmp_path_factory.mktemp('data')

    def open_run(folder: Path, *changes: dict, **keys) -> TrainingRun:
        path = folder / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**toy, 'stages': own_stages(*changes), **keys}))
        return TrainingRun(path, folder, data, accelerator)

    return open_run


@pytest.fixture(scope='module')
def resumable(open_in, tmp_path_factory):
    """Return a function that resumes a run of two stages after a step of the second."""
    begun = tmp_path_factory.mktemp('begun')
    asked = iter([False] * 3 + [True])
    assert not open_in(begun, {}, {}).train(stop=lambda: next(asked))
    state = (begun / 'state.pt').read_bytes()

    def resume(folder: Path, *changes: dict, **keys) -> TrainingRun:
        (folder / 'state.pt').write_bytes(state)
        return open_in(folder, *changes, **keys)

    return resume


@pytest.mark.parametrize(
    ('changes', 'space', 'words'),
    [
        (({'steps': 9}, {}), 'log', 'has trained stage a with steps 2, and the recipe has 9; use'),
        (({},), 'log', 'has begun 2 stages and the recipe has 1'),
        (({}, {'trains': ['unet', 'autoencoder']}), 'log', 'stage b with trains .*unet'),
        (({}, {}), 'disparity', r"space 'log', and the recipe has 'disparity'"),
    ],
)
def test_a_run_whose_recipe_now_is_of_another_one_is_refused(
    resumable, toy, tmp_path, changes, space, words
):
    run = resumable(tmp_path, *changes, facts={**toy['facts'], 'space': space})
    for use in (run.train, run.export):
        with pytest.raises(CheckpointError, match=words):
            use()
    assert not (tmp_path / 'toy').exists()


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        ({'seed': 5}, 'begun with seed 0, and the recipe has 5; use the recipe that began'),
        ({'noise': 'annealed'}, 'noise gaussian, and the recipe has annealed'),
        ({'noise_strength': 0.5}, 'noise_strength 0.9, and the recipe has 0.5'),
    ],
)
def test_a_run_that_would_now_train_otherwise_is_refused(resumable, tmp_path, keys, words):
    run = resumable(tmp_path, {}, {}, **keys)
    for use in (run.train, run.export):
        with pytest.raises(CheckpointError, match=words):
            use()


def test_a_run_that_began_with_another_checkpoint_is_refused(open_in, small_checkpoint, tmp_path):
    (tmp_path / 'other').symlink_to(small_checkpoint)
    paths = small_checkpoint, tmp_path / 'other'
    began, other = ({'init': {'kind': 'checkpoint', 'path': str(path)}} for path in paths)
    open_in(tmp_path, {}, **began).trainer().save()
    run = open_in(tmp_path, {}, **other)
    for use in (run.train, run.export):
        with pytest.raises(
            CheckpointError, match=r"init .*, and the recipe has .*'path': '.*/other'"
        ):
            use()


def test_a_run_goes_on_where_its_recipe_now_states_what_it_had_left_out(resumable, tmp_path):
    assert resumable(tmp_path, {}, {}, seed=0, noise='gaussian', noise_strength=0.9).train()


def test_stages_to_come_may_be_others_than_when_the_run_began(resumable, tmp_path):
    both = {'trains': ['autoencoder', 'unet'], 'weight_decay': 0.1}
    run = resumable(tmp_path, {}, {'steps': 3})
    assert run.train()
    trained, _ = trained_stages(tmp_path / 'state.pt', run.stages)
    assert [stage.steps for stage in trained] == [2, 3]
    (tmp_path / 'further').mkdir()
    state = (tmp_path / 'state.pt').read_bytes()
    longer = resumable(tmp_path / 'further', {}, {'steps': 3}, both)
    (tmp_path / 'further' / 'state.pt').write_bytes(state)
    assert longer.train()
    trained, _ = trained_stages(tmp_path / 'further' / 'state.pt', longer.stages)
    assert [stage.name for stage in trained] == ['a', 'b', 'c']


def test_a_backup_is_of_one_moment_of_all_networks_that_the_run_trains(toy, tmp_path, accelerator):
    own = {'steps': 1, 'batch_size': 2, 'backup_every': 1, 'warmup': 0}
    stages = [
        {'name': 'a', 'objective': 'autoencoder', **own},
        {'name': 'b', 'objective': 'one_step', **own},
    ]
    (tmp_path / 'recipe.yaml').write_text(yaml.safe_dump({**toy, 'stages': stages}))
    run = TrainingRun(tmp_path / 'recipe.yaml', tmp_path, tmp_path / 'data', accelerator)
    trainer, kept = run.trainer(), {}
    back_up = trainer.back_up

    def note(stage):
        weights = {k: v.clone() for k, v in trainer.average.weights.items()}
        kept[stage.name] = weights, trainer.chain.settings()
        back_up(stage)

    trainer.back_up = note
    assert trainer.run()
    factors = [settings['scaling_factor'] for _, settings in kept.values()]
    assert factors[0] != factors[1]
    for name, (weights, settings) in kept.items():
        path = tmp_path / 'backups' / f'{name}_000001.safetensors'
        chain = run.finished(str(path))
        assert chain.settings() == settings
        for key, value in chain.state_dict().items():
            assert torch.equal(value, weights[key]), key
    save_file({k: v for k, v in load_file(path).items() if k.startswith('unet.')}, path)
    with pytest.raises(
        CheckpointError, match='b_000001.* lacks autoencoder.*a later backup, or last'
    ):
        load_averaged(tmp_path / 'state.pt', chain, str(path))
