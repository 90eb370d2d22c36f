# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A plain U-Net through the runs that train every family."""

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_training.families.unet import FAMILY
from marigold_training.run.recipe import TrainingRun
import numpy as np
import pytest
import torch
import yaml

RECIPE = {
    'name': 'plain',
    'network': 'unet',
    'init': {'kind': 'small', 'channels': [8, 16], 'blocks': [1]},
    'sources': [{'kind': 'synthetic', 'height': 24, 'width': 32, 'count': 6, 'size': [24, 32]}],
    'stages': [{'name': 'only', 'objective': 'pixel', 'steps': 8, 'batch_size': 4, 'warmup': 0}],
    'facts': {'space': 'log', 'default_processing_pixels': 768},
}


@pytest.fixture(scope='module')
def accelerator():
    # Accelerate keeps the settings of the first one in a process.
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision='bf16')
    AcceleratorState._reset_state()


@pytest.fixture
def new_run(tmp_path, accelerator):
    """Return a function that opens a run of the recipe with other keys."""

    def build(name='run', **changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**RECIPE, **changes}))
        return TrainingRun(path, tmp_path / name, tmp_path, accelerator)

    return build


def weights(run):
    return run.finished().state_dict()


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(new_run):
    whole = new_run('whole')
    assert whole.train()
    asked = []
    first = new_run('parts')
    assert not first.train(stop=lambda: len(asked) > 2 or asked.append(1))
    second = new_run('parts')
    assert second.train()
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(second)[key], value, rtol=0, atol=0)


def test_the_export_answers_as_the_networks_did(new_run):
    run = new_run()
    run.train()
    folder = run.export()
    rgb = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    stored = load_model(str(folder), 'cpu', 'float32').predict(rgb).relative
    own = run.engine(run.finished()).predict(rgb).relative
    np.testing.assert_allclose(stored, own, atol=2e-3)  # weights are stored in float16
    card = (folder / 'README.md').read_text()
    assert 'A plain U-Net' in card
    assert 'diffusers' not in card
    again = new_run('again', init={'kind': 'checkpoint', 'path': str(folder)}, keep_of_start=0.5)
    np.testing.assert_allclose(again.engine(again.chain).predict(rgb).relative, stored, atol=1e-6)


def test_the_loss_falls_on_images_seen_again(new_run):
    run = new_run(common={'learning_rate': 3e-3}, stages=[{**RECIPE['stages'][0], 'steps': 60}])
    batches = [run.mixture(run.stages[0], 0)[number] for number in range(4)]

    def error():
        with torch.no_grad():
            found = [(run.chain.relative(b.rgb) - b.relative)[b.valid] for b in batches]
        return torch.cat(found).abs().mean().item()

    before = error()
    run.train()
    assert error() < 0.6 * before


def test_anchored_to_itself_the_map_beside_the_points_costs_nothing(new_run):
    """The frozen initial network is the anchor, for this family as for Marigold."""
    base = new_run('base')
    base.train()
    folder = base.export()
    stage = {**RECIPE['stages'][0], 'objective': 'anchored'}
    run = new_run(init={'kind': 'checkpoint', 'path': str(folder)}, stages=[stage])
    (start,) = run.chain.start
    image = torch.rand(1, 3, 24, 32)
    torch.testing.assert_close(start.relative(image), run.chain.relative(image))
    assert not any(weight.requires_grad for weight in start.parameters())


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'init': {'kind': 'stable_diffusion'}}, 'choose one of small, checkpoint'),
        ({'init': {'kind': 'small', 'channel': [8]}}, "init has 'channel'"),
        ({'init': {'kind': 'small', 'channels': [8, 9]}}, 'multiples of 8'),
        ({'noise': 'annealed'}, "unknown key 'noise'"),
        (
            {'stages': [{**RECIPE['stages'][0], 'objective': 'latent'}]},
            'objective latent, which this network cannot learn',
        ),
        (
            {'stages': [{**RECIPE['stages'][0], 'trains': ['unet', 'autoencoder']}]},
            'trains autoencoder; this network has unet',
        ),
    ],
)
def test_a_recipe_for_another_network_is_refused(new_run, changes, words):
    with pytest.raises(ConfigurationError, match=words):
        new_run(**changes)


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (FAMILY.initialise(RECIPE, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
