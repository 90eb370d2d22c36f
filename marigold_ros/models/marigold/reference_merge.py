# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The merge that Marigold's paper describes, with exact gradients.

It minimises the sum of all pairs' root-mean-square distances plus a pull of the median's range to
[0, 1] (Ke et al., CVPR 2024, section 3.3). The distances depend on the members' second moments
alone, so that after one pass over the images each evaluation is a few small matrices; only the
range is looked at on a grid. The reference differentiates numerically on float32 noise, with all
pairs at full size for each parameter. Like it, this stops after two iterations: the objective's
true minimum under noisy members is at scales of zero, where all distances vanish.
"""

from __future__ import annotations

from marigold_ros.models.marigold.ensemble import GRID, reduce_members
import numpy as np
import torch
from torch.nn import functional

REGULARISER = 0.02
ITERATIONS = 2


def merge_reference(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge as ``merge_members`` does, but with scales and shifts of the paper's objective."""
    scale, shift = minimise_objective(members)
    scale, shift = scale.to(members), shift.to(members)
    return reduce_members(members * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1))


def minimise_objective(members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale (E,) and shift (E,), float64 on the CPU, from (E, 1, H, W); waits for the device."""
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
    return torch.from_numpy(found[:count].copy()), torch.from_numpy(found[count:].copy())


def objective(
    parameters: np.ndarray, moments: np.ndarray, cells: np.ndarray
) -> tuple[float, np.ndarray]:
    """
    Evaluate the objective and its gradient.

    Parameters
    ----------
    parameters : (2E,) float64
        Scales, then shifts.
    moments : (E + 1, E + 1) float64
        Mean products of the members and of the constant 1, which stands last.
    cells : (E, n) float64
        Members on a grid, for the range of their median.

    Returns
    -------
    value : float
    gradient : (2E,) float64

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
