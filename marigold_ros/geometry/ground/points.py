# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Points on the ground, where the map shows a plane of the pose that the ground has.

A map known up to scale and shift still has the shape of a plane. The plane is fitted to it in the
map's space by a rule of the world: things stand on the ground, and hardly anything lies below it.
What agrees, hangs together and reaches the nearest visible ground is ground; everything else is a
reason to refuse the frame, because a plane at another height would give wrong metres.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import GroundPlane, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import weighted_line
from marigold_ros.geometry.alignment.ground_field import ground_spacing
from marigold_ros.geometry.ground.plane import plane_depth
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason
from marigold_ros.spaces import from_metres
import numpy as np

# The plane is not used where its pitch alone makes it this uncertain, as a share of depth.
_UNCERTAIN = 0.2
# Relative error of a map on plain ground; twice as much is still ground.
_MAP_ERROR, _AGREES = 0.06, 2.0
# Pairs of cells and cells that judge them; the residual that counts at most; what lies below the
# ground counts more.
_PAIRS, _JUDGES, _CAP, _BELOW = 256, 800, 3.0, 3.0
_ROUNDS = 4
# Least share of the image, of the cells where the ground could be, and of the nearest of these:
# on synthetic drives, streets have 0.77 of the cells (nineteen in twenty frames), and a table that
# is taken for the floor up to 0.64.
_SHARE, _SHARE_OF_CELLS, _SHARE_OF_NEAREST, _NEAREST = 0.05, 0.65, 0.5, 0.15
# Least ratio of the ground's farthest to nearest depth; largest share below it.
_DEPTH_RATIO, _MOST_BELOW = 2.0, 0.1
# A plane tilted by this much must not fit the map so much better, degrees and share of the error.
_TILTS, _BETTER = np.arange(-24.0, 49.0, 3.0), 0.85
_LARGEST_TILT = 10.0


def find_ground(
    prediction: Prediction, K: np.ndarray, plane: GroundPlane, config: AlignmentConfig
) -> tuple[SparseDepth | None, Reason | None]:
    """
    Find points on the ground, which should be at ``plane``, in a prediction.

    ``K`` (3, 3), pixels, are the intrinsics of its rectified image. Returns at most one point in
    each cell of a grid, with the deviation that the pitch causes; or None and the reason.
    """
    cells = _ground_cells(prediction, K, plane, config)
    if cells.share < _SHARE:
        return None, Reason('ground_out_of_view', {'share': cells.share, 'needed': _SHARE})
    target, steepness = cells.target(prediction.space)
    tolerance = _MAP_ERROR * steepness + 0.5 * cells.sigma / cells.z * steepness
    scale, shift = _fit(cells, target, tolerance)
    # Positive where the map lies behind the plane: below the ground.
    behind = (scale * cells.relative + shift - target) / tolerance
    region = _region(cells, np.abs(behind) < _AGREES)
    refusal = _refusal(cells, region, scale, behind)
    refusal = refusal or _tilt_refusal(cells, region, K, plane, prediction.space)
    if refusal:
        return None, refusal
    parts = (cells.u, cells.v, cells.z.astype(np.float32))
    u, v, z = (part[region] for part in parts)
    counts = {'points': len(region), 'kept': len(z)}
    return SparseDepth(u, v, z, None, counts, cells.sigma[region], PointKind.GROUND), None


@dataclass(frozen=True)
class _Cells:
    """
    The cells whose middle may show the ground, (n,) each, of all in ``shape`` (rows, columns).

    ``u``, ``v`` in pixels; ``place`` counts into the flattened grid; ``z`` is the plane's depth
    and ``sigma`` its deviation by the pitch, metres; ``relative`` is the prediction with the sign
    that makes it grow with distance.
    """

    shape: tuple[int, int]
    place: np.ndarray
    u: np.ndarray
    v: np.ndarray
    z: np.ndarray
    sigma: np.ndarray
    relative: np.ndarray

    @property
    def share(self) -> float:
        """Share of the image in which the ground could be."""
        return len(self.place) / (self.shape[0] * self.shape[1])

    def target(self, space: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the plane in a space, growing with distance, and its change with log depth."""
        value = _growing(self.z, space)
        return value, np.ones_like(value) if space == 'log' else np.abs(value)


def _growing(z: np.ndarray, space: str) -> np.ndarray:
    """Return metres in a space, with the sign that makes them grow with distance."""
    value = from_metres(z, space)
    return -value if space == 'disparity' else value


def _ground_cells(
    prediction: Prediction, K: np.ndarray, plane: GroundPlane, config: AlignmentConfig
) -> _Cells:
    """Return the cells below the horizon, within the range of depth, where the map is known."""
    height, width = prediction.relative.shape
    step = ground_spacing((height, width))
    v, u = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    z = plane_depth(plane, K, u, v)
    uncertain = z / plane.height * plane.pitch_error
    relative = prediction.relative[v, u].astype(np.float64)
    low, high = prediction.censored
    with np.errstate(invalid='ignore'):
        seen = (z >= config.min_depth) & (z <= config.max_depth) & (uncertain <= _UNCERTAIN)
        seen &= (relative > low) & (relative < high)
    place = np.flatnonzero(seen)
    rows, columns = seen.shape
    return _Cells(
        (rows, columns),
        place,
        u.ravel()[place],
        v.ravel()[place],
        z.ravel()[place],
        (z * uncertain).ravel()[place],
        (-relative if prediction.space == 'disparity' else relative).ravel()[place],
    )


def _fit(cells: _Cells, target: np.ndarray, tolerance: np.ndarray) -> tuple[float, float]:
    """Fit scale and shift of the map to the plane, by the best of fixed pairs of cells."""
    order = np.argsort(cells.z, kind='stable')
    few = order[np.linspace(0, len(order) - 1, min(len(order), _JUDGES)).astype(np.intp)]
    x, y, allowed = cells.relative[few], target[few], tolerance[few]
    draw = np.random.default_rng(0)
    half = len(few) // 2
    near, far = draw.integers(0, max(1, half), _PAIRS), draw.integers(half, len(few), _PAIRS)
    apart = x[far] - x[near] > 1e-6
    if not apart.any():
        return 0.0, float(np.median(y))
    near, far = near[apart], far[apart]
    scales = (y[far] - y[near]) / (x[far] - x[near])
    shifts = y[near] - scales * x[near]
    behind = (scales[:, None] * x + shifts[:, None] - y) / allowed
    cost = np.minimum(np.abs(behind), _CAP)
    cost += (_BELOW - 1.0) * np.where(behind > 1.0, np.minimum(behind, _CAP), 0.0)
    best = int(np.argmin(cost.mean(axis=1)))
    scale, shift = float(scales[best]), float(shifts[best])
    for _ in range(_ROUNDS):
        behind = (scale * cells.relative + shift - target) / tolerance
        weight = np.square(np.clip(1.0 - np.square(behind / _CAP), 0.0, None)) / tolerance**2
        scale, shift = weighted_line(cells.relative, target, weight)
    return scale, shift


def _region(cells: _Cells, agrees: np.ndarray) -> np.ndarray:
    """Return which cells (n,) are in the largest region of those that agree."""
    grid = np.zeros(cells.shape, np.uint8)
    grid.ravel()[cells.place[agrees]] = 1
    opened = cv2.morphologyEx(grid, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros(len(cells.place), bool)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.asarray((labels == largest).ravel()[cells.place])


def _refusal(cells: _Cells, region: np.ndarray, scale: float, behind: np.ndarray) -> Reason | None:
    """Return why a region is not the ground, or None."""
    share = float(region.mean())
    of_image = share * cells.share
    if scale <= 0.0 or of_image < _SHARE or share < _SHARE_OF_CELLS:
        return Reason('ground_disagrees', {'share': share, 'needed': _SHARE_OF_CELLS})
    nearest = cells.z <= np.quantile(cells.z, _NEAREST)
    near = float(region[nearest].mean())
    if near < _SHARE_OF_NEAREST:
        return Reason('ground_hidden', {'share': near, 'needed': _SHARE_OF_NEAREST})
    low, high = np.quantile(cells.z[region], [0.05, 0.95])
    if high < _DEPTH_RATIO * low:
        values = {'low': low, 'high': high, 'ratio': high / low, 'needed': _DEPTH_RATIO}
        return Reason('ground_too_short', values)
    below = float((behind > _AGREES).mean())
    if below > _MOST_BELOW:
        return Reason('below_ground', {'share': below, 'allowed': _MOST_BELOW})
    return None


def _tilt_refusal(
    cells: _Cells, region: np.ndarray, K: np.ndarray, plane: GroundPlane, space: str
) -> Reason | None:
    """Return that the map shows a plane of another tilt, or None."""
    u, v, x = cells.u[region], cells.v[region], cells.relative[region]
    errors = np.full(len(_TILTS), np.inf)
    for number, degrees in enumerate(_TILTS):
        z = plane_depth(tilted(plane, np.deg2rad(degrees)), K, u, v)
        if not np.isfinite(z).all():
            continue
        y = _growing(z, space)
        scale, shift = weighted_line(x, y, np.ones_like(y))
        if scale > 0.0:
            errors[number] = np.std(y - scale * x - shift) / np.std(y)
    best = int(np.argmin(errors))
    stated = errors[int(np.argmin(np.abs(_TILTS)))]
    tilt = float(_TILTS[best])
    if abs(tilt) <= _LARGEST_TILT or errors[best] > _BETTER * stated:
        return None
    return Reason('ground_tilted', {'tilt': tilt, 'allowed': _LARGEST_TILT})


def tilted(plane: GroundPlane, angle: float) -> GroundPlane:
    """Return the plane for a camera that looks down by another ``angle``, radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = plane.normal
    normal = np.array([x, cosine * y - sine * z, sine * y + cosine * z])
    return GroundPlane(normal, plane.height, plane.pitch_error)
