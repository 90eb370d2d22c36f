# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The objectives against direct solutions and diffusers' scheduler."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.learning.data import change_colours, normalise_log_depth
from marigold_ros.learning.networks import (
    marigold_scheduler,
    small_autoencoder,
    small_unet,
    TEXT_SHAPE,
)
from marigold_ros.learning.objectives import (
    Chain,
    fit_affine,
    gradient_difference,
    latent_loss,
    masked_mean,
    pixel_loss,
)
from marigold_ros.models.marigold.denoiser import denoise
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def chain():
    torch.manual_seed(0)
    autoencoder = small_autoencoder(channels=(8, 8, 16, 16), latent_channels=4)
    unet = small_unet(channels=(16, 32), latent_channels=4)
    return Chain(autoencoder, unet, marigold_scheduler(), torch.zeros(TEXT_SHAPE))


@given(st.integers(0, 1000))
def test_the_affine_fit_equals_numpys_least_squares(seed):
    rng = np.random.default_rng(seed)
    target = rng.random((1, 1, 6, 7))
    predicted = rng.uniform(0.2, 2) * target + rng.normal() + 0.1 * rng.random(target.shape)
    mask = rng.random(target.shape) < 0.7
    mask[..., 0, :3] = True
    fitted = fit_affine(
        *(torch.from_numpy(x.astype(np.float64)) for x in (predicted, target, mask))
    )
    design = np.stack([predicted[mask], np.ones(mask.sum())], 1)
    scale, shift = np.linalg.lstsq(design, target[mask], rcond=None)[0]
    if scale > 1e-3 and predicted[mask].var() > 1e-4:
        np.testing.assert_allclose(fitted.numpy(), scale * predicted + shift, atol=1e-4)


def test_a_constant_prediction_is_not_fitted():
    constant = torch.full((1, 1, 4, 4), 0.3)
    target = torch.rand(1, 1, 4, 4)
    assert torch.equal(fit_affine(constant, target, torch.ones_like(target)), constant)


def test_an_empty_mask_gives_zero_not_nan():
    assert masked_mean(torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)) == 0


def test_the_gradient_term_does_not_see_a_shift_and_sees_nothing_outside_the_mask():
    target = torch.rand(1, 1, 16, 16)
    mask = torch.ones_like(target)
    assert gradient_difference(target + 0.3, target, mask).item() == pytest.approx(0, abs=1e-6)
    mask[..., 8:] = 0
    wrong = target.clone()
    wrong[..., 8:] += torch.rand(1, 1, 16, 8)
    assert gradient_difference(wrong, target, mask).item() == pytest.approx(0, abs=1e-6)


def test_one_step_in_training_is_one_step_of_inference(chain):
    rgb_latent = torch.randn(1, 4, 12, 16)
    trained = chain.one_step(rgb_latent)
    zeros = torch.zeros_like(rgb_latent)
    with torch.no_grad():
        run = denoise(chain.unet, chain.scheduler, rgb_latent, zeros, chain.text, steps=1)
    assert torch.allclose(trained, run, atol=1e-5)


def test_both_objectives_reach_the_networks_they_train(chain):
    rgb, relative = torch.rand(2, 3, 32, 40) * 2 - 1, torch.rand(2, 1, 32, 40)
    sky = torch.zeros(2, 1, 32, 40, dtype=torch.bool)
    latent_loss(chain, rgb, relative).backward()
    assert chain.unet.conv_in.weight.grad.abs().sum() > 0
    assert chain.autoencoder.encoder.conv_in.weight.grad is None
    pixel_loss(chain, rgb, relative, sky).backward()
    assert chain.autoencoder.encoder.conv_in.weight.grad.abs().sum() > 0
    assert chain.autoencoder.decoder.conv_out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('sky', [True, False])
def test_a_picture_of_one_kind_only_gives_a_finite_loss(chain, sky):
    rgb, relative = torch.zeros(1, 3, 32, 40), torch.ones(1, 1, 32, 40)
    loss = pixel_loss(chain, rgb, relative, torch.full((1, 1, 32, 40), sky))
    assert torch.isfinite(loss)


def test_the_target_is_zero_and_one_at_the_percentiles_of_log_depth_and_one_in_the_sky():
    depth = np.exp(np.linspace(0.0, 3.0, 101)).reshape(1, -1).astype(np.float32)
    relative = normalise_log_depth(np.concatenate([depth, [[np.inf]]], 1))
    assert relative[0, 2] == pytest.approx(0.0, abs=1e-6)
    assert relative[0, 98] == pytest.approx(1.0, abs=1e-6)
    assert relative[0, 50] == pytest.approx(0.5, abs=1e-6)
    assert relative[0, -1] == 1.0


def test_changed_colours_stay_pictures():
    picture = torch.rand(4, 3, 20, 30)
    changed = change_colours(picture, np.random.default_rng(0))
    assert changed.shape == picture.shape
    assert changed.min() >= 0.0
    assert changed.max() <= 1.0
