# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Find the laser of a spinning LiDAR that measured each point, or the point's block of azimuth.

The ring field is preferred, then the order of the points, then their elevation. Elevation alone
cannot separate the lasers of a 64-beam scanner: they sit up to 20 cm from its origin, so near
points of one laser reach the angles of its neighbours. Such scans come laser after laser.
"""

from dataclasses import dataclass, replace

from marigold_ros.errors import InputError
import numpy as np

_FEWEST, _MOST = 4, 300
_BANDS = 64
# Degrees of azimuth in a block: of every eight one is for the fit, the same share as of lines.
_BLOCK = 1.0
# Degrees; single precision moves the first points of lasers about their seam by less.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ScanLines:
    """
    Scan line of every point of a scan.

    ``found_by`` is 'ring', 'order' or 'elevation', or 'bands' (64 equal slices of elevation, the
    last resort), or 'azimuth' (blocks of azimuth in place of scan lines).
    """

    index: np.ndarray  # (N,) int, 0 is the lowest scan line by median elevation
    count: int
    found_by: str


def find_scan_lines(points_lidar: np.ndarray, ring: np.ndarray | None = None) -> ScanLines:
    """
    Find the scan line of every point.

    Parameters
    ----------
    points_lidar : (N, 3) float, metres
        The scan in the LiDAR's frame (z up), in the order of the message.
    ring : (N,) int or None
        The driver's own scan line numbers; ignored if all are equal, as those of Unitree are.

    Raises
    ------
    InputError
        If the shapes are wrong or there is no point.

    """
    points = _checked(points_lidar)
    if ring is not None and np.shape(ring) != (len(points),):
        raise InputError(
            f'ring has shape {np.shape(ring)} for {len(points)} points; needs one value each',
            'shape',
        )
    measured = points.any(axis=1)
    if 0 < np.count_nonzero(measured) < len(points):
        lines = find_scan_lines(points[measured], None if ring is None else ring[measured])
        index = np.zeros(len(points), np.int64)
        index[measured] = lines.index
        return replace(lines, index=index)
    x, y, z = points.T
    elevation = np.degrees(np.arctan2(z, np.hypot(x, y)))
    if ring is not None and np.ptp(ring) > 0:
        return _ranked(np.asarray(ring), elevation, 'ring')
    if (line := _lines_by_order(np.degrees(np.arctan2(y, x)), elevation)) is not None:
        return _ranked(line, elevation, 'order')
    if (line := _lines_by_elevation(elevation)) is not None:
        return _ranked(line, elevation, 'elevation')
    low, high = np.percentile(elevation, (0.5, 99.5))
    share = (elevation - low) / max(high - low, 1e-9)
    bands = np.clip((share * _BANDS).astype(np.int64), 0, _BANDS - 1)
    return _ranked(bands, elevation, 'bands')


def azimuth_blocks(points_lidar: np.ndarray) -> ScanLines:
    """Number degrees of azimuth from right to left; takes and raises as `find_scan_lines`."""
    points = _checked(points_lidar)
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    block = np.floor(azimuth / _BLOCK).astype(np.int64)
    block -= block.min()
    return ScanLines(block, int(block.max()) + 1, 'azimuth')


def _checked(points_lidar: np.ndarray) -> np.ndarray:
    """Return points (N, 3); rays without a return, which drivers write as 0 or NaN, are 0 0 0."""
    points = np.asarray(points_lidar, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise InputError(f'the scan has shape {points.shape}; it must be (N, 3), N > 0', 'shape')
    return np.where(np.isfinite(points).all(axis=1, keepdims=True), points, 0.0)


def _ranked(label: np.ndarray, elevation: np.ndarray, found_by: str) -> ScanLines:
    """Number scan lines from below by their median elevation."""
    line = _consecutive(label)
    count = int(line.max()) + 1
    # By line, then elevation, as np.lexsort does: lines of 16 bits are sorted twice as fast.
    small = line.astype(np.uint16) if count <= 65536 else line
    order = np.argsort(elevation, kind='stable')
    order = order[np.argsort(small[order], kind='stable')]
    starts = np.searchsorted(line[order], np.arange(count + 1))
    middle = elevation[order][(starts[:-1] + starts[1:]) // 2]
    rank = np.empty(count, np.int64)
    rank[np.argsort(middle, kind='stable')] = np.arange(count)
    return ScanLines(rank[line], count, found_by)


def _consecutive(label: np.ndarray) -> np.ndarray:
    """Number the labels that occur from 0, as np.unique does, without sorting small ones."""
    if label.dtype.kind in 'iu' and label.min() >= 0 and label.max() <= 65535:
        occurs = np.bincount(label) > 0
        return (np.cumsum(occurs) - 1)[label]
    return np.unique(label, return_inverse=True)[1].reshape(-1)


def _lines_by_order(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray | None:
    """Count turns of the azimuth where points come laser after laser; None where they do not."""
    if len(azimuth) < 50:
        return None
    step = _wrapped(np.diff(azimuth))
    near = np.abs(step) < 20.0  # cut-away sectors and turns of a partial view are no rotation
    direction = float(np.sign(np.median(step[near]))) if near.any() else 0.0
    if direction == 0.0 or np.mean(direction * step[near] > -0.5) < 0.97:
        return None
    new_line = np.zeros(len(azimuth), bool)
    seam = _seam(azimuth, elevation, direction)
    if seam is None:
        # A view that does not contain the seam: every line starts where the azimuth jumps back.
        new_line[1:] = direction * np.diff(azimuth) < -20.0
    else:
        turn = np.mod(direction * (azimuth - seam), 360.0)
        new_line[1:] = np.diff(turn) < -20.0
    line = np.cumsum(new_line)
    return line if _FEWEST <= line[-1] + 1 <= _MOST else None


def _seam(azimuth: np.ndarray, elevation: np.ndarray, direction: float) -> float | None:
    """
    Find the azimuth at which one laser ends and the next begins inside the view.

    Drivers start at 0°, at ±180° or at the scan's first point. Only at the true seam does the
    elevation change between neighbours on every turn.
    """
    best, best_change = None, 0.1
    step = _wrapped(np.diff(azimuth))
    change = np.diff(elevation)
    for start in (0.0, 180.0, float(azimuth[0])):
        candidate = start - _ROUNDING * direction
        before = _wrapped(azimuth[:-1] - candidate) * direction
        crossing = (before < 0) & (before + step * direction >= 0) & (np.abs(step) < 5.0)
        if np.count_nonzero(crossing) < _FEWEST:
            continue
        median = abs(float(np.median(change[crossing])))
        if median > best_change:
            best, best_change = candidate, median
    return best


def _lines_by_elevation(elevation: np.ndarray) -> np.ndarray | None:
    """Cluster elevations that are clearly separate; None where they overlap."""
    values = np.sort(elevation)
    width = 0.02
    counts, edges = np.histogram(
        values, bins=np.arange(values[0] - width, values[-1] + 2 * width, width)
    )
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], (counts > 0).astype(np.int8), [0]])))
    starts, stops = bounds[0::2], bounds[1::2]
    total = np.concatenate([[0], np.cumsum(counts)])
    members = total[stops] - total[starts]
    # Small clusters (moving sensor, rain) join the nearest line.
    line = members > 0.1 * np.sort(members)[-_FEWEST:].mean()
    starts, stops, members = edges[starts[line]], edges[stops[line]], members[line]
    if not _FEWEST <= len(starts) <= _MOST or members.sum() < 0.9 * len(values):
        return None
    centres = 0.5 * (starts + stops)
    if np.max(stops - starts) > 0.75 * np.median(np.diff(centres)):
        return None
    return np.searchsorted(0.5 * (centres[1:] + centres[:-1]), elevation)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Wrap degrees to [-180, 180)."""
    return angle - 360.0 * np.floor((angle + 180.0) / 360.0)  # 4 times as fast as np.mod
