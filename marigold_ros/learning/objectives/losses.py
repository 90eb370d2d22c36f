# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training losses: each objective of a recipe, its terms, and the networks that it trains.

``latent`` is Marigold's loss (Ke et al., CVPR 2024): noisy latents, a random timestep, MSE.
``one_step`` and ``pixel`` are the end-to-end fine-tuning of Martin Garcia et al. (E2E-FT, arXiv
2409.11355): one step from zeros at the last timestep, on latents or through the decoder.
``masked_pixel`` and ``silog`` are for sparse truth: the prediction gets its metres from the two
percentiles of the truth that normalised the target, not from a fit, which would remove the bias
that they penalise. Letters as in chain.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from marigold_ros.learning.data.mixture import Batch, LatentBatch
from marigold_ros.learning.data.targets import denormalise
from marigold_ros.learning.objectives.chain import (
    as_image,
    Chain,
    decode,
    encode,
    latent_mask,
    latents_of,
)
from marigold_ros.learning.objectives.noise import Draws, training_noise
import torch
from torch.nn import functional

# Weights of the terms of the end-to-end loss beside the affine-invariant one.
DIRECT, GRADIENT, LATENT, SKY = 0.5, 0.5, 0.1, 0.5
# Of the terms of `autoencoder` and `distill` beside L1.
EDGES, KL = 0.5, 1e-6
BIAS_WEIGHT = 0.85  # of the squared mean in `masked_pixel` (DiffusionDepth, eq. 10)
MEAN_WEIGHT = 0.15  # of the squared mean in `silog` (DiffusionDepth's code)
# A fit below says nothing: the prediction is flat (deviation 0.01), or runs against the target.
SMALLEST_VARIANCE = 1e-4
SMALLEST_SCALE = 1e-3
NEAREST = 1e-3  # m; the logarithm needs a positive depth
IMAGE = (1, 2, 3)  # axes of one image


def masked_mean(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels of the mask; 0 where it is empty."""
    return (value * mask).sum() / mask.expand_as(value).sum().clamp(min=1)


@dataclass(frozen=True)
class AffineFit:
    """
    ``scale * predicted + shift`` nearest to a target, for each image.

    ``scale``, ``shift`` (B, 1, 1, 1); ``usable`` (B, 1, 1, 1) bool is False where the fit is
    degenerate.
    """

    scale: torch.Tensor
    shift: torch.Tensor
    usable: torch.Tensor

    def apply(self, predicted: torch.Tensor) -> torch.Tensor:
        """Map (B, 1, H, W)."""
        return self.scale * predicted + self.shift


def fit_affine(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> AffineFit:
    """
    Find each image's least-squares scale and shift, in closed form; gradients pass through.

    Parameters
    ----------
    predicted, target, mask : (B, 1, H, W) float
        Finite; ``mask`` is 1 where the pixel counts.

    Returns
    -------
    AffineFit
        With a scale of at least 1e-3.

    """
    count = mask.sum(IMAGE, keepdim=True).clamp(min=1.0)
    mean_p = (predicted * mask).sum(IMAGE, keepdim=True) / count
    mean_t = (target * mask).sum(IMAGE, keepdim=True) / count
    centred = (predicted - mean_p) * mask
    variance = (centred**2).sum(IMAGE, keepdim=True) / count
    covariance = (centred * (target - mean_t)).sum(IMAGE, keepdim=True) / count
    scale = covariance / variance.clamp(min=SMALLEST_VARIANCE)
    usable = (variance > SMALLEST_VARIANCE) & (scale > SMALLEST_SCALE)
    scale = scale.clamp(min=SMALLEST_SCALE)
    return AffineFit(scale, mean_t - scale * mean_p, usable)


def affine_invariant(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """
    L1 after each image's best scale and shift; images with a degenerate fit are left out.

    What pulls those is a direct loss beside this one.
    """
    fit = fit_affine(predicted, target, mask)
    return masked_mean((fit.apply(predicted) - target).abs(), mask * fit.usable)


def gradient_difference(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, scales: int = 3
) -> torch.Tensor:
    """L1 of the error's horizontal and vertical differences, at every 1st, 2nd, 4th … pixel."""
    total = predicted.new_zeros(())
    for k in range(scales):
        error = (predicted - target)[..., :: 2**k, :: 2**k]
        seen = mask[..., :: 2**k, :: 2**k]
        for axis in (-1, -2):
            pairs = seen.shape[axis] - 1
            both = seen.narrow(axis, 1, pairs) * seen.narrow(axis, 0, pairs)
            total = total + masked_mean(error.diff(dim=axis).abs(), both)
    return total


def masked_pixel(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, weight: float = BIAS_WEIGHT
) -> torch.Tensor:
    """
    Squared error at known pixels plus its squared mean, averaged over images.

    ``1/T sum d^2 + weight/T^2 (sum d)^2`` with d in metres over the T pixels of the mask
    (DiffusionDepth, eq. 10). It is not scale-invariant; with the plus sign it punishes a bias more
    than the mean square alone does.

    Parameters
    ----------
    predicted, truth : (B, 1, H, W) float, metres
        Truth may be anything outside the mask, NaN too.
    mask : (B, 1, H, W)
        Above 0 where truth is known.
    weight : float
        Of the squared mean.

    """
    error = torch.where(mask > 0, predicted - truth, 0.0)
    square, mean = _moments(error, mask)
    return (square + weight * mean**2).mean()


def silog(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, weight: float = MEAN_WEIGHT
) -> torch.Tensor:
    """
    Variance of the log ratio at known pixels plus a share of its squared mean, over images.

    Scale-invariant with weight 0 (Eigen et al., 2014): the prediction may be multiplied by any
    number. With DiffusionDepth's 0.15 a wrong scale costs little, but something.
    Arguments are those of :func:`masked_pixel`.
    """
    known = mask > 0
    ratio = torch.where(known, predicted.clamp(min=NEAREST), 1.0).log()
    ratio = ratio - torch.where(known, truth, 1.0).log()
    square, mean = _moments(ratio, mask)
    return (square - mean**2 + weight * mean**2).mean()


def _moments(value: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean square and mean (B,) of values that are 0 outside the mask."""
    count = (mask > 0).sum(IMAGE).clamp(min=1)
    return (value**2).sum(IMAGE) / count, value.sum(IMAGE) / count


def autoencoder_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """L1 of colour images and depth images after the round trip, with a slight KL term."""
    both = torch.cat([batch.rgb, as_image(batch.relative)])
    posterior = chain.autoencoder.encode(both).latent_dist
    shape = posterior.mean.shape[1:]
    noise = torch.cat([draws.normal(shape), draws.normal(shape)]).to(both)
    decoded = chain.autoencoder.decode(posterior.mean + posterior.std * noise).sample
    edges = gradient_difference(decoded, both, torch.ones_like(both[:, :1]))
    return (decoded - both).abs().mean() + EDGES * edges + KL * posterior.kl().mean()


def latent_loss(chain: Chain, batch: Batch | LatentBatch, draws: Draws) -> torch.Tensor:
    """
    MSE on latents at random timesteps, as Marigold is trained.

    A latent cell counts where all of its pixels are known; without one the loss is zero.
    """
    rgb_latent, target, mask = latents_of(chain, batch)
    steps = chain.scheduler.config.num_train_timesteps
    timestep = draws.timesteps(steps)
    noise = training_noise(
        draws, target.shape[1:], chain.noise, chain.noise_strength, timestep / steps
    ).to(target)
    timestep = timestep.to(target.device)
    noisy = chain.scheduler.add_noise(target, noise, timestep)
    output = chain.predict(rgb_latent, noisy, timestep).float()
    kind = chain.scheduler.config.prediction_type
    if kind == 'v_prediction':
        wanted = chain.scheduler.get_velocity(target, noise, timestep)
    else:
        wanted = {'epsilon': noise, 'sample': target}[kind]
    return masked_mean((output - wanted) ** 2, mask)


def one_step_loss(chain: Chain, batch: Batch | LatentBatch, draws: Draws) -> torch.Tensor:
    """L1 + MSE between the one-step latent and the depth image's own; the encoder is frozen."""
    rgb_latent, target, mask = latents_of(chain, batch)
    x0 = chain.one_step(rgb_latent).float()
    return masked_mean((x0 - target).abs(), mask) + masked_mean((x0 - target) ** 2, mask)


def end_to_end_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """Affine-invariant L1, direct L1 and gradients of the decoded map; sky only has to be far."""
    x0 = chain.one_step(chain.encode(batch.rgb))
    predicted = chain.decode(x0).float()
    valid, sky = batch.valid.float(), batch.sky.float()
    loss = affine_invariant(predicted, batch.relative, valid)
    loss = loss + DIRECT * masked_mean((predicted - batch.relative).abs(), valid)
    loss = loss + GRADIENT * gradient_difference(predicted, batch.relative, valid)
    beyond = predicted if chain.space == 'disparity' else 1.0 - predicted
    loss = loss + SKY * masked_mean(functional.relu(beyond), sky)
    if any(weight.requires_grad for weight in chain.autoencoder.parameters()):
        return loss  # trained along, the encoder sees colour alone and forgets what depth is like
    with torch.no_grad():
        target = chain.encode(as_image(batch.relative)).float()
    mask = latent_mask(batch, target.shape[-2:])
    return loss + LATENT * masked_mean((x0.float() - target).abs(), mask)


def masked_pixel_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """DiffusionDepth's printed loss, in metres at the known pixels; not scale-invariant."""
    return masked_pixel(*in_metres(chain, batch))


def silog_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """DiffusionDepth's coded loss, of log depth at the known pixels; nearly scale-invariant."""
    return silog(*in_metres(chain, batch))


def in_metres(chain: Chain, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Decode the one-step prediction and undo each image's normalisation.

    Returns
    -------
    predicted, truth : (B, 1, H, W) metres
    valid : (B, 1, H, W) float, 1 where truth is known

    """
    relative = chain.decode(chain.one_step(chain.encode(batch.rgb))).float()
    predicted = denormalise(relative, batch.depth, batch.valid, chain.space)
    return predicted, torch.where(batch.valid, batch.depth, torch.nan), batch.valid.float()


def distill_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """
    L1 + MSE between the student's and the teacher's latents, L1 + gradients between their maps.

    The student encodes images only and decodes latents of depth only: nothing else is asked of
    it when the checkpoint runs.
    """
    rgb_latent, depth_latent, _ = latents_of(chain, batch)
    with torch.no_grad():
        if chain.predicted:
            zeros = chain.predicted == 'zeros'
            start = None if zeros else draws.normal(rgb_latent.shape[1:]).to(rgb_latent)
            x0 = chain.one_step(rgb_latent, start).float()
            depth_latent = torch.cat([depth_latent, x0])
        relative = chain.decode(depth_latent).float().clamp(0.0, 1.0)
    error = encode(chain.student, batch.rgb).float() - rgb_latent
    decoded = decode(chain.student, depth_latent).float()
    edges = gradient_difference(decoded, relative, torch.ones_like(relative))
    encoded = error.abs().mean() + (error**2).mean()
    return encoded + (decoded - relative).abs().mean() + EDGES * edges


@dataclass(frozen=True)
class Objective:
    """
    A loss and the names of the networks that it trains unless the recipe says otherwise.

    ``on_latents``: it needs latents only, a LatentBatch will do.
    """

    loss: Callable[[Chain, Any, Draws], torch.Tensor]
    trains: tuple[str, ...]
    on_latents: bool = False


OBJECTIVES = {
    'autoencoder': Objective(autoencoder_loss, ('autoencoder',)),
    'latent': Objective(latent_loss, ('unet',), on_latents=True),
    'one_step': Objective(one_step_loss, ('unet',), on_latents=True),
    'pixel': Objective(end_to_end_loss, ('unet',)),
    'masked_pixel': Objective(masked_pixel_loss, ('unet',)),
    'silog': Objective(silog_loss, ('unet',)),
    'distill': Objective(distill_loss, ('student',)),
}
