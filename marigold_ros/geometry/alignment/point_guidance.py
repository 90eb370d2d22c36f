# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metric depth of a frame predicted again with its points, by guidance or by a network's prompt.

The ordinary fit comes first, and a frame that it refuses is not guided: guidance follows wrong
points too. A prompt needs no fit: the network was trained with one. Points that are consistent
neither with the fit nor with their neighbours stay out. A second run with half of the points, in
tiles, is scored at the other half, for fusion and sigma.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
    Replace a fit by metric depth that the model predicts with the points.

    ``model`` has ``predict_prompted``, or ``predict_guided`` if the settings ask for guidance, as
    ``models.protocol`` declares them; ``prediction`` is that of the image (H, W, 3) uint8 alone,
    and ``sparse`` holds all points of the frame. Returns the new prediction and its alignment,
    with ``held_out`` at half of the points; or those passed in; or the prediction without points
    with the reason why there is no metric depth. Raises ConfigurationError if the model cannot be
    guided, InputError if memory does not suffice.
    """
    if sparse is None:
        return prediction, fit
    if config.guidance == 'none':
        if not _takes_prompt(model, sparse, config.alignment):
            return prediction, fit
        prompt = partial(model.predict_prompted, rgb, **config.prediction)
        try:
            return _predicted_with(prompt, prediction, sparse, fit, config.alignment)
        except AlignmentError:  # too few points, or of one depth
            return prediction, fit
    if fit.state != 'fitted' or not sparse.kind.is_placed:
        return prediction, fit
    check_guidable(model, config)
    further = {'guided': config.guided, 'max_depth': config.alignment.max_depth}
    guide = partial(model.predict_guided, rgb, **config.prediction, **further)
    try:
        return _predicted_with(guide, prediction, sparse, fit, config.alignment)
    except AlignmentError as error:
        return prediction, Alignment(
            refusal=as_reason(error), space=fit.space, n_points=len(sparse)
        )


def check_guidable(model: Any, config: PipelineConfig) -> None:
    """Raise ConfigurationError if points shall guide a model that cannot be guided."""
    if config.guidance != 'none' and not hasattr(model, 'predict_guided'):
        raise ConfigurationError(
            f'guidance is {config.guidance}, which steers denoising, and {type(model).__name__} '
            'has none; set guidance to none, or load a Marigold checkpoint, such as tiny'
        )


def _takes_prompt(model: Any, sparse: SparseDepth, config: AlignmentConfig) -> bool:
    """Whether the points of a frame are a prompt: enough of them, of what they are seen on."""
    prompted = config.method not in ('none', 'fixed') and hasattr(model, 'predict_prompted')
    return prompted and sparse.kind.extends and len(sparse) >= config.min_points


def _predicted_with(
    guide: Guide,
    prediction: Prediction,
    sparse: SparseDepth,
    fit: Alignment,
    config: AlignmentConfig,
) -> tuple[Prediction, Alignment]:
    """Predict with the points, and score that at points of the frame that it has not seen."""
    consistent = np.ones(len(sparse), dtype=bool)
    if fit.state == 'fitted':
        relative = prediction.relative[sparse.v, sparse.u].astype(np.float64)
        fitted = fitted_depth(relative, fit.scale, fit.shift, fit.space, config)
        consistent = consistent_points(sparse.u, sparse.v, log_ratio(sparse.z, fitted))
    guided = guide(sparse.chosen(consistent))
    alignment = align_map(guided, sparse, config)
    if alignment.state != 'fitted':
        return prediction, alignment
    height, width = prediction.relative.shape
    held_out = _held_out(guide, sparse, consistent, (height, width), config)
    return guided, replace(alignment, held_out=held_out, saw_points=True)


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
