# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metric depth fused from the points of a frame, the edges of its image and the fitted map.

The points lead: a frame with enough sound points in view is metric whatever the model says, and a
map that they contradict has no share.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.alignment.fitted_depth import log_ratio
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.camera.lidar_projection import NO_SPARSE_DEPTH
from marigold_ros.geometry.fusion.evidence import (
    Evidence,
    gather_evidence,
    gather_points,
    is_map_contradicted,
    judge_map,
    PointEvidence,
    relative_error,
)
from marigold_ros.geometry.fusion.full_size import enlarge_depth, with_detail
from marigold_ros.geometry.fusion.mixing import follow_map, FusionModel, mix
import numpy as np

# Median relative difference of points from their interpolation, and from their neighbours, above
# which they are no scan of this image.
_CONTRADICTION = 0.65
# Points that may refuse a held depth, and by how many sigma it may be off at them in the median.
_JUDGES, _CONTRADICTED_SIGMA = 5, 3.0
# Share of the map in the mean over the image above which it leads.
_LEADS = 0.5
# Share of a normal distribution within one deviation.
_ONE_SIGMA = 0.6827

Result = TypeVar('Result')


def align(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    previous: Alignment | None = None,
    no_points: str = NO_SPARSE_DEPTH,
    rgb: np.ndarray | None = None,
    network: FusionModel | None = None,
) -> Alignment:
    """
    Put a prediction into metres with sparse depth, by the method of the settings.

    Parameters
    ----------
    prediction, sparse, config, previous, no_points
        As for `align_map`, which fits scale, shift and correction field.
    rgb : (H, W, 3) uint8 or None
        The image, for method ``fused``; without it depth follows no edges.
    network : callable or None
        For method ``fused``, as `models.fusion.load_fusion` returns it; None mixes in closed form.

    Returns
    -------
    Alignment
        In state ``fitted``, ``held`` or ``none``, the latter two with a reason.

    Raises
    ------
    AlignmentError
        If a point lies outside the prediction, or method ``fixed`` has no positive scale.

    """
    shape = prediction.relative.shape

    def fit_map() -> Alignment:
        return align_map(prediction, sparse, config, previous, no_points)

    fit, points = gather_beside(fit_map, sparse, config, shape, rgb)
    return fuse(fit, sparse, config, shape, rgb, network, points)


def gather_beside(
    fit_map: Callable[[], Result],
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    shape: tuple[int, int],
    rgb: np.ndarray | None,
) -> tuple[Result, PointEvidence | None]:
    """
    Call ``fit_map`` while another thread gathers what the points of its frame say.

    Returns both results, the latter for `fuse`; None where it needs none.
    """
    if config.method != 'fused' or sparse is None or not sparse.extends:
        return fit_map(), None
    usable, reason = _usable(sparse, config)
    if reason:
        return fit_map(), None
    # A pool of its own: a shared one would not survive a fork of the process.
    with one_blas_thread(), ThreadPoolExecutor(1, 'fusion') as pool:
        points = pool.submit(gather_points, sparse.chosen(usable), rgb, shape)
        return fit_map(), points.result()


@one_blas_thread()
def fuse(
    fit: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    shape: tuple[int, int],
    rgb: np.ndarray | None = None,
    network: FusionModel | None = None,
    points: PointEvidence | None = None,
) -> Alignment:
    """
    Fuse a fitted map of ``shape`` (H, W) with the points of its frame.

    Returns the fit itself for another method. In the result scale, shift and condition are NaN
    unless the map was fitted to this frame and the points that were held out do not contradict it;
    a map that only gains nothing has no share and keeps them. ``points`` are from
    `gather_beside` for the same points and image, None if not gathered yet.
    """
    if config.method != 'fused':
        return fit
    if sparse is not None and not sparse.extends:
        # Points that say nothing of their surroundings have no interpolation to mix.
        return replace(fit, led_by='map', shares={'map': 1.0}) if fit.state == 'fitted' else fit
    if sparse is None or len(sparse) == 0:
        return _without_points(fit, '')
    usable, reason = _usable(sparse, config)
    if reason:
        return _without_points(fit, reason)
    fit, map_reason = _judged(fit, usable)
    points = points or gather_points(sparse.chosen(usable), rgb, shape)
    evidence = gather_evidence(points, rgb, fit)
    points = evidence.points
    typical = relative_error(points.candidates.held_out, np.median)
    if typical > _CONTRADICTION < _nearest_neighbours_differ(points.sparse):
        reason = (
            'the points contradict each other: half of them are more than '
            f'{typical:.0%} off what their neighbours say; check T_cam_lidar, the '
            'pairing and the LiDAR'
        )
        return _without_points(fit, reason)
    if is_map_contradicted(evidence):
        fit = Alignment(space=fit.space)
    evidence, no_gain = judge_map(evidence)
    return _mixed(evidence, fit, usable, sparse, rgb, network, map_reason or no_gain)


def judge_held(
    alignment: Alignment,
    sigma: np.ndarray | None,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
) -> Alignment:
    """
    Refuse a held depth that the frame's own points, too few for a fit, contradict.

    ``sigma`` (H, W) is that of the held depth, metres. Only for method ``fused``.
    """
    if config.method != 'fused' or alignment.state != 'held' or sparse is None:
        return alignment
    if not sparse.placed:
        return alignment
    if alignment.metric is None or sigma is None:
        return alignment
    u, v, z = sparse.u, sparse.v, sparse.z
    with np.errstate(invalid='ignore'):
        off = np.abs(z - alignment.metric[v, u]) / sigma[v, u]
    off = off[np.isfinite(off)]
    if len(off) < _JUDGES or np.median(off) <= _CONTRADICTED_SIGMA:
        return alignment
    reason = (
        f'{alignment.reason}; held depth is off by {np.median(off):.1f} sigma at the '
        f'{len(off)} points in view'
    )
    return Alignment(reason=reason, space=alignment.space, n_points=len(sparse))


def _usable(sparse: SparseDepth, config: AlignmentConfig) -> tuple[np.ndarray, str]:
    """Return which points have valid depth, and why they do not suffice, or ''."""
    with np.errstate(invalid='ignore'):
        usable = (sparse.z >= config.min_depth) & (sparse.z <= config.max_depth)
    count = int(np.count_nonzero(usable))
    if count >= config.min_points:
        return usable, ''
    return usable, (
        f'fusion has {count} usable points of {len(sparse)} in view, needs {config.min_points}; '
        'check T_cam_lidar and the LiDAR, or lower alignment.min_points'
    )


def _without_points(fit: Alignment, reason: str) -> Alignment:
    """Return what the map alone gives: held, metric by itself, or none; with its sigma."""
    if fit.state == 'none' or fit.metric is None:
        return replace(fit, reason=reason) if reason else fit
    if fit.state == 'fitted' and reason and fit.space != 'metric':
        return Alignment(reason=reason, space=fit.space, n_points=fit.n_points)
    leader = 'memory' if fit.state == 'held' else 'map'
    sigma = fit.metric * np.float32(fit.spread_log) if np.isfinite(fit.spread_log) else None
    return replace(fit, sigma=sigma, led_by=leader, shares={leader: 1.0})


def _judged(fit: Alignment, usable: np.ndarray) -> tuple[Alignment, str]:
    """Return the fit with its points among the usable ones, and why there is none, or ''."""
    if fit.state != 'fitted':
        reason = fit.reason.split('; the last fit is')[0]
        return Alignment(space=fit.space, n_points=len(usable)), reason
    held_out = None if fit.held_out is None else fit.held_out[usable]
    return replace(fit, held_out=held_out), ''


def _nearest_neighbours_differ(points: SparseDepth) -> float:
    """Return the median difference of a point's depth from its three nearest neighbours'."""
    # A few points held out leave the others too far away to interpolate steep ground.
    from scipy.spatial import cKDTree

    place = np.stack([points.u, points.v], axis=1)
    _, near = cKDTree(place).query(place, k=min(4, len(place)))
    log_depth = np.log(points.z.astype(np.float64))
    return relative_error(np.median(log_depth[near[:, 1:]], axis=1) - log_depth, np.median)


def _mixed(
    evidence: Evidence,
    fit: Alignment,
    usable: np.ndarray,
    sparse: SparseDepth,
    rgb: np.ndarray | None,
    network: FusionModel | None,
    map_reason: str,
) -> Alignment:
    """Mix the candidates, and judge the mixture at the points."""
    candidates, points = evidence.points.candidates, evidence.points.sparse
    grid = candidates.grid
    mixture = mix(evidence.channels, network)
    if evidence.fitted is not None and evidence.is_map_scored:
        distance = candidates.points.distance
        mixture = follow_map(mixture, evidence.fitted.log_depth, distance, evidence.map_error)
    metric = enlarge_depth(np.exp(mixture.log_depth), rgb, candidates.image, grid)
    of_map = float(mixture.map_share.mean())
    if of_map > 0.0 and fit.metric is not None:
        metric = with_detail(metric, fit.metric, mixture.map_share, grid)
    ratio = log_ratio(points.z.astype(np.float64), metric[points.v, points.u].astype(np.float64))
    expected = np.exp(grid.sample(mixture.log_error, points.u, points.v))
    # No more than a third of the points may be farther off than one sigma.
    excess = max(1.0, float(np.quantile(np.abs(ratio) / expected, _ONE_SIGMA)))
    sigma = metric * np.float32(excess) * grid.enlarge(np.exp(mixture.log_error))
    inlier = np.zeros(len(sparse), bool)
    inlier[np.flatnonzero(usable)[evidence.points.sound]] = True
    return replace(
        fit,
        state='fitted',
        reason='',
        metric=metric,
        sigma=sigma,
        inlier=inlier,
        held_out=None,
        n_points=len(sparse),
        n_inliers=int(np.count_nonzero(inlier)),
        rms=float(np.sqrt(np.mean(np.square(points.z - metric[points.v, points.u])))),
        spread_log=1.4826 * float(np.median(np.abs(ratio))),
        led_by='map' if of_map > _LEADS else 'points',
        shares={'map': of_map, 'points': 1.0 - of_map},
        map_reason=map_reason,
    )
