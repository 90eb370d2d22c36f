# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How many scored points lie within one and two sigma: what says whether sigma is honest."""

from __future__ import annotations

import math

from marigold_ros.frame import SparseDepth
import numpy as np

_WIDTHS = (1, 2)


class SigmaCoverage:
    """Shares over many images, each counted alike, as the macro metrics are."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(_WIDTHS, 0.0)
        self._frames = 0

    def add(
        self, predicted: np.ndarray, sigma_map: np.ndarray | None, truth: SparseDepth
    ) -> dict[str, float]:
        """
        Add one image's points.

        Parameters
        ----------
        predicted : (M,) float, metres
            Depth at the points; where it is not finite the point is left out.
        sigma_map : (H, W) float or None, metres
            One sigma; None adds nothing.
        truth : SparseDepth
            The M points.

        Returns
        -------
        dict
            ``heldout_within_1_sigma`` and ``heldout_within_2_sigma``; empty without sigma, NaN
            without a point.

        """
        if sigma_map is None:
            return {}
        sigma = sigma_map[truth.v, truth.u]
        error = np.abs(np.asarray(predicted, np.float64) - truth.z)
        known = np.isfinite(error) & np.isfinite(sigma)
        if not known.any():
            return dict.fromkeys((f'heldout_within_{k}_sigma' for k in _WIDTHS), math.nan)
        shares = {k: float(np.mean(error[known] <= k * sigma[known])) for k in _WIDTHS}
        self._frames += 1
        for width, share in shares.items():
            self._sums[width] += share
        return {f'heldout_within_{k}_sigma': share for k, share in shares.items()}

    def summary(self) -> dict[str, dict[str, float]]:
        """Give the mean shares as ``sigma_coverage``; nothing if no image had a sigma."""
        if not self._frames:
            return {}
        return {'sigma_coverage': {str(k): self._sums[k] / self._frames for k in _WIDTHS}}
