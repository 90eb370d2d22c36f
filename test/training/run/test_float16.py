# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training in float16: the scale of the loss, which overflows lower, is part of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from marigold_ros.errors import MarigoldError
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import BatchRule, Mixture, Part
from marigold_training.run.loop import Trainer
from marigold_training.run.stages import Stage
import numpy as np
import pytest
import torch

STAGE = Stage('a', 'pixel', steps=8, batch_size=2, warmup=1, clip=1.0, average=0.9, save_every=100)


@pytest.fixture(scope='module')
def precision():
    return 'fp16'


@pytest.fixture
def new_trainer(planted, new_chain, accelerator: Accelerator, monkeypatch):
    """Return a function that opens a run; the accelerator does as on a GPU, with any scale."""

    def make(folder: Path, scale: float, pairs: object = None) -> Trainer:
        scaler = torch.amp.GradScaler('cpu', init_scale=scale, growth_interval=3)
        monkeypatch.setattr(accelerator, 'scaler', scaler)
        monkeypatch.setattr(accelerator, 'native_amp', True)
        part = Part(pairs or planted(6), 1.0, (32, 48))
        mixture = Mixture([part], BatchRule(STAGE.batch_size), 'log', Augmentation())
        return Trainer(new_chain(), [STAGE], [mixture], folder, accelerator)

    return make


def test_gradients_that_overflow_lower_the_scale_until_they_do_not(new_trainer, tmp_path):
    trainer = new_trainer(tmp_path, 2.0**40)
    assert not trainer.run(stop=lambda: trainer.step == 7)
    assert trainer.accelerator.scaler.get_scale() == 2.0**33
    assert trainer.skipped == 7


def test_a_loss_that_is_never_finite_ends_the_run(new_trainer, tmp_path, monkeypatch):
    trainer = new_trainer(tmp_path, 4.0)
    forward = trainer.chain.forward
    monkeypatch.setattr(trainer.model, 'forward', lambda *given: forward(*given) * float('nan'))
    with pytest.raises(MarigoldError, match='5 steps in a row'):
        trainer.run()
    assert trainer.step == 6  # two of them lower the scale to 1


def test_images_without_a_known_pixel_are_passed_over(new_trainer, planted, tmp_path):
    class Unknown(planted):
        def read(self, index: int) -> object:
            pair = super().read(index)
            pair.depth[:] = np.nan
            return pair

    trainer = new_trainer(tmp_path, 4.0, Unknown(6))
    assert trainer.run()
    assert trainer.skipped == STAGE.steps


def test_a_resumed_run_ends_the_same_and_at_the_same_scale(new_trainer, tmp_path):
    ends = []
    for name, stop in (('whole', 0), ('resumed', 5)):
        trainer = new_trainer(tmp_path / name, 2.0**20)
        if stop:
            assert not trainer.run(stop=lambda at=trainer: at.step == 5)
            trainer = new_trainer(tmp_path / name, 2.0**20)
        assert trainer.run()
        ends.append((trainer.accelerator.scaler.get_scale(), trainer.chain.state_dict()))
    assert ends[0][0] == ends[1][0] != 2.0**20
    for key, value in ends[0][1].items():
        assert torch.equal(value, ends[1][1][key]), key
