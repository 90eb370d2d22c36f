# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The surface that a depth image shows, as points and as triangles between them."""

from dataclasses import dataclass
import math

from marigold_ros.errors import InputError
from marigold_ros.geometry.camera.depth_images import stride_within
from marigold_ros.geometry.cloud.flying_pixels import flying_pixels
from marigold_ros.geometry.cloud.organised import unproject_depth
import numpy as np

# Degrees between ray and normal: steeper triangles join two surfaces. A road is this steep from 30
# heights of the camera on.
_STEEPEST = 88.0


@dataclass(frozen=True)
class Mesh:
    """Points of the camera's optical frame at pixels of a photo, and triangles."""

    points: np.ndarray  # (N, 3) float32
    pixels: np.ndarray  # (N, 2) int64, column and row of each
    faces: np.ndarray  # (M, 3) int64, indices of points, anticlockwise seen from the camera
    photo: np.ndarray  # (H, W, 3) uint8

    @property
    def rgb(self) -> np.ndarray:
        """The colours of the points, (N, 3) uint8."""
        return self.photo[self.pixels[:, 1], self.pixels[:, 0]]

    @property
    def upright(self) -> np.ndarray:
        """The points with the axes of viewers: x right, y up, z towards the viewer."""
        return self.points * np.array([1, -1, -1], np.float32)


def mesh_of_depth(
    depth: np.ndarray, K: np.ndarray, rgb: np.ndarray, most_points: int = 400_000
) -> Mesh:
    """
    Join the pixels of a depth image by triangles, except across depth edges.

    ``depth`` (H, W) along the optical axis is of any unit, above 0; else there is no surface.
    Flying pixels are left out, and rows and columns evenly until there are no more than
    ``most_points``. ``K`` are the intrinsics in pixels of the image ``rgb`` (H, W, 3) uint8.
    Raises InputError if image and depth differ in size.
    """
    if rgb.shape != (*depth.shape, 3):
        raise InputError(
            f'depth is {depth.shape}, the image {rgb.shape}; sizes must agree', 'shape'
        )
    stride = stride_within(depth.size, most_points)
    every = np.s_[::stride, ::stride]
    points = unproject_depth(depth, K)[every]
    known = (points[..., 2] > 0) & ~flying_pixels(depth, K)[every]
    with np.errstate(divide='ignore', invalid='ignore'):
        log = np.where(known, np.log(depth[every]), np.nan)
    # Change of log depth from one pixel to the next of a plane at this angle.
    step = stride * math.tan(math.radians(_STEEPEST))
    right, down = step / float(K[0, 0]), step / float(K[1, 1])
    across = np.abs(np.diff(log, axis=1)) <= right  # NaN compares false
    along = np.abs(np.diff(log, axis=0)) <= down
    diagonal = np.abs(log[1:, :-1] - log[:-1, 1:]) <= math.hypot(right, down)
    # The corners of each square: a b above, c d below.
    number = np.arange(log.size).reshape(log.shape)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    upper = across[:-1] & along[:, :-1] & diagonal
    lower = across[1:] & along[:, 1:] & diagonal
    faces = np.concatenate([np.stack([a, c, b], -1)[upper], np.stack([b, c, d], -1)[lower]])
    kept = np.flatnonzero(known)
    place = np.full(log.size, -1)
    place[kept] = np.arange(len(kept))
    pixels = stride * np.stack(np.divmod(kept, log.shape[1])[::-1], axis=1)
    return Mesh(points.reshape(-1, 3)[kept], pixels, place[faces], rgb)
