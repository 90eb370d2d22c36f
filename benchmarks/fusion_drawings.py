# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Drawings of fused depth beside interpolation, and its error over the number of points."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
from fusion_cases import FusionScene, INTERPOLATIONS
from marigold_ros.evaluation.report.drawing import (
    colourise_depth,
    depth_scale,
    error_image,
    overlay_points,
)
from marigold_ros.frame import SparseDepth
import numpy as np

_PANEL, _STRIP = 320, 24  # px: width of a panel, height of its title
_WIDTH, _HEIGHT, _MARGIN = 720, 420, 60
_COLOURS = {
    'fused': (0, 114, 178),
    'linear': (213, 94, 0),
    'disparity': (0, 158, 115),
    'nearest': (150, 150, 150),
}


def panels(
    scene: FusionScene, sparse: SparseDepth, maps: Mapping[str, np.ndarray], points: str
) -> np.ndarray:
    """Draw points, depth by interpolation and fused, both errors, sigma and truth in a row."""
    low, high = depth_scale(scene.depth)
    v, u = np.nonzero(scene.depth > 0)

    def error(relative: np.ndarray) -> np.ndarray:
        return error_image(scene.rgb, u, v, relative[v, u])

    off = {
        name: np.abs(maps[name] / np.where(scene.depth > 0, scene.depth, np.nan) - 1)
        for name in ('disparity', 'fused')
    }
    shown = {
        points: overlay_points(scene.rgb, sparse.u, sparse.v, sparse.z, low, high),
        'disparity, interpolated': colourise_depth(maps['disparity'], low, high),
        'fused': colourise_depth(maps['fused'], low, high),
        'truth': colourise_depth(scene.depth, low, high),
        'error of interpolation': error(off['disparity']),
        'error of fused': error(off['fused']),
        'sigma of fused': error(maps['sigma'] / maps['fused']),
    }
    size = _PANEL, round(_PANEL * scene.depth.shape[0] / scene.depth.shape[1])
    drawn = []
    for title, panel in shown.items():
        strip = np.full((_STRIP, _PANEL, 3), 255, np.uint8)
        cv2.putText(strip, title, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1)
        drawn.append(np.vstack([strip, cv2.resize(panel, size, interpolation=cv2.INTER_AREA)]))
    return np.hstack(drawn)


def density_curves(cases: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Draw AbsRel over the number of random points, both logarithmic; (h, w, 3) uint8."""
    found = [(int(c['points'].split()[0]), c) for c in cases if c['points'].endswith(' random')]
    found.sort(key=lambda item: item[0])
    counts = np.array([count for count, _ in found], float)
    curves = {
        name: np.array([case['methods'][name]['abs_rel'] for _, case in found])
        for name in ('fused', *INTERPOLATIONS)
    }
    everything = np.concatenate(list(curves.values()))
    canvas = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)

    def across(count: np.ndarray) -> np.ndarray:
        share = np.log(count / counts[0]) / max(np.log(counts[-1] / counts[0]), 1e-9)
        return _MARGIN + share * (_WIDTH - 2 * _MARGIN)

    def down(error: np.ndarray) -> np.ndarray:
        share = np.log(error / everything.min()) / np.log(everything.max() / everything.min())
        return _HEIGHT - _MARGIN - share * (_HEIGHT - 2 * _MARGIN)

    for line, (name, errors) in enumerate(curves.items()):
        places = np.stack([across(counts), down(errors)], axis=1).round().astype(np.int32)
        cv2.polylines(canvas, [places[:, None]], False, _COLOURS[name], 2, cv2.LINE_AA)
        _write(canvas, name, (_WIDTH - 2 * _MARGIN, 24 + 18 * line), _COLOURS[name])
    for count in counts:
        _write(canvas, f'{count:g}', (int(across(np.array(count))) - 14, _HEIGHT - _MARGIN + 24))
    for error in np.geomspace(everything.min(), everything.max(), 5):
        _write(canvas, f'{error:.3f}', (6, int(down(np.array(error))) + 4))
    _write(canvas, 'AbsRel over the number of random points', (_MARGIN, 18))
    return canvas


def _write(
    canvas: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, ...] = (40, 40, 40)
) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
