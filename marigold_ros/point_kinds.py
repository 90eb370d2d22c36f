# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the points of a sensor say of the image around them. Imports nothing: settings use it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class PointKind(Enum):
    """
    A kind of points of known depth; values grow from the strongest claim to the weakest.

    ``DEPTH_CAMERA``: sees nothing beyond a few metres, so that the image may be farther than all
    points where it has none. ``LIDAR``: also a laser scan or landmarks. ``GROUND``: of the plane
    below the camera, which says nothing of the things that stand on it. ``RADAR``: with
    elevations that err by degrees.
    """

    DEPTH_CAMERA = 1
    LIDAR = 2
    GROUND = 3
    RADAR = 4

    @property
    def extends(self) -> bool:
        """Whether depth beside a point resembles it."""
        return self in (PointKind.DEPTH_CAMERA, PointKind.LIDAR)

    @property
    def is_placed(self) -> bool:
        """Whether the pixel of each point is known; else it counts for scale and shift only."""
        return self is not PointKind.RADAR

    @staticmethod
    def weakest(kinds: Iterable[PointKind]) -> PointKind:
        """Return the kind of points of several kinds: the weakest claim of any holds."""
        return max(kinds, key=lambda kind: kind.value)
