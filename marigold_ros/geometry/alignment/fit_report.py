# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What there is to say of one frame's fit: in words, and as the values of ``~/alignment``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marigold_ros.frame import Alignment, FrameResult
from marigold_ros.geometry.camera.lidar_projection import coverage


@dataclass(frozen=True)
class FitReport:
    """Whether all is well, what to say, and the values by key."""

    is_good: bool
    text: str
    values: dict[str, Any]


def details_of(result: FrameResult) -> dict[str, Any]:
    """What there is to say of a frame's points besides the fit: coverage and calibration."""
    return {
        **coverage(result.sparse, result.relative.shape),
        'calibration': result.calibration,
    }


def fit_report(
    alignment: Alignment, image_ns: int, scan_ns: int | None, details: Mapping[str, Any]
) -> FitReport:
    """Tell the numbers that put the image into metres, or why not."""
    values = {
        'scale': float(alignment.scale),
        'shift': float(alignment.shift),
        'inliers': alignment.n_inliers,
        'points': alignment.n_points,
        'rms': float(alignment.rms),
        'condition': float(alignment.condition),
        'state': alignment.state,
        'reason': alignment.reason,
        'scan_stamp': '' if scan_ns is None else f'{scan_ns / 1e9:.9f}',
        'image_stamp': f'{image_ns / 1e9:.9f}',
        'age': alignment.age_ns / 1e9,
        **details,
    }
    wrong = details.get('calibration', '')
    text = alignment.state if not alignment.reason else f'{alignment.state}: {alignment.reason}'
    text = f'{text}; {wrong}' if wrong else text
    return FitReport(alignment.state == 'fitted' and not wrong, text, values)
