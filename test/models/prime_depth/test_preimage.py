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
    found = attention_maps(query, key, torch.eye(keys), 8**-0.5, most)
    torch.testing.assert_close(found.double(), softmax_of(query, key, 8**-0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', [(16, 24), (3, 4), (9, 12), (1, 30)])
def test_uniform_attention_gives_one_in_each_cell(size):
    tokens = size[0] * size[1]
    cells = cells_of(*size)
    assert cells.shape == (tokens, 64)
    torch.testing.assert_close(torch.full((1, tokens), 1 / tokens) @ cells, torch.ones(1, 64))


@torch.no_grad()
def test_maps_of_a_step_are_those_of_its_transformers(unet, given_image):
    """The last step has those of its own and of the first block of the encoder."""
    latent, text = given_image
    step = decoder_steps(unet)[-2]  # the skip of the last is the first convolution
    transformers = [unet.down_blocks[0].attentions[0], unet.up_blocks[-1].attentions[1]]
    assert list(step.transformers) == transformers
    expected, handles = [], []

    def keep(module, _args, kwargs, _output):
        tokens = kwargs['hidden_states'] if 'hidden_states' in kwargs else _args[0]
        seen = kwargs.get('encoder_hidden_states')
        query, key = module.to_q(tokens), module.to_k(tokens if seen is None else seen)
        query, key = (x.unflatten(-1, (module.heads, -1)).transpose(1, 2) for x in (query, key))
        maps = softmax_of(query, key, module.scale)
        maps = maps if seen is not None else maps @ cells_of(14, 20).double()
        expected.append(maps.transpose(2, 3).reshape(2, -1, 14, 20))

    for layer in [t.transformer_blocks[0] for t in transformers]:
        for attention in (layer.attn1, layer.attn2):
            handles.append(attention.register_forward_hook(keep, with_kwargs=True))
    unet(latent, 1, text.expand(2, -1, -1))
    for handle in handles:
        handle.remove()
    found = read_preimage(unet, latent, text, most=1000).maps[-2]
    assert found.shape[1] == step.maps(TOKENS) == 2 * (64 + TOKENS)
    torch.testing.assert_close(found.double(), torch.cat(expected, 1), rtol=0, atol=1e-4)


@torch.no_grad()
def test_of_large_maps_every_second_position_is_kept(unet, given_image, monkeypatch):
    whole = read_preimage(unet, *given_image)
    monkeypatch.setattr(preimage, 'QUERIES', 14 * 20 - 1)
    found = read_preimage(unet, *given_image)
    for own, other in zip(found.maps, whole.maps, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            assert own.shape == other.shape
            large = own.shape[-2:] == (14, 20)
            self_maps = slice(0, 64)
            expected = other[:, self_maps, ::2, ::2].repeat_interleave(2, -1)
            expected = expected.repeat_interleave(2, -2) if large else other[:, self_maps]
            torch.testing.assert_close(own[:, self_maps], expected)


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
