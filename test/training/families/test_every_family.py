# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What holds for the training of every family: seeds, exact resumption, exports."""

from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models import load_model
from marigold_training.families.registry import trained_family
import numpy as np
import pytest
import torch

FAMILIES = ('unet', 'prime_depth', 'diffusion_depth', 'depth_anything')
# Weights of relative models are stored in float16.
TOLERANCES = {
    'unet': (0, 2e-3),
    'prime_depth': (0, 3e-3),
    'diffusion_depth': (1e-5, 0),
    'depth_anything': (1e-5, 0),
}
KINDS = {
    'unet': 'A plain U-Net',
    'prime_depth': 'refiner',
    'diffusion_depth': 'predicts metres',
    'depth_anything': 'predicts disparity',
}
every_family = pytest.mark.parametrize('recipe', FAMILIES, indirect=True)


@pytest.mark.slow  # trains each three times
@every_family
def test_a_stopped_run_ends_as_one_that_was_not(new_run):
    whole = new_run('whole')
    assert whole.train()
    stops = iter((False, False))
    assert not new_run('parts').train(stop=lambda: next(stops, True))
    second = new_run('parts')
    assert second.train()
    ended = second.finished().state_dict()
    for key, value in whole.finished().state_dict().items():
        torch.testing.assert_close(ended[key], value, rtol=0, atol=0)


@every_family
def test_the_export_answers_as_the_networks_did(new_run, recipe):
    run = new_run()
    run.train()
    folder = run.export()
    rgb = np.random.default_rng(1).integers(0, 256, (*recipe['sources'][0]['size'], 3), np.uint8)
    stored = load_model(str(folder), 'cpu', 'float32').predict(rgb).relative
    own = run.engine(run.finished()).predict(rgb).relative
    relative, absolute = TOLERANCES[recipe['network']]
    np.testing.assert_allclose(stored, own, relative, absolute)
    again = new_run('again', init={'kind': 'checkpoint', 'path': str(folder)}, keep_of_start=0.5)
    found = again.engine(again.chain).predict(rgb).relative
    np.testing.assert_allclose(found, stored, relative, 1e-6)
    assert trained_family(recipe['network']).facts(folder) == recipe['facts']
    card = (folder / 'README.md').read_text()
    assert KINDS[recipe['network']] in card
    assert 'diffusers' not in card


@every_family
def test_the_same_seed_gives_the_same_weights(recipe):
    family = trained_family(recipe['network'])
    first, second, other = (family.initialise(recipe, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    if recipe['init']['kind'] == 'small':
        assert not all(torch.equal(first[key], other[key]) for key in first)


REFUSED = {
    'unet': [
        ({'init': {'kind': 'stable_diffusion'}}, 'choose one of small, checkpoint'),
        ({'init': {'kind': ['small']}}, 'choose one of small, checkpoint'),
        ({'init': {'kind': 'checkpoint'}}, 'checkpoint lacks path'),
        ({'init': {'channel': [8]}}, "init has 'channel'"),
        ({'init': {'channels': [8, 9]}}, 'multiples of 8'),
        ({'noise': 'annealed'}, "has 'noise'; known"),
        ({'stage': {'objective': 'latent'}}, 'objective latent, which this network cannot learn'),
        ({'stage': {'trains': ['unet', 'autoencoder']}}, 'autoencoder; this network has unet'),
    ],
    'prime_depth': [
        ({'init': {'bases': 'tiny'}}, "init has 'bases'; "),
        ({'init': {'base': None}}, 'init.base is None'),
        ({'init': {'decoder': [9]}}, 'multiples of 8'),
    ],
    'diffusion_depth': [
        ({'init': {'depth': 3}}, "init has 'depth'"),
        ({'init': {'hidden': 6}}, 'hidden 6; give a multiple of 4'),
        ({'loss': {'l3': 1.0}}, "loss has 'l3'"),
        ({'loss': {'l1': -1}}, 'give 0 or more'),
        ({'facts': {'space': 'log'}}, "'log'; choose one of metric"),
        ({'source': {'known': 0.0}}, 'known is 0.0'),
        ({'stage': {'objective': 'latent'}}, 'objective latent, which this network'),
    ],
}


@pytest.mark.parametrize(
    ('recipe', 'changes', 'words'),
    [(family, *case) for family, cases in REFUSED.items() for case in cases],
    indirect=['recipe'],
)
def test_a_recipe_that_cannot_be_trained_is_refused(new_run, changes, words):
    with pytest.raises((ConfigurationError, CheckpointError), match=words):
        new_run(**changes)
