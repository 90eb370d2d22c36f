# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Scores frames one after the other and keeps what the report needs, whoever made the predictions.

The offline replay and the demo (which scores what the node published) both hand their frames to a
:class:`Scorer`; so a figure means the same in either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
import math
from typing import Any

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.evaluation.baselines import BaselineScores
from marigold_ros.evaluation.coverage import SigmaCoverage
from marigold_ros.evaluation.metrics import MetricAccumulator, METRICS
from marigold_ros.evaluation.protocol import (
    can_hold_out,
    hold_out,
    oracle_depth,
    project_scan,
    PROTOCOLS,
    sample_at,
)
from marigold_ros.evaluation.rows import start_row, summarise
from marigold_ros.evaluation.samples import Sample, SampleKeeper
from marigold_ros.frame import Alignment, Frame, FrameResult, Prediction, SparseDepth
from marigold_ros.geometry.camera import rectified, rectify_image, rectify_sparse
from marigold_ros.geometry.sparse_depth import sparse_from_depth
import numpy as np

# Dense truth has 100 times the points of a scan; every 4th row and column is enough for the
# baselines.
_TRUTH_STRIDE = 4

Finish = Callable[[Frame, Prediction], FrameResult]


class Scorer:
    """
    Accumulates protocols, baselines, latencies, rows and samples over frames.

    Parameters
    ----------
    config : AlignmentConfig
        Depth range and occlusion test of truth points.
    finish : callable or None
        ``FramePipeline.finish`` of a pipeline of its own, which puts a prediction into metres with
        the fit lines only; None leaves the protocol ``heldout`` out.
    fit_every, held_out : int, {'rings', 'azimuth'}
        Every n-th scan line, or block of azimuth, is for the fit.

    """

    def __init__(
        self,
        config: AlignmentConfig,
        finish: Finish | None = None,
        fit_every: int = 8,
        held_out: str = 'rings',
    ) -> None:
        self._config, self._finish = config, finish
        self.fit_every, self.held_out = fit_every, held_out
        self._protocols = {name: MetricAccumulator() for name in PROTOCOLS}
        self._baselines = {name: BaselineScores(config) for name in ('heldout', 'truth')}
        self._coverage = SigmaCoverage()
        self._latency: dict[str, list[float]] = {}
        self._samples = SampleKeeper()
        self.rows: list[dict[str, Any]] = []
        self.n_metric = 0
        self.line_sources: dict[str, int] = {}

    def add(
        self,
        frame: Frame,
        prediction: Prediction,
        metric: np.ndarray | None,
        *,
        truth: np.ndarray | None = None,
        ring: np.ndarray | None = None,
        alignment: Alignment | None = None,
        scan_stamp_ns: int | None = None,
        timings_ms: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """
        Score one frame.

        Parameters
        ----------
        frame : Frame
            The input, with camera, the whole scan and extrinsics as far as they are known.
        prediction : Prediction
            The model's answer for the rectified picture.
        metric : (H, W) float or None, metres
            The depth that was published, fitted to all points; NaN invalid.
        truth : (H, W) float or None, metres
            Dense truth, registered to ``frame.rgb``.
        ring : (N,) int or None
            Scan lines of ``frame.points_lidar``.
        alignment : Alignment or None
            The published fit, for the row.
        scan_stamp_ns : int or None
            Stamp of the scan, for the row.
        timings_ms : mapping or None
            Milliseconds by stage.

        Returns
        -------
        dict
            The frame's row of per_frame.csv.

        """
        alignment = alignment or Alignment(state='none' if metric is None else 'fitted')
        timings_ms = timings_ms or {}
        for stage, value in timings_ms.items():
            self._latency.setdefault(stage, []).append(float(value))
        self.n_metric += metric is not None
        row = start_row(len(self.rows), frame, prediction, alignment, scan_stamp_ns, timings_ms)
        if frame.camera is not None and truth is not None:
            truth = rectify_image(np.asarray(truth, np.float32), frame.camera, nearest=True)
        lidar = self._lidar(frame)
        shown = self._heldout(frame, prediction, ring, row) if len(lidar) else None
        if truth is not None:
            dense = self._truth(lidar, truth, metric, row)
            shown = shown or dense
        self._oracle(prediction, truth, lidar, row)
        if prediction.space == 'metric':
            self._raw(prediction, truth, lidar, row)
        self.rows.append(row)
        self._keep_sample(frame, prediction, metric, lidar, shown, row)
        return row

    def results(self) -> dict[str, Any]:
        """
        Give ``protocols``, ``baselines`` and ``latency_ms`` of results.json.

        Baselines are those of ``heldout`` where there were scans, else of ``truth``, at the very
        pixels at which the prediction is scored.
        """
        protocols = {
            name: scores.summary() for name, scores in self._protocols.items() if scores.n_frames
        }
        if 'heldout' in protocols:
            protocols['heldout'].update(self._coverage.summary())
        return {
            'protocols': protocols,
            'baselines': self._baselines[self.baselines_protocol].summary(),
            'latency_ms': summarise(self._latency),
        }

    @property
    def baselines_protocol(self) -> str:
        """The protocol whose fit and score points the baselines use."""
        return 'heldout' if self._protocols['heldout'].n_frames else 'truth'

    @property
    def samples(self) -> list[tuple[str, Sample]]:
        """Frames for the report, in order of time, each with what it stands for."""
        return self._samples.chosen()

    def _lidar(self, frame: Frame) -> SparseDepth:
        """All sparse depth in view of the rectified camera."""
        if frame.sparse is not None:
            return (
                frame.sparse
                if frame.camera is None
                else rectify_sparse(frame.sparse, frame.camera)
            )
        if not can_hold_out(frame):
            return _empty()
        return project_scan(frame, np.asarray(frame.points_lidar), self._config)

    def _heldout(
        self, frame: Frame, prediction: Prediction, ring: np.ndarray | None, row: dict[str, Any]
    ) -> tuple[SparseDepth, np.ndarray] | None:
        """Fit to every n-th line and score between; gives the scored points and errors."""
        if self._finish is None or not can_hold_out(frame):
            return None
        split = hold_out(frame, self._config, self.fit_every, ring, self.held_out)
        source = split.lines.source
        self.line_sources[source] = self.line_sources.get(source, 0) + 1
        row.update(n_lines=split.lines.count, n_fit=len(split.fit), n_score=len(split.score))
        try:
            result = self._finish(replace(frame, points_lidar=split.points_fit), prediction)
        except MarigoldError as error:
            row['heldout_reason'] = str(error)
            return None
        alignment = result.alignment
        row.update(heldout_state=alignment.state, heldout_reason=alignment.reason)
        if result.metric is None or len(split.score) == 0:
            return None
        predicted = sample_at(result.metric, split.score)
        self._note('heldout', predicted, split.score.z, row)
        row.update(self._coverage.add(predicted, result.sigma, split.score))
        size = frame.rgb.shape[1], frame.rgb.shape[0]
        errors = self._baselines['heldout'].add(split.fit, split.score, predicted, size)
        row.update({f'heldout_{name}_abs_rel': error for name, error in errors.items()})
        return split.score, _relative_error(predicted, split.score.z)

    def _truth(
        self,
        lidar: SparseDepth,
        truth: np.ndarray,
        metric: np.ndarray | None,
        row: dict[str, Any],
    ) -> tuple[SparseDepth, np.ndarray] | None:
        """Score the published depth against dense truth."""
        truth = self._in_range(truth)
        if metric is None:
            return None
        self._note('truth', metric, truth, row)
        points = sparse_from_depth(truth, self._config, _TRUTH_STRIDE)
        predicted = sample_at(metric, points)
        size = (truth.shape[1], truth.shape[0])
        errors = self._baselines['truth'].add(lidar, points, predicted, size)
        row.update({f'truth_{name}_abs_rel': error for name, error in errors.items()})
        return points, _relative_error(predicted, points.z)

    def _oracle(
        self,
        prediction: Prediction,
        truth: np.ndarray | None,
        lidar: SparseDepth,
        row: dict[str, Any],
    ) -> None:
        limits = (self._config.min_depth, self._config.max_depth)
        relative, target = self._all_truth(prediction.relative, truth, lidar)
        self._note('oracle', oracle_depth(relative, target, prediction.space, limits), target, row)

    def _raw(
        self,
        prediction: Prediction,
        truth: np.ndarray | None,
        lidar: SparseDepth,
        row: dict[str, Any],
    ) -> None:
        self._note('raw', *self._all_truth(prediction.relative, truth, lidar), row)

    def _all_truth(
        self, image: np.ndarray, truth: np.ndarray | None, lidar: SparseDepth
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pair an image with all truth there is: dense, else every LiDAR point."""
        if truth is not None:
            return image, self._in_range(truth)
        return sample_at(image, lidar), lidar.z

    def _in_range(self, truth: np.ndarray) -> np.ndarray:
        """Truth outside the depth range of the fit is no truth: sky and far background."""
        with np.errstate(invalid='ignore'):
            kept = (truth >= self._config.min_depth) & (truth <= self._config.max_depth)
        return np.where(kept, truth, np.nan)

    def _note(
        self, protocol: str, predicted: np.ndarray, truth: np.ndarray, row: dict[str, Any]
    ) -> None:
        scores = self._protocols[protocol].add(predicted, truth)
        row.update({f'{protocol}_{name}': scores[name] for name in (*METRICS, 'n', 'coverage')})

    def _keep_sample(
        self,
        frame: Frame,
        prediction: Prediction,
        metric: np.ndarray | None,
        lidar: SparseDepth,
        shown: tuple[SparseDepth, np.ndarray] | None,
        row: dict[str, Any],
    ) -> None:
        rgb = frame.rgb if frame.camera is None else rectify_image(frame.rgb, frame.camera)
        score, error = shown or (_empty(), np.zeros(0))
        known = error[np.isfinite(error)]
        quadric = row.get('heldout_quadric_abs_rel', row.get('truth_quadric_abs_rel', math.nan))
        self._samples.add(
            Sample(
                index=row['index'],
                stamp_ns=frame.stamp_ns,
                rgb=rgb,
                relative=prediction.relative,
                space=prediction.space,
                metric=metric,
                lidar=lidar,
                score=score,
                error=error,
                abs_rel=float(known.mean()) if len(known) else math.nan,
                quadric_abs_rel=quadric,
                K=None if frame.camera is None else rectified(frame.camera).K,
            )
        )


def _relative_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs(np.asarray(predicted, np.float64) - truth) / truth


def _empty() -> SparseDepth:
    return SparseDepth(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32))
