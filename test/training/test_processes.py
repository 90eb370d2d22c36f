# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The training script as users start it: several processes, signals, resumption."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from ablate import main as ablate
import cv2
from finetune import main as train
from finetune import missing_processes, next_steps, stopped
from marigold_ros.__main__ import main
from marigold_ros.models import load_model
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_training import plan
from marigold_training.run.accelerator import leave
from measure_families import main as time_families
from measure_step import main as time_step
import numpy as np
from prepare_hypersim import main as prepare
import pytest
from score import main as score
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {
    'augment': {'colour': 0.5},
    'common': {'batch_size': 4, 'warmup': 1, 'save_every': 1, 'learning_rate': 1e-3},
    'stages': [
        {'name': 'a', 'objective': 'autoencoder', 'steps': 3},
        {'name': 'b', 'objective': 'latent', 'steps': 3, 'accumulation': 2},
    ],
}


def test_a_run_ends_with_its_curves_its_images_and_a_command(tmp_path, small_checkpoint, capsys):
    out = tmp_path / 'my runs'
    (out / 'pictures').mkdir(parents=True)
    losses, command = next_steps(out, small_checkpoint, {})
    assert losses == f'losses: {out}/log.jsonl; images: {out}/pictures'
    (out / 'tensorboard').mkdir()  # as with tensorboard installed
    losses, _ = next_steps(out, small_checkpoint, {})
    assert f"tensorboard --logdir '{out}'); images: {out}/pictures" in losses
    program, module, name, *arguments = shlex.split(command.removeprefix('next: '))[1:]
    assert (program, module, name) == ('-m', 'marigold_ros', 'predict')
    image = tmp_path / 'photo.png'
    cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint8))
    assert main([name, *(str(image) if word == 'IMAGE' else word for word in arguments)]) == 0
    assert (out / 'depth' / 'photo_relative.png').is_file()
    student = {'student': {}, 'init': {'kind': 'checkpoint', 'path': 'my teacher'}}
    *_, command = next_steps(out, small_checkpoint, student)
    assert "benchmark --model 'my teacher' --vae" in command


@pytest.mark.parametrize(
    ('script', 'options', 'words'),
    [
        (train, ['r.yaml', '--out', 'x', '--minutes', 'nan'], '--minutes is nan'),
        (train, ['r.yaml', '--out', ''], '--out is missing'),
        (train, ['r.yaml', '--out', 'x', '--data-only', '--export-only'], 'exclude each other'),
        (score, ['--scenes', '-1'], 'give 1 or more'),
        (score, ['--second', '1', '--scenes', '1'], 'exclude each other'),
        (score, ['--points', '--mean-map'], 'leave out --mean-map'),
        (ablate, ['--model', 'tiny', '--scenes', '0'], "'0' is not an integer from 1"),
        (time_families, ['tiny', '--size', '480'], "'480' is not of the form HxW"),
        (time_families, ['tiny', '--runs', '0'], "'0' is not an integer from 1"),
        (time_step, ['r.yaml', '--scale', '0'], "'0' is not a number above 0"),
        (time_step, ['r.yaml', '--steps', '0'], "'0' is not an integer from 1"),
        (prepare, ['raw', 'out', '--workers', '0'], "'0' is not an integer from 1"),
    ],
)
def test_options_without_effect_are_wrong_usage(monkeypatch, capsys, script, options, words):
    monkeypatch.setattr(sys, 'argv', ['script', *options])
    with pytest.raises(SystemExit) as stop:
        script()
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_ctrl_c_ends_at_once_where_nothing_is_trained(monkeypatch):
    monkeypatch.setattr(plan, 'plan_recipe', lambda *_: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(
        sys, 'argv', ['finetune.py', str(ROOT / 'training/recipes/debug.yaml'), '--plan']
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # others may have another
    try:
        assert train() == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_still_trains_is_not_resumed_beside_itself(
    held_by_another, monkeypatch, tmp_path, capsys
):
    held_by_another(tmp_path)
    given = [str(ROOT / 'training/recipes/debug.yaml'), '--out', str(tmp_path), '--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', ['finetune.py', *given, '--precision', 'no'])
    monkeypatch.setattr(signal, 'signal', lambda *_: None)
    assert train() == 1
    assert f'another process is writing to {tmp_path}; wait' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


@pytest.fixture(scope='module')
def recipe(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp('recipe') / 'toy.yaml'
    path.write_text(yaml.safe_dump({**toy, **TRAINING}), encoding='utf-8')
    return path


def command(recipe: Path, out: Path, *more: str, before: tuple[str, ...] = ()) -> list[str]:
    script = str(ROOT / 'training' / 'finetune.py')
    data = str(recipe.parent / 'data')
    fixed = ['--data', data, '--workers', '0', '--device', 'cpu', '--precision', 'no']
    return [sys.executable, *before, script, str(recipe), '--out', str(out), *fixed, *more]


def environment() -> dict[str, str]:
    fixed = {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONFAULTHANDLER': '1'}
    return {**os.environ, **fixed}


def run(line: list[str]) -> str:
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-9000:]
    return done.stdout


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / 'state.pt', weights_only=True)['chain']


@pytest.fixture(scope='module')
def whole(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp('whole')
    run(command(recipe, out))
    return out


@pytest.mark.slow  # processes that import torch and train, here and below
def test_a_recipe_ends_in_a_folder_that_opens(whole):
    model = load_model(str(whole / 'toy'), device='cpu')
    answer = model.predict(np.zeros((32, 48, 3), np.uint8)).relative
    assert answer.shape == (32, 48)
    assert json.loads((whole / 'toy' / 'marigold_ros.json').read_text())['space'] == 'log'


TWO = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')


@pytest.fixture(scope='module')
def begun(recipe, tmp_path_factory):
    """The first part of a run by two processes that divide the weights."""
    out = tmp_path_factory.mktemp('begun')
    run(command(recipe, out, '--minutes', '0', '--shard', before=TWO))
    return out


@pytest.mark.slow
@pytest.mark.parametrize('how', [(), ('--shard',)], ids=['whole', 'divided'])
def test_two_processes_resume_and_end_as_one_does(recipe, whole, begun, tmp_path, how):
    out = shutil.copytree(begun, tmp_path / 'out')
    run(command(recipe, out, *how, before=TWO))
    for folder, processes in ((whole, 1), (out, 2)):
        state = torch.load(folder / 'state.pt', weights_only=True)
        assert json.loads(state['provenance'])['processes'] == processes
    # Adam makes a whole step (1e-3) of a gradient that is nothing but rounding, so a few are
    # far apart; all of them would be after other gradients.
    together, alone = weights(out), weights(whole)
    apart = torch.cat([(together[name] - alone[name]).abs().flatten() for name in alone])
    assert apart.mean() < 5e-5
    assert (apart < 2e-4).float().mean() > 0.99


@pytest.mark.slow
def test_a_launcher_that_starts_fewer_processes_is_reported(recipe, tmp_path):
    launcher = ['-m', 'accelerate.commands.launch', '--cpu', '--num_processes', '2']
    launcher += ['--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no']
    line = command(recipe, tmp_path, '--data-only', before=tuple(launcher))
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert 'torchrun --nproc_per_node 2' in done.stderr


@pytest.mark.parametrize(
    ('processes', 'environment'),
    [
        (2, {'ACCELERATE_USE_CPU': 'True', 'MASTER_PORT': '29500'}),
        (1, {'ACCELERATE_USE_CPU': 'True', 'MASTER_PORT': '29500', 'WORLD_SIZE': '1'}),
        (1, {'ACCELERATE_USE_CPU': 'True'}),
        (1, {'MASTER_PORT': '29500'}),
    ],
)
def test_no_warning_for_as_many_processes_as_requested(processes, environment):
    assert missing_processes(processes, environment) == ''


def test_processes_of_a_stopped_run_wait_for_each_other_before_they_end(capsys):
    calls = []
    accelerator = SimpleNamespace(
        is_main_process=True,
        wait_for_everyone=lambda: calls.append('wait'),
        end_training=lambda: calls.append('end'),
    )
    assert stopped(accelerator, 'at a 1/3') == 130
    assert calls == ['wait', 'end']
    assert 'stopped at a 1/3; the same command resumes' in capsys.readouterr().err


@pytest.mark.parametrize(('processes', 'at_once'), [('1', False), ('2', True)])
def test_one_of_several_processes_ends_without_the_threads_of_its_exchange(
    monkeypatch, processes, at_once
):
    left = []
    monkeypatch.setenv('WORLD_SIZE', processes)
    monkeypatch.setattr(os, '_exit', left.append)
    with pytest.raises(SystemExit) as usual:
        leave(130)
    assert usual.value.code == 130
    assert left == [130] * at_once


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_terminated_or_killed_run_resumes_to_the_same_end(recipe, whole, tmp_path, number):
    line = command(recipe, tmp_path, '--workers', '1')
    with (tmp_path / 'said.txt').open('w') as said:
        quiet = {'stdout': subprocess.DEVNULL, 'stderr': said}
        process = subprocess.Popen(line, env=environment(), start_new_session=True, **quiet)
    deadline = time.monotonic() + 120
    while not (tmp_path / 'state.pt').exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A scheduler signals all processes of a job, those that load batches too.
    os.killpg(process.pid, number)
    if number == signal.SIGTERM:
        assert process.wait(60) == 130
        last = (tmp_path / 'said.txt').read_text().splitlines()[-1]
        assert re.fullmatch(r'stopped at \w+ \d+/\d+; the same command resumes', last)
    assert process.wait(60) in (130, -signal.SIGKILL)
    assert not (tmp_path / 'toy').exists()
    run(line)
    again = weights(tmp_path)
    for name, value in weights(whole).items():
        assert torch.equal(again[name], value), name


@pytest.mark.slow
def test_signals_while_rendering_keep_finished_images(toy, tmp_path):
    many = {**toy, **TRAINING, 'sources': [{**toy['sources'][0], 'count': 20_000}]}
    (tmp_path / 'many.yaml').write_text(yaml.safe_dump(many), encoding='utf-8')
    line = command(tmp_path / 'many.yaml', tmp_path / 'out', '--workers', '2')
    done = tmp_path / 'data' / 'synthetic' / 'v2_mixed_32x48_1000000_done.npy'
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.PIPE}
    process = subprocess.Popen(line, env=environment(), start_new_session=True, **quiet)
    try:
        deadline = time.monotonic() + 120
        while not (done.exists() and np.load(done).any()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        # It ends when all processes that have it as their output have ended.
        said = process.communicate(timeout=60)[1].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == 130, said
    assert 'Traceback' not in said
    assert 'stopped while data were prepared; the same command resumes' in said
    assert 0 < np.load(done).sum() < 20_000
    assert not (tmp_path / 'out' / 'state.pt').exists()


@pytest.mark.slow  # a process for one line
def test_an_invalid_recipe_is_an_error_of_one_line(recipe, tmp_path):
    bad = tmp_path / 'bad.yaml'
    bad.write_text(recipe.read_text().replace('autoencoder', 'magic'), encoding='utf-8')
    done = subprocess.run(
        command(bad, tmp_path), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.startswith('finetune: ')
    assert done.stderr.count('\n') == 1


@pytest.mark.slow  # a process for one line
def test_a_folder_that_cannot_be_made_ends_a_run_before_its_data_are_rendered(recipe, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    line = command(recipe, tmp_path / 'file' / 'out', '--data', str(tmp_path / 'data'))
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert re.match(r'finetune: --out .*file/out cannot be created', done.stderr)
    assert not (tmp_path / 'data').exists()


@pytest.mark.slow
def test_a_recipe_of_the_fusion_network_ends_in_a_folder_that_opens(tmp_path):
    source = {'kind': 'synthetic', 'height': 64, 'width': 96, 'count': 2, 'size': [64, 96]}
    stage = {'name': 'fusion', 'objective': 'fusion', 'steps': 2, 'batch_size': 2}
    recipe = tmp_path / 'toy.yaml'
    recipe.write_text(
        yaml.safe_dump(
            {
                'name': 'toy',
                'network': 'fusion',
                'init': {'channels': [8], 'blocks': [1]},
                'sources': [{**source, 'examples': 2}],
                'stages': [stage],
            }
        )
    )
    run(command(recipe, tmp_path / 'out', '--minutes', '0'))
    card = (tmp_path / 'out' / 'toy' / 'README.md').read_text(encoding='utf-8')
    assert 'Training was stopped at fusion 0/2, before the end of its recipe.' in card
    assert '| fusion | 2 |' not in card
    printed = run(command(recipe, tmp_path / 'out'))
    # What was measured, the folder, where curves are, and the command that uses it.
    *_, folder, seen, use = printed.splitlines()
    assert folder == str(tmp_path / 'out' / 'toy')
    assert f'losses: {tmp_path}/out/log.jsonl' in seen
    assert f'evaluate BAG --set alignment.fusion={folder}' in use
    assert load_fusion_network(tmp_path / 'out' / 'toy')
