# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The data sets that ``evaluate --dataset`` knows, by name; without numpy, for its help."""

from dataclasses import dataclass
import math


@dataclass(frozen=True)
class Layout:
    """
    How a data set stores depth, and where it is valid.

    Parameters
    ----------
    per_metre : float
        Units of integer files per metre, 65535 unknown; floating-point files hold metres.
    low, high : float, metres
        Depth is valid strictly between.
    crop : (height, width) or None, pixels
        Crop of image and depth, at the bottom and horizontally centred.
    raw_size : (height, width) or None, pixels
        Depth files are plain float32 of this shape, without a header.
    masked : bool
        The third file of a line is the mask of valid depth, in place of the range.

    """

    per_metre: float = 1000.0
    low: float = 1e-3
    high: float = math.inf
    crop: tuple[int, int] | None = None
    raw_size: tuple[int, int] | None = None
    masked: bool = False


LAYOUTS = {
    'nyu': Layout(1000.0, 1e-3, 10.0),
    'kitti': Layout(256.0, 1e-5, 80.0, crop=(352, 1216)),
    'eth3d': Layout(low=1e-5, raw_size=(4032, 6048)),
    'scannet': Layout(1000.0, 1e-3, 10.0),
    'diode': Layout(masked=True),
}
FOLDER = 'folder'
