# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Bring predictions of several models to one scale, and average them.

A map is known up to scale and shift: those of the others are fitted to the first by least squares,
which flattens a map the more, the less it agrees. Between spaces one number more is unknown (how
deep the scene is, relative to its distance): the one with the highest correlation is taken. The
average errs less than its members do in the mean (PrimeDepth, arXiv 2409.09144, with Depth
Anything).
"""

from collections.abc import Sequence
import math

from marigold_ros.frame import Prediction
from marigold_ros.spaces import from_metres
import numpy as np

_COMPARED = 4096  # pixels
_DEPTHS = np.geomspace(0.003, 10.0, 28)  # of the unknown number between spaces
_SMALLEST = 1e-9


def merge(predictions: Sequence[Prediction]) -> Prediction:
    """
    Average predictions of one image in the space of the first.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of one size (H, W), from different models.

    Returns
    -------
    Prediction
        ``spread`` is the deviation (n - 1) between the models. Models that contradict the first
        (no positive correlation) do not count; where none is left ``spread`` is None. ``members``
        has the fitted maps; it is None for metric depth, which no fit to points weighs.

    """
    first = predictions[0]
    space = 'log' if first.space == 'metric' else first.space
    maps = [_converted(first.relative, first, space, math.nan).astype(np.float32)]
    for other in predictions[1:]:
        found = aligned(other, maps[0], space)
        if found is not None:
            maps.append(found)
    stacked = np.stack(maps)
    mean = stacked.mean(axis=0)
    spread = stacked.std(axis=0, ddof=1) if len(maps) > 1 else None
    members = stacked if len(maps) > 1 else None
    if first.space == 'metric':
        mean, members = np.exp(mean), None
        spread = None if spread is None else spread * mean
    gaps = [one.domain_gap for one in predictions if math.isfinite(one.domain_gap)]
    gap = max(gaps, default=math.nan)
    facts = {'relative_error': first.relative_error, 'focal_share': first.focal_share}
    return Prediction(mean, spread, first.space, first.censored, gap, members=members, **facts)


def aligned(other: Prediction, reference: np.ndarray, space: str) -> np.ndarray | None:
    """
    Fit a prediction's scale and shift to a reference (H, W) in a space.

    Returns (H, W) float32, or None if the two contradict each other.
    """
    step = max(1, math.isqrt(reference.size // _COMPARED))
    target = reference[::step, ::step].astype(np.float64)
    best, chosen = 0.0, None
    known = other.space in (space, 'metric')
    for number in (math.nan,) if known else _DEPTHS:
        seen = _converted(other.relative[::step, ::step].astype(np.float64), other, space, number)
        similar = _correlation(seen, target)
        if similar > best:
            scale = similar * target.std() / seen.std()  # of the least-squares fit
            best, chosen = similar, (number, scale, target.mean() - scale * seen.mean())
    if chosen is None:
        return None
    number, scale, shift = chosen
    whole = _converted(other.relative.astype(np.float64), other, space, number)
    return (scale * whole + shift).astype(np.float32)


def _converted(
    relative: np.ndarray, prediction: Prediction, space: str, number: float
) -> np.ndarray:
    """Convert values of a prediction to another space, up to scale and shift."""
    given = prediction.space
    if given == space:
        return relative
    if given == 'metric':
        # Logarithm and inverse of 0 are infinite, and would let no other model agree.
        nearest = relative.min(where=relative > 0, initial=1.0)
        return from_metres(np.maximum(relative, nearest), space)
    low, high = (float(bound) for bound in np.quantile(prediction.relative, (0.0, 1.0)))
    share = (relative - low) / max(high - low, _SMALLEST)
    # Depth in an unknown unit: from nearest to farthest by the factor that the number implies.
    if given == 'log':
        return from_metres(np.exp(number * share), space)
    positive = share + number
    return from_metres(positive if given == 'depth' else 1.0 / positive, space)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two arrays; 0 if one of them is constant."""
    deviation = one.std() * other.std()
    if not deviation > _SMALLEST:
        return 0.0
    return float(((one - one.mean()) * (other - other.mean())).mean() / deviation)
