# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Points of several sources as one sparse depth, each with its own deviation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import SparseDepth
import numpy as np


def joined(parts: Sequence[SparseDepth]) -> SparseDepth:
    """Return all points of some sources, in their order; the weakest claim of any holds."""
    if len(parts) == 1:
        return parts[0]
    u, v, z = (np.concatenate([getattr(part, name) for part in parts]) for name in 'uvz')
    sigma = None
    if any(part.sigma is not None for part in parts):
        stated = [np.zeros(len(p), np.float32) if p.sigma is None else p.sigma for p in parts]
        sigma = np.concatenate(stated)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    return SparseDepth(
        u,
        v,
        z,
        counts=dict(counts),
        sigma=sigma,
        extends=all(part.extends for part in parts),
        # A LiDAR sees beyond the range of a depth camera.
        range_limited=all(part.range_limited for part in parts),
        placed=all(part.placed for part in parts),
    )


def merged(parts: Sequence[SparseDepth], config: AlignmentConfig) -> SparseDepth:
    """
    Merge the points of several sources of one image, at least one.

    The points that say most of their surroundings lead if they are enough for a fit: those that
    extend, else those whose pixels are known, else all. The other points are in ``also``. Of
    several points in a pixel the one of least noise leads.
    """
    for claim in ('extends', 'placed', ''):
        chosen = [part for part in parts if not claim or getattr(part, claim)]
        if sum(len(part) for part in chosen) >= config.min_points or not claim:
            break
    others = [part for part in parts if not any(part is one for one in chosen)]
    lead = joined(chosen)
    if len(chosen) > 1:
        lead = replace(lead.chosen(_least_noise(lead, config)), counts=lead.counts)
    return replace(lead, also=joined(others) if others else None)


def _least_noise(points: SparseDepth, config: AlignmentConfig) -> np.ndarray:
    """Return the indices of the points with the least noise in each pixel, in order."""
    noise = config.noise_floor + config.noise_slope * points.z.astype(np.float64)
    if points.sigma is not None:
        noise = np.hypot(noise, points.sigma)
    order = np.argsort(noise, kind='stable')
    pixel = points.v[order].astype(np.int64) * (int(points.u.max(initial=0)) + 1) + points.u[order]
    _, first = np.unique(pixel, return_index=True)
    return np.sort(order[first])
