# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What a bag's frames keep of a scan: its points, their scan lines, its frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marigold_ros.bags.topics import SCAN_TYPE
from marigold_ros.message_codec import has_field, scan_to_points, to_points
import numpy as np


@dataclass(frozen=True)
class Scan:
    """Points (N, 3) float32 in metres, ring (N,) int32 or None, and the frame they are in."""

    points: np.ndarray
    ring: np.ndarray | None
    frame_id: str


def decode_scan(message: Any, msgtype: str) -> Scan:
    """Read a PointCloud2 or LaserScan; raises InputError as the codec does."""
    frame_id = message.header.frame_id
    if msgtype == SCAN_TYPE:
        return Scan(scan_to_points(message), None, frame_id)
    if not has_field(message, 'ring'):
        return Scan(to_points(message), None, frame_id)
    columns = to_points(message, ('x', 'y', 'z', 'ring'))
    ring = columns[:, 3].astype(np.int32)
    return Scan(np.ascontiguousarray(columns[:, :3]), ring, frame_id)
