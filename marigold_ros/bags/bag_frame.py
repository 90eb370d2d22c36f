# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What one image of a bag, or of a folder, is handed on with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.frame import Frame
import numpy as np


@dataclass(frozen=True)
class BagFrame:
    """
    One image of a bag and what belongs to it.

    Parameters
    ----------
    frame : Frame or None
        None where ``error`` is set.
    image_message : object or None
        The image's message, None where not even that could be read.
    stamp_ns : int, nanoseconds
        The image's header stamp (its log time where there is no message).
    truth : (H, W) float32 or None, metres
        True depth with the image's stamp within 1 ms.
    scan_stamp_ns : int or None, nanoseconds
        Stamp of the paired scan, with ``time_offset`` added.
    ring : (N,) int32 or None
        Scan line of each row of ``frame.points_lidar``, where the cloud has a field 'ring'.
    error : InputError or None
        Why the image is unusable.
    warning : str
        What else is missing or wrong, in words; empty where all is well.

    """

    frame: Frame | None
    image_message: Any
    stamp_ns: int
    truth: np.ndarray | None = None
    scan_stamp_ns: int | None = None
    ring: np.ndarray | None = None
    error: InputError | None = None
    warning: str = ''
