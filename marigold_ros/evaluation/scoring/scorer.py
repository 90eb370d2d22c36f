# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score frames one after the other, whoever made the predictions.

The offline replay and the demo (which scores what the node published) both hand their frames to a
:class:`Scorer`, so that a figure means the same in either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
import math
from typing import Any

from marigold_ros.bags.frames import BagFrame
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.evaluation.baselines import (
    BASELINE_TEXT,
    global_depth,
    polynomial_terms,
    to_limited_metres,
)
from marigold_ros.evaluation.choices import OWN, PROTOCOLS
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.sigma_scores import SigmaScores
from marigold_ros.evaluation.metrics.surfaces import mean_surface_scores, surface_scores
from marigold_ros.evaluation.metrics.temporal import TemporalScores
from marigold_ros.evaluation.protocols.held_out import can_hold_out, hold_out, project_scan
from marigold_ros.evaluation.protocols.oracle import describe_oracle, oracle_pairs
from marigold_ros.evaluation.protocols.truth import (
    all_truth,
    DepthPairs,
    in_range,
    sample_at,
    substitute_missing,
)
from marigold_ros.evaluation.scoring.baseline_scores import BaselineScores, paired_difference
from marigold_ros.evaluation.scoring.merging import merge_attributes
from marigold_ros.evaluation.scoring.protocol_scores import cells_at, ProtocolScores
from marigold_ros.evaluation.scoring.report_frames import FrameSelector, ReportFrame
from marigold_ros.frame import Frame, FrameResult, Prediction, SparseDepth
from marigold_ros.geometry.camera.depth_images import stride_within
from marigold_ros.geometry.camera.lidar_projection import sparse_from_depth
from marigold_ros.geometry.camera.rectification import rectify_depth
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.spaces import from_metres
import numpy as np

# Pixels of dense truth that baselines are scored at, and that the report shows errors at: it has
# 100 times the points of a scan.
_MOST_SCORED, _MOST_SHOWN = 20_000, 400_000

# The held-out fit at its scored pixels against dense truth there, to check LiDAR as truth.
_AT_TRUTH = 'heldout_at_truth'
_FIT_COLUMNS = ('n_points', 'n_inliers', 'scale', 'shift', 'rms', 'spread_log')
# What a model must beat alone, by the degree of the surface.
_SIMPLEST = ('constant', 'plane')
_NO_POINTS = SparseDepth(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32))

Finish = Callable[[Frame, Prediction], FrameResult]


class Scorer:
    """
    Accumulates protocols, baselines, surfaces, temporal scores, latencies, rows, report frames.

    Parameters
    ----------
    config : AlignmentConfig
        Depth range and occlusion test of truth points.
    finish : callable or None
        ``FramePipeline.finish`` of a separate pipeline, which puts a prediction into metres with
        the fit lines only; None where the published depth was fitted to no other points already.
    fit_every, held_out : int, {'rings', 'azimuth'}
        Every n-th scan line, or block of azimuth, is for the fit.
    oracle : str
        Rule of the protocol ``oracle``, one of ``ORACLES``.
    baselines : bool
        False for further models on the same frames: of the baselines ``global`` alone depends on
        the model.

    """

    def __init__(
        self,
        config: AlignmentConfig,
        finish: Finish | None = None,
        fit_every: int = 8,
        held_out: str = 'rings',
        oracle: str = OWN,
        baselines: bool = True,
    ) -> None:
        self._config, self._finish, self._thins_scans = config, finish, True
        self.fit_every, self.held_out, self._oracle_rule = fit_every, held_out, oracle
        self._protocols = {
            name: ProtocolScores(config.max_depth) for name in (*PROTOCOLS, _AT_TRUTH)
        }
        self._baselines = {
            name: BaselineScores(config, baselines) for name in ('heldout', 'truth', 'oracle')
        }
        self._sigma, self._temporal = SigmaScores(), TemporalScores()
        self._space: str | None = None
        self._latency: dict[str, list[float]] = {}
        self._selector = FrameSelector()
        self.rows: list[dict[str, Any]] = []
        self.n_metric = 0
        self.line_sources: dict[str, int] = {}

    def add(
        self,
        item: BagFrame,
        prediction: Prediction,
        result: FrameResult,
        compared: Mapping[str, Prediction] | None = None,
    ) -> dict[str, Any]:
        """
        Score one frame.

        Parameters
        ----------
        item : BagFrame
            The frame, with camera, the whole scan and extrinsics as far as they are known, its
            dense truth and its scan lines.
        prediction : Prediction
            The model's prediction for the rectified image.
        result : FrameResult
            What was published: depth, its fit, and the points of the fit if they are known.
        compared : mapping of str to Prediction, or None
            Of other models, by name, for the report's images.

        Returns
        -------
        dict
            The frame's row of per_frame.csv.

        Raises
        ------
        InputError
            If the frame is unusable.

        """
        frame, metric, truth = item.usable, result.metric, item.truth
        for stage, value in result.timings_ms.items():
            self.time(stage, float(value))
        self.n_metric += metric is not None
        self._space = prediction.space
        row = self._start_row(item, prediction, result)
        if frame.camera is not None and truth is not None and not item.truth_is_rectified:
            truth = rectify_depth(truth, frame.camera)
        K = None if result.camera is None else result.camera.K
        fit, lidar = self._points(frame, result)
        shown = None
        if len(lidar) and can_hold_out(frame):
            shown = self._heldout(replace(item, truth=truth), prediction, result, lidar, row)
        if truth is not None and metric is not None:
            row.update(surface_scores(metric, truth, K))
            dense = self._truth(prediction, fit, truth, metric, row)
            shown = shown or dense
        pairs = oracle_pairs(prediction, truth, lidar, self._oracle_rule, self._config)
        own = self._score('oracle', pairs, row)
        if own['n']:
            self._note_simplest(prediction.space, pairs, row)
        fitted = None
        if metric is None and truth is not None and own and not len(lidar):
            # Nothing but the truth could put the prediction into metres.
            fitted = replace(pairs, predicted=np.asarray(pairs.predicted, np.float32))
            shown = self._fitted_to_truth(fitted, row)
        if prediction.space == 'metric':
            self._score('raw', all_truth(prediction.relative, truth, lidar, self._config), row)
        medians = ('heldout_median_ratio', 'truth_median_ratio')
        ratios = {name: row[name] for name in medians if name in row}
        row.update(self._temporal.add(frame, result.rgb, metric, result.alignment, ratios))
        self.rows.append(row)
        error = np.zeros(0) if shown is None else shown.relative_error
        known = error[np.isfinite(error)]
        baseline, baseline_error = _best_baseline(row)
        self._selector.add(
            ReportFrame(
                index=row['index'],
                rgb=result.rgb,
                relative=prediction.relative,
                space=prediction.space,
                metric=metric if fitted is None else fitted.predicted,
                truth=None if fitted is None else np.asarray(fitted.truth, np.float32),
                lidar=lidar,
                score=(shown and shown.at) or _NO_POINTS,
                error=error,
                abs_rel=float(known.mean()) if len(known) else math.nan,
                baseline_abs_rel=baseline_error,
                baseline=baseline,
                K=K,
                compared=compared or {},
            )
        )
        return row

    def time(self, stage: str, milliseconds: float) -> None:
        """Add the milliseconds of a stage of one frame."""
        self._latency.setdefault(stage, []).append(milliseconds)

    def merge(self, other: Scorer) -> None:
        """Add the frames of another run, which come after these."""
        offset = len(self.rows)
        for row in other.rows:
            row['index'] += offset
        self._selector.merge(other._selector, offset)
        merge_attributes(
            self, other, ('_selector', '_finish', 'fit_every', 'held_out', '_thins_scans')
        )

    def go_on(self, finish: Finish | None) -> None:
        """Score further frames, after this scorer was stored without its pipeline."""
        self._finish = finish

    def score_whole_scans(self) -> None:
        """From now on score published depth at all points, as of scans that no fit has seen."""
        self._finish, self._thins_scans = None, False

    def forget_report_frames(self) -> None:
        """Drop the frames kept for a report; runs that only count need no images."""
        self._selector = FrameSelector()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pipeline, which holds the model."""
        return {**vars(self), '_finish': None}

    def results(self) -> dict[str, Any]:
        """Return the entries of results.json from ``protocols`` to ``surfaces``."""
        protocols = {
            name: scores.summary() for name, scores in self._protocols.items() if scores.n_frames
        }
        at_truth = protocols.pop(_AT_TRUTH, None)
        if 'heldout' in protocols:
            protocols['heldout'].update(self._sigma.summary())
            if 'sigma' in protocols['heldout']:
                low, high = mean_interval(self._column('heldout_within_2_sigma'))
                shown = [max(low, 0.0), min(high, 1.0)] if math.isfinite(low) else None
                protocols['heldout']['sigma_interval'] = shown
            if at_truth:
                names = ('macro', 'interval', 'n_frames', 'n_points')
                protocols['heldout']['at_truth'] = {name: at_truth[name] for name in names}
        baselines = self._baselines[self.baselines_protocol]
        return {
            'protocols': protocols,
            'baselines': baselines.summary(),
            'baselines_paired': baselines.paired(),
            'latency_ms': {stage: _percentiles(ms) for stage, ms in self._latency.items()},
            'temporal': self._temporal.summary(),
            'surfaces': mean_surface_scores(self.rows),
        }

    def alone(self) -> dict[str, Any]:
        """Return by surface the difference of the model alone, fitted to the truth, from it."""
        alone = self._column('oracle_abs_rel')
        columns = {name: self._column(f'alone_{name}_abs_rel') for name in _SIMPLEST}
        return {
            name: {'abs_rel': float(np.nanmean(theirs)), **paired_difference(alone - theirs)}
            for name, theirs in columns.items()
            if np.isfinite(alone - theirs).any()
        }

    def _column(self, name: str) -> np.ndarray:
        """Return a column (n,) of the rows; NaN where a frame has none."""
        return np.array([row.get(name, math.nan) for row in self.rows], np.float64)

    @property
    def oracle(self) -> dict[str, str]:
        """Rule of the protocol ``oracle``, and its description."""
        limits = (self._config.min_depth, self._config.max_depth)
        return describe_oracle(self._oracle_rule, limits, self._space or 'none')

    @property
    def baselines_protocol(self) -> str:
        """
        The protocol whose points baselines see: ``heldout`` where there were scans.

        ``oracle`` where images have truth but neither scans nor metric depth, as in data sets.
        """
        if self._protocols['heldout'].n_frames:
            return 'heldout'
        return 'oracle' if self._baselines['oracle'].summary() else 'truth'

    @property
    def report_frames(self) -> list[tuple[str, ReportFrame]]:
        """Frames for the report, in order of time, each with its rank in words."""
        return self._selector.chosen()

    def _start_row(
        self, item: BagFrame, prediction: Prediction, result: FrameResult
    ) -> dict[str, Any]:
        """Return the columns of per_frame.csv that are known before scoring."""
        scan_ns, fit = item.scan_stamp_ns, result.alignment
        height, width = item.usable.rgb.shape[:2]
        return {
            'index': len(self.rows),
            'stamp_ns': item.usable.stamp_ns,
            'width': width,
            'height': height,
            'state': fit.state,
            'reason': fit.reason,
            'led_by': fit.led_by,
            'map_share': (fit.shares or {}).get('map', math.nan),
            'map_reason': fit.map_reason,
            'scan_dt_ms': math.nan if scan_ns is None else (scan_ns - item.usable.stamp_ns) / 1e6,
            **{name: getattr(fit, name) for name in _FIT_COLUMNS},
            'space': prediction.space,
            'total_ms': result.timings_ms.get('total', math.nan),
        }

    def _points(self, frame: Frame, result: FrameResult) -> tuple[SparseDepth, SparseDepth]:
        """Return the points of the published fit, and all of the LiDAR, in the rectified image."""
        if not self._thins_scans:
            return result.sparse or _NO_POINTS, self._lidar(frame)
        # The points of several sources are not the LiDAR's.
        known = None if result.sources else result.sparse
        lidar = self._lidar(frame) if known is None else known
        return result.sparse or lidar, lidar

    def _lidar(self, frame: Frame) -> SparseDepth:
        """Return all sparse depth in view of the rectified camera."""
        if frame.points_lidar is None:
            return sparse_of_frame(frame, self._config)[0] or _NO_POINTS
        if not can_hold_out(frame):
            return _NO_POINTS
        return project_scan(frame, np.asarray(frame.points_lidar), self._config)

    def _heldout(
        self,
        item: BagFrame,
        prediction: Prediction,
        result: FrameResult,
        lidar: SparseDepth,
        row: dict[str, Any],
    ) -> DepthPairs | None:
        """Fit to every n-th scan line, score the others; return what was scored."""
        frame, fit, score = item.usable, result.sparse or _NO_POINTS, lidar
        if self._thins_scans:
            seen = None if frame.lidar is None or frame.lidar.sparse is not None else lidar
            split = hold_out(frame, self._config, self.fit_every, item.ring, self.held_out, seen)
            found_by = split.scan_lines.found_by
            self.line_sources[found_by] = self.line_sources.get(found_by, 0) + 1
            row['n_lines'] = split.scan_lines.count
            fit, score = split.fit, split.score
            frame = split.to_fit(frame)
        row.update(n_fit=len(fit), n_score=len(score))
        baselines, size = self._baselines['heldout'], (row['width'], row['height'])
        # Beside the fit; only that knows what it sees of several sources.
        begun = None if len(frame.inputs) > 1 else baselines.begin(fit, score, size)
        try:
            result = result if self._finish is None else self._finish(frame, prediction)
        except MarigoldError as error:
            row['heldout_reason'] = str(error)
            return None
        alignment = result.alignment
        row.update(heldout_state=alignment.state, heldout_reason=alignment.reason)
        if result.metric is None or len(score) == 0:
            return None
        if begun is None:
            fit = result.sparse or fit
            begun = baselines.begin(fit, score, size)
        published = sample_at(result.metric, score)
        row.update(self._sigma.add(published, result.sigma, score))
        known = np.isfinite(published)
        predicted = substitute_missing(published, score.z, fit, score)
        pairs = DepthPairs(predicted, score.z, score)
        own = self._score('heldout', pairs, row, known)
        if item.truth is not None:
            exact = in_range(sample_at(item.truth, score), self._config)
            self._score(_AT_TRUTH, replace(pairs, truth=exact), row, known)
        plain = global_depth(prediction, fit, score, self._config)
        _note(row, 'heldout', baselines.add(begun, own, plain))
        return pairs

    def _truth(
        self,
        prediction: Prediction,
        lidar: SparseDepth,
        truth: np.ndarray,
        metric: np.ndarray,
        row: dict[str, Any],
    ) -> DepthPairs:
        """Score the published depth against dense truth; return a part of the pixels."""
        truth = in_range(truth, self._config)
        complete = substitute_missing(metric, truth, lidar)
        self._score('truth', DepthPairs(complete, truth), row, np.isfinite(metric))
        points = sparse_from_depth(truth, self._config, stride_within(truth.size, _MOST_SCORED))
        baselines = self._baselines['truth']
        begun = baselines.begin(lidar, points, (row['width'], row['height']))
        predicted, published = sample_at(complete, points), np.isfinite(sample_at(metric, points))
        own = depth_metrics(predicted, points.z, published=published)
        plain = global_depth(prediction, lidar, points, self._config)
        _note(row, 'truth', baselines.add(begun, own, plain))
        return DepthPairs(predicted, points.z, points)

    def _fitted_to_truth(self, fitted: DepthPairs, row: dict[str, Any]) -> DepthPairs:
        """Score baselines fitted to the truth (H, W) too; return a part of the pixels."""
        truth, size = fitted.truth, (row['width'], row['height'])
        points = sparse_from_depth(truth, self._config, stride_within(truth.size, _MOST_SCORED))
        own = depth_metrics(sample_at(fitted.predicted, points), points.z)
        _note(row, 'oracle', self._baselines['oracle'].add_fitted_to_truth(points, own, size))
        shown = sparse_from_depth(truth, self._config, stride_within(truth.size, _MOST_SHOWN))
        return DepthPairs(sample_at(fitted.predicted, shown), shown.z, shown)

    def _note_simplest(self, space: str, pairs: DepthPairs, row: dict[str, Any]) -> None:
        """Add the AbsRel of surfaces that are fitted to the truth as the oracle is."""
        known = np.isfinite(pairs.truth) & (pairs.truth > 0)
        v, u = np.nonzero(known) if pairs.at is None else (pairs.at.v[known], pairs.at.u[known])
        limits, z = (self._config.min_depth, self._config.max_depth), pairs.truth[known]
        plane = polynomial_terms(u, v, (row['width'], row['height']), 1)
        target = from_metres(z, space)
        for name, terms in zip(_SIMPLEST, (plane[:, :1], plane), strict=True):
            fitted = np.linalg.lstsq(terms.T @ terms, terms.T @ target, rcond=None)[0]
            depth = to_limited_metres(terms @ fitted, space, limits)
            row[f'alone_{name}_abs_rel'] = float(np.abs(depth / z - 1.0).mean())

    def _score(
        self,
        protocol: str,
        pairs: DepthPairs,
        row: dict[str, Any],
        published: np.ndarray | None = None,
    ) -> dict[str, float]:
        """
        Score a frame by a protocol; return the metrics.

        ``published`` is False where depth is a substitute; None if it is so nowhere.
        """
        shape, at = (row['height'], row['width']), pairs.at
        v, u = np.ogrid[: shape[0], : shape[1]] if at is None else (at.v, at.u)
        cells = cells_at(u, v, shape)
        scores, ratio = self._protocols[protocol].add(
            pairs.predicted, pairs.truth, cells, published
        )
        _note(row, protocol, {**scores, 'median_ratio': ratio})
        return scores


def _note(row: dict[str, Any], protocol: str, values: Mapping[str, float]) -> None:
    """Add values to the row of a frame, in columns of a protocol."""
    row.update({f'{protocol}_{name}': value for name, value in values.items()})


def _best_baseline(row: Mapping[str, Any]) -> tuple[str, float]:
    """Return the baseline with the smallest AbsRel of a row, and that; '' and NaN without any."""
    for protocol in ('heldout', 'truth', 'oracle'):
        names = {name: f'{protocol}_{name}_abs_rel' for name in BASELINE_TEXT}
        errors = {name: row[key] for name, key in names.items() if name != 'global' and key in row}
        if errors:
            best = min(errors, key=lambda name: errors[name])
            return best, errors[best]
    return '', math.nan


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = (float(p) for p in np.percentile(values, (50, 95, 99)))
    longest, mean = float(np.max(values)), float(np.mean(values))
    return {'p50': p50, 'p95': p95, 'p99': p99, 'max': longest, 'mean': mean, 'n': len(values)}
