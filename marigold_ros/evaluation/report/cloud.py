# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Coloured point clouds to look at, packed into the report page."""

import base64
from collections.abc import Mapping, Sequence
import math
from typing import Any

from marigold_ros.config import PointsConfig
from marigold_ros.evaluation.scoring.report_frames import best_for_cloud, ReportFrame
from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth
import numpy as np

MOST_POINTS = 60_000
_INT16_MAX = 32767
_BUTTONS = (  # key, text, meaning
    ('ArrowLeft', '←', 'turn left'),
    ('ArrowRight', '→', 'turn right'),
    ('ArrowUp', '↑', 'from above'),
    ('ArrowDown', '↓', 'from below'),
    ('+', '+', 'closer'),
    ('-', '−', 'farther'),
    ('0', 'reset', 'reset'),
)


def cloud_data(samples: Sequence[ReportFrame]) -> dict[str, Any] | None:
    """
    Pack the cloud of the metric sample with the smallest error for ``page/cloud.js``.

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


def cloud_section(cloud: Mapping[str, Any] | None) -> str:
    """Return the section of the page in which the script draws the cloud; empty without one."""
    if cloud is None:
        return ''
    buttons = ''.join(
        f'<button type="button" data-key="{key}" aria-label="{meaning}">{text}</button>'
        for key, text, meaning in _BUTTONS
    )
    return (
        f'<section><h2>Point cloud of frame {cloud["index"]}</h2><div class="panel cloud">'
        '<canvas tabindex="0" role="img" aria-label="Point cloud; arrow keys turn it, plus and '
        'minus zoom, 0 resets the view"></canvas><output></output>'
        f'<div class="choices">{buttons}</div><p class="note">Drag to turn, pinch or scroll to '
        'zoom (after a click), arrow keys and + − 0 on the keyboard. Flying pixels are removed; '
        f'one in {cloud["stride"]} rows and columns is shown.</p></div></section>'
    )
