# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The preimage against a plain forward pass of diffusers and softmax(QK^T) written out."""

from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import CheckpointError
from marigold_ros.models.prime_depth import preimage
from marigold_ros.models.prime_depth.preimage import (
    attention_maps,
    cells_of,
    decoder_steps,
    read_preimage,
)
import pytest
import torch
from torch.nn import functional

TOKENS = 3


def stable_diffusion(**changes):
    """Build a U-Net of the kinds of blocks of Stable Diffusion 2, with few channels."""
    torch.manual_seed(0)
    sizes = {
        'in_channels': 4,
        'block_out_channels': (16, 32, 48, 48),
        'attention_head_dim': (1, 2, 3, 3),
        'cross_attention_dim': 24,
        'norm_num_groups': 8,
        'use_linear_projection': True,
    }
    return UNet2DConditionModel(**{**sizes, **changes}).eval()


@pytest.fixture(scope='module')
def unet():
    return stable_diffusion()


@pytest.fixture
def given_image():
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(2, 4, 14, 20, generator=generator)
    return latent, torch.randn(1, TOKENS, 24, generator=generator)


def plain_forward(unet, latent, text):
    """Run the parts of a U-Net one by one; return the input of each block of the decoder."""
    text = text.expand(len(latent), -1, -1)
    moment = torch.ones(len(latent), dtype=torch.long)
    emb = unet.time_embedding(unet.time_proj(moment).to(latent.dtype))
    x = unet.conv_in(latent)
    skips = [x]
    for block in unet.down_blocks:
        more = {'encoder_hidden_states': text} if hasattr(block, 'attentions') else {}
        x, found = block(x, emb, **more)
        skips.extend(found)
    x = unet.mid_block(x, emb, encoder_hidden_states=text)
    inputs = []
    for number, block in enumerate(unet.up_blocks):
        layers = getattr(block, 'attentions', [None] * len(block.resnets))
        for residual, layer in zip(block.resnets, layers, strict=True):
            x = torch.cat([x, skips.pop()], 1)
            inputs.append(x)
            x = residual(x, emb)
            if layer is not None:
                x = layer(x, encoder_hidden_states=text, return_dict=False)[0]
        for upsampler in block.upsamplers or ():
            x = upsampler(x, skips[-1].shape[-2:])
        assert (number == len(unet.up_blocks) - 1) == (not skips)
    return inputs


@torch.no_grad()
def test_features_are_those_of_a_plain_forward_pass_at_the_first_timestep(unet, given_image):
    found = read_preimage(unet, *given_image)
    expected = plain_forward(unet, *given_image)
    assert len(found.features) == len(expected) == 12
    for own, other in zip(found.features, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)


@torch.no_grad()
def test_reading_leaves_the_unet_as_it_was(unet, given_image):
    latent, text = given_image
    plain = unet(latent, 1, text.expand(2, -1, -1)).sample
    read_preimage(unet, latent, text)
    assert torch.equal(unet(latent, 1, text.expand(2, -1, -1)).sample, plain)
    assert not any(module._forward_hooks for module in unet.modules())
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_no_gradient_reaches_the_frozen_unet(unet, given_image):
    latent, text = given_image
    found = read_preimage(unet.requires_grad_(True), latent.requires_grad_(True), text)
    tensors = [*found.features, *(maps for maps in found.maps if maps is not None)]
    assert not any(tensor.requires_grad for tensor in tensors)


def softmax_of(query, key, scale):
    return torch.softmax(scale * query.double() @ key.double().transpose(-1, -2), -1)


@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(1, 2000),
)
def test_chunked_attention_maps_are_softmax_of_the_products(images, heads, queries, keys, most):
    generator = torch.Generator().manual_seed(queries * keys)
    query = 3 * torch.randn(images, heads, queries, 8, generator=generator)
    key = 3 * torch.randn(images, heads, keys, 8, generator=generator)
    found = attention_maps(query, key, None, 8**-0.5, most)
    torch.testing.assert_close(found.double(), softmax_of(query, key, 8**-0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', [(16, 24), (3, 4), (9, 12), (1, 30), (64, 48), (37, 70)])
def test_attention_is_resized_pooled_and_resized_to_cells_as_published(size):
    cells = cells_of(*size)
    torch.testing.assert_close(cells.sum(0), torch.ones(64))
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(1, 5, *size, generator=generator)
    steps = [max(1, side // 8) for side in size]
    larger = [side + 8 - side % 8 for side in size]
    found = functional.interpolate(attention, larger, mode='bilinear')
    found = functional.avg_pool2d(found, steps, steps)
    found = functional.interpolate(found, (8, 8), mode='bilinear')
    torch.testing.assert_close(attention.flatten(2) @ cells, found.flatten(2))


@torch.no_grad()
def test_maps_of_a_step_are_those_of_its_transformers(given_image, monkeypatch):
    """A step has those of the block before it and of the block that its skip comes from."""
    latent, text = given_image
    unet = stable_diffusion(attention_head_dim=(2, 4, 6, 6))
    step = decoder_steps(unet)[-2]  # the skip of the last is the first convolution
    transformers = [unet.up_blocks[-1].attentions[0], unet.down_blocks[0].attentions[0]]
    assert list(step.transformers) == transformers
    expected, handles = [], []

    def keep(module, _args, kwargs, _output):
        tokens = kwargs['hidden_states'] if 'hidden_states' in kwargs else _args[0]
        seen = kwargs.get('encoder_hidden_states')
        query, key = module.to_q(tokens), module.to_k(tokens if seen is None else seen)
        query, key = (x.unflatten(-1, (module.heads, -1)).transpose(1, 2) for x in (query, key))
        maps = softmax_of(query, key, module.scale)
        if seen is None:
            maps = maps @ cells_of(14, 20).double()
            maps = maps / maps.flatten(2).max(2).values[..., None, None]
        expected.append((module, maps.transpose(2, 3).reshape(2, -1, 14, 20)))

    for layer in [t.transformer_blocks[0] for t in transformers]:
        for attention in (layer.attn1, layer.attn2):
            handles.append(attention.register_forward_hook(keep, with_kwargs=True))
    unet(latent, 1, text.expand(2, -1, -1))
    for handle in handles:
        handle.remove()
    monkeypatch.setattr(preimage, 'MOST_CPU', 1000)
    found = read_preimage(unet, latent, text).maps[-2]
    assert step.heads == [2, 2]
    kept = dict(expected)
    blocks = [t.transformer_blocks[0] for t in transformers]
    ordered = [kept[one] for block in blocks for one in (block.attn1, block.attn2)]
    torch.testing.assert_close(found.double(), torch.cat(ordered, 1), rtol=0, atol=1e-4)


@torch.no_grad()
def test_maps_of_another_size_are_resized_to_that_of_the_features(unet, given_image):
    found = read_preimage(unet, *given_image)
    for step, features, maps in zip(decoder_steps(unet), found.features, found.maps, strict=True):
        assert (maps is None) == (not step.transformers)
        assert maps is None or maps.shape[1:] == (
            sum(step.heads) * (64 + TOKENS),
            *features.shape[2:],
        )
    assert found.moment.shape == (2, unet.time_embedding.linear_2.out_features)


@torch.no_grad()
def test_a_unet_of_two_latents_sees_the_image_twice(given_image):
    latent, text = given_image
    unet = stable_diffusion(in_channels=8)
    found = read_preimage(unet, latent, text).features
    expected = plain_forward(unet, torch.cat([latent, latent], 1), text)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)


def test_a_unet_of_other_blocks_is_refused():
    kinds = ('AttnDownBlock2D', 'DownBlock2D'), ('UpBlock2D', 'AttnUpBlock2D')
    unet = stable_diffusion(
        block_out_channels=(16, 32),
        attention_head_dim=8,
        down_block_types=kinds[0],
        up_block_types=kinds[1],
    )
    with pytest.raises(CheckpointError, match='the U-Net has a AttnDownBlock2D; features'):
        decoder_steps(unet)
