# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The report on one frame's fit: in words, and as the values of ``~/alignment``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marigold_ros.frame import Alignment, FrameResult, SparseDepth
from marigold_ros.reasons import sentence
import numpy as np

_TILES = (16, 12)  # columns and rows
_NAN = float('nan')


@dataclass(frozen=True)
class FitReport:
    """Whether all is well, the state in words, and the values by key."""

    is_good: bool
    text: str
    values: dict[str, Any]


def coverage(sparse: SparseDepth | None, shape: tuple[int, int]) -> dict[str, float]:
    """
    Measure how much of an image (H, W) and of its depth the points cover.

    Returns ``image_coverage``, the share of 16 by 12 tiles that hold a point, and ``nearest`` and
    ``farthest``, the 5th and 95th percentile of depth in metres; 0 and NaN without points.
    """
    if sparse is None or len(sparse) == 0:
        return {'image_coverage': 0.0, 'nearest': float('nan'), 'farthest': float('nan')}
    columns, rows = _TILES
    tile = sparse.v * rows // shape[0] * columns + sparse.u * columns // shape[1]
    near, far = np.percentile(sparse.z, [5, 95])
    share = np.count_nonzero(np.bincount(tile)) / (columns * rows)
    return {'image_coverage': share, 'nearest': float(near), 'farthest': float(far)}


def details_of(result: FrameResult) -> dict[str, Any]:
    """Return the report's values beside the fit: coverage by points, calibration, caution."""
    texts = {'calibration': result.calibration, 'caution': sentence(result.caution)}
    return coverage(result.sparse, result.relative.shape) | texts


def fit_report(
    alignment: Alignment, image_ns: int, scan_ns: int | None, details: Mapping[str, Any]
) -> FitReport:
    """Report a fit with :func:`details_of` its frame; stamps are integers, nanoseconds."""
    values = {
        'scale': float(alignment.scale),
        'shift': float(alignment.shift),
        'inliers': alignment.n_inliers,
        'points': alignment.n_points,
        'rms': float(alignment.rms),
        'condition': float(alignment.condition),
        'state': alignment.state,
        'reason': alignment.reason,
        'led_by': alignment.led_by,
        'map_share': (alignment.shares or {}).get('map', _NAN),
        'map_reason': alignment.map_reason,
        'scan_stamp': '' if scan_ns is None else scan_ns,
        'image_stamp': image_ns,
        'age': alignment.age_ns / 1e9,
        **details,
    }
    no_share = alignment.map_reason and f'the map has no share: {alignment.map_reason}'
    warnings = [no_share, details.get('caution'), details.get('calibration')]
    state = alignment.state if not alignment.reason else f'{alignment.state}: {alignment.reason}'
    text = '; '.join(filter(None, [state, *warnings]))
    good = alignment.state == 'fitted' and not any(warnings)
    return FitReport(good, text, values)
