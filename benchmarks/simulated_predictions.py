# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Simulate a model's prediction and a LiDAR from true depth: known errors, known truth.

Alignments are scored on distortions of true depth with the errors that depth models have. Two
kinds: ``smooth`` (a multiplicative field of 15 %, a tone error, noise) and ``objects`` (each
segment with its own scale, edges blurred over 4 px, the far end saturated). ``fine`` is smooth
with a third of its errors, as of a foundation model. All are scaled to [0, 1] between their 2nd
and 98th percentile and clipped, like real predictions. Three kinds of map are of no use:
``inverted``, ``constant``, and of a ``foreign`` scene.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction, SparseDepth
import numpy as np
from scipy.spatial import cKDTree

ERROR_KINDS = ('smooth', 'objects')
FINE = 'fine'
USELESS_KINDS = ('inverted', 'constant', 'foreign')
_LEAST_DEPTH_M = 0.05
_TONE = 1.08
# Strength of the errors of a fine map, as a part of a smooth one's.
_FINE = 0.3
_POINT_NOISE = 0.01
# Share of the rows, from the top, above the view of a spinning LiDAR.
_BLIND = 0.3
_SEGMENTS = 24
# Blocks of columns across the image, of every eight of which a LiDAR sees one.
_BLOCKS, _EVERY = 80, 8
# Size of the holes of a depth camera, pixels.
_BLOB = 40
# A step in depth by more than this share, over two pixels, is an edge.
_EDGE = 0.1
EDGE_WIDTH = 8


@dataclass(frozen=True)
class PointPattern:
    """Where a simulated LiDAR measures."""

    name: str
    points: int
    rows: int = 0  # scan rows they lie on, from the blind part downwards; 0 is anywhere
    part: str = 'all'  # of the image, a key of _PARTS
    blind: float = _BLIND  # share of the image above the first row
    seen: float = 1.0  # share of the image down to the last row
    outliers: float = 0.1  # share of points with a random depth
    factors: tuple[float, float] | None = None  # of outliers to the truth; None: in its range
    noise: float = _POINT_NOISE  # relative, of all points


PATTERNS = (
    PointPattern('500 random', 500),
    PointPattern('16 rows', 2000, rows=16),
    PointPattern('4 rows', 400, rows=4),
    PointPattern('50 random', 50),
)
MORE_PATTERNS = (
    *(PointPattern(f'{n} random', n) for n in (20, 100, 500, 5000)),
    *(PointPattern(f'500 {part}', 500, part=part) for part in ('near', 'far', 'left')),
    *(
        PointPattern(f'500, {100 * s:.0f} % wrong', 500, outliers=s)
        for s in (0.0, 0.2, 0.3, 0.4, 0.5)
    ),
)


@dataclass(frozen=True)
class SimulatedPrediction:
    """One test case: the input of an alignment, and the truth."""

    prediction: Prediction  # distorted depth in [0, 1]
    sparse: SparseDepth  # some of the points are outliers
    depth: np.ndarray  # (H, W) metres, the truth; 0 where unknown

    def error(self, metric: np.ndarray, where: np.ndarray | None = None) -> float:
        """Return the mean relative error at known pixels, or at those of ``where`` (H, W)."""
        known = self.depth > 0 if where is None else (self.depth > 0) & where
        if not known.any():
            return float('nan')
        predicted = np.maximum(np.nan_to_num(metric[known], nan=_LEAST_DEPTH_M), _LEAST_DEPTH_M)
        return float(np.mean(np.abs(predicted - self.depth[known]) / self.depth[known]))


def simulate_prediction(
    depth: np.ndarray, pattern: PointPattern, kind: str, seed: int
) -> SimulatedPrediction:
    """
    Distort true depth into a prediction, and sample points of it.

    Parameters
    ----------
    depth : (H, W) float, metres
        The truth; 0 or less where unknown.
    pattern, seed : PointPattern, int
        Of the points; the seed also of the errors.
    kind : {'smooth', 'objects'}
        Kind of the prediction's errors.

    Raises
    ------
    InputError
        If no pixel is known.

    """
    known = depth > 0
    if not known.any():
        raise InputError('a simulated prediction needs true depth; this image has none', 'empty')
    rng = np.random.default_rng(seed)
    prediction = Prediction(_relative(rng, depth, known, kind))
    return SimulatedPrediction(prediction, sample_points(rng, depth, pattern), depth)


def simulate_map(depth: np.ndarray, kind: str, seed: int, foreign: np.ndarray) -> Prediction:
    """
    Distort true depth (H, W) in metres, 0 unknown, into a map of any kind.

    ``kind`` is ``FINE``, of ``ERROR_KINDS`` or of ``USELESS_KINDS``, ``foreign`` the depth of
    another scene in any size; both depths have a known pixel.
    """
    rng = np.random.default_rng(seed)
    if kind == 'constant':
        return Prediction(np.full(depth.shape, 0.5, np.float32))
    if kind == 'foreign':
        size = depth.shape[::-1]
        depth = cv2.resize(foreign, size, interpolation=cv2.INTER_NEAREST)
    relative = _relative(rng, depth, depth > 0, kind if kind in (FINE, *ERROR_KINDS) else 'smooth')
    return Prediction(1 - relative if kind == 'inverted' else relative)


def _relative(
    rng: np.random.Generator, depth: np.ndarray, known: np.ndarray, kind: str
) -> np.ndarray:
    filled = np.maximum(_filled(depth, known), _LEAST_DEPTH_M)
    if kind == 'objects':
        distorted = _object_errors(rng, filled)
    else:
        distorted = _smooth_errors(rng, filled, _FINE if kind == FINE else 1.0)
    low, high = np.percentile(distorted, [2, 98])
    return np.clip((distorted - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def near_edges(depth: np.ndarray, width: int = EDGE_WIDTH) -> np.ndarray:
    """Return the pixels within ``width`` of a step in known depth, (H, W) bool."""
    known = depth > 0
    log = np.log(np.where(known, depth, 1.0)).astype(np.float32)
    edge = np.zeros(depth.shape, dtype=np.uint8)
    for axis in (0, 1):
        step = np.abs(np.roll(log, -2, axis) - log) > _EDGE
        step &= known & np.roll(known, -2, axis)
        # Rolled over the border: not neighbours.
        np.moveaxis(step, axis, 0)[-2:] = False
        edge |= np.roll(step, 1, axis)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    return cv2.dilate(edge, kernel) > 0


def _smooth_errors(rng: np.random.Generator, depth: np.ndarray, strength: float) -> np.ndarray:
    coarse = rng.normal(size=(5, 5)).astype(np.float32)
    smooth = cv2.resize(coarse, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    field = np.exp(strength * 0.15 * smooth / smooth.std())
    tone = 1.0 + strength * (_TONE - 1.0)
    return depth**tone * field * (1 + strength * 0.02 * rng.normal(size=depth.shape))


def _object_errors(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    far = np.percentile(depth, 90)
    # Saturated: twice the 90th percentile is predicted as 1.18 times that.
    distorted = depth / (1 + (depth / far) ** 2) ** 0.5 * 2**0.5
    scale = np.exp(rng.uniform(-0.1, 0.1, _SEGMENTS))
    distorted = distorted * scale[_segments(rng, depth)]
    blurred = cv2.blur(distorted.astype(np.float32), (4, 4))
    return blurred * (1 + 0.01 * rng.normal(size=depth.shape))


def _segments(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Segment pixels by the nearest of some centres in position and log depth; (H, W) int."""
    height, width = depth.shape
    v, u = np.mgrid[0:height, 0:width]
    # A factor of 1.5 in depth weighs as much as half the image's width.
    place = np.stack([u / width, v / width, np.log(depth) / (2 * np.log(1.5))], axis=-1)
    place = place.reshape(-1, 3)
    centres = place[rng.choice(len(place), _SEGMENTS, replace=False)]
    return cKDTree(centres).query(place)[1].reshape(depth.shape)


def _filled(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Inpaint unknown depth."""
    if known.all():
        return depth
    top = float(np.percentile(depth[known], 99.5))
    grey = (np.clip(depth / top, 0, 1) * 255).astype(np.uint8)
    painted = cv2.inpaint(grey, (~known).astype(np.uint8), 3, cv2.INPAINT_NS)
    return np.where(known, depth, painted.astype(np.float32) / 255 * top)


def _without_holes(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Return what a depth camera sees: two thirds of the image, without blobs."""
    cells = [side // _BLOB + 1 for side in depth.shape]
    noise = rng.standard_normal(cells).astype(np.float32)
    blobs = cv2.resize(noise, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return blobs < np.quantile(blobs, 2 / 3)


def _in_the_middle(shape: tuple[int, ...]) -> np.ndarray:
    """Select the middle half of both sides, (H, W) bool, as of a window or a dark wall."""
    height, width = shape
    v, u = np.ogrid[:height, :width]
    return (np.abs(2 * v / height - 1) < 0.5) & (np.abs(2 * u / width - 1) < 0.5)


# Pixels that each part of the image has, of a generator, depth (H, W) and where it is known.
_PARTS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    'all': lambda rng, depth, known: known,
    'near': lambda rng, depth, known: depth <= np.percentile(depth[known], 30),
    'far': lambda rng, depth, known: depth >= np.percentile(depth[known], 70),
    'left': lambda rng, depth, known: np.arange(depth.shape[1]) < depth.shape[1] // 2,
    'lower': lambda rng, depth, known: np.arange(len(depth))[:, None] >= len(depth) // 2,
    'sectors': lambda rng, depth, known: (
        np.arange(depth.shape[1]) * _BLOCKS // depth.shape[1] % _EVERY == 0
    ),
    'camera': lambda rng, depth, known: _without_holes(rng, depth),
    'around': lambda rng, depth, known: ~_in_the_middle(depth.shape),
}


def sample_points(
    rng: np.random.Generator, depth: np.ndarray, pattern: PointPattern
) -> SparseDepth:
    """Measure true depth (H, W) in metres, 0 unknown, where the pattern says; maybe nowhere."""
    height, known = len(depth), depth > 0
    allowed = known & _PARTS[pattern.part](rng, depth, known)
    if pattern.rows:
        first, last = height * pattern.blind, height * pattern.seen - 1
        rows = np.linspace(first, last, pattern.rows).astype(int)
        allowed &= np.isin(np.arange(height), rows)[:, None]
    v, u = np.nonzero(allowed)
    chosen = rng.choice(len(v), min(pattern.points, len(v)), replace=False)
    u, v = u[chosen], v[chosen]
    z = depth[v, u] * (1 + pattern.noise * rng.normal(size=len(u)))
    wrong = rng.random(len(z)) < pattern.outliers
    if pattern.factors is None:
        z[wrong] = rng.uniform(0.3, 1.5 * float(depth.max()), wrong.sum())
    else:
        z[wrong] *= rng.uniform(*pattern.factors, wrong.sum())
    return SparseDepth(u, v, z.astype(np.float32))
