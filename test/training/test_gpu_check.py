# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The check of a machine: it resumes after a failed part, and its page has all figures."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys

from check_page import main as print_page
from marigold_training.networks.initialise import initialise
from marigold_training.run.stages import Stage
from measure_step import main, measure
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'training' / 'gpu_check.sh'
ENGINE = {
    'machine': {'cores': 2, 'processor': 'AMD EPYC'},
    'versions': {'torch': '2.4'},
    'model': {'name': 'tiny', 'dtype': 'float32'},
    'work': {'processing_size': [96, 128]},
    'device': {'load_average': 0.5},
    'own': {
        'frame_ms': {'p50': 50.0},
        'peak_memory_bytes': 5e8,
        'tflop_per_s': 0.1,
        'share_of_peak': 0.5,
    },
    'against': {'ratio': 1.5, 'difference_exact': {'max': 2e-7}},
    'variants': [
        {'variant': 'bfloat16', 'ratio': 2.0, 'ready_s': 3.0, 'difference': {'max': 0.003}}
    ],
}
FRAME = {'name': '640x480', 'wall_ms': {'p50': 80.0, 'p95': 91.0}, 'after_model_ms': 44.0}
BUDGET = {'model': {'name': 'unet'}, 'frames': [FRAME]}
STEP = {
    'recipe': 'r.yaml',
    'networks': 'small',
    'precision': 'float32',
    'device': 'cpu',
    'size': [72, 240],
    'batch_size': 2,
    'accumulation': 16,
    'step_s': 3.2,
    'images_per_s': 10.0,
    'peak_gb': 15.5,
}
# In place of Python: answers as the scripts do, and fails in a part while a file names it.
FAKE = f"""
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
name = pathlib.Path(sys.argv[1]).stem
if 'benchmark' in sys.argv:
    name = 'frame' if 'frame' in sys.argv else 'benchmark'
if name == 'finetune' and '--data-only' not in sys.argv:
    run = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])
    run.mkdir(parents=True)
    line = {{'stage': 'a', 'loss': 0.5, 'waiting_for_data': 0.25}}
    (run / 'log.jsonl').write_text('\\n'.join(
        json.dumps({{**line, 'step': 20 * n, 'time': 10.0 * n}}) for n in (1, 2)
    ))
called = name + ' --data-only' * ('--data-only' in sys.argv)
if (folder / 'failing').exists() and (folder / 'failing').read_text() == called:
    sys.exit('no memory')
(folder / 'calls').open('a').write(name + ' ')
if name == 'benchmark':
    print(json.dumps({ENGINE!r}))
elif name == 'frame':
    print(json.dumps({BUDGET!r}))
elif name == 'measure_step':
    print(json.dumps({STEP!r}))
elif name == 'check_page':
    sys.path.insert(0, {str(SCRIPT.parent)!r})
    from check_page import page_of
    print(page_of(pathlib.Path(sys.argv[2])))
"""


@pytest.fixture
def check(tmp_path):
    fake = tmp_path / 'fake.py'
    fake.write_text(FAKE)
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n')
    python.chmod(0o755)

    def run() -> subprocess.CompletedProcess[str]:
        given = {**os.environ, 'PYTHON': str(python), 'SMALL': '1'}
        line = ['bash', str(SCRIPT), str(tmp_path / 'out')]
        return subprocess.run(line, env=given, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ('script', 'part'),
    [('measure_step', 'step_float32'), ('finetune --data-only', 'render'), ('finetune', 'train')],
)
def test_a_failed_check_resumes_with_the_part_that_failed(check, tmp_path, script, part):
    (tmp_path / 'failing').write_text(script)
    failed = check()
    assert failed.returncode == 1
    assert f'{part} failed' in failed.stderr
    assert 'no memory' in failed.stderr
    (tmp_path / 'failing').unlink()
    done = check()
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / 'calls').read_text().split()
    assert calls == ['benchmark', 'frame', *['measure_step'] * 2, *['finetune'] * 2, 'check_page']
    assert 'engine: done before' in done.stdout
    page = (tmp_path / 'out' / 'page.md').read_text()
    for figure in ('1.50 times', '2.00 times', '3.2 s a step', '15.5 GB'):
        assert figure in page
    assert 'after the model 44.0 ms' in page
    assert '2 steps/s' in page
    assert '25%' in page
    widths = {line.count('|') for line in page.strip().splitlines()}
    assert widths == {3}


def test_a_check_that_is_not_finished_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['check_page.py', str(tmp_path)])
    assert print_page() == 1
    assert f'{tmp_path}/engine.json cannot be read (No such file' in capsys.readouterr().err


def test_a_recipe_that_is_missing_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['measure_step.py', 'none.yaml'])
    assert main() == 1
    assert capsys.readouterr().err == 'measure_step: no recipe none.yaml; see training/recipes\n'


def test_a_step_is_timed_in_the_training_loop():
    small = {'kind': 'small', 'autoencoder': {'channels': [8, 8, 16, 16]}}
    networks = initialise({**small, 'unet': {'channels': [16, 32]}}, 0, 'depth')
    stage = Stage('x', 'latent', 5, batch_size=2, accumulation=16)
    found = measure(networks, stage, (32, 48), 'bf16', 2, 2)
    assert found['steps'] == 2
    assert found['accumulation'] == 2
    assert found['step_s'] > 0
    assert found['images_per_s'] == pytest.approx(4 / found['step_s'])
    assert json.dumps(found)
