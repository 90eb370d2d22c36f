# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Alignment of a relative prediction to metric depth with sparse depth.

The fit is closed form in the prediction's space, weighted by the sensor's noise there, and leaves
out points where the prediction is clipped. A fit that fails its checks is refused with a reason:
the last one is held then, or there is no metric depth.
"""

from dataclasses import replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import (
    fit_by_method,
    fit_target,
    fitted_depth,
    log_ratio,
    robust_deviation,
    RobustFit,
)
from marigold_ros.geometry.alignment.ground_field import ground_field
from marigold_ros.geometry.alignment.kriging_field import fit_correction_field
from marigold_ros.geometry.alignment.local_field import (
    checkerboard_fold,
    REJECT_LOG,
    upsample_field,
)
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.kernels.cells import representatives
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import NO_SPARSE_DEPTH, Reason
import numpy as np

# A deviation of the prediction of about 1e-3 of its range, squared.
MAX_CONDITION = 1e6
# Of enough points in view, one in so many has to lie where the map of fused depth is not clipped,
# and as many as can contradict scale and shift.
_CLIPPED, _FEWEST = 2, 3
# Points that may refuse a metric prediction.
_JUDGES = 5
# Points to which fusion fits a map, as it brings the map to all points itself, and from how many
# they are chosen.
_FITTED, _CHOSEN_FROM = 8000, 32000


@one_blas_thread()
def align_map(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    previous: Alignment | None = None,
    no_points: Reason | None = NO_SPARSE_DEPTH,
    further: SparseDepth | None = None,
) -> Alignment:
    """
    Fit scale, shift and, for methods ``local`` and ``fused``, a correction field to points.

    Arguments, result and error are those of `fuse.align`; ``no_points`` is the reason why
    ``sparse`` is None, and ``further`` points count in the fit of scale and shift only.
    """
    if sparse is not None:
        sparse.require_inside(prediction.relative.shape)
    if config.method == 'none':
        return _none(prediction, sparse, Reason('method_none'))
    if config.method == 'fixed':
        return _apply(prediction, sparse, config, (config.scale, config.shift))
    points, fold = sparse, None
    some = None if sparse is None else _enough(sparse, config)
    if sparse is not None and some is not None:
        # Tiles follow the gaps among all points, not the wider ones among those chosen.
        fold = checkerboard_fold(sparse.u, sparse.v, prediction.relative.shape, among=True)[some]
        points = sparse.chosen(some)
    if prediction.space == 'metric':
        applied = _apply(prediction, points, config, (1.0, 0.0), None, fold)
        refusal = _check_metric(points, applied.inlier, config)
        if refusal:
            return _none(prediction, sparse, refusal)
    elif points is None:
        return _refuse(prediction, None, config, previous, no_points)
    else:
        fit = _fit(prediction, points, further, config)
        if isinstance(fit, Reason):
            return _refuse(prediction, sparse, config, previous, fit)
        affine, inlier = fit[0], fit[1][: len(points)]
        scale_shift = affine.scale, affine.shift
        applied = _apply(prediction, points, config, scale_shift, inlier, fold)
        applied = replace(applied, condition=affine.condition)
    return applied if some is None else of_all(applied, some, len(sparse or ()))


def align_scale(
    prediction: Prediction,
    sparse: SparseDepth,
    config: AlignmentConfig,
    further: SparseDepth | None = None,
) -> Alignment | None:
    """
    Fit scale and shift alone, as `align_map` does, for a map whose depth is not needed.

    Without depth and correction field that takes a fifth of the time. None where it is refused.
    """
    some = _enough(sparse, config)
    points = sparse if some is None else sparse.chosen(some)
    fit = _fit(prediction, points, further, config)
    if isinstance(fit, Reason):
        return None
    return Alignment(
        state='fitted',
        scale=fit[0].scale,
        shift=fit[0].shift,
        space=prediction.space,
        condition=fit[0].condition,
        n_points=len(sparse),
    )


def usable_points(
    prediction: Prediction, sparse: SparseDepth, config: AlignmentConfig
) -> np.ndarray:
    """Return which points (M,) bool lie within the limits and where nothing is clipped."""
    relative = prediction.relative[sparse.v, sparse.u].astype(np.float64)
    z, (low, high) = sparse.z.astype(np.float64), prediction.censored
    usable = np.isfinite(relative) & np.isfinite(z) & (z >= config.min_depth)
    return usable & (z <= config.max_depth) & (relative > low) & (relative < high)


def _enough(sparse: SparseDepth, config: AlignmentConfig) -> np.ndarray | None:
    """Return the indices of points that are enough for fusion; None are all."""
    if config.method != 'fused' or not sparse.kind.extends or len(sparse) <= _FITTED:
        return None
    # Every n-th, n not whole, as a whole one takes the same columns of each row.
    many = np.linspace(0, len(sparse) - 1, min(len(sparse), _CHOSEN_FROM)).astype(np.intp)
    return many[representatives(sparse.u[many], sparse.v[many], sparse.z[many], _FITTED)]


def of_all(fit: Alignment, some: np.ndarray, count: int) -> Alignment:
    """Return a fit to some of so many points as one to all; the others were not scored."""
    inlier, held_out = np.zeros(count, dtype=bool), np.full(count, np.nan)
    inlier[some] = fit.inlier
    if fit.held_out is not None:
        held_out[some] = fit.held_out
    return replace(fit, inlier=inlier, held_out=held_out, n_points=count)


def _fit(
    prediction: Prediction,
    points: SparseDepth,
    further: SparseDepth | None,
    config: AlignmentConfig,
) -> tuple[RobustFit, np.ndarray] | Reason:
    """Return an affine fit and which of all points (M,) bool agree, or why it is refused."""
    points = points if further is None else SparseDepth.joined([points, further])
    relative = prediction.relative[points.v, points.u].astype(np.float64)
    z = points.z.astype(np.float64)
    usable = usable_points(prediction, points, config)
    needed, in_view = config.min_points, (z >= config.min_depth) & (z <= config.max_depth)
    if config.method == 'fused' and points.kind.extends and np.count_nonzero(in_view) >= needed:
        # Where the map is clipped they are in view all the same, and fusion asks for proof.
        needed = max(_FEWEST, needed // _CLIPPED)
    refusal = _check_points(z[usable], len(points), needed, config)
    if refusal:
        return refusal
    stated = None if points.sigma is None else points.sigma[usable]
    target, sigma = fit_target(z[usable], prediction.space, config, stated)
    fit = fit_by_method(relative[usable], target, sigma, config)
    fitted = fitted_depth(relative[usable], fit.scale, fit.shift, prediction.space, config)
    agrees = (fit.weight > 0) & (np.abs(log_ratio(z[usable], fitted)) < REJECT_LOG)
    refusal = _check_fit(fit, agrees, config)
    if refusal:
        return refusal
    inlier = np.zeros(len(points), dtype=bool)
    inlier[usable] = agrees
    return fit, inlier


def _check_points(
    z: np.ndarray, offered: int, needed: int, config: AlignmentConfig
) -> Reason | None:
    """Return why the usable points, of those offered, cannot determine a fit."""
    if len(z) < needed:
        return Reason('few_points', {'usable': len(z), 'offered': offered, 'needed': needed})
    low, high = np.percentile(z, [5, 95])
    if high < config.min_depth_ratio * low:
        span = {'low': low, 'high': high, 'ratio': high / low}
        return Reason('one_depth', {**span, 'needed': config.min_depth_ratio})
    return None


def _check_fit(fit: RobustFit, agrees: np.ndarray, config: AlignmentConfig) -> Reason | None:
    """Return why a fit is not well determined, not positive, or disagrees with its points."""
    if not fit.condition <= MAX_CONDITION:
        return Reason('constant_map', {'condition': fit.condition, 'allowed': MAX_CONDITION})
    # A slope that may be zero determines no depth.
    if not fit.scale > 2.0 * fit.scale_error:
        return Reason('scale_not_positive', {'scale': fit.scale, 'error': fit.scale_error})
    return _few_agree('few_agree', agrees, config)


def _check_metric(
    points: SparseDepth | None, agrees: np.ndarray | None, config: AlignmentConfig
) -> Reason | None:
    """Return why a metric prediction, which needs no fit, disagrees with the points."""
    if points is None or agrees is None:
        return None
    # Too few for a fit can contradict all the same, where their pixels are known.
    needed = min(_JUDGES, config.min_points) if points.kind.is_placed else config.min_points
    if len(agrees) < needed:
        return None
    return _few_agree('metric_disagrees', agrees, config)


def _few_agree(code: str, agrees: np.ndarray, config: AlignmentConfig) -> Reason | None:
    if float(agrees.mean()) >= config.min_inlier_ratio:
        return None
    counts = {'agree': int(agrees.sum()), 'points': len(agrees)}
    return Reason(code, {**counts, 'needed': config.min_inlier_ratio})


def _none(
    prediction: Prediction,
    sparse: SparseDepth | None,
    refusal: Reason | None,
    hold_refusal: Reason | None = None,
) -> Alignment:
    return Alignment(
        refusal=refusal,
        hold_refusal=hold_refusal,
        space=prediction.space,
        n_points=len(sparse or ()),
    )


def _refuse(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    previous: Alignment | None,
    refusal: Reason | None,
) -> Alignment:
    """Hold the previous fit within its limit; otherwise return state ``none``."""
    if previous is None or previous.state == 'none' or previous.space != prediction.space:
        return _none(prediction, sparse, refusal)
    if previous.age_ns > config.hold_limit * 1e9:
        ages = {'age_s': previous.age_ns / 1e9, 'allowed_s': config.hold_limit}
        return _none(prediction, sparse, refusal, Reason('fit_too_old', ages))
    # Scale, shift, field and relative error are kept.
    return replace(
        previous,
        state='held',
        refusal=refusal,
        metric=_metric_map(prediction, config, (previous.scale, previous.shift), previous.field),
        inlier=None,
        held_out=None,
        n_points=len(sparse or ()),
        n_inliers=0,
        rms=float('nan'),
    )


def _apply(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    affine: tuple[float, float],
    inlier: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> Alignment:
    """Apply scale and shift, add the correction field, and measure residuals at the points."""
    field = residual = held_out = None
    if sparse is not None and len(sparse):
        known = prediction.relative[sparse.v, sparse.u].astype(np.float64)
        residual = log_ratio(sparse.z, fitted_depth(known, *affine, prediction.space, config))
        inlier = np.abs(residual) < REJECT_LOG if inlier is None else inlier  # not where NaN
        corrected = config.method in ('local', 'fused')
        if corrected and sparse.kind is PointKind.GROUND:
            # Other ground points prove nothing here: they were chosen because the map agrees.
            held_out = np.where(inlier, residual, np.nan)
            field = ground_field(sparse, residual, prediction.relative.shape)
        elif corrected and sparse.kind.extends and len(sparse) >= config.min_points:
            local = fit_correction_field(prediction, sparse, residual, affine, config, fold)
            field, held_out = local.field, local.held_out
            residual = np.where(local.used, held_out, np.nan)
    metric = _metric_map(prediction, config, affine, field)
    rms, spread_log = _errors(sparse, inlier, residual, metric)
    if prediction.space == 'metric' and len(sparse or ()) < config.min_points:
        spread_log = prediction.relative_error  # a few points that happen to agree prove nothing
    return Alignment(
        state='fitted',
        scale=affine[0],
        shift=affine[1],
        space=prediction.space,
        metric=metric,
        field=field,
        inlier=inlier,
        held_out=held_out,
        n_points=len(sparse or ()),
        n_inliers=0 if inlier is None else int(inlier.sum()),
        rms=rms,
        spread_log=spread_log,
    )


def _errors(
    sparse: SparseDepth | None,
    inlier: np.ndarray | None,
    residual: np.ndarray | None,
    metric: np.ndarray,
) -> tuple[float, float]:
    """Return RMS error in metres and robust deviation of the log ratios, of the inliers."""
    nothing = float('nan'), float('nan')
    if sparse is None or inlier is None or residual is None:
        return nothing
    used = inlier & np.isfinite(residual) & np.isfinite(metric[sparse.v, sparse.u])
    if not used.any():
        return nothing
    error = sparse.z[used] - metric[sparse.v[used], sparse.u[used]]
    # About zero, not about their median: a biased fixed scale must show.
    return float(np.sqrt(np.mean(np.square(error)))), robust_deviation(residual[used])


def _metric_map(
    prediction: Prediction,
    config: AlignmentConfig,
    affine: tuple[float, float],
    field: np.ndarray | None,
) -> np.ndarray:
    """Return depth at every pixel; NaN where not finite or nearer than ``min_depth``."""
    relative = np.asarray(prediction.relative, dtype=np.float32)
    metric = fitted_depth(relative, *affine, prediction.space, config)
    if field is not None:
        metric *= upsample_field(field, metric.shape)
    valid = metric >= np.float32(config.min_depth)
    valid &= metric < np.inf
    metric[~valid] = np.nan
    return metric
