# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metric depth fused from the points of a frame, the edges of its image and the fitted map.

The points lead: a frame with enough sound points in view is metric whatever the model says, and a
map that they contradict has no share.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import log_ratio, robust_deviation
from marigold_ros.geometry.alignment.align import align_map, of_all
from marigold_ros.geometry.around_points import difference_of_neighbours
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.fusion.candidates import (
    hold_out_points,
    join_candidates,
    surfaces,
    surroundings,
)
from marigold_ros.geometry.fusion.held_out_scores import (
    choose_points,
    ChosenPoints,
    is_map_contradicted,
    judge_map,
    no_gain,
    relative_error,
    score_map,
    score_points,
    ScoredCandidates,
    ScoredPoints,
    without_map,
)
from marigold_ros.geometry.fusion.mixing import average, FusionModel, led_by_map, mix
from marigold_ros.geometry.fusion.work_grid import (
    enlarge_depth,
    through_points,
    with_detail,
)
from marigold_ros.geometry.measured_points import MeasuredPoints
from marigold_ros.geometry.median import median
from marigold_ros.reasons import Reason
from marigold_ros.threads import run_beside
import numpy as np

# Median relative differences of points from their interpolation, and from their neighbours, above
# which they are no scan of this image. Of many points, 18 % are found where a third of a scan is
# wrong, and 23 % in noise.
_CONTRADICTION = 0.65, 0.65
_CONTRADICTION_OF_MANY, _MANY = (0.15, 0.21), 200
# Points that are too far from each other to contradict each other.
_FEWEST = 20
# Share of the map in the mean over the image above which it leads, and below which it has none.
_LEADS, _NO_SHARE = 0.5, 0.005
# Relative error that 68 % stay below beneath the points where they show no ground, in synthetic
# rooms seen from under a LiDAR: furniture that no line reaches.
_UNSEEN = np.float32(0.2)


@dataclass(frozen=True)
class FusionGuide:
    """What guides fusion beside map and points; image and network are as of `align`."""

    shape: tuple[int, int]  # of the image
    rgb: np.ndarray | None = None
    network: FusionModel | None = None


def align(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    previous: Alignment | None = None,
    rgb: np.ndarray | None = None,
    network: FusionModel | None = None,
) -> Alignment:
    """
    Put a prediction into metres with sparse depth, by the method of the settings.

    Parameters
    ----------
    prediction : Prediction
        Of the model.
    sparse : SparseDepth or None
        Depth known at its pixels, in any order.
    config : AlignmentConfig
        Method, noise, rules; its ``fusion`` is not read.
    previous : Alignment or None
        The last fit with its age as of this frame; held if this frame's is refused.
    rgb : (H, W, 3) uint8 or None
        The image, for method ``fused``; without it depth follows no edges.
    network : callable or None
        For method ``fused``, as ``models.fusion.load.load_fusion`` returns it; None mixes in
        closed form.

    Returns
    -------
    Alignment
        In state ``fitted``, ``held`` or ``none``, the latter two with a reason.

    Raises
    ------
    AlignmentError
        If a point lies outside the prediction, or ``rgb`` differs.

    """
    height, width = prediction.relative.shape
    if rgb is not None and (rgb.shape != (height, width, 3) or rgb.dtype != np.uint8):
        text = f'rgb is {rgb.dtype} of shape {rgb.shape}; give the image of the prediction'
        raise AlignmentError(f'{text}, ({height}, {width}, 3) uint8')
    guide, points = FusionGuide((height, width), rgb, network), sparse
    if sparse is not None:
        # The last point at a pixel is published there: the nearest is sorted last.
        order = np.lexsort((-sparse.z, sparse.u, sparse.v))
        points = sparse.chosen(order)
    work = PointsAtWork(lambda: MeasuredPoints(points), config, guide)
    fit = align_map(prediction, points, config, previous)
    fused = fuse(fit, points, config, guide, work.scored())
    return fused if fused.inlier is None else of_all(fused, order, len(order))


class PointsAtWork:
    """
    The points of a frame while a thread measures and scores them, beside the model and its fit.

    ``measure`` is called in that thread.
    """

    def __init__(
        self, measure: Callable[[], MeasuredPoints], config: AlignmentConfig, guide: FusionGuide
    ) -> None:
        self._measured: Future[MeasuredPoints] = Future()
        self._choice: Future[ChosenPoints | None] = Future()
        self._across, self._around, self._held_out = (Future[Any]() for _ in range(3))
        run_beside(
            {
                self._measured: measure,
                self._choice: lambda: _chosen(self.measured().sparse, config, guide.shape),
                self._across: lambda: self._of_points(surfaces, guide.rgb),
                self._around: lambda: self._of_points(surroundings),
                self._held_out: lambda: self._of_points(hold_out_points),
            }
        )

    def measured(self) -> MeasuredPoints:
        """Return the points once they are measured; raises what ``measure`` does."""
        return self._measured.result()

    def _of_points(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function with the points on their grid; None where none are scored."""
        chosen = self._choice.result()
        return None if chosen is None else work(chosen.on_grid, *arguments)

    def scored(self) -> ScoredPoints | None:
        """
        Return the points with their scores, for `fuse`; None where it needs none.

        What the thread has not begun is done here. Raises AlignmentError if a point lies outside
        of the image.
        """
        chosen = self._choice.result()
        if chosen is None:
            return None
        grid, proof, around = chosen.on_grid, self._held_out, self._around
        held_out = hold_out_points(grid) if proof.cancel() else proof.result()
        near = surroundings(grid) if around.cancel() else around.result()
        return chosen.scored(join_candidates(grid, self._across.result(), near, held_out))


def _chosen(
    sparse: SparseDepth | None, config: AlignmentConfig, shape: tuple[int, int]
) -> ChosenPoints | None:
    """Choose the points that are scored; None where `fuse` needs none."""
    if config.method != 'fused' or sparse is None or not sparse.kind.extends:
        return None
    usable, refusal = _usable(sparse, config)
    return None if refusal else choose_points(sparse.chosen(usable), shape)


@one_blas_thread()
def fuse(
    fit: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    guide: FusionGuide,
    points: ScoredPoints | None = None,
) -> Alignment:
    """
    Fuse a fitted map with the points of its frame.

    Returns the fit itself for another method. In the result scale, shift and condition are NaN
    unless the map was fitted to this frame and the points that were held out do not contradict it;
    a map that only gains nothing has no share and keeps them. ``points`` are from `PointsAtWork`
    for the same points and image, None if not scored yet.
    """
    if config.method != 'fused':
        return fit
    if sparse is not None and not sparse.kind.extends:
        # Points that say nothing of their surroundings have no interpolation to mix.
        return replace(fit, led_by='map', shares={'map': 1.0}) if fit.state == 'fitted' else fit
    if sparse is None or len(sparse) == 0:
        return _without_points(fit, None)
    usable, refusal = _usable(sparse, config)
    if refusal:  # a metric map needs no points, and has its own reason if it is refused
        return _without_points(fit, None if fit.space == 'metric' else refusal)
    fit = _of_usable(fit, usable)
    points = points or score_points(sparse.chosen(usable), guide.rgb, guide.shape)
    scored = score_map(points, guide.rgb, fit)
    refusal = _contradiction(scored.points)
    if refusal:
        return _without_points(fit, refusal)
    if is_map_contradicted(scored):
        fit = Alignment(space=fit.space, map_refusal=no_gain(scored))
    scored, unproved = judge_map(scored)
    fit = replace(fit, map_refusal=fit.map_refusal or unproved)
    inlier = usable.copy()
    inlier[usable] = scored.points.sound
    mixed = _mixed(scored, fit, guide, config.min_depth)
    return replace(mixed, inlier=inlier, n_points=len(sparse), n_inliers=int(inlier.sum()))


def _usable(sparse: SparseDepth, config: AlignmentConfig) -> tuple[np.ndarray, Reason | None]:
    """Return which points have valid depth, and why they do not suffice."""
    with np.errstate(invalid='ignore'):
        usable = (sparse.z >= config.min_depth) & (sparse.z <= config.max_depth)
    count = int(np.count_nonzero(usable))
    if count >= config.min_points:
        return usable, None
    values = {'usable': count, 'offered': len(sparse), 'needed': config.min_points}
    return usable, Reason('few_to_fuse', values)


def _without_points(fit: Alignment, refusal: Reason | None) -> Alignment:
    """Return what the map alone gives: held, metric by itself, or none; with its sigma."""
    if fit.state == 'fitted' and refusal and fit.space != 'metric':
        return Alignment(refusal=refusal, space=fit.space, n_points=fit.n_points)
    if fit.state == 'none' or fit.metric is None:
        if refusal is None:
            return fit
        return replace(fit, refusal=refusal, hold_refusal=None, map_refusal=None)
    leader = 'memory' if fit.state == 'held' else 'map'
    sigma = fit.metric * np.float32(fit.spread_log) if np.isfinite(fit.spread_log) else None
    return replace(fit, sigma=sigma, led_by=leader, shares={leader: 1.0})


def _of_usable(fit: Alignment, usable: np.ndarray) -> Alignment:
    """Return the fit with its scores at the usable points, or why the map has none."""
    if fit.state != 'fitted':
        return Alignment(space=fit.space, n_points=len(usable), map_refusal=fit.refusal)
    return replace(fit, held_out=None if fit.held_out is None else fit.held_out[usable])


def _contradiction(points: ScoredPoints) -> Reason | None:
    """Return that the points of a frame contradict each other, or None; a few never do."""
    if len(points.sparse) < _FEWEST:
        return None
    limits = _CONTRADICTION if len(points.given) < _MANY else _CONTRADICTION_OF_MANY
    typical = relative_error(points.candidates.held_out, median)
    if typical <= limits[0]:
        return None
    # All that were given: what is left of noise agrees. A few points held out leave the others too
    # far away to interpolate steep ground.
    u, v, z = points.given.u, points.given.v, points.given.z
    near = float(np.expm1(difference_of_neighbours(u, v, z, len(z))))
    return Reason('points_contradict', {'typical': near}) if near > limits[1] else None


def _mixed(
    scored: ScoredCandidates, fit: Alignment, guide: FusionGuide, min_depth: float
) -> Alignment:
    """Mix the candidates, and bring the mixture to what was measured."""
    candidates, points = scored.points.candidates, scored.points.sparse
    grid = candidates.grid
    mixture = mix(scored.channels, guide.network)
    if scored.fitted is not None and scored.map_weight > 0.0:
        beyond = ~candidates.inside
        in_blocks = float(scored.held_blocks[0].mean())
        mixture = led_by_map(mixture, scored.fitted.log_depth, in_blocks, beyond)
        if scored.map_weight < 1.0:
            without = mix(without_map(scored, beyond).channels, guide.network)
            weight = np.where(beyond, scored.map_weight, 1.0).astype(np.float32)
            mixture = average(mixture, without, weight)
    error = np.exp(mixture.log_error)
    if candidates.ground is not None:
        mixture = replace(mixture, log_depth=np.minimum(mixture.log_depth, candidates.ground))
    else:
        unseen = candidates.below & ~candidates.inside
        np.maximum(error, _UNSEEN, out=error, where=unseen)
    metric = enlarge_depth(np.exp(mixture.log_depth), guide.rgb, candidates.image, grid)
    of_map = float(mixture.map_share.mean())
    if scored.fitted is not None and of_map < _NO_SHARE:
        fit = replace(fit, map_refusal=no_gain(scored))
    if of_map > 0.0 and fit.metric is not None and scored.fitted is not None:
        change = mixture.log_depth - scored.fitted.log_depth
        metric = with_detail(metric, fit.metric, change, mixture.map_share, grid)
    mixed = metric[points.v, points.u]
    measured = through_points(metric, points, error, grid)
    measured[measured < np.float32(min_depth * (1.0 - 1e-6))] = np.nan
    return replace(
        fit,
        state='fitted',
        refusal=None,
        metric=measured,
        sigma=metric * grid.enlarge(error),
        map_share=mixture.map_share if of_map > 0.0 else None,
        held_out=None,
        rms=float(np.sqrt(np.mean(np.square(points.z - mixed)))),
        spread_log=robust_deviation(log_ratio(points.z, mixed)),
        led_by='map' if of_map > _LEADS else 'points',
        shares={'map': of_map, 'points': 1.0 - of_map},
    )
