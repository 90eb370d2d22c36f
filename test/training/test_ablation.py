# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Ablation measures one setting at a time and finds planted effects."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
import subprocess
import sys
from xml.etree import ElementTree

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.models import load_model
from marigold_training.ablation import (
    ablate,
    ablation_chart,
    ablation_table,
    line_chart,
    measure,
    rank_agreement,
    Row,
    svg_document,
    train_noise_kinds,
    with_noise,
)
from marigold_training.data.pairs import Pair
from marigold_training.objectives.noise import KINDS
from marigold_training.run.recipe import TrainingRun
import numpy as np
import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {
    'common': {'batch_size': 2, 'learning_rate': 1e-3, 'warmup': 100, 'validate_every': 1},
    'stages': [
        {'name': 'a', 'objective': 'autoencoder', 'steps': 9},
        {'name': 'b', 'objective': 'latent', 'steps': 9},
    ],
    'validation': {'scenes': 1},
}


class Noisy:
    """Answers the truth in log depth plus independent errors; members average, spread is exact."""

    space = 'log'

    def __init__(self, pair: Pair) -> None:
        self.truth = np.log(pair.depth)
        self.asked: list[tuple] = []

    def predict(self, rgb, denoising_steps, ensemble_size, seed, engine) -> Prediction:
        self.asked.append((denoising_steps, ensemble_size, engine.noise))
        members = ensemble_size or 1
        rng = np.random.default_rng(seed)
        strength = np.linspace(0.01, 1.0, self.truth.size).reshape(self.truth.shape)
        answers = self.truth + strength * rng.standard_normal((members, *self.truth.shape))
        spread = answers.std(axis=0) if members > 1 else None
        return Prediction(answers.mean(axis=0).astype(np.float32), spread, 'log')


@pytest.fixture
def pair():
    depth = np.linspace(1.0, 9.0, 40 * 50, dtype=np.float32).reshape(40, 50)
    return Pair(np.zeros((40, 50, 3), np.uint8), depth)


def test_members_average_errors_that_spread_predicts(pair):
    model = Noisy(pair)
    rows = ablate(model, [('x', pair)], members=(1, 4, 16), steps=(1, 2))
    errors = {row.value: row.abs_rel for row in rows if row.group == 'members'}
    assert errors['16'] < 0.6 * errors['4'] < 0.4 * errors['1']
    spearman = {row.value: row.spearman for row in rows if row.group == 'members'}
    assert math.isnan(spearman['1'])
    assert spearman['16'] > 0.3
    assert model.asked == [
        (None, 1, 'gaussian'),
        (None, 4, 'gaussian'),
        (None, 16, 'gaussian'),
        (1, 1, 'checkpoint'),
        (2, 1, 'checkpoint'),
        (None, 1, 'gaussian'),
        (None, 1, 'zeros'),
    ]


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_rank_agreement_is_1_if_spread_rises_with_the_error(space):
    rng = np.random.default_rng(0)
    truth = rng.uniform(1.0, 9.0, (20, 30))
    fitted = truth * rng.uniform(0.6, 1.6, truth.shape)
    to_space = {'depth': lambda x: x, 'log': np.log, 'disparity': lambda x: 1 / x}[space]
    error = np.abs(to_space(fitted) - to_space(truth))
    valid = rng.random(truth.shape) < 0.7
    assert rank_agreement(error**3, fitted, truth, valid, space) == pytest.approx(1.0)
    assert rank_agreement(-error, fitted, truth, valid, space) == pytest.approx(-1.0)
    assert abs(rank_agreement(rng.random(truth.shape), fitted, truth, valid, space)) < 0.2
    assert math.isnan(rank_agreement(np.ones_like(truth), fitted, truth, valid, space))


def test_a_real_checkpoint_is_measured(small_checkpoint, pair):
    model = load_model(str(small_checkpoint), device='cpu')
    rows = ablate(model, [('x', pair)] * 2, members=(1, 3), steps=(1, 2))
    assert [(row.group, row.value) for row in rows] == [
        ('members', '1'),
        ('members', '3'),
        ('steps', '1'),
        ('steps', '2'),
        ('start', 'gaussian'),
        ('start', 'zeros'),
    ]
    assert all(row.pictures == 2 and row.milliseconds > 0 for row in rows)
    # One member of one step is the same setting in three groups.
    same = [rows[0].abs_rel, rows[2].abs_rel, rows[4].abs_rel]
    assert same == [same[0]] * 3
    assert math.isfinite(rows[1].spearman)
    assert rows[5].abs_rel != rows[4].abs_rel


def test_without_known_depth_there_is_nothing_to_measure(pair):
    sky = Pair(pair.rgb, np.full_like(pair.depth, np.inf))
    with pytest.raises(ConfigurationError, match='no image with known depth'):
        measure(Noisy(pair), [('x', sky)])


def test_a_curve_has_gaps_where_values_are_missing():
    chart = line_chart([1, 2, math.nan, 3, 4], 'abcde', 'frame', 'a <b>')
    elements = list(ElementTree.fromstring(svg_document([chart])).iter())
    # Two stretches of the curve, and a line beside its name.
    assert len([e for e in elements if e.tag.endswith('path')]) == 2 + 1
    assert 'a <b>' in [e.text for e in elements]


def test_a_chart_without_finite_values_is_none():
    assert line_chart([math.nan], 'a', 'x', 'y') is None
    assert line_chart([0.0], 'a', 'x', 'y') is not None


def test_the_table_has_changes_and_the_chart_a_curve_per_group():
    rows = [
        Row('members', '1', 0.2, 0.7, math.nan, 10.0, 5),
        Row('members', '8', 0.19, 0.75, 0.4, 80.0, 5),
        Row('steps', '1', 0.3, 0.6, math.nan, 10.0, 5),
        Row('steps', '50', 0.21, 0.7, math.nan, 500.0, 5),
    ]
    lines = ablation_table(rows).splitlines()
    assert '-5.0%' in lines[2]
    assert '0.40' in lines[2]
    assert '+0.0%' in lines[3]
    assert '-30.0%' in lines[4]
    drawn = ablation_chart(rows)
    ElementTree.fromstring(drawn)
    assert drawn.count('role="img"') == 2
    for text in ('ensemble members', 'denoising steps', '>8<', '>50<'):
        assert text in drawn


def test_with_noise_sets_noise_and_shortens_the_stages(toy):
    recipe = {**toy, **TRAINING}
    changed = with_noise(recipe, 'annealed', 5)
    assert changed['noise'] == 'annealed'
    assert [stage['steps'] for stage in changed['stages']] == [5, 5]
    assert [stage['warmup'] for stage in changed['stages']] == [1, 1]
    assert [stage['validate_every'] for stage in changed['stages']] == [0, 0]
    assert 'noise' not in recipe
    with pytest.raises(ConfigurationError, match='no stage of objective latent'):
        with_noise({**recipe, 'stages': recipe['stages'][:1]}, 'annealed', 5)


@pytest.mark.slow  # trains with each kind of noise
def test_kinds_of_noise_are_trained_from_one_autoencoder(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingRun, 'prepare_data', lambda *given: None)  # rendered when read
    recipe = tmp_path / 'toy.yaml'
    recipe.write_text(yaml.safe_dump({**toy, **TRAINING}))
    accelerator = Accelerator(cpu=True, mixed_precision='bf16')
    given = recipe, tmp_path / 'out', tmp_path / 'data', accelerator, 2, 0
    folders = train_noise_kinds(*given)
    assert set(folders) == set(KINDS)
    ends = [torch.load(tmp_path / 'out' / kind / 'state.pt')['average'] for kind in KINDS]
    for other in ends[1:]:
        same = {k: torch.equal(v, other[k]) for k, v in ends[0].items()}
        assert all(same[k] for k in same if k.startswith('autoencoder'))
        assert not all(same[k] for k in same if k.startswith('unet'))
    states = [tmp_path / 'out' / kind / 'state.pt' for kind in KINDS]
    times = [path.stat().st_mtime_ns for path in states]
    assert train_noise_kinds(*given) == folders  # done: nothing is trained again
    assert [path.stat().st_mtime_ns for path in states] == times


def run(*more: str) -> subprocess.CompletedProcess:
    line = [sys.executable, str(ROOT / 'training' / 'ablate.py'), *more]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow  # a process that imports torch
def test_the_script_prints_json_and_draws(small_checkpoint, tmp_path):
    chart = tmp_path / 'new' / 'curves.svg'
    done = run(
        *('--model', str(small_checkpoint), '--scenes', '1', '--members', '1', '2'),
        *('--steps', '1', '2', '--json', '--chart', str(chart)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert [row['value'] for row in rows] == ['1', '2', '1', '2', 'gaussian', 'zeros']
    assert rows[0]['spearman'] is None
    assert rows[1]['spearman'] is not None
    ElementTree.parse(chart)


def test_the_script_names_missing_options():
    done = run('--scenes', '1')
    assert done.returncode == 2
    assert 'give --model' in done.stderr
