# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One training example of the fusion network: its input, and the truth on the same grid."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.alignment.local_field import median_gap
from marigold_ros.geometry.fusion.held_out_scores import judge_map, score_map, score_points
from marigold_ros.geometry.fusion.work_grid import CELLS, cells_needed, work_grid
from marigold_ros.models import load_model
from marigold_ros.models.protocol import DepthModel
from marigold_training.data.pairs import Pair
from marigold_training.data.simulated_points import draw_points
from marigold_training.fusion.clutter import add_clutter
from marigold_training.fusion.simulated_maps import draw_map
import numpy as np

# Metres; scenes are magnified at random.
_FARTHEST = 200.0
# Share of the maps that a model makes.
_OF_MODEL = 0.35
# Draws of points until they have the density that is wanted.
_TRIES = 200
# Cameras and depth sensors are calibrated to a pixel or two: how often, and deviation in pixels.
_MISPLACED, _PIXELS = 0.5, 1.2
# How often leaves, railings and wires are drawn before an image, and edges of its depth ragged.
_CLUTTERED, _RAGGED = 0.5, 0.3


@dataclass(frozen=True)
class FusionExample:
    """
    ``inputs`` (18, rows, columns) float32 as `network_input` makes them, and ``target``.

    The target (rows, columns) float32 is log of true depth in metres, NaN unknown.
    """

    inputs: np.ndarray
    target: np.ndarray


def draw_example(
    rng: np.random.Generator,
    pair: Pair,
    cells: int | None,
    foreign: np.ndarray,
    model: str | None = None,
) -> FusionExample:
    """
    Draw points and map over an augmented pair.

    ``cells`` is the size of the grid, which the density of the points needs; None takes any
    density on the coarser one. ``foreign`` is depth of another scene; ``model`` is the name of one
    that makes some of the maps, None has them all simulated.
    """
    rgb, depth = _augmented(rng, pair)
    sparse = draw_points(rng, depth) if cells is None else _points_for(rng, depth, cells)
    if model is not None and rng.random() < _OF_MODEL:
        prediction: Prediction | None = _loaded(model).predict(_recoloured(rng, rgb))
    else:
        prediction = draw_map(rng, rgb, depth, foreign)
    cells = cells or CELLS[0]
    return FusionExample(inputs_of(rgb, sparse, prediction, cells), target_on_grid(depth, cells))


def _points_for(rng: np.random.Generator, depth: np.ndarray, cells: int) -> SparseDepth:
    """Draw points of a density that needs so many cells."""
    for _ in range(_TRIES):
        sparse = draw_points(rng, depth)
        gap, _ = median_gap(sparse.u, sparse.v, depth.shape, among=True)
        if cells_needed(len(sparse), gap, depth.shape) == cells:
            break
    return sparse


@lru_cache(maxsize=1)
def _loaded(model: str) -> DepthModel:
    """Load a model once for each process."""
    return load_model(model, device='cpu')


def inputs_of(
    rgb: np.ndarray, sparse: SparseDepth, prediction: Prediction | None, cells: int
) -> np.ndarray:
    """Return the input of the network (18, rows, columns) as the pipeline makes it."""
    fit = None
    if prediction is not None:
        fit = align_map(prediction, sparse, AlignmentConfig(method='fused', max_depth=_FARTHEST))
    points = score_points(sparse, rgb, (rgb.shape[0], rgb.shape[1]), cells)
    scored, _ = judge_map(score_map(points, rgb, fit))
    return scored.channels


def cells_over(size: tuple[int, int], cells: int = CELLS[0]) -> tuple[int, int]:
    """Return rows and columns of the grid over an image of a size (H, W)."""
    grid = work_grid(size, cells)
    return grid.rows, grid.columns


def target_on_grid(depth: np.ndarray, cells: int) -> np.ndarray:
    """Return log depth in the middle of each cell, NaN unknown."""
    grid = work_grid(depth.shape, cells)
    v = ((np.arange(grid.rows) + 0.5) * depth.shape[0] / grid.rows).astype(int)
    u = ((np.arange(grid.columns) + 0.5) * depth.shape[1] / grid.columns).astype(int)
    middle = depth[np.ix_(v, u)]
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(np.isfinite(middle) & (middle > 0), np.log(middle), np.nan).astype('f')


def _augmented(rng: np.random.Generator, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    rgb, depth = np.asarray(pair.rgb), np.asarray(pair.depth)
    height, width = depth.shape
    if rng.random() < 0.6:  # a narrower view
        share = rng.uniform(0.6, 1.0)
        rows, columns = round(height * share), round(width * share)
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        size = (width, height)
        rgb = rgb[top : top + rows, left : left + columns]
        depth = depth[top : top + rows, left : left + columns]
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC)
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        rgb, depth = rgb[:, ::-1], depth[:, ::-1]
    depth = depth * np.float32(np.exp(rng.normal(0, 0.25)))
    if rng.random() < _CLUTTERED:
        rgb, depth = add_clutter(rng, rgb, depth)
    if rng.random() < _RAGGED:
        depth = ragged(rng, depth)
    if rng.random() < _MISPLACED:
        shift = np.eye(2, 3)
        shift[:, 2] = rng.normal(0, _PIXELS, 2)
        rgb = cv2.warpAffine(
            np.ascontiguousarray(rgb), shift, (width, height), borderMode=cv2.BORDER_REFLECT
        )
    return _recoloured(rng, np.ascontiguousarray(rgb)), np.ascontiguousarray(depth)


def ragged(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Displace the pixels of depth (H, W) by a pixel or two, as depth cameras do at edges."""
    height, width = depth.shape
    cell = rng.uniform(2, 8)
    coarse = round(height / cell), round(width / cell)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    move = rng.uniform(0.3, 1.5) * rng.standard_normal((2, *coarse)).astype(np.float32)
    y, x = (
        place + cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
        for place, part in zip((y, x), move, strict=True)
    )
    return np.asarray(cv2.remap(depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))


def _recoloured(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """Change exposure, colour, sharpness and noise."""
    if rng.random() < 0.02:
        return rng.integers(0, 256, rgb.shape, dtype=np.uint8)
    image: np.ndarray = rgb.astype(np.float32) / 255
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < 0.15:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.3))
    image = (image - 0.5) * rng.uniform(0.5, 1.3) + 0.5 + rng.normal(0, 0.08)
    image = image * np.exp(rng.normal(0, 0.1, 3)).astype(np.float32)
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0, 0.04), image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)
