# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The channels that ``geometry.fusion`` makes and a network of ``models.fusion`` maps.

Depth is log of metres: ``linear`` (points, interpolated in disparity) relative to ``level``, the
median of the points, and the other candidates relative to ``linear``. ``proof`` is the logarithm
of the error at points that were held out.
"""

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
