# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Calibration of sigma: shares of points within it, and how well it ranks the errors.

Shares state whether sigma is as wide as a normal distribution requires. Sparsification states how
well it ranks: points are left out in order of sigma, and the mean error of the rest is compared
with leaving them out in order of their errors. AUSE is the area between both curves in units of
the mean error: 0 if sigma ranks as the errors themselves.
"""

import math
from typing import Any

from marigold_ros.frame import SparseDepth
import numpy as np

_WIDTHS = (1, 2)
# Shares of the reliability diagram.
_EXPECTED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class SigmaScores:
    """Averages shares and areas over images, as the macro metrics are."""

    def __init__(self) -> None:
        self._sums = np.zeros(len(_WIDTHS) + len(_EXPECTED) + 2)
        self._frames = 0

    def add(
        self, predicted: np.ndarray, sigma_map: np.ndarray | None, truth: SparseDepth
    ) -> dict[str, float]:
        """
        Add the M true points of one image, with depth (M,) in metres and sigma (H, W) in metres.

        Points without finite depth or sigma are left out. Returns ``heldout_within_1_sigma``,
        ``heldout_within_2_sigma`` and ``heldout_ause``; empty without sigma, NaN without a point.
        """
        if sigma_map is None:
            return {}
        from scipy.special import ndtri

        sigma = sigma_map[truth.v, truth.u]
        error = np.abs(np.asarray(predicted, np.float64) - truth.z)
        known = np.isfinite(error) & np.isfinite(sigma)
        names = [*(f'heldout_within_{k}_sigma' for k in _WIDTHS), 'heldout_ause']
        if not known.any():
            return dict.fromkeys(names, math.nan)
        error, sigma = error[known], sigma[known]
        ratio = np.sort(error / np.maximum(sigma, 1e-9))
        limits = [*_WIDTHS, *ndtri(0.5 + 0.5 * np.array(_EXPECTED))]
        within = np.searchsorted(ratio, limits, side='right') / len(ratio)
        area, random = sparsification(error, sigma)
        self._frames += 1
        self._sums += [*within, area, random]
        return dict(zip(names, (*within[: len(_WIDTHS)].tolist(), area), strict=True))

    def summary(self) -> dict[str, Any]:
        """Return ``sigma_coverage`` and ``sigma`` of results.json; empty without sigma."""
        if not self._frames:
            return {}
        *shares, area, random = (self._sums / self._frames).tolist()
        covered = {str(k): share for k, share in zip(_WIDTHS, shares, strict=False)}
        reliability = [
            {'expected': expected, 'observed': observed}
            for expected, observed in zip(_EXPECTED, shares[len(_WIDTHS) :], strict=True)
        ]
        sigma = {
            'coverage': covered,
            'ause': area,
            'ause_of_random_order': random,
            'reliability': reliability,
        }
        return {'sigma_coverage': covered, 'sigma': sigma}


def sparsification(error: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """
    Return AUSE of absolute errors by the sigma that ranks them, and that of a random order.

    In units of the mean error, 0 without error; (n,) both, at least one. Points of equal sigma
    are left out in random order.
    """
    mean = float(error.mean())
    if mean == 0.0:
        return 0.0, 0.0
    count = np.arange(1, len(error) + 1)
    _, tied, ties = np.unique(sigma, return_inverse=True, return_counts=True)
    by_sigma = np.cumsum(np.repeat(np.bincount(tied, error) / ties, ties)) / count
    by_error = np.cumsum(np.sort(error)) / count
    best = float(by_error.mean())
    return (float(by_sigma.mean()) - best) / mean, 1.0 - best / mean
