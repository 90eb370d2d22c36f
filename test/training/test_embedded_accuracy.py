# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How accurate the embedded checkpoints are on scenes that no run trained on."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.member_weights import weigh_members
from marigold_ros.models import load_model, use_threads
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.ablation import measure
from marigold_training.run.score import best_affine, known_depth, render_scenes, score
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # 16 rendered scenes, up to 144 predictions of each model


@pytest.fixture(scope='module')
def scenes():
    use_threads()
    return list(render_scenes(make_sample, 16))


@pytest.fixture(scope='module')
def tiny_scores(scenes):
    return score(load_model('tiny', device='cpu'), scenes, 16)


def test_tiny_beats_a_plane(tiny_scores):
    assert tiny_scores['model']['abs_rel'] < tiny_scores['plane']['abs_rel']


def test_unet_beats_tiny_and_the_best_quadric(scenes, tiny_scores):
    found = score(load_model('unet', device='cpu'), scenes, 16)
    assert found['model']['abs_rel'] < found['quadric']['abs_rel']
    assert found['model']['abs_rel'] < 0.9 * tiny_scores['model']['abs_rel']


def test_an_ensemble_of_the_diffusion_checkpoint_is_better(scenes):
    diffusion = load_model('tiny-diffusion', device='cpu')
    one, eight = (measure(diffusion, scenes, members=n) for n in (1, 8))
    assert eight['abs_rel'] < 0.99 * one['abs_rel']
    assert eight['spearman'] > 0.2


def test_the_average_is_hardly_behind_its_better_member(scenes):
    model = load_model('tiny+unet', 'cpu', 'float32')
    rows = []
    for seed, (_, pair) in enumerate(scenes[:6]):
        truth, valid = known_depth(pair)
        chosen = np.random.default_rng(seed).choice(np.flatnonzero(valid), 600, replace=False)
        v, u = np.divmod(chosen, truth.shape[1])
        points = SparseDepth(u, v, truth[v, u].astype(np.float32))
        prediction = model.predict(pair.rgb)
        weighed, _ = weigh_members(prediction, points, AlignmentConfig(method='global'))
        maps = (*prediction.members, prediction.relative, weighed.relative)
        fitted = (best_affine(one, truth, valid, 'log') for one in maps)
        rows.append([np.abs(one[valid] / truth[valid] - 1).mean() for one in fitted])
    tiny, unet, mean, weighted = np.mean(rows, axis=0)
    assert weighted <= 1.05 * min(tiny, unet)
    assert weighted < min(mean, 0.5 * (tiny + unet))
