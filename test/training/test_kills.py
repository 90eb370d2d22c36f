# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The training script, killed three times at arbitrary moments, ends the same."""

from __future__ import annotations

from multiprocessing import get_context
import os
from pathlib import Path
import random
import runpy
import signal
import sys
import time

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
KILLS = 3
TRAINING = {
    'augment': {'flip': 0.5},
    'common': {'batch_size': 2, 'warmup': 2, 'save_every': 3, 'average': 0.9},
    'stages': [
        {'name': 'a', 'objective': 'autoencoder', 'steps': 12},
        {'name': 'b', 'objective': 'latent', 'steps': 20, 'latent_cache': True},
        {'name': 'c', 'objective': 'pixel', 'steps': 12, 'weight_decay': 1e-3},
    ],
}


@pytest.fixture(scope='module')
def server():
    """Return processes with everything imported, forked from one without threads."""
    context = get_context('forkserver')
    context.set_forkserver_preload(
        ['marigold_training.run.recipe', 'marigold_training.run.accelerator']
    )
    return context


@pytest.fixture
def start(server, toy, tmp_path, monkeypatch):
    recipe = tmp_path / 'toy.yaml'
    recipe.write_text(yaml.safe_dump({**toy, **TRAINING}), encoding='utf-8')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    script = str(ROOT / 'training' / 'finetune.py')

    def begin(name: str):
        given = ['--out', str(tmp_path / name), '--data', str(tmp_path / 'data')]
        given += ['--workers', '0', '--device', 'cpu', '--precision', 'bf16']
        # A process that is started takes these over.
        monkeypatch.setattr(sys, 'argv', [script, str(recipe), *given])
        process = server.Process(target=runpy.run_path, args=(script, None, '__main__'))
        process.start()
        return process

    return begin


def wait_for_a_checkpoint(path: Path, process) -> None:
    """Wait until it is replaced, at most two minutes."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_mtime_ns > before):
        assert time.monotonic() < deadline
        assert process.is_alive()
        process.join(0.002)


@pytest.mark.slow  # processes that import torch and train
def test_a_run_killed_three_times_ends_bitwise_the_same(start, tmp_path):
    whole = start('whole')
    wait_for_a_checkpoint(tmp_path / 'whole' / 'state.pt', whole)
    began = time.monotonic()
    whole.join(200)
    assert whole.exitcode == 0
    lasted = time.monotonic() - began

    draw = random.Random(int(os.environ.get('KILLS_SEED', '0')))
    state = tmp_path / 'killed' / 'state.pt'
    for _ in range(KILLS):
        process = start('killed')
        wait_for_a_checkpoint(state, process)  # some way further each time
        process.join(draw.uniform(0.0, 0.7 * lasted / KILLS))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    last = start('killed')
    last.join(200)
    assert last.exitcode == 0

    ends = [torch.load(tmp_path / x / 'state.pt', weights_only=True) for x in ('whole', 'killed')]
    for part in ('chain', 'average'):
        assert ends[0][part].keys() == ends[1][part].keys()
        for key, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][key]), key
    exports = [sorted((tmp_path / x / 'toy').rglob('*.safetensors')) for x in ('whole', 'killed')]
    assert len(exports[0]) == 3
    for one, other in zip(*exports, strict=True):
        assert one.read_bytes() == other.read_bytes()
