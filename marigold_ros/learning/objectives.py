# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What is minimised: the autoencoder's, Marigold's latent and the end-to-end pixel objective.

``latent`` follows Ke et al., CVPR 2024 (v-prediction on latents); ``pixel`` follows Martin Garcia
et al., arXiv 2409.11355 (one step from zeros at the last timestep, through the decoder, not
clamped), with a gradient term. Letters: B pictures, C latent channels, H, W picture, h, w latent.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
import torch
from torch.nn import functional

# Weights of the terms of `pixel_loss`.
DIRECT, GRADIENT, LATENT, SKY = 0.5, 0.5, 0.1, 0.5
KL_WEIGHT = 1e-6


@dataclass
class Chain:
    """The networks that are trained, and what they are conditioned on."""

    autoencoder: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    text: torch.Tensor  # (1, L, D)

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """Mean of the latent of (B, 3, H, W) in [-1, 1], scaled: (B, C, h, w)."""
        latent = self.autoencoder.encode(picture).latent_dist.mode()
        return latent * self.autoencoder.config.scaling_factor

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Relative of a scaled latent, not clamped: (B, 1, H, W)."""
        decoded = self.autoencoder.decode(latent / self.autoencoder.config.scaling_factor).sample
        return (decoded.mean(1, keepdim=True) + 1.0) / 2.0

    def one_step(self, rgb_latent: torch.Tensor) -> torch.Tensor:
        """Depth latent x0 by one step from zeros at the last timestep: (B, C, h, w)."""
        zeros = torch.zeros_like(rgb_latent)
        last = self.scheduler.config.num_train_timesteps - 1
        text = self.text.to(rgb_latent).expand(len(rgb_latent), -1, -1)
        v = self.unet(torch.cat([rgb_latent, zeros], 1), last, encoder_hidden_states=text).sample
        # x0 = sqrt(abar) x_t - sqrt(1 - abar) v, with x_t = 0.
        return -((1.0 - self.scheduler.alphas_cumprod[last]) ** 0.5) * v


def as_picture(relative: torch.Tensor) -> torch.Tensor:
    """Repeat (B, 1, H, W) in [0, 1] to the (B, 3, H, W) in [-1, 1] that the encoder takes."""
    return (relative * 2.0 - 1.0).expand(-1, 3, -1, -1)


def autoencoder_loss(chain: Chain, rgb: torch.Tensor, relative: torch.Tensor) -> torch.Tensor:
    """L1 of colour pictures and depth pictures after the round trip, with a slight KL term."""
    both = torch.cat([rgb, as_picture(relative)])
    posterior = chain.autoencoder.encode(both).latent_dist
    decoded = chain.autoencoder.decode(posterior.sample()).sample
    edges = gradient_difference(decoded, both, torch.ones_like(both[:, :1]))
    return (decoded - both).abs().mean() + 0.5 * edges + KL_WEIGHT * posterior.kl().mean()


def latent_loss(chain: Chain, rgb: torch.Tensor, relative: torch.Tensor) -> torch.Tensor:
    """L1 + MSE between the one-step latent and the depth picture's own; the encoder is frozen."""
    with torch.no_grad():
        rgb_latent, target = chain.encode(torch.cat([rgb, as_picture(relative)])).chunk(2)
    x0 = chain.one_step(rgb_latent)
    return (x0 - target).abs().mean() + functional.mse_loss(x0, target)


def pixel_loss(
    chain: Chain, rgb: torch.Tensor, relative: torch.Tensor, sky: torch.Tensor
) -> torch.Tensor:
    """Affine-invariant L1, direct L1 and gradients of the decoded map; sky only has to be far."""
    x0 = chain.one_step(chain.encode(rgb))
    predicted = chain.decode(x0).float()
    valid = (~sky).float()
    aligned = fit_affine(predicted, relative, valid)
    loss = masked_mean((aligned - relative).abs(), valid)
    loss = loss + DIRECT * masked_mean((predicted - relative).abs(), valid)
    loss = loss + GRADIENT * gradient_difference(predicted, relative, valid)
    loss = loss + SKY * masked_mean(functional.relu(1.0 - predicted), 1.0 - valid)
    with torch.no_grad():
        target = chain.encode(as_picture(relative))
    return loss + LATENT * (x0 - target).abs().mean()


def masked_mean(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels of the mask; 0 where it is empty."""
    return (value * mask).sum() / (mask.expand_as(value).sum() + 1e-6)


def fit_affine(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Map each prediction by its least-squares scale and shift; degenerate fits keep the prediction.

    Parameters
    ----------
    predicted, target, mask : (B, 1, H, W)
        ``mask`` is 1 where the pixel counts.

    Returns
    -------
    (B, 1, H, W)
        ``scale * predicted + shift`` with the closed-form solution per picture.

    """
    axes = (1, 2, 3)
    count = mask.sum(axes, keepdim=True) + 1e-6
    mean_p = (predicted * mask).sum(axes, keepdim=True) / count
    mean_t = (target * mask).sum(axes, keepdim=True) / count
    centred = (predicted - mean_p) * mask
    variance = (centred**2).sum(axes, keepdim=True) / count
    covariance = (centred * (target - mean_t)).sum(axes, keepdim=True) / count
    scale = covariance / variance.clamp(min=1e-4)
    fitted = scale * (predicted - mean_p) + mean_t
    return torch.where((variance > 1e-4) & (scale > 1e-3), fitted, predicted)


def gradient_difference(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, scales: int = 3
) -> torch.Tensor:
    """L1 of the difference of horizontal and vertical differences, on halved copies as well."""
    total = predicted.new_zeros(())
    for k in range(scales):
        step = 2**k
        error = (predicted - target)[..., ::step, ::step]
        seen = mask[..., ::step, ::step]
        for axis in (-1, -2):
            pair = seen.narrow(axis, 1, seen.shape[axis] - 1) * seen.narrow(
                axis, 0, seen.shape[axis] - 1
            )
            total = total + masked_mean(error.diff(dim=axis).abs(), pair)
    return total
