# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The objective of DiffusionDepth: noise of its own refined latent, pixels, and the truth's latent.

``L = w1 L_ddim + w2 L_pixel + w3 L_latent`` (Duan et al., ECCV 2024). The pixel terms are those
of the published recipes, ``l1`` and ``l2`` in metres, and ``silog`` in log depth, which the
published code has for a whole batch. Truth is sparse, so terms count where it is known: pixels, or
cells of the latent. Only the noise of the model's own latent is known everywhere, which is why
that latent is diffused and not the truth's. The published code has no ``latent`` term; without
one nothing trains the encoder. Letters: B images, H, W image, h, w latent.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

from diffusers import DDIMScheduler
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.diffusion_depth.denoiser import TIMESTEPS
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_training.data.mixture import Batch
from marigold_training.data.targets import NEAREST
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import TrainedModel
import torch
from torch.nn import functional

KNOWN = 1e-4  # m; truth above counts
MEAN_WEIGHT = 0.15  # of the squared mean in `silog`
IMAGE = (1, 2, 3)  # axes of one image


@dataclass(frozen=True)
class TermWeights:
    """
    Weights of the terms of the loss; the defaults are the published ones.

    The published code divides ``ddim``, a mean already, by the images of a GPU once more.
    """

    ddim: float = 1.0
    l1: float = 1.0
    l2: float = 1.0
    silog: float = 0.0
    latent: float = 1.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0.0:
                raise ConfigurationError(f'loss.{item.name} is {value!r}; give 0 or more')


class TrainedDiffusionDepth(TrainedModel):
    """
    A DiffusionDepth in training.

    Parameters
    ----------
    network : DiffusionDepth
    max_depth : float, metres
        To which truth and prediction are clipped.
    weights : TermWeights

    """

    def __init__(
        self, network: DiffusionDepth, max_depth: float, weights: TermWeights | None = None
    ) -> None:
        super().__init__('metric')
        self.network, self.max_depth = network, max_depth
        self.weights = TermWeights() if weights is None else weights

    def map_and_latent(self, rgb: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Predict metres (B, 1, H, W) from noise that is always the same."""
        shape = self.network.architecture.noise_shape(*rgb.shape[-2:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(rgb)
        return self.network(rgb, noise.expand(len(rgb), -1, -1, -1)), None

    def parts(self) -> tuple[str, ...]:
        """Return all but the backbone."""
        own = 'features.neck', 'features.pyramid', 'denoiser', 'latent.decoder'
        return tuple(f'network.{name}' for name in own)


def diffusion_depth_loss(chain: TrainedDiffusionDepth, batch: Batch, draws: Draws) -> torch.Tensor:
    """Return the weighted sum of the terms, from noise through all steps to metres."""
    network, weights = chain.network, chain.weights
    truth = torch.where(batch.valid, batch.depth, 0.0)
    cells = known_cells(batch.valid)
    shape = network.architecture.noise_shape(*batch.rgb.shape[-2:])
    features = network.features(batch.rgb)
    refined = network.refine(features, draws.normal(shape).to(batch.rgb))
    depth = network.latent.decode(refined)[..., : truth.shape[-2], : truth.shape[-1]]
    encoded = network.latent.encode(truth).float()
    loss = weights.latent * latent_error(refined, encoded, cells)
    for weight, term in ((weights.l1, l1), (weights.l2, l2)):
        if weight:
            loss = loss + weight * term(depth, truth, chain.max_depth)
    if weights.silog:
        loss = loss + weights.silog * silog(depth, truth, batch.valid)
    if weights.ddim:
        loss = loss + weights.ddim * noise_error(network, refined, features, draws)
    return loss


def noise_error(
    network: DiffusionDepth, latent: torch.Tensor, features: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """Return the MSE of the noise predicted at random timesteps."""
    noise = draws.normal(latent.shape[1:]).to(latent)
    timestep = draws.timesteps(TIMESTEPS).to(latent.device)
    noisy = add_noise(latent, noise, timestep)
    return functional.mse_loss(network.denoiser(noisy, timestep, features).float(), noise)


def known_cells(valid: torch.Tensor) -> torch.Tensor:
    """Return 1.0 for latent cells (B, 1, h, w) whose window has a known pixel, else 0.0."""
    return functional.max_pool2d(valid.float(), 3, 2, 1)


def add_noise(latent: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Mix latents (B, C, h, w) with noise, as much as the schedule has at timesteps (B,)."""
    return _scheduler().add_noise(latent, noise, timestep)


@lru_cache
def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(TIMESTEPS)


def latent_error(found: torch.Tensor, wanted: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference (B, C, h, w) in the cells (B, 1, h, w) that are 1."""
    count = cells.sum() * found.shape[1]
    return ((found - wanted).square() * cells).sum() / count.clamp(min=1.0)


def l1(depth: torch.Tensor, truth: torch.Tensor, max_depth: float) -> torch.Tensor:
    """
    Return the mean absolute error of each image's known pixels, averaged over images.

    Arguments are (B, 1, H, W) metres, truth 0 where unknown; both are clipped to the largest.
    """
    return _known_mean((_clipped(depth, max_depth) - _clipped(truth, max_depth)).abs(), truth)


def l2(depth: torch.Tensor, truth: torch.Tensor, max_depth: float) -> torch.Tensor:
    """Return the same for the squared error."""
    return _known_mean((_clipped(depth, max_depth) - _clipped(truth, max_depth)).square(), truth)


def silog(depth: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """
    Return the variance of the log ratio at known pixels plus 0.15 of its squared mean.

    Averaged over images. It is nearly scale-invariant (Eigen et al., 2014, with 0). Arguments are
    (B, 1, H, W); truth may be anything where it is not valid.
    """
    ratio = torch.where(valid, depth.clamp(min=NEAREST), 1.0).log()
    ratio = ratio - torch.where(valid, truth, 1.0).log()
    count = valid.sum(IMAGE).clamp(min=1)
    square, mean = ratio.square().sum(IMAGE) / count, ratio.sum(IMAGE) / count
    return (square + (MEAN_WEIGHT - 1.0) * mean.square()).mean()


def _clipped(depth: torch.Tensor, max_depth: float) -> torch.Tensor:
    return depth.clamp(0.0, max_depth)


def _known_mean(error: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    known = (truth > KNOWN).float()
    return ((error * known).sum(IMAGE) / (known.sum(IMAGE) + 1e-8)).mean()
