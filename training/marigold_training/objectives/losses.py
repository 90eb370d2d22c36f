# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training losses: each objective of a recipe, its terms, and the networks that it trains.

``latent`` is Marigold's loss (Ke et al., CVPR 2024): noisy latents, a random timestep, MSE.
``one_step`` and ``pixel`` are the end-to-end fine-tuning of Martin Garcia et al. (E2E-FT, arXiv
2409.11355): one step from zeros at the last timestep, on latents or through the decoder, with more
terms than theirs; ``e2e`` is theirs.
``l1_gradient`` is PrimeDepth's (Zavadski et al., ACCV 2024), without a fit of scale and shift.
``fusion`` and ``diffusion_depth`` are in files of their own. Letters as in
trained_networks.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
from typing import Any

from marigold_training.data.mixture import Batch, LatentBatch
from marigold_training.data.targets import NEAREST, QUANTILES
from marigold_training.objectives.diffusion_depth import (
    diffusion_depth_loss,
    TrainedDiffusionDepth,
)
from marigold_training.objectives.fusion import fusion_loss, TrainedFusion
from marigold_training.objectives.noise import Draws, training_noise
from marigold_training.objectives.trained_networks import (
    as_image,
    decode,
    encode,
    latent_mask,
    latents_of,
    TrainedModel,
    TrainedModule,
    TrainedNetworks,
)
import torch
from torch.nn import functional

# Weights of the terms of `pixel` beside the affine-invariant one.
DIRECT, GRADIENT, LATENT, SKY = 0.5, 0.5, 0.1, 0.5
# Of `anchored`: weight of the initial networks' map, and where it counts: farther than this share
# of the image's height from known depth.
ANCHOR, COVERED = 0.1, 1 / 16
# Of the terms of `autoencoder` and `distill` beside L1.
EDGES, KL = 0.5, 1e-6
# A fit below is degenerate: the prediction is flat (deviation 0.01) or opposes the target.
SMALLEST_VARIANCE = 1e-4
SMALLEST_SCALE = 1e-3
ANY_FIT = {'least_scale': -math.inf, 'least_variance': 1e-12}  # unless the prediction is flat
IMAGE = (1, 2, 3)  # axes of one image


def masked_mean(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the pixels of the mask; 0 where it is empty."""
    return (value * mask).sum() / mask.expand_as(value).sum().clamp(min=1)


@dataclass(frozen=True)
class LeastSquaresFit:
    """
    Scale and shift (B, 1, 1, 1) of each image that map a prediction to its target.

    ``usable`` (B, 1, 1, 1) bool is False where the fit is degenerate.
    """

    scale: torch.Tensor
    shift: torch.Tensor
    usable: torch.Tensor

    def apply(self, predicted: torch.Tensor) -> torch.Tensor:
        """Apply the fit to (B, 1, H, W)."""
        return self.scale * predicted + self.shift


def fit_least_squares(
    predicted: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    least_scale: float = SMALLEST_SCALE,
    least_variance: float = SMALLEST_VARIANCE,
) -> LeastSquaresFit:
    """
    Fit each image's scale and shift in closed form; gradients pass through.

    Arguments are (B, 1, H, W) float, finite; ``mask`` is how much the pixel counts, 0 to 1. The
    fit is degenerate up to ``least_scale``, and where the prediction varies no more than
    ``least_variance``.
    """
    count = mask.sum(IMAGE, keepdim=True).clamp(min=1.0)
    mean_p = (predicted * mask).sum(IMAGE, keepdim=True) / count
    mean_t = (target * mask).sum(IMAGE, keepdim=True) / count
    centred = (predicted - mean_p) * mask
    variance = (centred * (predicted - mean_p)).sum(IMAGE, keepdim=True) / count
    covariance = (centred * (target - mean_t)).sum(IMAGE, keepdim=True) / count
    scale = covariance / variance.clamp(min=least_variance)
    usable = (variance > least_variance) & (scale > least_scale)
    scale = scale.clamp(min=least_scale)
    return LeastSquaresFit(scale, mean_t - scale * mean_p, usable)


def affine_invariant(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """
    Return the L1 error after each image's best scale and shift.

    Images with a degenerate fit do not count: a direct loss has to train those.
    """
    fit = fit_least_squares(predicted, target, mask)
    return masked_mean((fit.apply(predicted) - target).abs(), mask * fit.usable)


def gradient_difference(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return the L1 of the error's gradients, at every 1st, 2nd and 4th pixel."""
    total = predicted.new_zeros(())
    for step in (1, 2, 4):
        error = (predicted - target)[..., ::step, ::step]
        seen = mask[..., ::step, ::step]
        for axis in (-1, -2):
            pairs = seen.shape[axis] - 1
            both = seen.narrow(axis, 1, pairs) * seen.narrow(axis, 0, pairs)
            total = total + masked_mean(error.diff(dim=axis).abs(), both)
    return total


def autoencoder_loss(chain: TrainedNetworks, batch: Batch, draws: Draws) -> torch.Tensor:
    """Return the L1, gradient and KL loss of colour and depth images after the round trip."""
    both = torch.cat([batch.rgb, as_image(batch.relative)])
    posterior = chain.autoencoder.encode(both).latent_dist
    shape = posterior.mean.shape[1:]
    noise = torch.cat([draws.normal(shape), draws.normal(shape)]).to(both)
    decoded = chain.autoencoder.decode(posterior.mean + posterior.std * noise).sample
    edges = gradient_difference(decoded, both, torch.ones_like(both[:, :1]))
    return (decoded - both).abs().mean() + EDGES * edges + KL * posterior.kl().mean()


def latent_loss(chain: TrainedNetworks, batch: Batch | LatentBatch, draws: Draws) -> torch.Tensor:
    """
    Return Marigold's loss: MSE on latents at random timesteps.

    A latent cell counts if all of its pixels are known; without any the loss is zero.
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


def one_step_loss(
    chain: TrainedNetworks, batch: Batch | LatentBatch, draws: Draws
) -> torch.Tensor:
    """Return L1 + MSE between the one-step latent and that of the depth image."""
    rgb_latent, target, mask = latents_of(chain, batch)
    x0 = chain.one_step(rgb_latent).float()
    return masked_mean((x0 - target).abs(), mask) + masked_mean((x0 - target) ** 2, mask)


def pixel_loss(chain: TrainedModel, batch: Batch, draws: Draws) -> torch.Tensor:
    """
    Return the loss of the map after one step and the decoder.

    Affine-invariant L1, direct L1 and gradients; the sky only has to be far.
    """
    return _pixel_terms(chain, batch)[0]


def anchored_loss(chain: TrainedModel, batch: Batch, draws: Draws) -> torch.Tensor:
    """
    Return the loss `pixel`, and far from known depth the L1 to the map of the initial networks.

    Points of a LiDAR cover a part of the image. Elsewhere the map of ``chain.start``, fitted to
    these points, keeps the prediction in place. Metric models are compared in log depth.
    """
    loss, predicted = _pixel_terms(chain, batch)
    uncovered = 1.0 - covered(batch.valid | batch.sky)
    if not uncovered.any():
        return loss
    start = chain.start[0].to(batch.rgb.device)
    with torch.no_grad():
        relative, target = (
            compared(chain, x) for x in (start.relative(batch.rgb), batch.relative)
        )
        fit = fit_least_squares(relative, target, batch.valid.float())
        relative = fit.apply(relative)
        relative = relative if chain.space == 'metric' else relative.clamp(0.0, 1.0)
    return loss + ANCHOR * masked_mean((predicted - relative).abs(), uncovered * fit.usable)


def covered(known: torch.Tensor) -> torch.Tensor:
    """Return 1 for pixels (B, 1, H, W) with a known one within 1/16 of the height, else 0."""
    reach = max(1, round(COVERED * known.shape[-2]))
    return functional.max_pool2d(known.float(), 2 * reach + 1, 1, reach)


def compared(chain: TrainedModel, values: torch.Tensor) -> torch.Tensor:
    """Return relative values as they are, and metres as their logarithm."""
    return values.clamp(min=NEAREST).log() if chain.space == 'metric' else values


def _pixel_terms(chain: TrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss `pixel` and the map (B, 1, H, W)."""
    predicted, x0 = chain.map_and_latent(batch.rgb)
    predicted, target = compared(chain, predicted.float()), compared(chain, batch.relative)
    valid = batch.counted
    loss = affine_invariant(predicted, target, valid)
    loss = loss + DIRECT * masked_mean((predicted - target).abs(), valid)
    loss = loss + GRADIENT * gradient_difference(predicted, target, valid)
    loss = loss + SKY * near_sky(chain, predicted, target, batch)
    if x0 is None:
        return loss, predicted
    assert isinstance(chain, TrainedNetworks)
    with torch.no_grad():
        latent = chain.encode(as_image(batch.relative)).float()
    mask = latent_mask(batch, latent.shape[-2:])
    return loss + LATENT * masked_mean((x0.float() - latent).abs(), mask), predicted


def e2e_loss(chain: TrainedModel, batch: Batch, draws: Draws) -> torch.Tensor:
    """
    Return the loss of E2E-FT as published: L1 after each image's least-squares fit, in metres.

    The map is clamped to its range and the truth to its own 2nd and 98th percentile (Martin
    Garcia et al., arXiv 2409.11355); ``pixel`` has more terms. As there, the fit may have any
    scale, also a negative one, and an image of a single depth does not count; a flat prediction is
    fitted by 0, so that its error is the truth.
    """
    depth = torch.where(batch.valid, batch.depth, torch.nan)
    ends = torch.tensor(QUANTILES, dtype=depth.dtype, device=depth.device)
    low, high = torch.stack([image.nanquantile(ends) for image in depth]).split(1, dim=1)
    truth = depth.clamp(low[..., None, None], high[..., None, None]).nan_to_num()
    relative = chain.relative(batch.rgb).clamp(0.0, 1.0)
    counted = batch.counted * (high > low)[..., None, None]
    fit = fit_least_squares(relative, truth, counted, **ANY_FIT)
    fitted = torch.where(fit.usable, fit.apply(relative), torch.zeros_like(truth))
    return masked_mean((fitted - truth).abs(), counted)


def l1_gradient_loss(chain: TrainedModel, batch: Batch, draws: Draws) -> torch.Tensor:
    """Return L1 + gradients of the map against the normalised truth; the sky has to be far."""
    predicted, valid = chain.relative(batch.rgb), batch.counted
    loss = masked_mean((predicted - batch.relative).abs(), valid)
    loss = loss + GRADIENT * gradient_difference(predicted, batch.relative, valid)
    return loss + SKY * near_sky(chain, predicted, batch.relative, batch)


def near_sky(
    chain: TrainedModel, predicted: torch.Tensor, target: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """
    Return how much nearer than the farthest depth of its image a map (B, 1, H, W) puts the sky.

    The unit is that of map and ``target``; 1, or 0 of disparity, is the farthest of a normalised
    one.
    """
    beyond = predicted if chain.space == 'disparity' else 1.0 - predicted
    if chain.space == 'metric':
        known = torch.where(batch.valid, target, -torch.inf)
        beyond = known.amax(dim=(1, 2, 3), keepdim=True) - predicted
    return masked_mean(functional.relu(beyond), batch.sky.float())


def distill_loss(chain: TrainedNetworks, batch: Batch, draws: Draws) -> torch.Tensor:
    """
    Return L1 + MSE between student's and teacher's latents, L1 + gradients between their maps.

    The student encodes images only and decodes depth latents only, as in inference.
    """
    rgb_latent, depth_latent, _ = latents_of(chain, batch)
    with torch.no_grad():
        zeros = chain.predicted == 'zeros'
        start = None if zeros else draws.normal(rgb_latent.shape[1:]).to(rgb_latent)
        depth_latent = torch.cat([depth_latent, chain.one_step(rgb_latent, start).float()])
        relative = chain.decode(depth_latent).float().clamp(0.0, 1.0)
    error = encode(chain.student, batch.rgb).float() - rgb_latent
    decoded = decode(chain.student, depth_latent).float()
    edges = gradient_difference(decoded, relative, torch.ones_like(relative))
    encoded = error.abs().mean() + (error**2).mean()
    return encoded + (decoded - relative).abs().mean() + EDGES * edges


@dataclass(frozen=True)
class Objective:
    """
    A loss and the networks that it trains unless the recipe says otherwise.

    ``of`` are the networks that it is for. ``on_latents``: it needs latents only, so that a
    LatentBatch suffices.
    """

    loss: Callable[[Any, Any, Draws], torch.Tensor]
    trains: tuple[str, ...]
    of: type[TrainedModule] = TrainedNetworks
    on_latents: bool = False


OBJECTIVES = {
    'autoencoder': Objective(autoencoder_loss, ('autoencoder',)),
    'latent': Objective(latent_loss, ('unet',), on_latents=True),
    'one_step': Objective(one_step_loss, ('unet',), on_latents=True),
    'pixel': Objective(pixel_loss, ('unet',), TrainedModel),
    'e2e': Objective(e2e_loss, ('unet',), TrainedModel),
    'anchored': Objective(anchored_loss, ('unet',), TrainedModel),
    'l1_gradient': Objective(l1_gradient_loss, ('unet',), TrainedModel),  # PrimeDepth
    'distill': Objective(distill_loss, ('student',)),
    'fusion': Objective(fusion_loss, ('fusion',), TrainedFusion),
    'diffusion_depth': Objective(diffusion_depth_loss, ('network',), TrainedDiffusionDepth),
}
