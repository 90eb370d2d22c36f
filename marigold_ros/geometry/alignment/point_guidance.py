# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A fitted frame put into metres anew, by a model that the same points guide.

The ordinary fit comes first, and what it refuses is not guided: a guided model follows any
points, wrong ones too. Points that agree with neither the fit nor their neighbours stay out, as in
the local field. A second run with half of the points in
tiles is judged at the other half, so that sigma knows errors at points that nobody had seen; it
doubles the time, which a mode for labels has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.errors import AlignmentError, ConfigurationError
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align
from marigold_ros.geometry.alignment.fitted_depth import fitted_depth, log_ratio
from marigold_ros.geometry.alignment.local_field import believable, chequerboard
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
    Replace a fit by depth that its points guide, if the settings ask for it.

    Parameters
    ----------
    model : object
        Has ``predict_guided(rgb, sparse, …)``, which answers in space ``metric``.
    rgb : (H, W, 3) uint8
        The image.
    prediction : Prediction
        The model's plain answer.
    sparse : SparseDepth or None
        All points of the frame.
    fit : Alignment
        Of the plain answer to them; unless its state is ``fitted`` it stays as it is.
    config : PipelineConfig
        ``guidance`` and all that goes with it.

    Returns
    -------
    Prediction, Alignment
        The guided ones, with ``held_out`` at half of the points; or those handed in; or the
        plain prediction and the reason why there are no metres.

    Raises
    ------
    ConfigurationError
        If the model cannot be guided.
    InputError
        If the memory is too small for it.

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
    told = fitted_depth(relative, fit.scale, fit.shift, fit.space, config.alignment)
    believed = believable(sparse.u, sparse.v, log_ratio(sparse.z, told))
    try:
        guided = guide(_chosen(sparse, believed))
    except AlignmentError as error:
        return prediction, Alignment(reason=str(error), space=fit.space, n_points=len(sparse))
    alignment = align(guided, sparse, config.alignment)
    if alignment.state != 'fitted':
        return prediction, alignment
    held_out = _held_out(guide, sparse, believed, rgb.shape[:2], config.alignment)
    return guided, replace(alignment, held_out=held_out)


def _held_out(
    guide: Guide,
    sparse: SparseDepth,
    believed: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
) -> np.ndarray:
    """Log ratio of measured to guided depth in the tiles that did not guide; NaN elsewhere."""
    black = chequerboard(sparse.u, sparse.v, shape)
    left = np.full(len(sparse), np.nan)
    try:
        judged = align(guide(_chosen(sparse, believed & black)), _chosen(sparse, black), config)
    except AlignmentError:  # half of the points may be too few: then nothing is known
        return left
    if judged.metric is not None:
        told = judged.metric[sparse.v, sparse.u].astype(np.float64)
        left[~black] = log_ratio(sparse.z.astype(np.float64), told)[~black]
    return left


def _chosen(sparse: SparseDepth, kept: np.ndarray) -> SparseDepth:
    return SparseDepth(sparse.u[kept], sparse.v[kept], sparse.z[kept])
