# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What is kept of each frame for per_frame.csv, and what is made of it for the whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

from marigold_ros.frame import Alignment, Frame, Prediction
import numpy as np


def start_row(
    index: int,
    frame: Frame,
    prediction: Prediction,
    alignment: Alignment,
    scan_stamp_ns: int | None,
    timings_ms: Mapping[str, float],
) -> dict[str, Any]:
    """Give the part of a frame's row that is known before scoring: stamps, fit, time."""
    dt_ms = math.nan if scan_stamp_ns is None else (scan_stamp_ns - frame.stamp_ns) / 1e6
    return {
        'index': index,
        'stamp_ns': frame.stamp_ns,
        'width': frame.rgb.shape[1],
        'height': frame.rgb.shape[0],
        'state': alignment.state,
        'reason': alignment.reason,
        'scan_dt_ms': dt_ms,
        'n_points': alignment.n_points,
        'n_inliers': alignment.n_inliers,
        'scale': alignment.scale,
        'shift': alignment.shift,
        'rms': alignment.rms,
        'spread_log': alignment.spread_log,
        'space': prediction.space,
        'total_ms': timings_ms.get('total', math.nan),
    }


def summarise(latency_ms: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Give percentiles, maximum and mean of each stage's milliseconds."""
    summary = {}
    for stage, values in latency_ms.items():
        p50, p95, p99 = (float(p) for p in np.percentile(values, (50, 95, 99)))
        summary[stage] = {
            'p50': p50,
            'p95': p95,
            'p99': p99,
            'max': float(np.max(values)),
            'mean': float(np.mean(values)),
        }
    return summary


def scan_distance(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Tell how far scans were from their images in time, ms; empty without scans."""
    dt = np.abs([row['scan_dt_ms'] for row in rows if math.isfinite(row['scan_dt_ms'])])
    if not len(dt):
        return {}
    return {'mean': float(dt.mean()), 'p95': float(np.percentile(dt, 95)), 'max': float(dt.max())}


def why_not_metric(rows: Sequence[Mapping[str, Any]]) -> str:
    """Give the first reason for which a frame is not metric; empty where all are."""
    return next((str(row['reason']) for row in rows if row['state'] == 'none'), '')
