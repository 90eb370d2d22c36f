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
from marigold_ros.errors import AlignmentError
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.fit_checks import check_fit, check_metric, check_points
from marigold_ros.geometry.alignment.fitted_depth import fit_target, fitted_depth, log_ratio
from marigold_ros.geometry.alignment.kriging_field import fit_correction_field, fitted_log_depth
from marigold_ros.geometry.alignment.local_field import REJECT_LOG, upsample_field
from marigold_ros.geometry.alignment.robust_fit import fit_by_method
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.camera.lidar_projection import NO_SPARSE_DEPTH
from marigold_ros.geometry.ground.correction import ground_field
from marigold_ros.geometry.joined_points import joined
import numpy as np

_NAN = float('nan')


@one_blas_thread()
def align_map(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    previous: Alignment | None = None,
    no_points: str = NO_SPARSE_DEPTH,
) -> Alignment:
    """
    Fit scale, shift and, for methods ``local`` and ``fused``, a correction field to points.

    Parameters
    ----------
    prediction : Prediction
        Of the model; ``relative`` is (H, W).
    sparse : SparseDepth or None
        Known depth at its pixels.
    config : AlignmentConfig
        Method, noise, rules.
    previous : Alignment or None
        The last fit with its age as of this frame; held if this frame's is refused.
    no_points : str
        The reason why ``sparse`` is None.

    Returns
    -------
    Alignment
        In state ``fitted``, ``held`` or ``none``, the latter two with a reason.

    Raises
    ------
    AlignmentError
        If a point lies outside the prediction, or method ``fixed`` has no positive scale.

    """
    _check_inside(prediction, sparse)
    if config.method == 'none':
        reason = 'alignment.method is none; choose global or local for metric depth'
        return Alignment(reason=reason, space=prediction.space, n_points=len(sparse or ()))
    if config.method == 'fixed':
        if config.scale <= 0:
            raise AlignmentError(
                f'alignment.scale is {config.scale:g}; method fixed needs a positive one: '
                'set alignment.scale and alignment.shift'
            )
        return _apply(prediction, sparse, config, config.scale, config.shift)
    if prediction.space == 'metric':
        metric = _apply(prediction, sparse, config, 1.0, 0.0)
        reason = check_metric(metric.inlier, config)
        return _refuse(prediction, sparse, config, None, reason) if reason else metric
    if sparse is None:
        return _refuse(prediction, None, config, previous, no_points)
    points = sparse if sparse.also is None else joined([sparse, sparse.also])
    relative = prediction.relative[points.v, points.u].astype(np.float64)
    z = points.z.astype(np.float64)
    usable = usable_points(prediction, points, config)
    reason = check_points(z[usable], len(points), config)
    if reason:
        return _refuse(prediction, sparse, config, previous, reason)
    stated = None if points.sigma is None else points.sigma[usable]
    target, sigma = fit_target(z[usable], prediction.space, config, stated)
    fit = fit_by_method(relative[usable], target, sigma, config)
    fitted = fitted_depth(relative[usable], fit.scale, fit.shift, prediction.space, config)
    agrees = (fit.weight > 0) & (np.abs(log_ratio(z[usable], fitted)) < REJECT_LOG)
    reason = check_fit(fit, agrees, config)
    if reason:
        return _refuse(prediction, sparse, config, previous, reason)
    inlier = np.zeros(len(points), dtype=bool)
    inlier[usable] = agrees
    own = inlier[: len(sparse)]
    return _apply(prediction, sparse, config, fit.scale, fit.shift, own, fit.condition)


def usable_points(
    prediction: Prediction, sparse: SparseDepth, config: AlignmentConfig
) -> np.ndarray:
    """Return which points (M,) bool lie within the limits and where nothing is clipped."""
    relative = prediction.relative[sparse.v, sparse.u].astype(np.float64)
    z, (low, high) = sparse.z.astype(np.float64), prediction.censored
    usable = np.isfinite(relative) & np.isfinite(z) & (z >= config.min_depth)
    return usable & (z <= config.max_depth) & (relative > low) & (relative < high)


def hold(
    prediction: Prediction,
    previous: Alignment,
    config: AlignmentConfig,
    age_ns: int,
    reason: str,
    n_points: int = 0,
) -> Alignment:
    """
    Apply an earlier fit to this frame's prediction, in state ``held`` for a reason.

    Scale, shift, field and relative error are kept; ``n_points`` were offered in this frame.
    Raises AlignmentError if ``previous`` has no fit or belongs to another space.
    """
    if previous.state == 'none' or previous.space != prediction.space:
        raise AlignmentError(
            f"the earlier alignment is '{previous.state}' in space '{previous.space}'; only a fit "
            f"in space '{prediction.space}' can be held: reset after a change of model"
        )
    metric = _metric_map(prediction, config, previous.scale, previous.shift, previous.field)
    return replace(
        previous,
        state='held',
        reason=reason,
        metric=metric,
        inlier=None,
        held_out=None,
        n_points=n_points,
        n_inliers=0,
        rms=_NAN,
        age_ns=int(age_ns),
    )


def _check_inside(prediction: Prediction, sparse: SparseDepth | None) -> None:
    if sparse is None or len(sparse) == 0:
        return
    (height, width), u, v = prediction.relative.shape, sparse.u, sparse.v
    if u.min() < 0 or v.min() < 0 or u.max() >= width or v.max() >= height:
        raise AlignmentError(
            f'sparse depth reaches from ({u.min()}, {v.min()}) to ({u.max()}, {v.max()}), the '
            f'prediction is {width}x{height}; project the points with the camera of this image'
        )


def _refuse(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    previous: Alignment | None,
    reason: str,
) -> Alignment:
    """Hold the previous fit within its limit; otherwise return state ``none``."""
    usable = previous is not None and previous.state != 'none'
    if previous is not None and usable and previous.space == prediction.space:
        if previous.age_ns <= config.hold_limit * 1e9:
            return hold(prediction, previous, config, previous.age_ns, reason, len(sparse or ()))
        reason += (
            f'; the last fit is {previous.age_ns / 1e9:.2f} s old, alignment.hold_limit is '
            f'{config.hold_limit:g} s'
        )
    return Alignment(reason=reason, space=prediction.space, n_points=len(sparse or ()))


def _apply(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    scale: float,
    shift: float,
    inlier: np.ndarray | None = None,
    condition: float = _NAN,
) -> Alignment:
    """Apply a fit, add the correction field, and measure the residuals at the points."""
    field = None
    residual = held_out = None
    if sparse is not None and len(sparse):
        known = prediction.relative[sparse.v, sparse.u].astype(np.float64)
        residual = log_ratio(sparse.z, fitted_depth(known, scale, shift, prediction.space, config))
        if inlier is None:
            inlier = np.isfinite(residual) & (np.abs(residual) < REJECT_LOG)
        if config.method in ('local', 'fused') and not sparse.extends:
            if sparse.placed:
                field = ground_field(sparse, residual, prediction.relative.shape)
                # Other ground points prove nothing here: they were chosen because the map agrees.
                held_out = np.where(inlier, residual, np.nan)
        elif config.method in ('local', 'fused') and len(sparse) >= config.min_points:
            # Clipped pixels take part: only the field can correct them.
            log_depth = fitted_log_depth(prediction, scale, shift, config, known)
            shape = prediction.relative.shape
            local = fit_correction_field(sparse.u, sparse.v, residual, *log_depth, shape, config)
            field, held_out = local.field, local.held_out
            residual = np.where(local.used, held_out, np.nan)
    metric = _metric_map(prediction, config, scale, shift, field)
    rms, spread_log = _errors(sparse, inlier, residual, metric)
    if not sparse:
        spread_log = prediction.relative_error
    return Alignment(
        state='fitted',
        scale=scale,
        shift=shift,
        space=prediction.space,
        metric=metric,
        field=field,
        inlier=inlier,
        held_out=held_out,
        n_points=len(sparse or ()),
        n_inliers=0 if inlier is None else int(inlier.sum()),
        rms=rms,
        spread_log=spread_log,
        condition=condition,
    )


def _errors(
    sparse: SparseDepth | None,
    inlier: np.ndarray | None,
    residual: np.ndarray | None,
    metric: np.ndarray,
) -> tuple[float, float]:
    """Return RMS error in metres and robust deviation of the log ratios, of the inliers."""
    if sparse is None or inlier is None or residual is None:
        return _NAN, _NAN
    used = inlier & np.isfinite(residual) & np.isfinite(metric[sparse.v, sparse.u])
    if not used.any():
        return _NAN, _NAN
    error = sparse.z[used] - metric[sparse.v[used], sparse.u[used]]
    # About zero, not about their median: a biased fixed scale must show.
    spread = np.median(np.abs(residual[used]))
    return float(np.sqrt(np.mean(np.square(error)))), 1.4826 * float(spread)


def _metric_map(
    prediction: Prediction,
    config: AlignmentConfig,
    scale: float,
    shift: float,
    field: np.ndarray | None,
) -> np.ndarray:
    """Return depth at every pixel; NaN where not finite or nearer than ``min_depth``."""
    relative = np.asarray(prediction.relative, dtype=np.float32)
    metric = fitted_depth(relative, scale, shift, prediction.space, config)
    if field is not None:
        metric *= upsample_field(field, metric.shape)
    valid = metric >= np.float32(config.min_depth)
    valid &= metric < np.inf
    metric[~valid] = np.nan
    return metric
