# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The scores of the baselines, at the pixels where the prediction is scored."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation.baselines import (
    baseline_depths,
    BASELINES,
    FEWEST_POINTS,
    MeanMap,
    MORE_BASELINES,
)
from marigold_ros.evaluation.metrics.depth_metrics import MetricAccumulator
from marigold_ros.frame import SparseDepth
import numpy as np


class BaselineScores:
    """Accumulates the baselines' metrics over frames, within the limits of the alignment."""

    def __init__(self, config: AlignmentConfig) -> None:
        self._config = config
        self._scores = {name: MetricAccumulator() for name in (*BASELINES, *MORE_BASELINES)}
        self._mean_map = MeanMap()

    def add(
        self,
        fit: SparseDepth,
        score: SparseDepth,
        affine: np.ndarray | None,
        size: tuple[int, int],
    ) -> dict[str, float]:
        """
        Score one frame; nothing with too few fit points.

        Parameters
        ----------
        fit, score : SparseDepth
            Points that the baselines see, and points at which they are scored.
        affine : (M,) float or None, metres
            The prediction at ``score`` with one scale and shift only; NaN counts as the nearest
            fit point, as it does for the prediction.
        size : (width, height), pixels
            Of the image.

        Returns
        -------
        dict
            Mean relative error by baseline.

        """
        errors: dict[str, float] = {}
        if len(score) and len(fit) >= max(self._config.min_points, FEWEST_POINTS):
            limits = (self._config.min_depth, self._config.max_depth)
            depths = baseline_depths(fit, score.u, score.v, size, limits)
            depths['mean_map'] = self._mean_map.depth(fit, score.u, score.v, size)
            published = dict.fromkeys(depths, None)
            if affine is not None:
                published['global'] = np.isfinite(affine)
                depths['global'] = np.where(np.isfinite(affine), affine, depths['nearest'])
            errors = {
                name: self._scores[name].add(depth, score.z, published[name])['abs_rel']
                for name, depth in depths.items()
            }
        for points in (fit, score):
            self._mean_map.add(points, size)
        return errors

    def summary(self) -> dict[str, dict[str, float]]:
        """Return macro metrics and the pooled median by baseline; empty where none was scored."""
        return {
            name: {**scores.macro(), 'median_abs_rel': scores.median_abs_rel()}
            for name, scores in self._scores.items()
            if scores.n_frames
        }
