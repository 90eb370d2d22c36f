# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The convex hull of the pixels, or cells, that hold points."""

import cv2
import numpy as np


def hull_of(seen: np.ndarray) -> np.ndarray:
    """Return the pixels in the convex hull of those that are not 0; both (h, w), bool."""
    inside = np.zeros(seen.shape, np.uint8)
    rows = np.flatnonzero(seen.any(axis=1))
    if len(rows) == 0:
        return inside > 0
    # The ends of each row span the hull: of dense points far fewer than all.
    known = seen[rows] > 0
    first, last = known.argmax(axis=1), known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    ends = np.stack([np.append(first, last), np.append(rows, rows)], axis=1)
    return cv2.fillConvexPoly(inside, cv2.convexHull(ends.astype(np.int32)), 1) > 0
