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

from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_training.ablation import ablate, ablation_table, measure, rank_agreement, Row
from marigold_training.data.pairs import Pair
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


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


def test_without_known_depth_there_is_nothing_to_measure(pair):
    sky = Pair(pair.rgb, np.full_like(pair.depth, np.inf))
    with pytest.raises(ConfigurationError, match='no image with known depth'):
        measure(Noisy(pair), [('x', sky)])


def test_the_table_has_the_change_within_each_group():
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


def run(*more: str) -> subprocess.CompletedProcess:
    line = [sys.executable, str(ROOT / 'training' / 'ablate.py'), *more]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow  # a process that imports torch
def test_the_script_prints_json(small_checkpoint):
    done = run(
        *('--model', str(small_checkpoint), '--scenes', '1', '--members', '1', '2'),
        *('--steps', '1', '2', '--json'),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert [row['value'] for row in rows] == ['1', '2', '1', '2', 'gaussian', 'zeros']
    assert rows[0]['spearman'] is None
    assert rows[1]['spearman'] is not None
