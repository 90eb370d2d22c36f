# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score fused depth beside plain methods, for patterns of points and maps from good to useless.

Errors are at known pixels without a point; where a method has no depth, the nearest point's
counts, for all alike. Ratios are to linear interpolation of depth between the points over the
image, the first thing that a user with a LiDAR would try. For AbsRel a ratio is of the means over
scenes, for MAE and RMSE the mean of the scenes' ratios, as metres of streets would outweigh rooms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
import math
from typing import Any

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation.baselines import (
    fill_morphologically,
    interpolate_linear,
    interpolate_nearest,
)
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.around_points import hull_of
from marigold_ros.geometry.fusion.fuse import fuse, FusionGuide
from marigold_ros.geometry.fusion.held_out_scores import score_map, score_points
from marigold_ros.geometry.fusion.mixing import FusionModel, LARGEST_LOG_RATIO
from marigold_ros.geometry.sigma.fused_sigma import score_sigma, with_scaled_sigma
from marigold_ros.reasons import as_reason
import numpy as np
from simulated_predictions import (
    ERROR_KINDS,
    FINE,
    near_edges,
    PointPattern,
    sample_points,
    simulate_map,
    USELESS_KINDS,
)

METHODS = (
    'fused',
    'closed form',
    'linear',
    'disparity',
    'nearest',
    'morphological',
    'local',
    'global',
)
ABLATIONS = ('without image', 'without map', 'edge-aware alone', 'linear alone')
ERRORS = ('abs_rel', 'mae', 'rmse')
NO_MAP = 'none'
MODEL = 'model'
MAPS = (NO_MAP, MODEL, FINE, *ERROR_KINDS, *USELESS_KINDS)
# Plain interpolations; the best of them is what fusion has to beat.
INTERPOLATIONS = ('linear', 'disparity', 'nearest')
# Maps for which parts of fusion are left out.
ABLATED_MAPS = (NO_MAP, 'objects')
_EXACT = partial(PointPattern, outliers=0.0, noise=0.0)
# As many points on a row as every third column of 640 has.
_ON_A_ROW = 213
CONDITIONS = (
    *(_EXACT(f'{n} random', n) for n in (20, 50, 500, 2000, 10_000)),
    *(
        PointPattern(
            f'{n}, {share} % wrong', n, outliers=share / 100, factors=(0.3, 3.0), noise=0.0
        )
        for n, share in ((500, 10), (2000, 3), (2000, 30))
    ),
    _EXACT('1 row', _ON_A_ROW, rows=1, blind=0.5),
    _EXACT('4 rows close by', 4 * _ON_A_ROW, rows=4, blind=0.42, seen=0.58),
    *(_EXACT(f'{n} rows', n * _ON_A_ROW, rows=n) for n in (4, 16, 24, 32, 64)),
    _EXACT('64 rows all over', 64 * _ON_A_ROW, rows=64, blind=0.02),
    _EXACT('azimuth sectors', 4000, rows=64, part='sectors'),
    _EXACT('lower half', 500, part='lower'),
    _EXACT('depth camera', 1_000_000, part='camera'),
    _EXACT('2000 around a hole', 2000, part='around'),
)
# Metres of true depth.
RANGES = ((0.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, 40.0), (40.0, 80.0))
# Among and beyond: inside and outside of the points' convex hull.
PARTS = (*RANGES, 'at_edges', 'among_points', 'beyond_points')
# A pixel is of a thin object if it is this much nearer than what a disc of such a share of the
# width closes it to, and it is placed too far above this ratio.
_THIN, _THIN_WIDTH, _TOO_FAR = 0.8, 0.04, 1.1
_TOLD_THIN = ('fused', 'linear')
# Interpolation and map among the points, the nearest point and the map beyond their hull.
CLAIMS = ('points among', 'points beyond', 'map among', 'map beyond')
# Every second pixel of every second row is scored: neighbours say the same.
_STRIDE = 2
_FUSED = AlignmentConfig(method='fused')


@dataclass(frozen=True)
class FusionScene:
    """An image (H, W, 3) uint8 and its true depth (H, W) float32 in metres, 0 unknown."""

    rgb: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class ScoredPixels:
    """The pixels (M,) at which methods are compared, and which of them are in each part."""

    u: np.ndarray
    v: np.ndarray
    truth: np.ndarray
    parts: np.ndarray  # (len(PARTS), M) bool
    thin: np.ndarray  # (M,) bool, of thin objects in front of something

    def errors(self, depth: np.ndarray) -> np.ndarray:
        """Return AbsRel, MAE and RMSE of depth (M,); float64 (3,)."""
        size = np.abs(depth - self.truth)
        return np.array([np.mean(size / self.truth), size.mean(), np.sqrt(np.mean(size**2))])


@dataclass
class CaseScores:
    """Errors of one pattern of points with one kind of map, scene by scene."""

    points: str
    map: str
    errors: dict[str, list[np.ndarray]] = field(default_factory=dict)
    within: list[float] = field(default_factory=list)
    without_depth: int = 0
    # By part: pixels, summed relative errors of fused and linear, pixels with sigma, within it.
    sums: np.ndarray = field(default_factory=lambda: np.zeros((len(PARTS), 5)))
    # Pixels of thin objects, and those that fused and linear place too far.
    thin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    # Claimed and true errors of each scene, (len(CLAIMS), 2); of maps by the model only.
    claims: list[np.ndarray] = field(default_factory=list)

    def add(self, at: ScoredPixels, depths: dict[str, np.ndarray], fused: Alignment) -> None:
        """Add a scene: depth (M,) by method, complete, and the alignment of ``fused``."""
        for name, depth in depths.items():
            self.errors.setdefault(name, []).append(at.errors(depth))
        known, within = np.zeros(len(at.u), bool), np.zeros(len(at.u), bool)
        if fused.metric is None or fused.sigma is None:
            self.without_depth += 1
        else:
            sigma = fused.sigma[at.v, at.u]
            known = np.isfinite(sigma) & np.isfinite(fused.metric[at.v, at.u])
            within = known & (np.abs(depths['fused'] - at.truth) <= sigma)
            self.within.append(float(within[known].mean()) if known.any() else math.nan)
        relative = [np.abs(depths[name] / at.truth - 1) for name in ('fused', 'linear')]
        columns = np.stack([np.ones(len(at.u)), *relative, known, within], axis=1)
        self.sums += at.parts @ columns
        too_far = (depths[name][at.thin] > _TOO_FAR * at.truth[at.thin] for name in _TOLD_THIN)
        self.thin += [np.count_nonzero(at.thin), *map(np.count_nonzero, too_far)]

    def summary(self) -> dict[str, Any]:
        """
        Return means, ratios to linear, the paired difference from it, parts and coverage.

        ``best`` is the plain interpolation with the least AbsRel, ``of_best`` the ratios of
        fused to it and ``worst_abs_rel`` that of the worst scene to linear.
        """
        found = {name: np.array(errors) for name, errors in self.errors.items()}
        fused, linear = found['fused'], found['linear']
        difference = {}
        for column, name in enumerate(ERRORS):
            paired = (fused - linear)[:, column]
            # Scenes are independent of each other: blocks of one.
            interval = mean_interval(paired, length=1)
            difference[name] = {'mean': float(paired.mean()), 'interval': list(interval)}
        best = min(INTERPOLATIONS, key=lambda name: found[name][:, 0].mean())
        parts = {name: self._part(row) for name, row in zip(PARTS, self.sums, strict=True)}
        return {
            'points': self.points,
            'map': self.map,
            'scenes': len(fused),
            'without_depth': self.without_depth,
            'methods': {name: _against(errors, linear) for name, errors in found.items()},
            'best': best,
            'of_best': _against(fused, found[best])['ratio'],
            'difference': difference,
            'worst_abs_rel': float((fused[:, 0] / linear[:, 0]).max()),
            'coverage': float(np.nanmean(self.within)) if self.within else math.nan,
            'thin_too_far': dict(
                zip(_TOLD_THIN, (self.thin[1:] / max(self.thin[0], 1.0)).tolist(), strict=True)
            ),
            'claims': self._claims(),
            'by_range': [{'from': ends[0], 'to': ends[1], **parts.pop(ends)} for ends in RANGES],
            **{str(name): part for name, part in parts.items()},
        }

    def _claims(self) -> dict[str, dict[str, float]]:
        """Return mean claimed and true errors over the scenes that have both."""
        found = {}
        for row, name in enumerate(CLAIMS):
            both = np.array([scene[row] for scene in self.claims if np.isfinite(scene[row]).all()])
            if len(both):
                claimed, true = both.mean(axis=0).tolist()
                found[name] = {'claimed': claimed, 'true': true, 'ratio': claimed / true}
        return found

    def _part(self, sums: np.ndarray) -> dict[str, float]:
        """Return pooled AbsRel of fused and linear, and the share within one sigma."""
        count, fused, linear, known, within = sums.tolist()
        return {
            'pixels': int(count),
            'fused': fused / count if count else math.nan,
            'linear': linear / count if count else math.nan,
            'ratio': fused / linear if linear else math.nan,
            'coverage': within / known if known else math.nan,
        }


def measure(
    scenes: Sequence[FusionScene],
    network: FusionModel | None,
    conditions: Sequence[PointPattern],
    step: Callable[[], Any],
    ablate: bool = False,
    predict: Callable[[np.ndarray], Prediction] | None = None,
) -> list[dict[str, Any]]:
    """
    Score all methods for all patterns of points and all maps.

    Parameters
    ----------
    scenes : sequence of FusionScene
        With known depth; each is the foreign scene of the next.
    network : callable or None
        As `models.fusion.load_fusion` returns it; None: ``fused`` is the closed form.
    conditions : sequence of PointPattern
        Of the points.
    step : callable
        Called after each pattern and map of each scene.
    ablate : bool
        Whether ``ABLATIONS`` are scored too, for ``ABLATED_MAPS``.
    predict : callable or None
        Makes the map ``MODEL`` of an image; None leaves it out.

    Returns
    -------
    list of dict
        One for each case that has a scene; see `CaseScores.summary`.

    """
    kinds = [kind for kind in MAPS if kind != MODEL or predict is not None]
    scores = {
        (pattern.name, kind): CaseScores(pattern.name, kind)
        for pattern in conditions
        for kind in kinds
    }
    for number, scene in enumerate(scenes):
        # Mirrored, so that a single scene is foreign to itself.
        foreign = scenes[number - 1].depth[:, ::-1]
        maps: dict[str, Prediction | None] = {
            kind: simulate_map(scene.depth, kind, number, foreign)
            for kind in kinds
            if kind not in (NO_MAP, MODEL)
        }
        maps[NO_MAP] = None
        if predict is not None:
            maps[MODEL] = predict(scene.rgb)
        edges = near_edges(scene.depth)
        for pattern in conditions:
            sparse = sample_points(np.random.default_rng(number), scene.depth, pattern)
            seen = len(sparse) >= _FUSED.min_points
            at = _scored_pixels(scene.depth, edges, sparse)
            plain = _interpolations(sparse, at, scene.depth.shape) if seen else {}
            for kind in kinds:
                if seen:
                    depths, fused = _with_map(scene, sparse, maps[kind], network)
                    if ablate and kind in ABLATED_MAPS:
                        depths |= _ablations(scene, sparse, maps[kind], network)
                    complete = {
                        name: _complete(depth, at, plain['nearest'])
                        for name, depth in depths.items()
                    }
                    case = scores[pattern.name, kind]
                    case.add(at, plain | complete, fused)
                    if kind == MODEL:
                        fit = _fitted(maps[kind], sparse)
                        case.claims.append(claims(scene.depth, scene.rgb, sparse, fit))
                step()
    return [case.summary() for case in scores.values() if case.errors]


def depth_maps(
    scene: FusionScene, sparse: SparseDepth, network: FusionModel | None
) -> dict[str, np.ndarray]:
    """Return depth (H, W) without a map by method, and ``sigma``, in metres; NaN where none."""
    v, u = np.mgrid[0 : scene.depth.shape[0], 0 : scene.depth.shape[1]]
    fit, shape = _fitted(None, sparse), scene.depth.shape
    closed = fuse(fit, sparse, _FUSED, FusionGuide(shape, scene.rgb))
    fused = fuse(fit, sparse, _FUSED, FusionGuide(shape, scene.rgb, network))
    fused = _calibrated(fused, scene, sparse, network)
    found = {'closed form': closed.metric, 'fused': fused.metric, 'sigma': fused.sigma}
    missing = np.full(shape, np.nan, np.float32)
    return {
        'disparity': interpolate_linear(sparse, u, v)[1],
        **{name: missing if depth is None else depth for name, depth in found.items()},
    }


def claims(depth: np.ndarray, rgb: np.ndarray, sparse: SparseDepth, fit: Alignment) -> np.ndarray:
    """
    Return claimed and true mean error of log depth by claim, (4, 2); NaN where there is none.

    ``depth`` (H, W) is the truth, 0 unknown; ``fit`` is the map fitted to the points.
    """
    scored = score_map(score_points(sparse, rgb, depth.shape), rgb, fit)
    candidates, fitted = scored.points.candidates, scored.fitted
    grid = candidates.grid
    inside = grid.enlarge(candidates.inside.astype(np.float32)) > 0.5
    known = depth > 0
    known[sparse.v, sparse.u] = False
    truth = np.log(np.where(known, depth, np.float32(1.0)))
    sides = [
        (candidates.held_out, candidates.linear, inside),
        (candidates.held_border, candidates.nearest, ~inside),
    ]
    if fitted is not None and fit.metric is not None:
        sides += [(fitted.held_out, np.log(fit.metric), inside)]
        sides += [(fitted.held_border, np.log(fit.metric), ~inside)]
    found = np.full((len(CLAIMS), 2), np.nan)
    for row, (held_out, candidate, where) in enumerate(sides):
        whole = candidate if candidate.shape == depth.shape else grid.enlarge(candidate)
        found[row] = _mean_size(held_out), _mean_size((whole - truth)[known & where])
    return found


def _mean_size(ratio: np.ndarray) -> float:
    size = np.abs(ratio[np.isfinite(ratio)])
    return float(np.minimum(size, LARGEST_LOG_RATIO).mean()) if len(size) else np.nan


def only(candidate: str) -> FusionModel:
    """Return a network that gives all of the share to one candidate."""

    def outputs(channels: np.ndarray) -> np.ndarray:
        nothing = np.zeros_like(channels[0])
        change = nothing if candidate == 'linear' else channels[CHANNELS.index(candidate)]
        share = np.full_like(nothing, candidate == 'map')
        return np.stack([change, nothing, share])

    return outputs


def _scored_pixels(depth: np.ndarray, edges: np.ndarray, sparse: SparseDepth) -> ScoredPixels:
    """Choose known pixels of a coarse grid that are no points."""
    seen = np.zeros(depth.shape, bool)
    seen[sparse.v, sparse.u] = True
    among = hull_of(seen)
    scored = np.zeros(depth.shape, bool)
    scored[::_STRIDE, ::_STRIDE] = True
    scored &= depth > 0
    scored[sparse.v, sparse.u] = False
    v, u = np.nonzero(scored)
    truth = depth[v, u].astype(np.float64)
    ranges = [(truth > low) & (truth <= high) for low, high in RANGES]
    inside = among[v, u]
    parts = np.stack([*ranges, edges[v, u], inside, ~inside])
    return ScoredPixels(u, v, truth, parts, thin_objects(depth)[v, u])


def thin_objects(depth: np.ndarray) -> np.ndarray:
    """Return the pixels of thin objects in front of something farther, (H, W) bool."""
    known = depth > 0
    width = 2 * round(_THIN_WIDTH * depth.shape[1] / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    far = np.where(known, depth, np.float32(depth.max())).astype(np.float32)
    return known & (far < _THIN * cv2.morphologyEx(far, cv2.MORPH_CLOSE, disc))


def _interpolations(
    sparse: SparseDepth, at: ScoredPixels, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return depth (M,) from the points alone, by method."""
    nearest = interpolate_nearest(sparse, at.u, at.v)
    linear, disparity = interpolate_linear(sparse, at.u, at.v, nearest)
    return {
        'linear': linear,
        'disparity': disparity,
        'nearest': nearest,
        'morphological': fill_morphologically(sparse, at.u, at.v, (shape[1], shape[0])),
    }


def _with_map(
    scene: FusionScene,
    sparse: SparseDepth,
    prediction: Prediction | None,
    network: FusionModel | None,
) -> tuple[dict[str, np.ndarray | None], Alignment]:
    """Return depth (H, W) by the methods that may use a map, and the alignment of ``fused``."""
    fit, shape = _fitted(prediction, sparse), scene.depth.shape
    fused = fuse(fit, sparse, _FUSED, FusionGuide(shape, scene.rgb, network))
    closed = fused if network is None else fuse(fit, sparse, _FUSED, FusionGuide(shape, scene.rgb))
    fused = _calibrated(fused, scene, sparse, network)
    depths = {'fused': fused.metric, 'closed form': closed.metric}
    if prediction is not None:
        depths['local'] = fit.metric
        depths['global'] = align_map(prediction, sparse, AlignmentConfig(method='global')).metric
    return depths, fused


def _ablations(
    scene: FusionScene,
    sparse: SparseDepth,
    prediction: Prediction | None,
    network: FusionModel | None,
) -> dict[str, np.ndarray | None]:
    """Return depth (H, W) without parts of fusion."""
    fit, shape = _fitted(prediction, sparse), scene.depth.shape
    ways = {
        'without image': (fit, None, network),
        'without map': (_fitted(None, sparse), scene.rgb, network),
        'edge-aware alone': (fit, scene.rgb, only('smooth')),
        'linear alone': (fit, scene.rgb, only('linear')),
    }
    return {
        name: fuse(of_map, sparse, _FUSED, FusionGuide(shape, rgb, mixer)).metric
        for name, (of_map, rgb, mixer) in ways.items()
    }


def _fitted(prediction: Prediction | None, sparse: SparseDepth) -> Alignment:
    if prediction is None:
        return Alignment(refusal=as_reason('there is no map'), n_points=len(sparse))
    return align_map(prediction, sparse, _FUSED)


def _calibrated(
    fused: Alignment, scene: FusionScene, sparse: SparseDepth, network: FusionModel | None
) -> Alignment:
    """Scale sigma as the pipeline does in the first frame of a stream."""
    scale = score_sigma(None, fused, sparse, FusionGuide(scene.depth.shape, scene.rgb, network))
    return with_scaled_sigma(fused, scale, sparse)


def _complete(depth: np.ndarray | None, at: ScoredPixels, nearest: np.ndarray) -> np.ndarray:
    """Return depth at the scored pixels, the nearest point's where there is none."""
    if depth is None:
        return nearest
    found = depth[at.v, at.u].astype(np.float64)
    return np.where(np.isfinite(found), found, nearest)


def _against(errors: np.ndarray, linear: np.ndarray) -> dict[str, Any]:
    """Return means of errors (scenes, 3), and their ratios to those of linear or the best."""
    means = errors.mean(axis=0)
    ratios = (errors / linear).mean(axis=0)
    ratios[0] = means[0] / linear[:, 0].mean()
    return {
        **dict(zip(ERRORS, means.tolist(), strict=True)),
        'ratio': dict(zip(ERRORS, ratios.tolist(), strict=True)),
    }
