# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Merge ensemble members: fit each to their common map, then take the median.

The robust fit alternates on a coarse grid between the members' median and a scale and shift per
member, in closed form; nothing waits for the device. Medians come from a sorting network, because
``torch.median`` over few members takes ten times as long.
"""

from functools import lru_cache, reduce

import numpy as np
import torch
from torch.nn import functional

MOST_MEMBERS = 20
GRID = 64  # longest side of the grid on which members are fitted
ROUNDS = 8
# In the first rounds a cell counts less from this residual on, in standard deviations of a member;
# absolute values converge from any start, but a wrong patch keeps some pull.
TOLERANCE, ABSOLUTE_ROUNDS = 0.05, 2
# Later its weight falls to nothing beyond this many mean residuals; the floor is in deviations.
WIDTH, WIDTH_FLOOR = 2.0, 0.003
# A member that disagrees with all others becomes a constant between them, which leaves their
# median alone.
LEAST_SLOPE = 1e-3
# Of the merge of the paper.
REGULARISER, ITERATIONS = 0.02, 2


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
        Pixel-wise median of the fitted members, in their own range: equal ones stay as they are.
    spread : (1, 1, H, W)
        Median absolute deviation, in the unit of ``merged``.

    """
    return _merge_fitted(members, *fit_members(members))


def fit_members(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit scale (E,) > 0 and shift (E,) that bring members (E, 1, H, W) onto their common map."""
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
    """Return the weights (E, n) of the next fit from the last one's residuals and weights."""
    if turn <= ABSOLUTE_ROUNDS:
        return 1.0 / (residual + TOLERANCE)
    usual = (weight * residual).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (1.0 + (residual / (WIDTH * usual + WIDTH_FLOOR)).square()) ** -2


def _weighted_fit(
    source: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit target = slope source + offset by weighted least squares, row by row: (E, 1) each."""
    weight = weight / weight.sum(1, keepdim=True)
    source_mean = (weight * source).sum(1, keepdim=True)
    target_mean = (weight * target).sum(1, keepdim=True)
    centred = source - source_mean
    covariance = (weight * centred * (target - target_mean)).sum(1, keepdim=True)
    variance = (weight * centred.square()).sum(1, keepdim=True)
    slope = (covariance / variance.clamp(min=1e-9)).clamp(min=LEAST_SLOPE)
    return slope, target_mean - slope * source_mean


def _merge_fitted(
    members: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge (E, 1, H, W) with scale and shift (E,) that bring each onto the common map."""
    merged, spread = reduce_members(members * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1))
    ends = torch.stack(merged.aminmax())
    own = (ends - shift[:, None]) / scale[:, None].clamp(min=1e-6)  # (E, 2), of each member
    low, high = median(sort_members(own)).clamp(0.0, 1.0)
    stretch = (high - low) / (ends[1] - ends[0]).clamp(min=1e-6)
    return (low + (merged - ends[0]) * stretch).clamp(0.0, 1.0), spread * stretch


def reduce_members(aligned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the median (1, 1, H, W) of (E, 1, H, W), and the median deviation from it."""
    ranked = sort_members(aligned)
    merged = median(ranked)  # (1, H, W)
    return merged[None], median_deviation(ranked, merged)[None]


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
    """Return the middle of sorted maps, or the mean of the two middle ones."""
    middle = len(ranked) // 2
    if len(ranked) % 2:
        return ranked[middle]
    return (ranked[middle - 1] + ranked[middle]) * 0.5


def median_deviation(ranked: list[torch.Tensor], centre: torch.Tensor) -> torch.Tensor:
    """
    Return the median absolute deviation of sorted maps from their median.

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
    candidates = []
    for i in range(max(0, k - len(second)), min(k, len(first)) + 1):
        ends = [part[n - 1] for part, n in ((first, i), (second, k - i)) if n]
        candidates.append(reduce(torch.maximum, ends))
    return reduce(torch.minimum, candidates)


def merge_reference(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge as :func:`merge_members` does, with scales and shifts of the paper's objective."""
    scale, shift = minimise_objective(members)
    return _merge_fitted(members, scale.to(members), shift.to(members))


def minimise_objective(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Minimise the paper's objective over scale and shift (E,) of members (E, 1, H, W).

    It is the sum of all pairs' root-mean-square distances plus a pull of the median's range to
    [0, 1] (Ke et al., CVPR 2024, section 3.3). The distances depend on the members' second moments
    alone, so that after one pass over the images each evaluation is a few small matrices with
    exact gradients; only the range is evaluated on a grid. Like the reference it stops after two
    iterations: the true minimum under noisy members is at scales of zero, where all distances
    vanish. Where a step goes past that, members stay stretched to [0, 1]. The result is float64 on
    the CPU; it waits for the device.
    """
    from scipy.optimize import minimize

    flat = members.flatten(1).double()  # (E, n)
    count, n = flat.shape
    rows = torch.cat([flat, torch.ones_like(flat[:1])])  # (E + 1, n)
    low, high = flat.aminmax(dim=1)
    shrink = max(1, -(-max(members.shape[-2:]) // GRID))
    grid = functional.interpolate(
        members.float(), [-(-s // shrink) for s in members.shape[-2:]], mode='nearest-exact'
    )
    moments = (rows @ rows.T / n).cpu().numpy()  # (E + 1, E + 1)
    cells = grid.flatten(1).double().cpu().numpy()
    start = (1.0 / (high - low).clamp(min=1e-6)).cpu().numpy()
    begin = np.concatenate([start, -start * low.cpu().numpy()])
    found = minimize(
        objective,
        begin,
        args=(moments, cells),
        jac=True,
        method='BFGS',
        options={'maxiter': ITERATIONS},
    ).x
    # A step past zero would turn a member's near and far round: each keeps its own range then.
    found = found if found[:count].min() > 0.0 else begin
    return torch.from_numpy(found[:count].copy()), torch.from_numpy(found[count:].copy())


def objective(
    parameters: np.ndarray, moments: np.ndarray, cells: np.ndarray
) -> tuple[float, np.ndarray]:
    """
    Evaluate the paper's objective and its gradient (2E,), float64.

    ``parameters`` (2E,) are scales, then shifts; ``moments`` (E + 1, E + 1) the mean products of
    the members and of the constant 1, which comes last; ``cells`` (E, n) the members on a grid,
    for the range of their median.
    """
    count = len(parameters) // 2
    scale, shift = parameters[:count], parameters[count:]
    first, second = np.triu_indices(count, 1)
    pairs = np.arange(len(first))
    # A pair's difference is a linear form in the members and the constant.
    forms = np.zeros((len(first), count + 1))
    forms[pairs, first] = scale[first]
    forms[pairs, second] = -scale[second]
    forms[:, count] = shift[first] - shift[second]
    weighted = forms @ moments
    distance = np.sqrt(np.maximum((forms * weighted).sum(1), 1e-18))
    slope = weighted / distance[:, None]  # d distance / d form
    gradient = np.zeros(2 * count)
    np.add.at(gradient, first, slope[pairs, first])
    np.add.at(gradient, second, -slope[pairs, second])
    np.add.at(gradient, count + first, slope[:, count])
    np.add.at(gradient, count + second, -slope[:, count])
    value = float(distance.sum())
    aligned = cells * scale[:, None] + shift[:, None]
    middle = (count - 1) // 2  # torch's median, as in the reference, is the lower one
    owner = np.argpartition(aligned, middle, axis=0)[middle]
    merged = np.take_along_axis(aligned, owner[None], axis=0)[0]
    for cell, target in ((int(merged.argmin()), 0.0), (int(merged.argmax()), 1.0)):
        member, error = owner[cell], merged[cell] - target
        value += REGULARISER * abs(error)
        gradient[member] += REGULARISER * np.sign(error) * cells[member, cell]
        gradient[count + member] += REGULARISER * np.sign(error)
    return value, gradient
