# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the fusion network sees: image, candidates relative to the linear one, proof of both."""

from dataclasses import dataclass

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.fusion.candidates import Candidates
from marigold_ros.geometry.fusion.interpolation import natural_neighbours, nearest_points
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Log ratios beyond this are cut off.
_LARGEST = 1.5
_LEAST_ERROR = 0.005


@dataclass(frozen=True)
class MapCandidate:
    """A fitted map: log depth on the grid (rows, columns), held-out log ratios (M,) at points."""

    log_depth: np.ndarray
    held_out: np.ndarray


def log_depth_on_grid(metric: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Average log of depth (H, W) in the cells of ``linear``, which counts where it is NaN."""
    size = linear.shape[::-1]
    known = np.isfinite(metric) & (metric > 0)
    if known.all():
        return np.asarray(cv2.resize(np.log(metric), size, interpolation=cv2.INTER_AREA))
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    logs = np.log(metric, out=np.zeros_like(metric), where=known)
    total = cv2.resize(logs, size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0.5, total / np.maximum(share, np.float32(0.5)), linear)


def network_input(
    candidates: Candidates, sparse: SparseDepth, fitted: MapCandidate | None
) -> np.ndarray:
    """
    Return the `marigold_ros.fusion_channels.CHANNELS`, (17, rows, columns) float32.

    ``sparse`` are the points of the candidates, ``fitted`` is the map or None; without an image
    all is grey.
    """
    grid, linear = candidates.grid, candidates.linear
    channels = np.zeros((len(CHANNELS), grid.rows, grid.columns), np.float32)
    part = dict(zip(CHANNELS, channels, strict=True))
    if candidates.image is not None:
        channels[:3] = np.moveaxis(np.rint(candidates.image), 2, 0)
        channels[:3] *= np.float32(4 / 255)
        channels[:3] -= np.float32(2)
    level = float(np.median(np.log(sparse.z)))
    part['linear'][...] = linear - np.float32(level)
    for name in ('smooth', 'nearest', 'low', 'high'):
        part[name][...] = getattr(candidates, name) - linear
    proof = _Proofs(grid, sparse)
    if fitted is not None:
        part['map'][...] = fitted.log_depth - linear
        part['has_map'][...] = 1.0
        part['map_proof'][...] = proof(fitted.held_out)
    part['point_proof'][...] = proof(candidates.held_out)
    part['occupied'][...] = candidates.points.distance == 0
    part['distance'][...] = np.log1p(candidates.points.distance) - np.float32(1.5)
    part['inside'][...] = candidates.inside
    part['row'][...] = np.linspace(-1, 1, grid.rows, dtype=np.float32)[:, None]
    part['level'][...] = np.float32(level - 1.5)
    relative = channels[4:9]
    np.clip(relative, -_LARGEST, _LARGEST, out=relative)
    return channels


class _Proofs:
    """Spreads errors at points over the grid, at half its resolution."""

    def __init__(self, grid: WorkGrid, sparse: SparseDepth) -> None:
        self._grid, self._half, self._sparse = grid, grid.halved(), sparse
        _, count = self._half.mean_in_cells(sparse.u, sparse.v, sparse.z)
        self._nearest = nearest_points(count)

    def __call__(self, held_out: np.ndarray) -> np.ndarray:
        """Return the log of the error at points held out (M,), around 0; (rows, columns)."""
        known = np.isfinite(held_out)
        if not known.any():
            return np.zeros((self._grid.rows, self._grid.columns), np.float32)
        typical = float(np.median(np.abs(held_out[known])))
        error = np.where(known, np.minimum(np.abs(held_out), _LARGEST), typical)
        mean, _ = self._half.mean_in_cells(self._sparse.u, self._sparse.v, error)
        spread = natural_neighbours(mean, self._nearest) + np.float32(_LEAST_ERROR)
        return self._grid.refine(np.log(spread) * np.float32(0.5) + np.float32(1.5))
