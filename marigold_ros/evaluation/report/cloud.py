# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Coloured point clouds to look at, packed into the report page."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from marigold_ros.config import PointsConfig
from marigold_ros.evaluation.scoring.report_frames import best_for_cloud, ReportFrame
from marigold_ros.geometry.camera.depth_images import stride_within
from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth
import numpy as np

MOST_POINTS = 60_000
_INT16_MAX = 32767


def cloud_data(samples: Sequence[ReportFrame]) -> dict[str, Any] | None:
    """
    Pack the cloud of the metric sample with the smallest error for ``page/cloud.js``.

    Returned as by :func:`pack_points`, with the frame's ``index`` and the ``stride`` of rows and
    columns; None where no sample has a cloud.
    """
    best = best_for_cloud(samples)
    if best is None or best.metric is None or best.K is None:
        return None
    kept = depth_of_cloud(best.metric, best.metric, best.K, PointsConfig())
    stride = stride_within(kept.size, MOST_POINTS)
    points = unproject_depth(kept, best.K)[::stride, ::stride].reshape(-1, 3)
    colours = best.rgb[::stride, ::stride].reshape(-1, 3)
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        return None
    packed = pack_points(points[valid], colours[valid], stride / float(best.K[0, 0]))
    return {'index': best.index, 'stride': stride, **packed}


def pack_points(points: np.ndarray, rgb: np.ndarray, size: float) -> dict[str, Any]:
    """
    Pack points for ``page/cloud.js``.

    At least one finite point, (N, 3) in the camera's optical frame, and their colours, (N, 3)
    uint8; ``size`` is the distance of neighbouring points at a depth of one.

    Returns
    -------
    dict
        ``xyz`` and ``rgb`` in base64 (little-endian int16 in steps of ``unit``, and uint8),
        ``count`` points, ``target`` to turn around, and ``size``.

    """
    unit = max(float(np.abs(points).max()), 1e-3) / _INT16_MAX
    return {
        'count': len(points),
        'unit': unit,
        'size': size,
        'target': [0.0, *(float(np.median(points[:, axis])) for axis in (1, 2))],
        'xyz': _packed(np.rint(points / unit).astype('<i2')),
        'rgb': _packed(rgb.astype(np.uint8)),
    }


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode('ascii')


def cloud_section(cloud: Mapping[str, Any] | None) -> str:
    """Return the section of the page in which the script draws the cloud; empty without one."""
    if cloud is None:
        return ''
    return (
        f'<section><h2>Point cloud of frame {cloud["index"]}</h2><div class="panel cloud">'
        '<p class="note">Drag to turn, pinch or scroll to zoom (after a click), arrow keys and '
        f'+ − 0 on the keyboard. Flying pixels are removed; one in {cloud["stride"]} rows and '
        'columns is shown.</p></div></section>'
    )
