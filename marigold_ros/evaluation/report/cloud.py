# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One frame's cloud, thinned and packed for the report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
import math
from typing import Any

from marigold_ros.config import PointsConfig
from marigold_ros.evaluation.scoring.samples import best_for_cloud, Sample
from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth
import numpy as np

MOST_POINTS = 60_000
_INT16_MAX = 32767


def cloud_data(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """
    Pack the cloud of the metric sample with the smallest error.

    Returns
    -------
    dict or None
        ``xyz`` and ``rgb`` in base64 (little-endian int16 in steps of ``unit`` metres, and
        uint8), ``count`` points, ``target`` to turn around in metres, ``size`` of a point at one
        metre, the frame's ``index`` and the ``stride`` of rows and columns. None where no sample
        has a cloud.

    """
    best = best_for_cloud(samples)
    if best is None:
        return None
    assert best.metric is not None
    assert best.K is not None
    kept = depth_of_cloud(best.metric, best.metric, best.K, PointsConfig())
    stride = max(1, math.ceil(math.sqrt(kept.size / MOST_POINTS)))
    points = unproject_depth(kept, best.K)[::stride, ::stride].reshape(-1, 3)
    colours = best.rgb[::stride, ::stride].reshape(-1, 3)
    valid = np.isfinite(points).all(axis=1)
    points, colours = points[valid], colours[valid]
    if not len(points):
        return None
    unit = max(float(np.abs(points).max()), 1e-3) / _INT16_MAX
    middle = float(np.median(points[:, 2]))
    return {
        'index': best.index,
        'count': len(points),
        'stride': stride,
        'unit': unit,
        'size': stride / float(best.K[0, 0]),
        'target': [0.0, float(np.median(points[:, 1])), middle],
        'xyz': _packed(np.rint(points / unit).astype('<i2')),
        'rgb': _packed(colours.astype(np.uint8)),
    }


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode('ascii')
