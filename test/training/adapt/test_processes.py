# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""An adaptation in two processes trains in both, and one of them judges and writes."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
import subprocess
import sys

from marigold_ros.models import load_model
from marigold_ros.synthetic.drive.drive import write_drive
from marigold_training.families.marigold import FAMILY
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
LAUNCHER = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')
FACTS = {'space': 'log', 'noise': 'zeros', 'default_processing_pixels': 32 * 48}
INIT = {
    'kind': 'small',
    'autoencoder': {'channels': [8, 8, 16, 16], 'latent_channels': 4},
    'unet': {'channels': [16, 32]},
}


def adapt(folder: Path, name: str) -> None:
    """Adapt the smallest networks in this process, one of however many, as the command does."""
    from marigold_training.adapt import adaptation, command, keep, recipes
    from marigold_training.fusion import validation

    few = {'SCENES': 2, 'LINE_EXAMPLES': 4, 'SCENE_EXAMPLES': 2, 'STOP_SCENES': 1}
    for constant, count in {**few, 'ROWS': 2, 'VALIDATIONS': 1}.items():
        setattr(recipes, constant, count)
    adaptation.load_fusion = lambda folder: None
    adaptation.judge_model = adaptation.judge_fusion = lambda *args: (True, [])
    adaptation.TRIED_STEPS, adaptation.UNTIMED = 2, 0
    adaptation.budget_for = lambda *measured: recipes.Budget(3, 2, 3)
    validation.SIZE = (64, 96)
    keep.SCENES, keep.SHARES = 1, (0.0,)
    # Drawn here, not in processes that import everything anew.
    os.sched_getaffinity = lambda process: {0}
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    base, out = str(folder / 'base'), str(folder / name)
    line = [str(folder / 'drive'), '--base', base, '--out', out, '--device', 'cpu']
    assert command.run(parser.parse_args(line)) == 0
    assert not torch.distributed.is_initialized()


@pytest.mark.slow  # two processes that adapt
def test_two_processes_write_one_folder(tmp_path):
    write_drive(tmp_path / 'drive', frames=10, seed=3, width=96, height=64, rate=2.0)
    chain = FAMILY.initialise({'init': INIT, 'facts': FACTS}, 5)
    FAMILY.export(tmp_path / 'base', chain, FACTS, '')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    line = [sys.executable, *LAUNCHER, __file__, str(tmp_path), 'two']
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-9000:]
    assert done.stdout.count('initial weights kept') == 1  # one process speaks
    assert json.loads((tmp_path / 'two/results.json').read_text())['installed']['model']
    for run in ('relative', 'fusion'):
        state = torch.load(tmp_path / 'two.work' / run / 'state.pt', weights_only=True)
        assert json.loads(state['provenance'])['processes'] == 2
    model = load_model(str(tmp_path / 'two'), 'cpu')
    assert model.space == 'log'
    assert math.isfinite(model.predict(np.zeros((64, 96, 3), np.uint8)).domain_gap)


if __name__ == '__main__':
    adapt(Path(sys.argv[1]), sys.argv[2])
