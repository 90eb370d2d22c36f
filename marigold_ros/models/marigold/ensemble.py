# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Merges ensemble members: each is fitted to their common mean, then the median is taken.

Closed form: a few alternations of a least-squares scale and shift per member on a coarse grid. The
reference minimises pairwise distances with numerical gradients instead, which takes a hundred
times longer and waits for the device at each of its evaluations.
"""

from __future__ import annotations

import torch
from torch.nn import functional

GRID = 64  # longest side of the grid on which members are fitted
ROUNDS = 3


def merge_members(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Merge affine-invariant members.

    Parameters
    ----------
    members : (E, 1, H, W) in [0, 1]
        Independent samples, each with a scale and shift of its own.

    Returns
    -------
    merged : (1, 1, H, W) in [0, 1]
        Pixel-wise median of the fitted members, stretched to exactly [0, 1].
    spread : (1, 1, H, W)
        Median absolute deviation, in the unit of ``merged``.

    """
    height, width = members.shape[-2:]
    shrink = max(1, -(-max(height, width) // GRID))
    grid = functional.avg_pool2d(members, shrink, ceil_mode=True) if shrink > 1 else members
    grid = grid.flatten(1).float()  # (E, n)
    centred = grid - grid.mean(1, keepdim=True)
    deviation = centred.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
    fitted = centred / deviation
    for _ in range(ROUNDS):
        common = fitted.mean(0, keepdim=True)
        common = common / common.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        slope = (centred * common).mean(1, keepdim=True) / deviation**2
        # A member that disagrees with all others keeps a small positive scale.
        fitted = centred * slope.clamp(min=1e-3 / deviation)
    scale = slope.clamp(min=1e-3 / deviation).view(-1, 1, 1, 1)
    aligned = (members - grid.mean(1).view(-1, 1, 1, 1)) * scale
    merged = aligned.median(0, keepdim=True).values
    spread = (aligned - merged).abs().median(0, keepdim=True).values
    low, high = merged.amin(), merged.amax()
    extent = (high - low).clamp(min=1e-6)
    return (merged - low) / extent, spread / extent
