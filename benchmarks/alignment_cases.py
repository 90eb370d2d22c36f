# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score the accuracy and CPU time of alignments on simulated predictions, beside plain methods.

Errors are mean relative errors over all known pixels, averaged over scenes and seeds; a frame
without a fit counts as refused, not as an error. Ratios are to the reference alignments, which are
plain: least squares, Tukey's biweight, and that fit corrected by the five nearest points.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpu_time import cpu_ms
import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation.baselines import interpolate_linear, interpolate_nearest
from marigold_ros.geometry.fusion.fuse import align
import numpy as np
from scipy.spatial import cKDTree
from simulated_predictions import (
    ERROR_KINDS,
    MORE_PATTERNS,
    near_edges,
    PATTERNS,
    PointPattern,
    simulate_prediction,
    SimulatedPrediction,
)

METHODS = ('disparity', 'nearest', 'least squares', 'Tukey', '5 nearest', 'global', 'local')
# Interpolation is slow and hardly differs between seeds.
_INTERPOLATED_SEEDS = 1
_COST_SIZE = (480, 640)
_COST_POINTS = 2000
_COST_RUNS = 20
# Of the reference alignments.
_ROUNDS, _TUKEY, _REJECT_LOG = 10, 4.685, 0.5
_NEAREST_METRES, _NEIGHBOURS, _STRIDE = 0.05, 5, 4


@dataclass
class CaseErrors:
    """Errors of one kind of prediction and pattern of points, by method."""

    kind: str
    pattern: str
    everywhere: dict[str, list[float]] = field(default_factory=dict)
    at_edges: dict[str, list[float]] = field(default_factory=dict)
    refused: int = 0

    def summary(self) -> dict[str, Any]:
        """Return mean errors, and their ratios to the five nearest points."""
        every, edges = _means(self.everywhere), _means(self.at_edges)
        return {
            'kind': self.kind,
            'pattern': self.pattern,
            'abs_rel': every,
            'abs_rel_at_edges': edges,
            'ratio': _ratio(every, '5 nearest'),
            'ratio_at_edges': _ratio(edges, '5 nearest'),
            'ratio_to_tukey': _ratio(every, 'Tukey'),
            'refused': self.refused,
        }


def jobs(seeds: int, draw_seeds: int) -> Iterator[tuple[str, PointPattern, int, str]]:
    """Yield kind, pattern, seed and table of every run on one scene."""
    for kind in ERROR_KINDS:
        for pattern in PATTERNS:
            yield from ((kind, pattern, seed, 'patterns') for seed in range(seeds))
    for pattern in MORE_PATTERNS:
        yield from (('smooth', pattern, seed, 'draws') for seed in range(draw_seeds))


def measure(
    depths: Sequence[np.ndarray], seeds: int, draw_seeds: int, step: Callable[[], Any]
) -> dict[str, list[dict[str, Any]]]:
    """
    Score all methods on all simulated predictions.

    Parameters
    ----------
    depths : sequence of (H, W) float32, metres
        True depth of the scenes; 0 where unknown.
    seeds, draw_seeds : int
        Runs for each scene of the main patterns, and of the other patterns of points.
    step : callable
        Called after each run.

    Returns
    -------
    dict
        ``patterns`` and ``draws`` (of ``MORE_PATTERNS``): a row for each case.

    """
    cases: dict[str, dict[tuple[str, str], CaseErrors]] = {'patterns': {}, 'draws': {}}
    for depth in depths:
        edges = near_edges(depth)
        for kind, pattern, seed, table in jobs(seeds, draw_seeds):
            case = cases[table].setdefault((kind, pattern.name), CaseErrors(kind, pattern.name))
            simulated = simulate_prediction(depth, pattern, kind, seed)
            metric = _all_methods(simulated, seed < _INTERPOLATED_SEEDS)
            case.refused += sum(found is None for found in metric.values())
            for name, found in metric.items():
                if found is None:
                    continue
                case.everywhere.setdefault(name, []).append(simulated.error(found))
                case.at_edges.setdefault(name, []).append(simulated.error(found, edges))
            step()
    return {table: [case.summary() for case in found.values()] for table, found in cases.items()}


def measure_align_ms(depth: np.ndarray) -> dict[str, float]:
    """Measure the median CPU time of align in ms at 640x480 with 2000 points, by method."""
    small = cv2.resize(depth, _COST_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    cost = {}
    for name, rows in (('16 rows', 16), ('random', 0)):
        simulated = simulate_prediction(
            small, PointPattern(name, _COST_POINTS, rows=rows), 'smooth', 0
        )
        for method in ('global', 'local'):
            config = AlignmentConfig(method=method)
            arguments = simulated.prediction, simulated.sparse, config
            cost[f'{method}, {name}'] = cpu_ms(_COST_RUNS, align, *arguments)
    return cost


def log_fields(
    depth: np.ndarray, kind: str, pattern: PointPattern
) -> tuple[np.ndarray, np.ndarray]:
    """Return logs of truth over the global fit, NaN unknown, and of our field; (H, W) both."""
    simulated = simulate_prediction(depth, pattern, kind, 0)
    plain, local = (
        align(simulated.prediction, simulated.sparse, AlignmentConfig(method=method)).metric
        for method in ('global', 'local')
    )
    if plain is None or local is None:
        return np.full(depth.shape, np.nan), np.full(depth.shape, np.nan)
    return np.log(np.where(depth > 0, depth, np.nan) / plain), np.log(local / plain)


def _all_methods(
    simulated: SimulatedPrediction, interpolated: bool
) -> dict[str, np.ndarray | None]:
    """Return metric depth by each method; None where a fit was refused."""
    prediction, sparse = simulated.prediction, simulated.sparse
    relative, shape = prediction.relative, prediction.relative.shape
    known, z = relative[sparse.v, sparse.u].astype(np.float64), sparse.z.astype(np.float64)
    metric: dict[str, np.ndarray | None] = {}
    if interpolated:
        v, u = np.mgrid[0 : shape[0], 0 : shape[1]]
        _, metric['disparity'] = interpolate_linear(sparse, u, v)
        metric['nearest'] = interpolate_nearest(sparse, u, v)
    for name, fit in (('least squares', least_squares), ('Tukey', tukey)):
        scale, shift = fit(known, z)
        metric[name] = scale * relative + shift
    metric['5 nearest'] = five_nearest(relative, sparse.u, sparse.v, z)
    for method in ('global', 'local'):
        metric[method] = align(prediction, sparse, AlignmentConfig(method=method)).metric
    return metric


def _means(errors: dict[str, list[float]]) -> dict[str, float]:
    known = {name: values for name, values in errors.items() if np.isfinite(values).any()}
    return {name: float(np.nanmean(values)) for name, values in known.items()}


def _ratio(means: dict[str, float], to: str) -> float:
    """Return the ratio of our local alignment to another method; NaN where either is missing."""
    return means['local'] / means[to] if {'local', to} <= set(means) else float('nan')


def least_squares(relative: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Fit scale and shift by least squares in metres, all points weighted alike; (n,) both."""
    return _affine_fit(relative, z, np.ones_like(relative))


def tukey(relative: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Fit scale and shift by ten rounds of Tukey's biweight of relative errors; (n,) both."""
    scale, shift = least_squares(relative, z)
    for _ in range(_ROUNDS):
        error = (z - (relative * scale + shift)) / np.maximum(z, 0.1)
        typical = 1.4826 * float(np.median(np.abs(error))) + 1e-6
        weight = np.square(np.clip(1 - np.square(error / (_TUKEY * typical)), 0, None))
        scale, shift = _affine_fit(relative, z, weight / np.square(np.maximum(z, 0.1)))
    return scale, shift


def five_nearest(relative: np.ndarray, u: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
    """
    Correct the Tukey fit at each pixel by the mean ratio of the five nearest points.

    ``relative`` is (H, W), points (n,) are at pixels u, v with depth z; returns (H, W) metres.
    """
    scale, shift = tukey(relative[v, u].astype(np.float64), z.astype(np.float64))
    metric = np.maximum(relative * scale + shift, _NEAREST_METRES)
    ratio = z / metric[v, u]
    kept = np.abs(np.log(np.maximum(ratio, 1e-3))) < _REJECT_LOG
    if not kept.any():
        return metric
    ratio, place = ratio[kept], np.stack([u[kept], v[kept]], axis=1)
    y, x = np.mgrid[0 : relative.shape[0] : _STRIDE, 0 : relative.shape[1] : _STRIDE]
    count = min(_NEIGHBOURS, len(place))
    apart, near = cKDTree(place).query(
        np.stack([x.ravel(), y.ravel()], axis=1), k=[*range(1, count + 1)]
    )
    weight = 1 / (apart + 1)
    field = (ratio[near] * weight).sum(axis=1) / weight.sum(axis=1)
    field = field.reshape(x.shape).astype(np.float32)
    return metric * cv2.resize(field, relative.shape[::-1])


def _affine_fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    design, root = np.stack([x, np.ones_like(x)], axis=1), np.sqrt(weight)
    scale, shift = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
    return float(scale), float(shift)
