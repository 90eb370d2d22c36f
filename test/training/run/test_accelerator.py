# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Savings of memory and time in a step do not change its result."""

from __future__ import annotations

from datetime import timedelta
import importlib
import sys
from types import SimpleNamespace

from accelerate import Accelerator, tracking
from accelerate.utils import DistributedType, LoggerType
from marigold_ros.errors import ConfigurationError
from marigold_training.run.accelerator import new_accelerator, start_wandb
from marigold_training.run.recipe import precision_of
from marigold_training.run.run_log import RunLog
from marigold_training.run.sharding import shard
import pytest
import torch


@pytest.fixture(scope='module')
def chain(new_chain):
    return new_chain()


def test_weights_are_cast_for_each_use_and_not_kept():
    with new_accelerator('bf16', cpu=True).autocast():
        assert torch.is_autocast_enabled('cpu')
        assert not torch.is_autocast_cache_enabled()


def test_processes_wait_for_a_first_one_that_works_for_hours():
    accelerator = new_accelerator('bf16', cpu=True)
    assert accelerator.init_handler.timeout > timedelta(days=7)


def test_other_ways_to_divide_weights_are_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, 'distributed_type', DistributedType.FSDP)
    with pytest.raises(ConfigurationError, match='set to FSDP; .* give --shard'):
        new_accelerator('bf16', cpu=True)


@pytest.mark.parametrize(
    ('processes', 'precision', 'said'),
    [(1, 'bf16', 'there is one'), (2, 'fp16', 'choose .* bf16')],
)
def test_weights_that_cannot_be_divided_are_refused(chain, processes, precision, said):
    accelerator = SimpleNamespace(num_processes=processes, mixed_precision=precision)
    with pytest.raises(ConfigurationError, match=said):
        shard(chain, accelerator)


RECORDER = """
records = []
class Config:
    def update(self, values, **more): records.append(('config', values))
config = Config()
class Run:
    def log(self, values, step=None, **more): records.append(('log', values, step))
    def finish(self): records.append(('finish',))
def init(**given):
    records.append(('init', given))
    return Run()
"""


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """A package wandb that records its calls."""
    (tmp_path / 'site' / 'wandb').mkdir(parents=True)
    (tmp_path / 'site' / 'wandb' / '__init__.py').write_text(RECORDER)
    about = tmp_path / 'site' / 'wandb-0.1.dist-info'
    about.mkdir()
    (about / 'METADATA').write_text('Metadata-Version: 2.1\nName: wandb\nVersion: 0.1\n')
    monkeypatch.syspath_prepend(tmp_path / 'site')
    # Accelerate looks for packages once, when it is imported.
    monkeypatch.setattr(tracking, '_available_trackers', [LoggerType.WANDB])
    yield importlib.import_module('wandb')
    del sys.modules['wandb']


def test_wandb_gets_the_numbers_of_the_log_through_accelerate(tmp_path, wandb):
    accelerator = new_accelerator('bf16', cpu=True, wandb=True)
    start_wandb(accelerator, 'depth', tmp_path / 'run', {'name': 'toy'})
    log = RunLog(tmp_path / 'run', accelerator.log)
    log.write({'stage': 'a', 'step': 3, 'loss': 0.5, 'validation': {'nyu': {'abs_rel': 0.1}}}, 20)
    log.close()
    kinds = [record[0] for record in wandb.records]
    assert kinds == ['init', 'config', 'log']
    assert wandb.records[0][1]['project'] == 'depth'
    assert wandb.records[0][1]['name'] == 'run'
    assert wandb.records[0][1]['resume'] == 'allow'
    assert wandb.records[2][1:] == ({'loss': 0.5, 'validation/nyu/abs_rel': 0.1}, 20)


def test_a_missing_wandb_names_the_command(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ConfigurationError, match='pip install wandb'):
        new_accelerator('bf16', cpu=True, wandb=True)


def test_the_recipe_chooses_the_precision():
    assert precision_of({}) == 'bf16'
    assert precision_of({'precision': 'float32'}) == 'no'
    assert precision_of({'precision': 'fp16'}) == 'fp16'
    for wrong in ('half', ['fp16']):
        with pytest.raises(ConfigurationError, match='; choose one of bf16, fp16, float32'):
            precision_of({'precision': wrong})
