# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A DiffusionDepth through the runs that train every family, from sparse truth alone."""

from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.diffusion_depth.checkpoint import read_architecture
from marigold_training.families.diffusion_depth import FAMILY
from marigold_training.objectives.diffusion_depth import (
    diffusion_depth_loss,
    noise_error,
    read_weights,
)
from marigold_training.objectives.noise import Draws
from marigold_training.run.recipe import read_recipe, TrainingRun
from marigold_training.run.stages import read_stages
import numpy as np
import pytest
import torch
import yaml

RECIPES = Path(__file__).parents[3] / 'training' / 'recipes' / 'diffusion_depth'
INIT = {
    'kind': 'small',
    'backbone': {'channels': [8, 16], 'blocks': [1]},
    'features': 8,
    'hidden': 8,
    'latent': 8,
    'steps': 2,
}
STAGE = {
    'name': 'only',
    'objective': 'diffusion_depth',
    'steps': 4,
    'batch_size': 4,
    'warmup': 0,
    'average': 0.9,
    'clip': 1.0,
}
SOURCE = {
    'kind': 'synthetic',
    'height': 24,
    'width': 32,
    'count': 6,
    'known': 0.1,
    'size': [24, 32],
}
RECIPE = {
    'name': 'refined',
    'network': 'diffusion_depth',
    'init': INIT,
    'sources': [SOURCE],
    'stages': [STAGE],
    'facts': {'space': 'metric', 'max_depth': 80.0, 'default_processing_pixels': 768},
}


@pytest.fixture(scope='module')
def accelerator():
    # Accelerate keeps the settings of the first one in a process.
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision='no')
    AcceleratorState._reset_state()


@pytest.fixture
def new_run(tmp_path, accelerator):
    """Return a function that opens a run of the recipe with other keys."""

    def build(name='run', **changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**RECIPE, **changes}))
        return TrainingRun(path, tmp_path / name, tmp_path, accelerator)

    return build


def batch_of(run):
    return run.mixture(run.stages[0], 0)[0]


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(new_run):
    whole = new_run('whole')
    assert whole.train()
    asked = []
    first = new_run('parts')
    assert not first.train(stop=lambda: len(asked) > 2 or asked.append(1))
    second = new_run('parts')
    assert second.train()
    ended = second.finished().state_dict()
    for key, value in whole.finished().state_dict().items():
        torch.testing.assert_close(ended[key], value, rtol=0, atol=0)


def test_the_export_answers_as_the_networks_did(new_run):
    run = new_run()
    run.train()
    folder = run.export()
    rgb = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    stored = load_model(str(folder), 'cpu', 'float32').predict(rgb).relative
    own = run.engine(run.finished()).predict(rgb).relative
    np.testing.assert_allclose(stored, own, rtol=1e-5)
    card = (folder / 'README.md').read_text()
    assert 'predicts metres' in card
    assert 'in metres' in card
    again = new_run('again', init={'kind': 'checkpoint', 'path': str(folder)})
    assert again.chain.network.training
    np.testing.assert_allclose(again.engine(again.chain).predict(rgb).relative, stored, rtol=1e-5)


def test_the_log_error_falls_on_images_seen_again(new_run):
    loss = {'ddim': 0.0, 'l1': 0.0, 'l2': 0.0, 'sig': 1.0, 'latent': 0.0}
    stage = {**STAGE, 'steps': 40, 'learning_rate': 1e-2}
    run = new_run(loss=loss, stages=[stage])
    batch = batch_of(run)

    def error():
        with torch.no_grad():
            return diffusion_depth_loss(run.chain, batch, Draws(0, 0, batch.rows)).item()

    before = error()
    run.train()
    assert error() < 0.8 * before


def test_truth_is_sparse_and_the_loss_sees_nothing_else(new_run):
    run = new_run()
    batch = batch_of(run)
    share = batch.valid.float().mean().item()
    assert 0.0 < share < 0.15
    assert not batch.sky.any()
    run.chain.eval()
    draws = Draws(0, 0, batch.rows)
    first = diffusion_depth_loss(run.chain, batch, draws).item()
    changed = torch.where(batch.valid, batch.depth, 7.0)
    other = type(batch)(**{**vars(batch), 'depth': changed})
    assert diffusion_depth_loss(run.chain, other, Draws(0, 0, batch.rows)).item() == first


def test_the_terms_add_up_by_their_weights(new_run):
    """Every term alone, with one draw of noise, sums to the whole."""
    names = ('ddim', 'l1', 'l2', 'sig', 'silog', 'latent')
    batch = batch_of(new_run())

    def loss(**weights):
        run = new_run(loss={**dict.fromkeys(names, 0.0), **weights})
        run.chain.eval()
        return diffusion_depth_loss(run.chain, batch, Draws(0, 0, batch.rows)).item()

    parts = sum(0.5 * loss(**{name: 1.0}) for name in names)
    assert loss(**dict.fromkeys(names, 0.5)) == pytest.approx(parts, rel=1e-5)


def test_the_latent_that_gets_noise_is_the_models_own_or_the_truths(new_run):
    weights = {'ddim': 1.0, 'l1': 0.0, 'l2': 0.0, 'latent': 0.0}
    found = {}
    for diffused in ('refined', 'truth'):
        run = new_run(loss=weights, diffused=diffused)
        batch = batch_of(run)
        diffusion_depth_loss(run.chain, batch, Draws(0, 0, batch.rows)).backward()
        gradients = run.chain.network.latent.encoder[0].weight.grad
        found[diffused] = gradients is not None and gradients.abs().sum().item() > 0
    assert found == {'refined': False, 'truth': True}


def test_a_perfect_guess_of_the_noise_costs_nothing(new_run):
    run = new_run()
    network = run.chain.network
    shape, features = (2, 8, 4, 5), torch.zeros(2, 8, 4, 5)
    latent, cells = torch.zeros(shape), torch.ones(2, 1, 4, 5)

    class Knowing(torch.nn.Module):
        def forward(self, noisy, timestep, _features):
            kept = torch.cumprod(1.0 - torch.linspace(1e-4, 0.02, 1000), 0)[timestep]
            return noisy / (1.0 - kept)[:, None, None, None].sqrt()

    network.denoiser = Knowing()
    assert noise_error(network, latent, features, cells, Draws(0, 0, (0, 1))).item() < 1e-6


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'init': {'kind': 'stable_diffusion'}}, 'choose one of small, checkpoint'),
        ({'init': {**INIT, 'depth': 3}}, "init has 'depth'"),
        ({'init': {**INIT, 'hidden': 6}}, 'hidden 6; give a multiple of 4'),
        ({'loss': {'l3': 1.0}}, "loss has 'l3'"),
        ({'loss': {'l1': -1}}, 'give 0 or more'),
        ({'diffused': 'image'}, "diffused is 'image'"),
        ({'facts': {'space': 'log'}}, "'log'; choose one of metric"),
        ({'sources': [{**SOURCE, 'known': 0.0}]}, 'known is 0.0'),
        ({'stages': [{**STAGE, 'objective': 'latent'}]}, 'objective latent, which this network'),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(new_run, changes, words):
    with pytest.raises((ConfigurationError, CheckpointError), match=words):
        new_run(**changes)


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (FAMILY.initialise(RECIPE, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize('path', sorted(RECIPES.glob('*.yaml')), ids=lambda path: path.stem)
def test_the_recipes_name_networks_terms_and_stages_that_exist(path):
    recipe = read_recipe(path)
    own = {key: value for key, value in recipe['init'].items() if key != 'kind'}
    architecture = read_architecture(own, path.name)
    assert architecture.steps == (5 if path.stem == 'small' else 20)
    read_weights(recipe['loss'])
    stages = read_stages(recipe['stages'], recipe['common'])
    assert all(stage.trains == ('network',) for stage in stages)


def test_adapting_metres_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ConfigurationError, match='sources of kind bag'):
        FAMILY.facts(tmp_path / 'refined')
