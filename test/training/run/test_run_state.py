# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""States and backups of runs: what of a recipe may change when a run goes on, or is exported."""

from __future__ import annotations

from pathlib import Path

from marigold_ros.errors import CheckpointError
from marigold_training.run.recipe import TrainingRun
from marigold_training.run.run_state import trained_stages
import pytest
import yaml


def own_stages(*changes: dict) -> list[dict]:
    """Return the entries of stages a, b and c as far as there are changes of them."""
    own = {'objective': 'pixel', 'trains': ['unet'], 'steps': 2, 'batch_size': 2}
    return [{'name': name, **own, **more} for name, more in zip('abc', changes, strict=False)]


@pytest.fixture(scope='module')
def resumable(toy, tmp_path_factory, accelerator):
    """Return the state of a run of two stages after a step of the second, and one that resumes."""
    data = tmp_path_factory.mktemp('data')

    def open_run(folder: Path, *changes: dict, **keys) -> TrainingRun:
        path = folder / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**toy, 'stages': own_stages(*changes), **keys}))
        return TrainingRun(path, folder, data, accelerator)

    begun = tmp_path_factory.mktemp('begun')
    asked = iter([False] * 3 + [True])
    assert not open_run(begun, {}, {}).train(stop=lambda: next(asked))
    state = (begun / 'state.pt').read_bytes()

    def resume(folder: Path, *changes: dict, **keys) -> TrainingRun:
        (folder / 'state.pt').write_bytes(state)
        return open_run(folder, *changes, **keys)

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
