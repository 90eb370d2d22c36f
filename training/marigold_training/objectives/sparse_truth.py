# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Errors at the known pixels of sparse truth, in metres and in log depth.

Letters: B images, H, W image.
"""

import torch

BIAS_WEIGHT = 0.85  # of the squared mean in `masked_pixel` (DiffusionDepth, eq. 10)
MEAN_WEIGHT = 0.15  # of the squared mean in `silog` (DiffusionDepth's code)
NEAREST = 1e-3  # m; the logarithm needs a positive depth
IMAGE = (1, 2, 3)  # axes of one image


def masked_pixel(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, weight: float = BIAS_WEIGHT
) -> torch.Tensor:
    """
    Return the squared error at known pixels plus its weighted squared mean.

    ``1/T sum d^2 + weight/T^2 (sum d)^2`` with d in metres over the T pixels of the mask, averaged
    over images (DiffusionDepth, eq. 10). It is not scale-invariant: the plus sign penalises bias.
    ``predicted`` and ``truth`` (B, 1, H, W) are metres; ``mask`` is above 0 where truth is known,
    elsewhere truth may be NaN.
    """
    error = torch.where(mask > 0, predicted - truth, 0.0)
    square, mean = _moments(error, mask)
    return (square + weight * mean**2).mean()


def silog(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, weight: float = MEAN_WEIGHT
) -> torch.Tensor:
    """
    Return the variance of the log ratio at known pixels plus its weighted squared mean.

    Averaged over images. Scale-invariant with weight 0 (Eigen et al., 2014); DiffusionDepth's 0.15
    penalises a wrong scale slightly. Arguments are those of :func:`masked_pixel`.
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
