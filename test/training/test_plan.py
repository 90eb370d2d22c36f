# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The plan of a recipe against sums by hand and the tensors that autograd keeps."""

from __future__ import annotations

from pathlib import Path
import re

from marigold_ros.errors import ConfigurationError
from marigold_training import plan
from marigold_training.networks.initialise import initialise
from marigold_training.networks.small_networks import small_autoencoder, small_unet, TEXT_SHAPE
from marigold_training.plan import (
    activations_of,
    format_plan,
    hours_of,
    memory_of,
    networks_of,
    plan_recipe,
    sizes_of,
    work_of_image,
)
from marigold_training.run.accelerator import new_accelerator
from marigold_training.run.recipe import read_recipe
from marigold_training.run.stages import read_stages, Stage
from marigold_training.run.step_time import time_steps
import pytest
import torch
from torch import nn
import yaml

RECIPES = Path(__file__).resolve().parents[2] / 'training' / 'recipes'


@pytest.fixture(scope='module')
def small():
    return (
        small_unet(channels=(32, 64), latent_channels=4),
        small_autoencoder(channels=(8, 8, 16, 16), latent_channels=4),
    )


@pytest.fixture(scope='module')
def planned_marigold():
    return plan_recipe(RECIPES / 'marigold_v1_1.yaml')


def stage(objective: str, **more) -> Stage:
    return Stage('x', objective, steps=10, **{'batch_size': 2, **more})


def count(network) -> int:
    return sum(p.numel() for p in network.parameters())


def kept_by_autograd(function, networks) -> int:
    """Bytes of all tensors that autograd holds on to; weights and their views are left out."""
    storages = {}
    weights = {w.untyped_storage().data_ptr() for net in networks for w in net.parameters()}

    def pack(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights:
            storages[memory.data_ptr()] = memory.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = function()  # held until counted, so that no memory is used twice
    del answer
    return sum(size for size, _ in storages.values())


def test_memory_holds_four_numbers_a_weight_plus_the_average(small):
    memory = memory_of(stage('latent'), small, (64, 96), half=False)
    unet, autoencoder = map(count, small)
    assert memory['weights'] == 4 * (unet + autoencoder)
    assert memory['gradients'] == 4 * unet
    assert memory['moments'] == 8 * unet
    held = sum(memory[key] for key in ('weights', 'gradients', 'moments', 'average'))
    assert memory['peak'] == held + max(memory['encoding'], memory['activations'])
    both = memory_of(stage('pixel', trains=('autoencoder', 'unet')), small, (64, 96), half=True)
    assert both['gradients'] == 4 * (unet + autoencoder)


def test_an_anchored_stage_keeps_what_a_pixel_one_does_and_the_initial_networks(small):
    plain, more = (memory_of(stage(x), small, (32, 32), half=False) for x in ('pixel', 'anchored'))
    assert more['weights'] == 2 * plain['weights']
    assert more['activations'] == plain['activations']


@pytest.mark.slow  # plans two recipes
def test_adapters_alone_have_gradients_and_moments(tmp_path):
    recipe = yaml.safe_load((RECIPES / 'tiny_diffusion.yaml').read_text())
    recipe['init'] = {'kind': 'checkpoint', 'path': 'tiny'}
    recipe['stages'] = [{'name': 'x', 'objective': 'latent', 'steps': 1, 'trains': ['unet']}]
    plans = []
    for adapters in ({}, {'adapters': 4}):
        path = tmp_path / 'adapted.yaml'
        path.write_text(yaml.safe_dump({**recipe, **adapters}))
        networks, (one,) = plan_recipe(path)
        plans.append(one)
    own = sum(w.numel() for name, w in networks[0].named_parameters() if 'lora' in name)
    assert plans[1].memory['gradients'] == 4 * own < 0.02 * plans[0].memory['gradients']
    assert plans[1].memory['moments'] == 8 * own
    assert plans[1].flop < 0.85 * plans[0].flop


def test_half_precision_copies_shrink_with_checkpointing(small):
    # One cell, so that there is hardly anything but the copies.
    plain = activations_of(stage('latent', batch_size=1), small, (8, 8), half=True)
    copies = 2 * sum(
        count(layer) for layer in small[0].modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
    )
    assert copies < plain < 1.2 * copies
    less = activations_of(
        stage('latent', batch_size=1, gradient_checkpointing=True), small, (8, 8), half=True
    )
    assert less < 0.7 * copies


@pytest.mark.parametrize('objective', ['latent', 'autoencoder'])
def test_activations_are_near_those_kept_by_autograd(small, objective):
    unet, autoencoder = small
    image, latent = torch.randn(2, 3, 96, 128), torch.randn(2, 4, 12, 16)
    text = torch.zeros(2, *TEXT_SHAPE[1:])

    def run():
        if objective == 'latent':
            return unet(torch.cat([latent, latent], 1), 5, text).sample
        both = torch.cat([image, image])
        return autoencoder.decode(autoencoder.encode(both).latent_dist.mode()).sample

    real = kept_by_autograd(run, small)
    estimate = activations_of(stage(objective), small, (96, 128), half=False)
    assert 0.7 * real < estimate < 1.3 * real, (real, estimate)


def test_activations_follow_batch_checkpointing_and_precision(small):
    plain = activations_of(stage('pixel'), small, (96, 128), half=False)
    assert activations_of(
        stage('pixel', batch_size=4), small, (96, 128), half=False
    ) == pytest.approx(2 * plain)
    less = activations_of(
        stage('pixel', gradient_checkpointing=True), small, (96, 128), half=False
    )
    assert less < 0.8 * plain
    half = activations_of(stage('pixel'), small, (96, 128), half=True)
    assert 0.5 * plain < half < plain


def test_sizes_are_scaled_to_multiples_of_eight():
    sources = [
        {'size': [192, 256], 'count': 3},
        {'size': [100, 384], 'weight': 0.5},
        {'size': [8, 8]},
    ]
    assert sizes_of(sources, 0.5) == [(3.0, (96, 128)), (0.5, (48, 192)), (1.0, (8, 8))]


@pytest.mark.slow  # plans six stages
def test_backward_costs_two_forwards_or_one_if_frozen(small):
    size = (64, 96)
    latent = work_of_image(stage('latent'), small, size)
    again = work_of_image(stage('latent', gradient_checkpointing=True), small, size)
    unet = again - latent
    encode = (latent - 3 * unet) / 2
    decode = work_of_image(stage('autoencoder'), small, size) / 6 - encode
    assert min(unet, encode, decode) > 0
    pixel = work_of_image(stage('pixel'), small, size)
    assert pixel == pytest.approx(2 * encode + 3 * unet + 2 * decode)
    whole = work_of_image(stage('pixel', trains=('autoencoder', 'unet')), small, size)
    assert whole == pytest.approx(3 * encode + 3 * unet + 3 * decode)
    assert work_of_image(stage('l1_gradient'), small, size) == pytest.approx(pixel - encode)
    anchored = work_of_image(stage('anchored'), small, size)  # to a pass of the initial networks
    assert anchored == pytest.approx(pixel + encode + unet + decode)


def test_the_plan_of_marigold_matches_its_recipe(planned_marigold):
    networks, (plan,) = planned_marigold
    unet, autoencoder = (count(network) for network in networks)
    assert unet == pytest.approx(866e6, rel=0.001)
    assert autoencoder == pytest.approx(83.7e6, rel=0.001)
    assert plan.images == 18_000 * 32
    assert plan.flop * plan.images == pytest.approx(3.7e18, rel=0.1)
    assert plan.memory['peak'] < 16e9
    text = format_plan(networks, [plan])
    assert 'EFLOP' in text
    assert 'peak of memory' in text


def small_recipe(tmp_path, **stage):
    recipe = {
        'name': 'small',
        'network': 'unet',
        'init': {'kind': 'small', 'channels': [8, 8, 8, 8, 8], 'blocks': [1, 1, 1, 1]},
        'sources': [
            {'kind': 'synthetic', 'count': 1, 'size': [32, 64]},
            {'kind': 'synthetic', 'count': 3, 'size': [32, 32]},
        ],
        'stages': [
            {'name': 'first', 'objective': 'pixel', 'steps': 7200, **stage},
            {'name': 'last', 'objective': 'pixel', 'steps': 3600, 'accumulation': 4},
        ],
        'facts': {'space': 'disparity'},
    }
    path = tmp_path / 'small.yaml'
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_hours_are_those_of_ten_steps_of_each_stage(tmp_path, monkeypatch):
    path, accelerator = small_recipe(tmp_path), new_accelerator('bf16', True)
    plans = [plan.StagePlan('first', 1, 1.0, {'peak': 1e9})]  # small: batches are timed whole
    measured = hours_of(path, plans, accelerator)
    assert re.match(r'hours on this machine: [\d.]+ \(first [\d.]+, last [\d.]+\)', measured)
    monkeypatch.setattr(plan, 'time_steps', lambda *given: [0.1] * 4 + [0.4] * 6)
    # Images have 5/8 of the pixels of the largest; 7200 and 3600 times 4 steps.
    text = hours_of(path, plans, accelerator)
    assert text.startswith('hours on this machine: 1.5 (first 0.5, last 1), from 10 steps')


def test_what_does_not_fit_into_memory_is_not_timed(planned_marigold, monkeypatch):
    path, (_, plans) = RECIPES / 'marigold_v1_1.yaml', planned_marigold
    monkeypatch.setattr(plan, 'free_memory', lambda device: 8_000_000_000)
    text = hours_of(path, plans, new_accelerator('bf16', True))
    assert re.match(r'hours were not measured: 1\d\.\d GB of memory are needed, and 8\.0 ', text)


def test_one_timed_step_is_enough_after_the_limit():
    chain = initialise({'kind': 'small', 'unet': {'channels': [16, 32]}}, 0, 'depth')
    stage = Stage('x', 'latent', 5, batch_size=1)
    assert len(time_steps(chain, stage, (32, 32), new_accelerator('bf16', True), 50, 0.0)) == 1


def test_tiny_diffusion_has_at_most_seven_million_weights():
    recipe = read_recipe(RECIPES / 'tiny_diffusion.yaml')
    assert sum(count(network) for network in networks_of(recipe)) <= 7e6
    stages = read_stages(recipe['stages'], recipe['common'])
    assert [stage.name for stage in stages] == ['autoencoder', 'sight', 'latent', 'finish']
    assert [stage.trains for stage in stages] == [('autoencoder',), *3 * [('unet',)]]
    assert recipe['facts']['noise'] == 'gaussian'


def test_an_embedded_checkpoint_is_planned_by_its_shape(tmp_path):
    recipe = {'init': {'kind': 'checkpoint', 'path': 'tiny'}, 'facts': {'space': 'log'}}
    unet, autoencoder = networks_of(recipe)
    assert unet.config.block_out_channels == [64, 128, 192]
    assert unet.device.type == autoencoder.device.type == 'meta'


@pytest.mark.slow  # networks of the published size
def test_the_plan_of_a_refiner_counts_the_frozen_pass_once():
    path = RECIPES / 'prime_depth' / 'stable_diffusion.yaml'
    networks, (plan,) = plan_recipe(path)
    unet, autoencoder, refiner = (count(network) for network in networks)
    assert unet == pytest.approx(866e6, rel=0.001)
    assert plan.memory['moments'] == 8 * refiner < 8 * unet / 2
    assert plan.memory['weights'] == 4 * (unet + autoencoder + refiner)
    parts = stage('pixel', trains=['autoencoder', 'unet'])
    assert plan.flop < work_of_image(parts, networks[:2], (480, 640))
    assert 'refiner' in format_plan(networks, [plan])


def test_small_networks_have_no_arithmetic_and_fusion_and_students_no_plan():
    assert plan_recipe(RECIPES / 'unet.yaml') == ((), [])
    for name in ('distill.yaml', 'fusion.yaml'):
        with pytest.raises(ConfigurationError, match=f'depth models; what {name} trains is small'):
            plan_recipe(RECIPES / name)
