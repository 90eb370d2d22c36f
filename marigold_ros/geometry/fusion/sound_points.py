# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Find points that their neighbours contradict, with no map to compare to.

A point is doubtful where its log depth lies outside of its nearest neighbours', by more than
their own scatter allows: edges of objects pass, as either side has neighbours of its own. A clean
scan has a few such points, which are real (thin objects), so none is dropped unless there are
more than a clean scan has.
"""

import numpy as np

_NEIGHBOURS = 8
_INNER = (0.15, 0.85)  # quantiles of the neighbours' log depth
_MARGIN, _SCATTER = 0.1, 0.5  # log depth; share of the quartile range
# Share that is doubtful in clean scans at most.
_CLEAN = 0.05


def sound_points(u: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
    """
    Select the points (M,) that agree with their neighbours in the image; (M,) bool.

    Pixels ``u``, ``v`` and depth ``z`` in metres, positive. All are selected where fewer are
    doubtful than a clean scan may have, or where there are no more than eight.
    """
    count = len(z)
    if count <= _NEIGHBOURS:
        return np.ones(count, dtype=bool)
    from scipy.spatial import cKDTree

    log_depth = np.log(z)
    place = np.stack([u, v], axis=1).astype(np.float64)
    tree = cKDTree(place, compact_nodes=False, balanced_tree=False)
    _, near = tree.query(place, k=_NEIGHBOURS + 1, workers=-1)
    around = np.sort(log_depth[near[:, 1:]], axis=1)
    low, first, third, high = (
        _quantile(around, share) for share in (_INNER[0], 0.25, 0.75, _INNER[1])
    )
    margin = _MARGIN + _SCATTER * (third - first)
    doubtful = (log_depth < low - margin) | (log_depth > high + margin)
    expected = _CLEAN * count
    if np.count_nonzero(doubtful) <= expected + 2.0 * np.sqrt(expected):
        return np.ones(count, dtype=bool)
    return ~doubtful


def _quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    """Interpolate a quantile of sorted rows."""
    place = share * (ordered.shape[1] - 1)
    low = int(place)
    return ordered[:, low] + (place - low) * (ordered[:, low + 1] - ordered[:, low])
