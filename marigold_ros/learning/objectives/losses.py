# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Parts of losses on (B, 1, H, W) maps with a mask: means, fits, gradients, losses in metres."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
