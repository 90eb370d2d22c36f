# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A DiffusionDepth through the runs that train every family, from sparse truth alone."""

from pathlib import Path
import re

from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models.diffusion_depth.backbones import build_backbone
from marigold_ros.models.diffusion_depth.checkpoint import read_architecture
from marigold_training.networks.backbone_weights import load_backbone
from marigold_training.objectives.diffusion_depth import (
    diffusion_depth_loss,
    noise_error,
    TermWeights,
)
from marigold_training.objectives.noise import Draws
from marigold_training.run.recipe import read_recipe
from marigold_training.run.stages import read_stages
import pytest
from safetensors.torch import load_file, save_file
import torch
from transformers import SwinBackbone, SwinConfig, SwinForImageClassification

RECIPES = Path(__file__).parents[3] / 'training' / 'recipes' / 'diffusion_depth'
NETWORK = 'diffusion_depth'


def batch_of(run):
    return run.mixture(run.stages[0], 0)[0]


def test_the_log_error_falls_on_images_seen_again(new_run):
    loss = {'ddim': 0.0, 'l1': 0.0, 'l2': 0.0, 'silog': 1.0, 'latent': 0.0}
    run = new_run(loss=loss, stage={'steps': 40, 'learning_rate': 1e-2})
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


def test_a_perfect_guess_of_the_noise_costs_nothing(new_run):
    run = new_run()
    network = run.chain.network
    shape, features = (2, 8, 4, 5), torch.zeros(2, 8, 4, 5)
    latent = torch.zeros(shape)

    class Knowing(torch.nn.Module):
        def forward(self, noisy, timestep, _features):
            kept = torch.cumprod(1.0 - torch.linspace(1e-4, 0.02, 1000), 0)[timestep]
            return noisy / (1.0 - kept)[:, None, None, None].sqrt()

    network.denoiser = Knowing()
    assert noise_error(network, latent, features, Draws(0, 0, (0, 1))).item() < 1e-6


@pytest.mark.parametrize('path', sorted(RECIPES.glob('*.yaml')), ids=lambda path: path.stem)
def test_the_recipes_name_networks_terms_and_stages_that_exist(path):
    recipe = read_recipe(path)
    own = {key: value for key, value in recipe['init'].items() if key not in ('kind', 'weights')}
    architecture = read_architecture(own, path.name)
    assert architecture.steps == (5 if path.stem == 'small' else 20)
    TermWeights(**recipe['loss'])
    stages = read_stages(recipe['stages'], recipe['common'])
    assert all(stage.trains == ('network',) for stage in stages)


SWIN = {'embed_dim': 8, 'depths': [1, 2, 1, 1], 'num_heads': [1, 2, 2, 2], 'window_size': 4}
BACKBONE = {'model_type': 'swin', **SWIN, 'out_features': [f'stage{i}' for i in range(1, 5)]}
# Of timm, which has what transformers calls otherwise, and merges before a level, not after it.
TIMM = (
    (r'swin\.embeddings\.patch_embeddings\.projection', 'patch_embed.proj'),
    (r'swin\.embeddings\.norm', 'patch_embed.norm'),
    (r'swin\.encoder\.layers', 'layers'),
    ('layernorm_before', 'norm1'),
    ('layernorm_after', 'norm2'),
    (r'attention\.relative_position_bias\.', 'attn.'),
    (r'attention\.o_proj', 'attn.proj'),
    (r'attention\.q_proj', 'attn.qkv'),
    (r'swin\.layernorm', 'norm'),
    ('classifier', 'head.fc'),
)


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    """Return a small backbone of transformers, and a folder with it and what timm has of it."""
    torch.manual_seed(0)
    network = SwinForImageClassification(SwinConfig(**SWIN, num_labels=3)).eval()
    folder = tmp_path_factory.mktemp('imagenet')
    network.save_pretrained(folder / 'swin')
    found = {}
    for key, value in network.state_dict().items():
        name = key
        for theirs, ours in TIMM:
            name = re.sub(theirs, ours, name)
        if 'k_proj' in name or 'v_proj' in name:
            continue
        if 'qkv' in name:
            parts = [network.state_dict()[key.replace('q_proj', f'{x}_proj')] for x in 'qkv']
            value = torch.cat(parts)
        if 'downsample' in name:
            name = f'layers.{int(name[7]) + 1}{name[8:]}'
        found[name] = value.contiguous()
    save_file(found, folder / 'timm.safetensors')
    torch.save({'model': found}, folder / 'swin.pth')
    levels = BACKBONE['out_features']
    given = SwinBackbone.from_pretrained(folder / 'swin', out_features=levels)
    return given.eval(), folder


@pytest.mark.parametrize('name', ['swin', 'timm.safetensors', 'swin.pth'])
def test_a_swin_starts_with_the_weights_of_imagenet(name, imagenet):
    given, folder = imagenet
    backbone = build_backbone(BACKBONE).eval()
    load_backbone(backbone, 'swin', str(folder / name))
    image = torch.rand(1, 3, 50, 70)
    with torch.no_grad():
        expected = given(image).feature_maps
        for one, other in zip(backbone(image), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_an_mpvit_starts_with_the_weights_of_its_authors(tmp_path):
    data = Path(__file__).parents[2] / 'models/diffusion_depth/released/mpvit.safetensors'
    start = 'state.depth_backbone.'
    state = {k.removeprefix(start): v for k, v in load_file(data).items() if start in k}
    save_file({**state, 'cls_head.cls.weight': torch.ones(2)}, tmp_path / 'mpvit.safetensors')
    sizes = {'stages': [8, 8, 16, 16], 'layers': [1, 2, 1, 1]}
    sizes |= {'paths': [2, 2, 1, 1], 'ratios': [2, 3, 2, 2]}
    backbone = build_backbone({'model_type': 'mpvit', **sizes})
    load_backbone(backbone, 'mpvit', str(tmp_path / 'mpvit.safetensors'))
    torch.testing.assert_close(backbone.stem[0][0].weight, state['stem.0.conv.weight'].float())


def test_weights_of_another_backbone_are_refused(imagenet):
    other = build_backbone({**BACKBONE, 'window_size': 3})
    with pytest.raises(CheckpointError, match='5 of other shape'):
        load_backbone(other, 'swin', str(imagenet[1] / 'timm.safetensors'))


@pytest.mark.parametrize(
    ('init', 'words'),
    [
        ({'backbone': BACKBONE}, 'model_type swin and no weights; give a file .* `weights: rand'),
        ({'weights': 'x.safetensors'}, 'not for the small encoder; write `weights: random`'),
    ],
)
def test_no_backbone_is_random_unless_that_is_asked_for(new_run, init, words):
    with pytest.raises(ConfigurationError, match=words):
        new_run(init=init)
    run = new_run(init={'backbone': BACKBONE, 'weights': 'random'})
    assert run.chain.network.features.backbone.channels == (8, 16, 32, 64)
