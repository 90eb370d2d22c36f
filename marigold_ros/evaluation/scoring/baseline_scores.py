# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The scores of the baselines, and the prediction's difference from them, at the same pixels."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation.baselines import (
    baseline_depths,
    BASELINE_TEXT,
    FEWEST_POINTS,
    MeanMap,
    surface_depth,
)
from marigold_ros.evaluation.metrics.depth_metrics import MetricAccumulator
from marigold_ros.evaluation.metrics.intervals import error_of_mean, mean_interval
from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.protocols.oracle import oracle_depth
from marigold_ros.evaluation.protocols.truth import substitute_missing
from marigold_ros.frame import SparseDepth
from marigold_ros.threads import run_beside
import numpy as np


@dataclass(frozen=True)
class BegunFrame:
    """A frame of `BaselineScores`: points, size, and depth by baseline; None of too few points."""

    fit: SparseDepth
    score: SparseDepth
    size: tuple[int, int]
    depths: Future[dict[str, np.ndarray]] | None


class BaselineScores:
    """
    Accumulates the baselines' metrics over frames, within the limits of the alignment.

    ``of_points`` is False to leave out all but ``global``, the only one that sees the model.
    """

    def __init__(self, config: AlignmentConfig, of_points: bool = True) -> None:
        self._config, self._of_points = config, of_points
        names = BASELINE_TEXT if of_points else ('global',)
        self._scores = {name: MetricAccumulator() for name in names}
        # By baseline one list per frame: the prediction's metrics minus the baseline's.
        self._differences: dict[str, list[list[float]]] = {name: [] for name in self._scores}
        self._mean_map = MeanMap()

    def begin(self, fit: SparseDepth, score: SparseDepth, size: tuple[int, int]) -> BegunFrame:
        """
        Begin a frame in a thread, for `add`.

        The baselines see the points ``fit`` of an image of ``size`` (width, height), and are
        scored at the points ``score``.
        """
        if len(score) == 0 or len(fit) < FEWEST_POINTS:
            return BegunFrame(fit, score, size, None)
        depths: Future[dict[str, np.ndarray]] = Future()
        if self._of_points:
            limits = (self._config.min_depth, self._config.max_depth)
            run_beside({depths: lambda: baseline_depths(fit, score.u, score.v, size, limits)})
        else:
            depths.set_result({})
        return BegunFrame(fit, score, size, depths)

    def add(
        self, begun: BegunFrame, own: Mapping[str, float], plain: np.ndarray
    ) -> dict[str, float]:
        """
        Score one frame; nothing with too few fit points.

        ``own`` has the prediction's metrics at the points scored, ``plain`` (M,) metres is the
        prediction there by method ``global``: NaN counts as the nearest fit point, as it does for
        the prediction. Returns columns ``<baseline>_<metric>`` of ``COMPARED``.
        """
        errors: dict[str, float] = {}
        fit, score, size = begun.fit, begun.score, begun.size
        if begun.depths is not None:
            depths = dict(begun.depths.result())
            if self._of_points:
                depths['mean_map'] = self._mean_map.depth(fit, score.u, score.v, size)
            depths['global'] = substitute_missing(plain, score.z, fit, score)
            errors = self._score(depths, score, own, np.isfinite(plain))
        for points in (fit, score) if self._of_points else ():
            self._mean_map.add(points, size)
        return errors

    def add_fitted_to_truth(
        self, truth: SparseDepth, own: Mapping[str, float], size: tuple[int, int]
    ) -> dict[str, float]:
        """
        Score surfaces fitted to the truth itself, and the mean of earlier images scaled to it.

        The counterparts of a prediction that is fitted to the truth (``oracle``), with the metrics
        ``own`` at the points ``truth`` of an image of ``size``; returns the same as :meth:`add`.
        """
        if not self._of_points or len(truth) < FEWEST_POINTS:
            return {}
        limits = (self._config.min_depth, self._config.max_depth)
        depths = {
            name: surface_depth(truth, truth.u, truth.v, size, degree, limits)
            for degree, name in enumerate(('constant', 'plane', 'quadric'))
        }
        mean = self._mean_map.earlier(truth.u, truth.v, size)
        if mean is not None:
            scaled = oracle_depth(mean, truth.z, 'depth', limits)
            if np.isfinite(scaled).all():
                depths['mean_map'] = scaled
        errors = self._score(depths, truth, own)
        self._mean_map.add(truth, size)
        return errors

    def _score(
        self,
        depths: Mapping[str, np.ndarray],
        score: SparseDepth,
        own: Mapping[str, float],
        published: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Add the metrics of some baselines; ``published`` is where ``global`` has depth."""
        errors: dict[str, float] = {}
        for name, depth in depths.items():
            scores = self._scores[name].add(
                depth, score.z, published if name == 'global' else None
            )
            self._differences[name].append([own[m] - scores[m] for m in METRICS])
            errors |= {f'{name}_{metric}': scores[metric] for metric in COMPARED}
        return errors

    def summary(self) -> dict[str, dict[str, float]]:
        """Return macro metrics and the pooled median by baseline; empty where none was scored."""
        return {
            name: {**scores.macro(), 'median_abs_rel': scores.median_abs_rel()}
            for name, scores in self._scores.items()
            if scores.n_frames
        }

    def paired(self) -> dict[str, dict[str, dict[str, Any]]]:
        """
        Return the mean over frames of the prediction's metrics minus each baseline's.

        Returns
        -------
        dict
            By baseline and metric ``difference``, its 95 % ``interval`` (NaN for too few
            independent frames), ``standard_error`` and ``n_frames``; empty where none was scored.

        """
        return {
            name: {
                metric: paired_difference(values, metric)
                for metric, values in zip(METRICS, np.array(frames).T, strict=True)
            }
            for name, frames in self._differences.items()
            if frames
        }


def paired_difference(values: np.ndarray, metric: str = 'abs_rel') -> dict[str, Any]:
    """Summarise differences of a metric, (n,), one per frame in order of time."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else float('nan')
    return {
        'difference': mean,
        'interval': np.clip(mean_interval(known), *METRICS[metric].difference_bounds).tolist(),
        'standard_error': error_of_mean(known),
        'n_frames': len(known),
    }
