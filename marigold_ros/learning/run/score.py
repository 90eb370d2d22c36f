# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Accuracy on images with dense truth, each method with its best fit to the whole truth.

The model's scale and shift and the surfaces' coefficients come from one and the same minimiser of
the mean relative error, so that neither side has the better fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
from marigold_ros.evaluation.baselines import (
    fit_surface,
    minimise_relative_error,
    to_depth,
)
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.evaluation.report.drawing import colourise_depth
from marigold_ros.frame import SparseDepth
from marigold_ros.learning.data.pairs import Pair
from marigold_ros.learning.data.sources.files import FilePairs
from marigold_ros.learning.data.sources.synthetic import FIRST_TRAINING_SEED
from marigold_ros.learning.objectives.targets import normalise
from marigold_ros.synthetic.raycast.description import Sample
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
from second_generator.generator import make_second_sample
from tqdm import tqdm

LIMITS = (0.1, 120.0)
MEASURES = ('abs_rel', 'delta1')
METHODS = ('model', 'quadric', 'plane', 'mean map')
MEAN_MAP_SIZE = (96, 128)
FEWEST = 100  # known pixels of an image that counts
Labelled = tuple[str, Pair]


def rendered(
    make: Callable[[int], Sample], scenes: int, first_seed: int = 0
) -> Iterator[Labelled]:
    """Draw scenes by a generator, each with its kind; training begins at seed one million."""
    for seed in range(first_seed, first_seed + scenes):
        sample = make(seed)
        yield f'{sample.kind}s', Pair(sample.rgb, sample.depth)


def read(source: FilePairs) -> Iterator[Labelled]:
    """Read all pairs of a source, each labelled by its image."""
    for index, (image, _) in enumerate(source.entries):
        yield image, source.read(index)


def mean_map(pairs: Iterable[Labelled], size: tuple[int, int]) -> np.ndarray:
    """Average the relative log depth of images at a size (H, W): the guess without looking."""
    relatives = (normalise(pair.depth, 'log')[0] for _, pair in pairs)
    maps = [cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA) for x in relatives]
    return np.mean(maps, axis=0)


def score(
    model: Any, pairs: Iterable[Labelled], total: int, average: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """
    Average the metrics over images.

    Parameters
    ----------
    model
        Has ``predict(rgb)``.
    pairs : iterable of (label, Pair)
        Images with dense truth.
    total : int
        How many, for the progress bar.
    average : (h, w) or None
        Relative log depth to fit as another baseline, see :func:`mean_map`.

    Returns
    -------
    dict
        Method (model, plane, quadric, mean map), and each by label, as in ``plane on rooms``, to
        ``abs_rel``, ``delta1`` and ``pictures``.

    """
    rows: dict[str, list[dict[str, float]]] = {}
    for label, pair in tqdm(pairs, total=total, desc='score', leave=None):
        truth, valid = known(pair)
        if valid.sum() < FEWEST:
            continue
        for name, depth in answers(model, pair, truth, valid, average).items():
            metrics = depth_metrics(depth, truth, valid)
            rows.setdefault(name, []).append(metrics)
            rows.setdefault(f'{name} on {label}', []).append(metrics)
    return {
        name: {
            **{key: float(np.mean([row[key] for row in group])) for key in MEASURES},
            'pictures': len(group),
        }
        for name, group in rows.items()
    }


def figures(
    model: Any, scenes: int = 200, second: int = 60, averaged: int = 200
) -> dict[str, dict[str, float]]:
    """
    Score a checkpoint on what none is trained on, beside the guesses that it has to beat.

    Parameters
    ----------
    model
        Has ``predict(rgb)``.
    scenes, second : int
        Held-out scenes of the generator of the training images, and of the second one, by which
        checkpoints are chosen.
    averaged : int
        Training scenes of which the mean map is the average.

    Returns
    -------
    dict
        Row of a card's table to ``abs_rel`` and ``delta1``.

    """
    average = mean_map(rendered(make_sample, averaged, FIRST_TRAINING_SEED), MEAN_MAP_SIZE)
    rows = {}
    for make, count, where in (
        (make_sample, scenes, 'held-out scenes'),
        (make_second_sample, second, 'scenes of the second generator'),
    ):
        table = score(model, rendered(make, count), count, average)
        for method in METHODS:
            row = table[method]
            rows[f'{count} {where}: {method}'] = {key: row[key] for key in MEASURES}
    return rows


def known(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Truth (H, W) float64 in metres, and where it is known and not sky."""
    truth = pair.depth.astype(np.float64)
    return truth, np.isfinite(truth) & (truth > 0)


def answers(
    model: Any, pair: Pair, truth: np.ndarray, valid: np.ndarray, average: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Depth (H, W) of each method, fitted to the truth."""
    v, u = np.nonzero(valid)
    points = SparseDepth(u, v, truth[valid].astype(np.float32))
    size = truth.shape[1], truth.shape[0]
    prediction = model.predict(pair.rgb)
    depths = {
        'model': best_affine(prediction.relative, truth, valid, prediction.space),
        'plane': fit_surface(points, size, 1, LIMITS).map(),
        'quadric': fit_surface(points, size, 2, LIMITS).map(),
    }
    if average is not None:
        depths['mean map'] = best_affine(cv2.resize(average, size), truth, valid, 'log')
    return depths


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


def contact_sheet(
    model: Any, pairs: Iterable[Labelled], path: str, size: tuple[int, int] = (192, 256)
) -> None:
    """Write rows of image, prediction and truth side by side as one PNG, at a size (H, W)."""
    rows = []
    for _, pair in pairs:
        truth, valid = known(pair)
        prediction = model.predict(pair.rgb)
        fitted = best_affine(prediction.relative, truth, valid, prediction.space)
        low, high = (float(x) for x in np.quantile(truth[valid], [0.02, 0.98]))
        high = max(high, 1.1 * low)
        shown = [colourise_depth(d, low, high) for d in (fitted, np.where(valid, truth, np.nan))]
        rows.append(np.hstack([cv2.resize(x, size[::-1]) for x in (pair.rgb, *shown)]))
    if len(rows) % 2:
        rows.append(np.zeros_like(rows[0]))
    half = len(rows) // 2
    sheet = np.hstack([np.vstack(rows[:half]), np.vstack(rows[half:])])
    cv2.imwrite(path, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
