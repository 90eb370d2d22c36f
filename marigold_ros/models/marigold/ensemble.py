# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Merges ensemble members: each is fitted to their common map, then the median is taken.

The fit alternates on a coarse grid between the members' median and a robust least-squares scale
and shift per member, in closed form: pooling takes the noise out, re-weighting what one member
alone believes. Nothing waits for the device. Medians come from a sorting network of element-wise
minima and maxima, since ``torch.median`` over few members takes ten times as long.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn import functional

GRID = 64  # longest side of the grid on which members are fitted
ROUNDS = 8
# In the first rounds a cell counts less from this residual on, in standard deviations of a member;
# absolute values converge from any start, but a wrong patch keeps some pull.
TOLERANCE, ABSOLUTE_ROUNDS = 0.05, 2
# Later its weight falls to nothing beyond this many mean residuals; the floor is in deviations.
WIDTH, WIDTH_FLOOR = 2.0, 0.003
# A member that disagrees with all others keeps a small positive scale: it turns into a constant
# between the others and takes no side in their median.
LEAST_SLOPE = 1e-3


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
    scale, shift = fit_members(members)
    return reduce_members(members * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1))


def fit_members(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale (E,) > 0 and shift (E,) that bring (E, 1, H, W) members onto their common map."""
    height, width = members.shape[-2:]
    shrink = max(1, -(-max(height, width) // GRID))
    grid = functional.avg_pool2d(members, shrink, ceil_mode=True) if shrink > 1 else members
    grid = grid.flatten(1).float()  # (E, n)
    mean = grid.mean(1, keepdim=True)
    deviation = (grid - mean).square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
    standard = (grid - mean) / deviation
    fitted, weight = standard, torch.ones_like(standard)
    for turn in range(ROUNDS):
        common = median(sort_members(fitted))[None]
        common = common - common.mean()
        common = common / common.square().mean().sqrt().clamp(min=1e-6)
        if turn > 0:
            weight = _weight((fitted - common).abs(), weight, turn)
        slope, offset = _weighted_fit(standard, common, weight)
        fitted = standard * slope + offset
    scale = slope / deviation
    return scale[:, 0], (offset - mean * scale)[:, 0]


def _weight(residual: torch.Tensor, weight: torch.Tensor, turn: int) -> torch.Tensor:
    """Weights (E, n) of the next fit from the last one's residuals and weights."""
    if turn <= ABSOLUTE_ROUNDS:
        return 1.0 / (residual + TOLERANCE)
    usual = (weight * residual).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (1.0 + (residual / (WIDTH * usual + WIDTH_FLOOR)).square()) ** -2


def _weighted_fit(
    source: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted least squares target = slope source + offset, row by row: (E, 1) each."""
    weight = weight / weight.sum(1, keepdim=True)
    source_mean = (weight * source).sum(1, keepdim=True)
    target_mean = (weight * target).sum(1, keepdim=True)
    centred = source - source_mean
    covariance = (weight * centred * (target - target_mean)).sum(1, keepdim=True)
    variance = (weight * centred.square()).sum(1, keepdim=True)
    slope = (covariance / variance.clamp(min=1e-9)).clamp(min=LEAST_SLOPE)
    return slope, target_mean - slope * source_mean


def reduce_members(aligned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Median of (E, 1, H, W), stretched to [0, 1], and the median deviation from it."""
    ranked = sort_members(aligned)
    merged = median(ranked)[None]  # (1, 1, H, W)
    spread = median_deviation(ranked, merged[0])[None]
    low, high = merged.aminmax()
    extent = (high - low).clamp(min=1e-6)
    # The division may exceed 1 by a rounding.
    return ((merged - low) / extent).clamp(max=1.0), spread / extent


def sort_members(members: torch.Tensor) -> list[torch.Tensor]:
    """Sort (E, ...) along E at every pixel; returns E maps in rising order."""
    ranked = list(members.unbind(0))
    for low, high in _comparators(len(ranked)):
        first, second = ranked[low], ranked[high]
        ranked[low], ranked[high] = torch.minimum(first, second), torch.maximum(first, second)
    return ranked


@lru_cache(maxsize=32)
def _comparators(count: int) -> tuple[tuple[int, int], ...]:
    """Batcher's odd-even merge sort (Knuth, volume 3, 5.3.4) for any count."""
    pairs = []
    span = 1
    while span < count:
        step = span
        while step >= 1:
            for start in range(step % span, count - step, 2 * step):
                for i in range(start, min(start + step, count - step)):
                    if i // (2 * span) == (i + step) // (2 * span):
                        pairs.append((i, i + step))
            step //= 2
        span *= 2
    return tuple(pairs)


def median(ranked: list[torch.Tensor]) -> torch.Tensor:
    """Middle of sorted maps; the mean of the two middle ones where their number is even."""
    middle = len(ranked) // 2
    if len(ranked) % 2:
        return ranked[middle]
    return (ranked[middle - 1] + ranked[middle]) * 0.5


def median_deviation(ranked: list[torch.Tensor], centre: torch.Tensor) -> torch.Tensor:
    """
    Median absolute deviation of sorted maps from their median.

    Deviations below and above the median are sorted already. The k-th smallest of two sorted rows
    a and b is the least of max(a[i], b[k - i]) over i, with a[0] and b[0] below everything.
    """
    count = len(ranked)
    below = [centre - value for value in reversed(ranked[: count // 2])]
    above = [value - centre for value in ranked[(count + 1) // 2 :]]
    if count % 2:
        # The median's own deviation, zero, comes first in the union.
        if count == 1:
            return torch.zeros_like(centre)
        return _kth_of_two(below, above, count // 2)
    half = count // 2
    return (_kth_of_two(below, above, half) + _kth_of_two(below, above, half + 1)) * 0.5


def _kth_of_two(first: list[torch.Tensor], second: list[torch.Tensor], k: int) -> torch.Tensor:
    """Return the k-th smallest (from 1) of the union of two sorted lists, pixel by pixel."""
    best: torch.Tensor | None = None
    for i in range(max(0, k - len(second)), min(k, len(first)) + 1):
        if i == 0:
            candidate = second[k - 1]
        elif i == k:
            candidate = first[k - 1]
        else:
            candidate = torch.maximum(first[i - 1], second[k - i - 1])
        best = candidate if best is None else torch.minimum(best, candidate)
    assert best is not None
    return best
