# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Whether the points of a LiDAR belong to their image: their steps in depth lie on edges of it.

At the steps of a scan that fits, the image has edges that are about twice as strong as at the same
steps moved aside; at those of a scan that is turned, mirrored, upside down or of another scene
they are no stronger. The image is compared with itself, so that neither fog, night nor texture
decides. Steps add up over frames until they suffice; one that is seen again counts once, so that a
few of a scene at rest decide nothing. Blurred images, dark parts of an image, and steps within the
noise of the points are left out.
"""

from dataclasses import dataclass, field, replace

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason
import numpy as np

# Columns; in smaller images edges merge.
_LEAST_WIDTH = 240
# Rows and columns of a thumbnail: a strip has few edges, each in all of its rows.
_LEAST_SIZE = 54, 80
# Neighbours in a band of rows are this near to each other.
_BAND, _APART, _BESIDE = 3, 1 / 80, 1.5
# Log depth: of a step, and between two points of the surfaces that it must have on both sides;
# outliers have none. A step is at least so many times the median difference of neighbours, which
# is noise.
_STEP, _FLAT, _OVER_NOISE = 0.15, 0.06, 6.0
# Share of points with a step on both sides from which on so many are wrong that two of one depth
# meet by chance: surfaces must have three.
_OUTLIERS = 0.15
# Edges are relative to their surroundings (columns, rows) and a faint change, of values up to 255,
# at most so many times as strong, and reach so far to either side, which is also the error of
# mounting that is allowed.
_AROUND, _FAINT, _MOST, _REACH = (0.1, 0.05), 0.25, 4.0, 0.01
# A filter that answers to noise, hardly to edges, and the standard deviations of noise below which
# change is none.
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_DROWNED = 1.4
# The mean square of change grows up to 1.5 times where a sharp image is halved, fourfold where it
# is blurred.
_BLURRED = 2.5
# Part of the mean change around, and of the noise in it, which leaves 0.07 where it is alone:
# places with less show nothing.
_DARK, _NOISY = 0.1, 0.2
# Moves aside, as shares of the width.
_ASIDE = [
    (dx, dy)
    for dx in (-0.09, -0.075, -0.06, -0.045, 0.045, 0.06, 0.075, 0.09)
    for dy in (-0.015, 0.0, 0.015)
]
# Steps from which on there is a verdict, the newest that count, and the frames that they do.
_FEWEST, _KEPT, _LASTING = 40, 300, 300
# Steps nearer to each other than this, in widths and log depth, are one seen again.
_SAME_PLACE, _SAME_DEPTH = 0.01, 0.2
# Columns and rows, in widths, in which the steps of a frame lie on few edges.
_EDGE_SIZE = 0.05, 0.1
# Strength of edges, as a multiple of that by chance: points are not of this image below the first,
# less one over the root of the sum of that by chance, and are above the last.
_WRONG, _RIGHT = 1.2, 1.5
# Yaw that may hide behind edges that agree, degrees; upright ones show no pitch.
AGREEING_DEG = 1.8
# Once points are right, one frame in so many is compared.
_EVERY = 8
# Of so many points at least, the share behind others from which on they are no surface: 5 % of a
# scan are, 25 % where every fifth point is wrong, 75 % of noise.
_MANY, _SCATTERED = 500, 0.5


@dataclass(frozen=True, eq=False)
class EdgeEvidence:
    """
    The last depth steps that were compared, each once.

    ``steps`` (n, 6) are column and row in widths, log depth, strength of edges there and by
    chance, and the frame, newest first; ``frames`` have been seen.
    """

    steps: np.ndarray = field(default_factory=lambda: np.empty((0, 6), np.float32))
    frames: int = 0

    @property
    def strength(self) -> float:
        """Strength of edges at the steps as a multiple of that by chance; NaN of too few steps."""
        return _over_chance(self.steps)[0] if len(self.steps) >= _FEWEST else float('nan')

    @property
    def is_right(self) -> bool:
        """Whether the points are known to be of this image, to about a degree."""
        return self.strength > _RIGHT

    @property
    def is_wrong(self) -> bool:
        """Whether the points are known to be of another image."""
        strength, error = _over_chance(self.steps)
        return len(self.steps) >= _FEWEST and strength < _WRONG - error

    def contradiction(self, sparse: SparseDepth | None) -> Reason | None:
        """Return that the points of a frame are not of its image; None if that is not known."""
        if sparse is None or not _of_lidar(sparse):
            return None
        noise = scatter(sparse)
        if self.is_wrong and noise is None:
            return Reason('not_of_this_image', {'strength': self.strength})
        return noise


@dataclass(frozen=True, eq=False)
class ImageEdges:
    """
    Strength of upright edges relative to their surroundings, and these, (h, w) float32.

    Where the surroundings are below ``least``, the image shows nothing.
    """

    relative: np.ndarray
    around: np.ndarray
    least: float
    is_blurred: bool

    @classmethod
    def of(cls, grey: np.ndarray) -> 'ImageEdges':
        """Return those of a thumbnail (h, w) float32, values in [0, 255]."""
        change, noise = _change(grey)
        halved, _ = _change(cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        is_blurred = np.square(halved).mean() > _BLURRED * np.square(change).mean()
        columns, rows, reach = (round(share * grey.shape[1]) for share in (*_AROUND, _REACH))
        around = cv2.blur(change, (columns | 1, rows | 1))
        relative = np.minimum(change / (around + np.float32(_FAINT)), np.float32(_MOST))
        widened = cv2.dilate(relative, np.ones((1, 2 * reach + 1), np.uint8))
        least = max(_DARK * float(around.mean()), _NOISY * noise)
        return cls(widened, around, least, bool(is_blurred))


def scatter(sparse: SparseDepth) -> Reason | None:
    """Return that the points of a LiDAR are noise, which lies behind itself; None if not."""
    hidden, kept = (sparse.counts.get(name, 0) for name in ('occluded', 'kept'))
    if hidden + kept < _MANY or hidden <= _SCATTERED * (hidden + kept) or not _of_lidar(sparse):
        return None
    return Reason('scattered', {'share': hidden / (hidden + kept)})


def observe_edges(
    before: EdgeEvidence, grey: np.ndarray, width: int, sparse: SparseDepth | None
) -> EdgeEvidence:
    """
    Add a frame: the thumbnail (h, w) of its rectified image, the image's width, and its points.

    Points of other sensors, small images and strips, and most frames of points that are right add
    nothing.
    """
    if sparse is None or not _of_lidar(sparse) or not len(sparse) or width < _LEAST_WIDTH:
        return before
    if len(grey) < _LEAST_SIZE[0] or grey.shape[1] < _LEAST_SIZE[1]:
        return before
    frames = before.frames + 1
    if before.is_right and frames % _EVERY:
        return replace(before, frames=frames)
    old = before.steps[before.steps[:, 5] > frames - _LASTING]
    u, v, log_depth = depth_steps(sparse, width)
    image = ImageEdges.of(grey) if len(u) else None
    if image is None or image.is_blurred:
        return EdgeEvidence(old, frames)
    edges, x, y = image.relative, u / width, v / width
    seen = _strength(image.around, x, y) > image.least
    x, y, log_depth = x[seen], y[seen], log_depth[seen]
    at_steps = _strength(edges, x, y)
    chance = np.mean([_strength(edges, x + dx, y + dy) for dx, dy in _ASIDE], axis=0)
    found = np.stack([x, y, log_depth, at_steps, chance, np.full(len(x), frames)], axis=1)
    if len(found) > _KEPT:  # from all of the image
        found = found[np.linspace(0, len(found) - 1, _KEPT).astype(np.intp)]
    strength, error = _over_chance(found)
    if before.is_wrong and strength > _RIGHT + 1.5 * error:
        old = old[:0]  # those of a robot that has stopped are too few to outnumber them
    apart = np.abs(old[:, None, :3] - found[None, :, :3])
    again = (apart < (_SAME_PLACE, _SAME_PLACE, _SAME_DEPTH)).all(axis=2).any(axis=1)
    return EdgeEvidence(np.concatenate([found, old[~again]])[:_KEPT].astype(np.float32), frames)


def depth_steps(sparse: SparseDepth, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the places between two surfaces side by side.

    Column and row in pixels, and log depth of the nearer surface, (n,) each.
    """
    order = np.lexsort((sparse.u, sparse.v // _BAND))
    u, v, log_depth = sparse.u[order], sparse.v[order], np.log(sparse.z[order])
    beside = (np.diff(v // _BAND) == 0) & (np.diff(u) <= max(8.0, _APART * width))
    change = np.abs(np.diff(log_depth))
    flat, step = beside & (change < _FLAT), beside & (change > _STEP)
    alone = np.count_nonzero(step[:-1] & step[1:])
    reach = 2 if alone > _OUTLIERS * np.count_nonzero(beside) else 1
    if beside.any():
        step &= change > _OVER_NOISE * np.median(change[beside])
    at = np.arange(reach, max(len(step) - reach, reach))
    at = at[step[at] & np.all([flat[at + i] & flat[at - i] for i in range(1, reach + 1)], axis=0)]
    # The nearer surface ends beside its last point; what is behind it begins farther aside.
    side = np.where(log_depth[at] < log_depth[at + 1], 1.0, -1.0)
    near = np.where(side > 0, at, at + 1)
    column = u[near] + side * np.minimum((u[at + 1] - u[at]) / 2, _BESIDE)
    return column, v[near].astype(float), log_depth[near]


def _change(grey: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the change of grey (h, w) along its rows, per pixel, beyond that of noise, and it."""
    calm = cv2.GaussianBlur(grey, (5, 5), 1.0)
    change = np.abs(cv2.Sobel(calm, cv2.CV_32F, 1, 0, scale=0.125))
    # Noise of 1 is 6 in the filter (Immerkaer, 1996), whose median is 0.67, and 0.146 in change.
    response = np.median(np.abs(cv2.filter2D(grey, cv2.CV_32F, _NOISE)))
    noise = 0.146 * float(response) / (6.0 * 0.6745)
    return np.maximum(change - np.float32(_DROWNED * noise), np.float32(0.0)), noise


def _of_lidar(sparse: SparseDepth) -> bool:
    """Whether points are of a kind whose depth steps show where surfaces end."""
    return sparse.kind is PointKind.LIDAR


def _over_chance(steps: np.ndarray) -> tuple[float, float]:
    """
    Return the strength of edges at steps (n, 6) over that by chance, and its error.

    Steps of a frame that are near each other lie on the same edges, and count as the root of their
    number: a cupboard that is as bright as the wall behind it decides nothing by its many rows.
    """
    column, row = np.floor(steps[:, :2] / _EDGE_SIZE).astype(np.int64).T
    place = (1000 * steps[:, 5].astype(np.int64) + row) * 1000 + column
    _, which, number = np.unique(place, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(number[which])
    at_steps, by_chance = (float(total) for total in weight @ steps[:, 3:5])
    strength = at_steps / by_chance if by_chance > 0.0 else float('nan')
    return strength, 1.0 / np.sqrt(max(by_chance, 1.0))


def _strength(edges: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the strength of edges (h, w) at places in widths."""
    height, width = edges.shape
    column = np.clip(np.rint(x * width), 0, width - 1).astype(np.intp)
    row = np.clip(np.rint(y * width), 0, height - 1).astype(np.intp)
    return np.asarray(edges[row, column])
