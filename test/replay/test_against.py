# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Other models on the same frames, published oracles, and models that cheat."""

import csv
from dataclasses import replace
import json
import re

from marigold_ros.__main__ import main
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import AlignmentConfig, LidarConfig, PipelineConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.protocols.held_out import hold_out
from marigold_ros.frame import Prediction
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

_METRES = 300.0  # of a relative depth of 1


class Answers:
    """A model that has an answer for each image in turn, again and again."""

    def __init__(self, answers, name='answers', space='depth'):
        self.description = {'name': name, 'path': '/nowhere', 'space': space}
        self._answers, self._space, self._asked = answers, space, 0

    def predict(self, rgb, **options):
        self._asked += 1
        return Prediction(self._answers[(self._asked - 1) % len(self._answers)], None, self._space)


@pytest.fixture(scope='module')
def items(short_drive):
    with BagReader(short_drive) as reader:
        return list(bag_frames(reader, reader.choose_topics(), LidarConfig()))


def truth_model(items, noise=0.0, name='truth'):
    """Knows the truth up to scale, shift and noise; what is too far counts as 100 m."""
    rng = np.random.default_rng(0)
    answers = []
    for item in items:
        depth = np.clip(np.nan_to_num(item.truth, nan=100.0, posinf=100.0), 0, 100) / 100
        answers.append((depth * np.exp(rng.normal(0, noise, depth.shape))).astype(np.float32))
    return Answers(answers, name)


GLOBAL = ReplayOptions(PipelineConfig(alignment=AlignmentConfig(method='global')))


def test_compared_models_see_the_same_frames_and_points(short_drive, items):
    models = {'bad': truth_model(items, 0.3), 'again': truth_model(items)}
    both = evaluate_bag(short_drive, truth_model(items), GLOBAL, against=models)
    alone = evaluate_bag(short_drive, truth_model(items, 0.3), GLOBAL)
    models = both['models']
    assert set(models) == {'bad', 'again'}
    assert models['bad']['protocols'] == alone['protocols']
    assert models['again']['protocols'] == both['protocols']
    points = {model['protocols']['heldout']['n_points'] for model in models.values()}
    assert points == {both['protocols']['heldout']['n_points']}
    assert models['bad']['checkpoint'] == {'name': 'truth', 'space': 'depth'}
    # Of the baselines only the one that depends on the model.
    assert models['bad']['baselines'] == {'global': alone['baselines']['global']}
    assert set(models['bad']['baselines_paired']) == {'global'}


def test_the_command_scores_compared_models_by_frame(
    short_drive, items, monkeypatch, capsys, tmp_path
):
    def load(name, device, dtype, vae, runtime):
        assert bool(vae) == (name == 'unet')  # the compared ones have their own
        return truth_model(items, 0.2 if name == 'some/folder' else 0.0)

    monkeypatch.setattr('marigold_ros.models.load_model', load)
    call = ['evaluate', str(short_drive), '--out', str(tmp_path), '--oracle', 'marigold-scannet']
    call += ['--vae', 'taesd']
    for name in ('some/folder', 'folder', 'other/folder'):
        call += ['--against', name]
    assert main(call) == 0
    text = capsys.readouterr().out
    names = ('', 'folder: ', "folder': ", "folder'': ")
    protocols = ('oracle (model alone)', 'global', 'heldout (fused)', 'truth (fused)')
    shown = [re.split(r'  +', line)[0] for line in text.splitlines()]
    # What compares models leads.
    first = shown.index('oracle (model alone)')
    assert shown[first : first + 8] == [name + p for p in protocols[:2] for name in names]
    assert {name + p for p in protocols[2:] for name in names} <= set(shown[first + 8 :])
    assert 'baseline global' not in shown
    assert 'oracle marigold-scannet: truth strictly between 0.001 and 10 m' in text
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['provenance']['scoring']['oracle']['rule'] == 'marigold-scannet'
    assert results['memory']['peak_mb'] > 1
    assert {'read', 'score'} <= set(results['latency_ms'])
    assert results['provenance']['options']['alignment.method'] == 'fused'
    own, worse, *same = (
        found['baselines']['global']['abs_rel'] for found in (results, *results['models'].values())
    )
    assert same == [own, own]
    assert own < 0.25 * worse
    with (tmp_path / 'per_frame.csv').open() as file:
        rows = list(csv.DictReader(file))
    folder = results['models']['folder']
    for column, scores in (
        ('heldout', folder['protocols']['heldout']['macro']),
        ('heldout_global', folder['baselines']['global']),
    ):
        compared = [float(row[f'folder:{column}_abs_rel']) for row in rows]
        assert np.mean(compared) == pytest.approx(scores['abs_rel'], rel=1e-4)


@pytest.mark.slow  # two evaluations
def test_the_baseline_global_is_what_the_method_global_gives(short_drive, items):
    local = evaluate_bag(short_drive, truth_model(items, 0.1))
    plain = evaluate_bag(short_drive, truth_model(items, 0.1), GLOBAL)
    affine = local['baselines']['global']
    for name, value in plain['protocols']['heldout']['macro'].items():
        assert affine[name] == pytest.approx(value, rel=1e-4), name


def test_a_published_crop_that_does_not_fit_ends_with_a_remedy(short_drive, items):
    with pytest.raises(ConfigurationError, match='1216'):
        evaluate_bag(short_drive, truth_model(items), ReplayOptions(oracle='marigold-kitti'))


def cheating(items, held_out):
    """Exact at the fit points and their pixels, 1.6 times too far and noisy everywhere else."""
    rng = np.random.default_rng(0)
    answers = []
    for item in items:
        wrong = 1.6 * np.clip(np.nan_to_num(item.truth, nan=60.0, posinf=60.0), 0, 60)
        wrong *= np.exp(rng.normal(0, 0.3, wrong.shape))
        split = hold_out(item.frame, AlignmentConfig(), 8, item.ring, held_out)
        wrong[split.fit.v, split.fit.u] = split.fit.z
        answers.append((wrong / _METRES).astype(np.float32))
    return answers


@pytest.mark.parametrize(
    ('held_out', 'method'),
    [
        ('rings', 'global'),
        ('azimuth', 'local'),
        pytest.param('rings', 'local', marks=pytest.mark.slow),
        pytest.param('azimuth', 'global', marks=pytest.mark.slow),
    ],
)
def test_a_model_that_memorised_the_fit_points_is_exposed(short_drive, items, held_out, method):
    answers = cheating(items, held_out)
    for item, answer in zip(items, answers, strict=True):
        # To whom scores what was fitted, it is perfect.
        split = hold_out(item.frame, AlignmentConfig(), 8, item.ring, held_out)
        predicted = _METRES * answer[split.fit.v, split.fit.u]
        np.testing.assert_allclose(predicted, split.fit.z, rtol=1e-5)
    config = PipelineConfig(alignment=replace(AlignmentConfig(), method=method))
    options = ReplayOptions(config, held_out=held_out)
    cheat = evaluate_bag(short_drive, Answers(answers), options)
    honest = evaluate_bag(short_drive, truth_model(items, 0.05), options)
    exposed = cheat['protocols']['heldout']['macro']['abs_rel']
    assert exposed > 0.2
    assert exposed > 2.5 * honest['protocols']['heldout']['macro']['abs_rel']
