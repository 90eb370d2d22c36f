# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The channels that ``geometry.fusion`` makes and a network of ``models.fusion`` maps.

Depth is log of metres: ``linear`` (points, interpolated in disparity) relative to ``level``, the
median of the points, and the other candidates relative to ``linear``. ``proof`` is the logarithm
of the error at points that were held out: in tiles among the points, at the border of their convex
hull beyond it. ``affine`` is the map by scale and shift alone, without the correction field.
"""

import numpy as np

CHANNELS = (
    'red',
    'green',
    'blue',
    'linear',
    'smooth',
    'nearest',
    'low',
    'high',
    'map',
    'affine',
    'has_map',
    'occupied',
    'distance',
    'inside',
    'row',
    'level',
    'map_proof',
    'point_proof',
)
# Each has a share of the depth; the map only where there is one.
CANDIDATES = ('linear', 'smooth', 'nearest', 'low', 'high', 'map')
# Relative to ``linear``.
RELATIVE = ('smooth', 'nearest', 'low', 'high', 'map', 'affine')
# Zero without a map.
OF_MAP = ('map', 'affine', 'has_map', 'map_proof')
# Logarithms of depth, distance and error are about this large in training scenes; the network's
# inputs are about 0.
TYPICAL_LOG = 1.5


def level_of(channels: np.ndarray) -> np.float32:
    """Return the median log depth of the points, to which ``linear`` is relative."""
    return channels[CHANNELS.index('level'), 0, 0] + np.float32(TYPICAL_LOG)
