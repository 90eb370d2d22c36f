# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Accuracy on held-out synthetic scenes, each method with its best fit to the whole truth.

The model's scale and shift and the surfaces' coefficients come from one and the same minimiser of
the mean relative error, so that neither side has the better fit.
"""

from __future__ import annotations

from typing import Any

import cv2
from marigold_ros.evaluation.baselines import fit_surface, minimise_relative_error, to_depth
from marigold_ros.evaluation.metrics import depth_metrics
from marigold_ros.evaluation.pictures import colourise_depth
from marigold_ros.frame import SparseDepth
from marigold_ros.synthetic.scene import make_sample
import numpy as np
from tqdm import tqdm

LIMITS = (0.1, 120.0)


def score_scenes(model: Any, scenes: int, first_seed: int = 0) -> dict[str, dict[str, float]]:
    """
    Average the metrics over scenes that no training picture was drawn from.

    Parameters
    ----------
    model
        Has ``predict(rgb)``.
    scenes : int
        Number of scenes of 192x256.
    first_seed : int
        Below one million, where training begins.

    Returns
    -------
    dict
        Method (model, plane, quadric, and the model on rooms and streets apart) to its metrics.

    """
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in tqdm(range(first_seed, first_seed + scenes), desc='score'):
        sample = make_sample(seed)
        truth = sample.depth.astype(np.float64)
        valid = np.isfinite(truth)
        if valid.sum() < 100:
            continue
        v, u = np.nonzero(valid)
        points = SparseDepth(u, v, truth[valid].astype(np.float32))
        size = truth.shape[1], truth.shape[0]
        prediction = model.predict(sample.rgb)
        fitted = best_affine(prediction.relative, truth, valid, prediction.space)
        answers = {
            'model': fitted,
            f'model on {sample.kind}s': fitted,
            'plane': fit_surface(points, size, 1, LIMITS).map(),
            'quadric': fit_surface(points, size, 2, LIMITS).map(),
        }
        for name, depth in answers.items():
            rows.setdefault(name, []).append(depth_metrics(depth, truth, valid))
    return {
        name: {key: float(np.mean([row[key] for row in group])) for key in ('abs_rel', 'delta1')}
        for name, group in rows.items()
    }


def best_affine(
    relative: np.ndarray, truth: np.ndarray, valid: np.ndarray, space: str
) -> np.ndarray:
    """
    Put a prediction into metres by the scale and shift of the smallest mean relative error.

    Parameters
    ----------
    relative, truth : (H, W) float
        Prediction and depth in metres.
    valid : (H, W) bool
        Where truth counts.
    space : {'depth', 'log', 'disparity'}
        Of the prediction.

    Returns
    -------
    (H, W) float64, metres

    """
    design = np.stack([relative.ravel().astype(np.float64), np.ones(relative.size)], axis=1)
    chosen = valid.ravel()
    _, fit = minimise_relative_error(design[chosen], truth[valid], space, LIMITS)
    return to_depth(design @ fit, space, LIMITS).reshape(relative.shape)


def contact_sheet(model: Any, path: str, scenes: int = 8, first_seed: int = 0) -> None:
    """Write rows of picture, prediction and truth side by side as one PNG."""
    rows = []
    for seed in range(first_seed, first_seed + scenes):
        sample = make_sample(seed)
        truth = sample.depth.astype(np.float64)
        valid = np.isfinite(truth)
        prediction = model.predict(sample.rgb)
        fitted = best_affine(prediction.relative, truth, valid, prediction.space)
        low, high = np.quantile(truth[valid], [0.02, 0.98])
        low, high = float(low), float(max(high, 1.1 * low))
        shown = [colourise_depth(d, low, high) for d in (fitted, np.where(valid, truth, np.nan))]
        rows.append(np.hstack([sample.rgb, *shown]))
    half = len(rows) // 2
    sheet = np.hstack([np.vstack(rows[:half]), np.vstack(rows[half : 2 * half])])
    cv2.imwrite(path, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
