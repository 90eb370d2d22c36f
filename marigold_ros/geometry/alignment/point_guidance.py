# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metric depth by guidance: a fitted frame predicted again, steered by its points.

The ordinary fit comes first, and a frame that it refuses is not guided: guidance follows wrong
points too. Points that are consistent neither with the fit nor with their neighbours stay out. A
second run, guided by half of the points in tiles, is scored at the other half for sigma.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.errors import AlignmentError, ConfigurationError
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import fitted_depth, log_ratio
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, consistent_points
from marigold_ros.reasons import as_reason
import numpy as np

Guide = Callable[[SparseDepth], Prediction]


def align_guided(
    model: Any,
    rgb: np.ndarray,
    prediction: Prediction,
    sparse: SparseDepth | None,
    fit: Alignment,
    config: PipelineConfig,
) -> tuple[Prediction, Alignment]:
    """
    Replace a fit by guided metric depth, if the settings ask for it.

    ``model`` has ``predict_guided``, as ``models.protocol`` declares it; ``prediction`` is the
    unguided one of the image (H, W, 3) uint8, ``sparse`` holds all points of the frame, and
    ``fit`` is replaced only if its state is ``fitted``. Returns the guided prediction and its
    alignment, with ``held_out`` at half of the points; or those passed in; or the unguided
    prediction with the reason why there is no metric depth. Raises ConfigurationError if the model
    cannot be guided, InputError if memory does not suffice.
    """
    if config.guidance == 'none' or fit.state != 'fitted' or sparse is None:
        return prediction, fit
    if not hasattr(model, 'predict_guided'):
        raise ConfigurationError(
            f'guidance is {config.guidance} and {type(model).__name__} has no predict_guided; '
            'set guidance to none, or load a Marigold checkpoint'
        )

    def guide(points: SparseDepth) -> Prediction:
        return model.predict_guided(
            rgb,
            points,
            **config.prediction,
            guided=config.guided,
            max_depth=config.alignment.max_depth,
        )

    relative = prediction.relative[sparse.v, sparse.u].astype(np.float64)
    fitted = fitted_depth(relative, fit.scale, fit.shift, fit.space, config.alignment)
    consistent = consistent_points(sparse.u, sparse.v, log_ratio(sparse.z, fitted))
    try:
        guided = guide(sparse.chosen(consistent))
    except AlignmentError as error:
        return prediction, Alignment(
            refusal=as_reason(error), space=fit.space, n_points=len(sparse)
        )
    alignment = align_map(guided, sparse, config.alignment)
    if alignment.state != 'fitted':
        return prediction, alignment
    held_out = _held_out(guide, sparse, consistent, rgb.shape[:2], config.alignment)
    return guided, replace(alignment, held_out=held_out)


def _held_out(
    guide: Guide,
    sparse: SparseDepth,
    consistent: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
) -> np.ndarray:
    """Log ratio of measured to guided depth in the fold that did not guide; NaN elsewhere."""
    fold = checkerboard_fold(sparse.u, sparse.v, shape)
    residual = np.full(len(sparse), np.nan)
    try:
        half = align_map(guide(sparse.chosen(consistent & fold)), sparse.chosen(fold), config)
    except AlignmentError:  # half of the points may be too few
        return residual
    if half.metric is not None:
        predicted = half.metric[sparse.v, sparse.u].astype(np.float64)
        residual[~fold] = log_ratio(sparse.z.astype(np.float64), predicted)[~fold]
    return residual
