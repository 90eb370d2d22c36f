# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training of a prompt: what it changes, what it draws, what its plan counts."""

from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import SparseDepth
from marigold_ros.models import load_model
from marigold_ros.models.marigold.prompt import PointPrompt
from marigold_training.objectives.losses import pixel_loss
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import draw_prompts
from marigold_training.plan import activations_of, memory_of, networks_of, work_of_image
from marigold_training.run.stages import Stage
import numpy as np
import pytest
import torch

STAGE = {'name': 'only', 'objective': 'pixel', 'trains': ['prompt'], 'batch_size': 6, 'warmup': 0}

ONE = Draws(0, 0, (0,))


@pytest.fixture
def recipe(small_checkpoint) -> dict:
    source = {'kind': 'synthetic', 'height': 32, 'width': 48, 'count': 6, 'size': [32, 48]}
    return {
        'name': 'few-steps',
        'init': {'kind': 'checkpoint', 'path': str(small_checkpoint), 'prompt': 8},
        'sources': [source],
        'stages': [{**STAGE, 'steps': 25, 'learning_rate': 0.01}],
        'facts': {'space': 'log', 'noise': 'zeros', 'default_processing_pixels': 1536},
    }


@pytest.mark.slow  # trains for seconds
def test_training_lowers_the_loss_and_moving_the_points_then_moves_the_depth(new_run):
    run = new_run()
    batch = run.mixture(run.stages[0], 0)[0]
    start = {key: value.clone() for key, value in run.chain.state_dict().items()}
    losses = []
    for train in (lambda: run.chain.choose_trained(['prompt']), run.train):
        train()
        with torch.no_grad():
            losses.append(run.chain(pixel_loss, batch, Draws(0, 0, batch.rows)).item())
    assert losses[1] < 0.9 * losses[0]
    changed = {key for key, value in run.chain.state_dict().items() if not value.equal(start[key])}
    assert {key.split('.')[0] for key in changed} == {'prompt'}
    stored = load_model(str(run.export()), 'cpu', 'float32')
    rgb = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    y, x = np.mgrid[:32:3, :48:3].reshape(2, -1)
    maps = []
    for model in (run.engine(run.finished()), stored):
        for step in (0.0, 3.0):
            sparse = SparseDepth(x, y, (2.0 + 0.1 * x + step * (y > 15)).astype(np.float32))
            maps.append(model.predict_prompted(rgb, sparse).relative)
    np.testing.assert_allclose(maps[2], maps[0], rtol=0.02)
    change = maps[3] - maps[2]
    assert change[20:].mean() > change[:10].mean() + 0.5


@pytest.mark.slow  # a run
def test_a_prompted_checkpoint_keeps_its_prompt_and_its_u_net_is_taught_without(new_run):
    first = new_run(stage={'steps': 1})
    first.train()
    again = {'kind': 'checkpoint', 'path': str(first.export())}
    run = new_run('again', stage={'steps': 1, 'trains': ['unet']}, init=again)
    before = {key: value.clone() for key, value in run.chain.prompt.state_dict().items()}
    run.chain.prompt.decode = None  # a call would fail
    run.train()
    assert all(value.equal(before[key]) for key, value in run.chain.prompt.state_dict().items())


def test_gradient_checkpointing_changes_no_gradient(new_run):
    chain = new_run().chain
    chain.choose_trained(['prompt'])
    for block in chain.prompt.blocks:
        torch.nn.init.constant_(block[-1].weight, 0.1)
    chain.raster = draw_prompts(torch.linspace(1, 9, 48).expand(1, 1, 32, 48), 'log', ONE)
    found = []
    for again in (False, True):
        chain.zero_grad()
        chain.checkpoint_gradients(again)
        chain.relative(torch.linspace(-1, 1, 48).expand(1, 3, 32, 48)).square().sum().backward()
        found.append(torch.cat([weight.grad.flatten() for weight in chain.prompt.parameters()]))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0])


def test_an_untrained_prompt_gets_the_points_of_a_batch_and_changes_nothing(new_run):
    run, draws = new_run(), Draws(0, 3, tuple(range(6)))
    chain, batch, seen = run.chain, run.mixture(run.stages[0], 0)[0], []
    chain.autoencoder.register_to_config(scaling_factor=0.3)
    with torch.no_grad():
        plain = chain.relative(batch.rgb)

    def loss(own, batch, draws):
        seen.append(own.raster)
        return own.relative(batch.rgb)

    chain.choose_trained(['prompt'])
    torch.testing.assert_close(chain(loss, batch, draws), plain)
    assert torch.equal(seen[0], draw_prompts(batch.depth, 'log', draws))
    assert seen[0].any()
    assert chain.raster is None


def test_points_are_drawn_for_each_row_and_step_and_the_same_again():
    depth = torch.linspace(1, 9, 48).expand(2, 1, 32, 48).clone()
    depth[..., :3] = torch.inf
    first, same, other = (draw_prompts(depth, 'log', Draws(0, n, (0, 1))) for n in (5, 5, 6))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert not draw_prompts(torch.full_like(depth, torch.nan), 'log', Draws(0, 0, (0, 1))).any()


@pytest.mark.parametrize('width', [True, 0, '8', 5000])
def test_a_width_that_is_none_is_refused(new_run, width):
    with pytest.raises(ConfigurationError, match=r'init\.prompt is'):
        new_run(init={'prompt': width})


def test_a_stage_trains_no_prompt_where_there_is_none(new_run, recipe):
    with pytest.raises(ConfigurationError, match='trains prompt; this network has'):
        new_run(init={'kind': 'checkpoint', 'path': recipe['init']['path']})


def test_a_plan_counts_frozen_networks_once_and_the_gradient_through_the_decoder():
    networks = networks_of({'init': {'kind': 'checkpoint', 'path': 'tiny'}})
    prompted = *networks, PointPrompt(networks[1].config.block_out_channels, 8)
    only, again = (
        Stage('x', 'pixel', 1, 2, trains=('prompt',), gradient_checkpointing=repeated)
        for repeated in (False, True)
    )
    whole = work_of_image(Stage('x', 'pixel', 1, 2), networks, (96, 128))
    assert 0.3 * whole < work_of_image(only, prompted, (96, 128)) < whole
    weights = sum(p.numel() for p in prompted[2].parameters())
    assert memory_of(only, prompted, (96, 128), False)['moments'] == 8 * weights
    kept = [activations_of(stage, prompted, (96, 128), False) for stage in (only, again)]
    assert 0 < kept[1] < kept[0]
