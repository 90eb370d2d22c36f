# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What one frame offers to fusion: sound points, candidates, and the input of the network."""

from dataclasses import dataclass, replace

from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, consistent_points
from marigold_ros.geometry.fusion.candidates import Candidates, point_candidates
from marigold_ros.geometry.fusion.network_input import (
    log_depth_on_grid,
    MapCandidate,
    network_input,
)
from marigold_ros.geometry.fusion.sound_points import sound_points
from marigold_ros.geometry.fusion.work_grid import work_grid
import numpy as np

# Median error, in log depth, of a map by which single points are judged too.
_GOOD_MAP = 0.1


@dataclass(frozen=True)
class Evidence:
    """
    Points, candidates and network input of one frame.

    ``sound`` (M,) bool are the points that were used, ``sparse``; ``fitted`` is the map, None if
    it has no fit.
    """

    sound: np.ndarray
    sparse: SparseDepth
    candidates: Candidates
    fitted: MapCandidate | None
    channels: np.ndarray  # (17, rows, columns), see `fusion_channels`


def gather_evidence(
    sparse: SparseDepth, rgb: np.ndarray | None, fit: Alignment | None, shape: tuple[int, int]
) -> Evidence:
    """
    Gather what points, image (H, W, 3) uint8 and a fitted map of ``shape`` (H, W) say.

    ``sparse`` has at least one point, all of positive depth; ``fit`` counts if its state is
    ``fitted`` and it was scored at these points. Image and map may be None.
    """
    sound = sound_points(sparse.u, sparse.v, sparse.z)
    held_out = np.full(len(sparse), np.nan)
    if fit is not None and fit.state == 'fitted' and fit.held_out is not None:
        held_out = fit.held_out
        error = np.abs(held_out[np.isfinite(held_out)])
        if len(error) and np.median(error) < _GOOD_MAP:
            sound &= consistent_points(sparse.u, sparse.v, held_out)
    known = SparseDepth(sparse.u[sound], sparse.v[sound], sparse.z[sound])
    fold = checkerboard_fold(known.u, known.v, shape)
    candidates = point_candidates(known, fold, rgb, work_grid(shape))
    fitted = None
    if fit is not None and fit.state == 'fitted' and fit.metric is not None:
        log_map = log_depth_on_grid(fit.metric, candidates.linear)
        fitted = MapCandidate(log_map, held_out[sound])
    return Evidence(sound, known, candidates, fitted, network_input(candidates, known, fitted))


def without_map(evidence: Evidence) -> Evidence:
    """Return the evidence of points and image alone."""
    channels = evidence.channels.copy()
    for name in ('map', 'has_map', 'map_proof'):
        channels[CHANNELS.index(name)] = 0.0
    return replace(evidence, fitted=None, channels=channels)
