# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Accuracy on images with dense truth, each method with its best fit to the whole truth.

One minimiser of the mean relative error finds the model's scale and shift and the coefficients of
the baseline surfaces, so that neither side has the better fit.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
from marigold_ros.errors import CheckpointError, InputError
from marigold_ros.evaluation.baselines import (
    minimise_relative_error,
    polynomial_terms,
    surface_depth,
    to_limited_metres,
)
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.evaluation.report.drawing import colourise_depth
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.models.protocol import DepthModel
from marigold_ros.spaces import from_metres, RELATIVE_SPACES
from marigold_ros.synthetic.raycast.description import Sample
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_ros.whole_files import write_whole
from marigold_training.data.file_pairs import FilePairs
from marigold_training.data.pairs import Pair
from marigold_training.data.synthetic_pairs import FIRST_TRAINING_SEED
from marigold_training.data.targets import normalise
import numpy as np
from tqdm import tqdm

LIMITS = (0.1, 120.0)  # m
MEASURES = ('abs_rel', 'delta1')
METHODS = ('model', 'quadric', 'quadric and model', 'plane', 'mean map')
MEAN_MAP_SIZE = (96, 128)
SHOWN_SIZE = (256, 192)  # width and height of an image on a contact sheet, px
MEAN_MAP_SCENES = 200
MIN_KNOWN = 100  # pixels of an image that is scored
LabelledPair = tuple[str, Pair]


@dataclass(frozen=True)
class HeldOutScenes:
    """
    A scene generator whose scenes no run trains on.

    ``make`` maps a seed, and optionally width and height, to a sample; ``count`` scenes are scored
    for a model card, in rows that begin with ``title``.
    """

    make: Callable[..., Sample]
    count: int
    title: str


# By the key of a recipe's `validation`. Scripts pass more generators.
HELD_OUT = {'scenes': HeldOutScenes(make_sample, 200, 'held-out scenes')}


def render_scenes(
    make: Callable[[int], Sample], count: int, first_seed: int = 0
) -> Iterator[LabelledPair]:
    """Render scenes labelled by their kind; training seeds begin at one million."""
    for seed in range(first_seed, first_seed + count):
        sample = make(seed)
        yield f'{sample.kind}s', Pair(sample.rgb, sample.depth)


def read_pairs(source: FilePairs) -> Iterator[LabelledPair]:
    """Read all pairs of a source, labelled by their image files."""
    for index, (image, _) in enumerate(source.entries):
        yield image, source.read(index)


def training_mean_map(scenes: int = MEAN_MAP_SCENES) -> np.ndarray:
    """Average the relative log depth of training scenes: the guess that ignores the image."""
    pairs = render_scenes(make_sample, scenes, FIRST_TRAINING_SEED)
    relatives = (normalise(pair.depth, 'log')[0] for _, pair in pairs)
    size = MEAN_MAP_SIZE[::-1]
    return np.mean([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in relatives], axis=0)


def score(
    model: DepthModel,
    pairs: Iterable[LabelledPair],
    total: int,
    mean_map: np.ndarray | None = None,
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
        Their number, for the progress bar.
    mean_map : (h, w) or None
        Relative log depth to fit as another baseline, see :func:`training_mean_map`.

    Returns
    -------
    dict
        Method (model, plane, quadric, quadric and model, mean map; of a metric model also its
        own metres), and each by label, as in ``plane on rooms``, to ``abs_rel``, ``delta1`` and
        ``pictures``.

    """
    rows: dict[str, list[dict[str, float]]] = {}
    for label, pair in tqdm(pairs, total=total, desc='score', leave=None):
        truth, valid = known_depth(pair)
        if valid.sum() < MIN_KNOWN:
            continue
        for name, depth in _fitted_depths(model, pair, truth, valid, mean_map).items():
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


def score_held_out(
    model: DepthModel, generators: Iterable[HeldOutScenes], mean_map_scenes: int = MEAN_MAP_SCENES
) -> dict[str, dict[str, float]]:
    """
    Score a model on held-out scenes beside the baselines that it has to beat.

    Returns
    -------
    dict
        Row of a model card's table to ``abs_rel`` and ``delta1``.

    """
    mean_map = training_mean_map(mean_map_scenes)
    rows = {}
    for scenes in generators:
        pairs = render_scenes(scenes.make, scenes.count)
        table = score(model, pairs, scenes.count, mean_map)
        for method in METHODS:
            row = {key: table[method][key] for key in MEASURES}
            rows[f'{scenes.count} {scenes.title}: {method}'] = row
    return rows


def known_depth(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth (H, W) float64 in metres, and where it is known and not sky."""
    truth = pair.depth.astype(np.float64)
    return truth, np.isfinite(truth) & (truth > 0)


def is_scorable(pair: Pair) -> bool:
    """Return whether enough depth of an image is known for a score."""
    return bool(known_depth(pair)[1].sum() >= MIN_KNOWN)


def _predicted(model: DepthModel, rgb: np.ndarray) -> Prediction:
    """Predict an image; raises CheckpointError unless that is finite, as of diverged weights."""
    prediction = model.predict(rgb)
    if not np.isfinite(prediction.relative).all():
        raise CheckpointError(
            'the model predicts values that are not finite, which no score has; train it again at '
            'a lower learning_rate, from the last checkpoint before'
        )
    return prediction


def _fitted_depths(
    model: DepthModel,
    pair: Pair,
    truth: np.ndarray,
    valid: np.ndarray,
    mean_map: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Depth (H, W) of each method, fitted to the truth."""
    v, u = np.nonzero(valid)
    points = SparseDepth(u, v, truth[valid].astype(np.float32))
    size = truth.shape[1], truth.shape[0]
    rows, columns = np.mgrid[: truth.shape[0], : truth.shape[1]]
    prediction = _predicted(model, pair.rgb)
    depths = {
        'model': best_affine(prediction.relative, truth, valid, prediction.space),
        'plane': surface_depth(points, columns, rows, size, 1, LIMITS),
        'quadric': surface_depth(points, columns, rows, size, 2, LIMITS),
        'quadric and model': beside_quadric(prediction.relative, truth, valid, prediction.space),
    }
    if prediction.space == 'metric':
        depths['own metres'] = np.clip(prediction.relative.astype(np.float64), *LIMITS)
    if mean_map is not None:
        depths['mean map'] = best_affine(cv2.resize(mean_map, size), truth, valid, 'log')
    return depths


def best_affine(
    relative: np.ndarray, truth: np.ndarray, valid: np.ndarray, space: str
) -> np.ndarray:
    """
    Convert a prediction to metres with the scale and shift of least mean relative error.

    Parameters
    ----------
    relative, truth : (H, W) float
        Prediction and depth in metres.
    valid : (H, W) bool
        Where truth counts.
    space : {'depth', 'log', 'disparity', 'metric'}
        Of the prediction; scale and shift of metres are those of depth.

    Returns
    -------
    (H, W) float64, metres

    """
    space = 'depth' if space == 'metric' else space
    design = np.stack([relative.ravel().astype(np.float64), np.ones(relative.size)], axis=1)
    chosen = valid.ravel()
    _, fit = minimise_relative_error(design[chosen], truth[valid], space, LIMITS)
    return to_limited_metres(design @ fit, space, LIMITS).reshape(relative.shape)


def beside_quadric(
    relative: np.ndarray, truth: np.ndarray, valid: np.ndarray, space: str
) -> np.ndarray:
    """
    Fit a quadric with the prediction as one more column: what the map adds to a smooth surface.

    Arguments and result are those of :func:`best_affine`. Metres serve as depth, log depth or
    disparity, whichever is best, as the quadric alone may choose.
    """
    height, width = relative.shape
    v, u = np.mgrid[0:height, 0:width]
    surface = polynomial_terms(u.ravel(), v.ravel(), (width, height), 2)
    chosen, fits = valid.ravel(), []
    for own in RELATIVE_SPACES if space == 'metric' else (space,):
        column = relative.ravel().astype(np.float64)
        if space == 'metric':
            column = from_metres(np.clip(column, *LIMITS), own)
        design = np.column_stack([surface, column])
        error, fit = minimise_relative_error(design[chosen], truth[valid], own, LIMITS)
        fits.append((error, to_limited_metres(design @ fit, own, LIMITS)))
    return min(fits, key=lambda entry: entry[0])[1].reshape(relative.shape)


def contact_sheet(model: DepthModel, pairs: Iterable[LabelledPair], path: Path) -> None:
    """
    Write image, prediction and truth of each pair side by side to one PNG.

    Images with too few known pixels to be scored are left out. Raises InputError if these are
    all, and MarigoldError if the PNG cannot be written.
    """
    rows = []
    for _, pair in pairs:
        truth, valid = known_depth(pair)
        if valid.sum() < MIN_KNOWN:
            continue
        prediction = _predicted(model, pair.rgb)
        fitted = best_affine(prediction.relative, truth, valid, prediction.space)
        low, high = (float(x) for x in np.quantile(truth[valid], [0.02, 0.98]))
        high = max(high, 1.1 * low)
        shown = [colourise_depth(d, low, high) for d in (fitted, np.where(valid, truth, np.nan))]
        rows.append(np.hstack([cv2.resize(x, SHOWN_SIZE) for x in (pair.rgb, *shown)]))
    if not rows:
        raise InputError(
            f'no image has known depth at {MIN_KNOWN} pixels, which {path} needs to show',
            cause='empty',
        )
    if len(rows) % 2:
        rows.append(np.zeros_like(rows[0]))
    half = len(rows) // 2
    sheet = np.hstack([np.vstack(rows[:half]), np.vstack(rows[half:])])
    png = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    write_whole(path, png.tobytes())
