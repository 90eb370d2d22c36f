# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A Depth Anything, relative and metric, through the runs that train every family."""

import json

from marigold_ros.errors import ConfigurationError
from marigold_training.families.depth_anything import FAMILY
from marigold_training.objectives.losses import anchored_loss
from marigold_training.objectives.noise import Draws
import numpy as np
import pytest
import torch

NETWORK = 'depth_anything'
METRIC = {'depth_estimation_type': 'metric', 'max_depth': 20}
ANCHORED = {'objective': 'anchored', 'learning_rate': 1e-3}


@pytest.fixture(params=[{}, METRIC], ids=['relative', 'metric'])
def own(request, depth_anything) -> dict:
    """Return the keys of a recipe for a checkpoint, relative or metric."""
    folder = depth_anything(**request.param)
    return {'init': {'kind': 'checkpoint', 'path': str(folder)}, 'facts': FAMILY.facts(folder)}


def test_a_few_steps_lower_the_loss_at_the_points(new_run, own):
    run = new_run(stage={**ANCHORED, 'steps': 12}, source={'known': 0.1}, **own)
    batch = run.mixture(run.stages[0], 0)[0]
    assert batch.valid.float().mean() < 0.15

    def loss() -> float:
        with torch.no_grad():
            return anchored_loss(run.chain, batch, Draws(0, 0, batch.rows)).item()

    before = loss()
    run.train()
    assert loss() < 0.9 * before


def test_training_sees_the_map_that_inference_predicts(new_run, own):
    run = new_run(**own)
    rgb = np.random.default_rng(0).integers(0, 256, (42, 56, 3), np.uint8)  # whole patches
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    with torch.no_grad():
        seen = run.chain.relative(image)[0, 0].numpy()
    np.testing.assert_allclose(run.engine(run.chain).predict(rgb).relative, seen, 1e-4, 1e-5)


def test_all_weights_that_a_pass_reads_have_a_gradient(new_run):
    chain = new_run().chain
    chain.choose_trained(['network'])
    chain.relative(torch.rand(1, 3, 32, 40)).sum().backward()
    without = {name for name, p in chain.named_parameters() if p.grad is None}
    assert without == {name for name, p in chain.named_parameters() if not p.requires_grad}
    assert chain.network.backbone.embeddings.position_embeddings.grad.abs().sum() > 0
    assert len(without) == 5  # what masks, and a layer of the neck


def test_of_a_large_network_the_first_layers_stay(new_run):
    parts = list(new_run().chain.parts())
    assert parts[-2:] == [f'network.backbone.encoder.layer.{k}' for k in (2, 3)]
    run = new_run('half', stage={'trains': parts, 'steps': 2})
    before = {name: value.clone() for name, value in run.chain.state_dict().items()}
    run.train()
    after = run.chain.state_dict()
    changed = {name.split('.')[1] for name in after if not after[name].equal(before[name])}
    assert changed == {'neck', 'head', 'backbone'}
    for name in ('embeddings.position_embeddings', 'encoder.layer.1.norm1.weight'):
        key = f'network.backbone.{name}'
        assert after[key].equal(before[key])


def test_another_space_and_other_networks_are_refused(new_run, tmp_path):
    with pytest.raises(ConfigurationError, match='and small predicts disparity; correct it'):
        new_run(facts={'space': 'metric', 'default_processing_pixels': 1764})
    for kind in ('dpt', 'prompt_depth_anything'):
        (tmp_path / 'config.json').write_text(json.dumps({'model_type': kind}))
        with pytest.raises(ConfigurationError, match=f'is a {kind}, and of .* only depth_any'):
            new_run(init={'kind': 'checkpoint', 'path': str(tmp_path)})
