# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A decoder that upsamples and convolves in one step answers as diffusers' does."""

from copy import deepcopy

from diffusers.models.upsampling import Upsample2D
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.models.runtime.upsampling import (
    exact_upsampling,
    merge_upsampling,
    MergedUpsampling,
)
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sides = st.integers(1, 9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), sides, sides, st.integers(0, 99))
def test_one_step_is_upsampling_and_then_convolving(images, inputs, outputs, height, width, seed):
    torch.manual_seed(seed)
    layer = Upsample2D(inputs, use_conv=True, out_channels=outputs).double()
    x = torch.randn(images, inputs, height, width, dtype=torch.float64)
    both = MergedUpsampling(layer)
    with torch.no_grad():
        expected, got = layer(x), both(x)
    assert got.shape == (images, outputs, 2 * height, 2 * width)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_it_multiplies_four_ninths_as_often():
    layer, x = Upsample2D(6, use_conv=True), torch.randn(1, 6, 5, 7)
    with FlopCounterMode(display=False) as before, torch.no_grad():
        layer(x)
    with FlopCounterMode(display=False) as after, torch.no_grad():
        MergedUpsampling(layer)(x)
    assert after.get_total_flops() / before.get_total_flops() == pytest.approx(4 / 9)


def test_a_decoder_is_as_exact_as_before_inside_and_trains_the_same(plain, oracle):
    own = oracle(plain).vae.double()
    merged = deepcopy(own)
    with torch.inference_mode():
        merge_upsampling(merged)
    latent = torch.randn(1, own.config.latent_channels, 4, 6, dtype=torch.float64)
    gradients = []
    for network in (own, merged):
        given_latent = latent.clone().requires_grad_()
        answer = network.decode(given_latent, return_dict=False)[0]
        answer.square().sum().backward()
        gradients.append(given_latent.grad)
    expected = own.decode(latent, return_dict=False)[0]
    np.testing.assert_allclose(answer.detach(), expected.detach(), atol=1e-10)
    torch.testing.assert_close(*gradients)
    assert not torch.equal(answer, expected)
    with exact_upsampling(merged):
        assert torch.equal(merged.decode(latent, return_dict=False)[0], expected)
    assert torch.equal(merged.decode(latent, return_dict=False)[0], answer)
