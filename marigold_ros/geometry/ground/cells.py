# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The cells of an image at which the ground is looked for."""

from dataclasses import dataclass

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import GroundPlane, Prediction
from marigold_ros.geometry.ground.plane import plane_depth
from marigold_ros.spaces import from_metres
import numpy as np

# About as many to an image, however large.
_CELLS = 12_000
# The plane is not used where its pitch alone makes it this uncertain, as a share of depth.
_UNCERTAIN = 0.2


def cell_size(shape: tuple[int, int]) -> int:
    """Return the side of a cell of an image (H, W), pixels."""
    return max(1, round(float(np.sqrt(shape[0] * shape[1] / _CELLS))))


@dataclass(frozen=True)
class Cells:
    """
    The cells whose middle may show the ground, (n,) each, of all in ``shape`` (rows, columns).

    ``u``, ``v`` in pixels; ``place`` counts into the flattened grid; ``z`` is the plane's depth
    and ``sigma`` its deviation by the pitch, metres; ``relative`` is the prediction with the sign
    that makes it grow with distance.
    """

    shape: tuple[int, int]
    place: np.ndarray
    u: np.ndarray
    v: np.ndarray
    z: np.ndarray
    sigma: np.ndarray
    relative: np.ndarray

    @property
    def share(self) -> float:
        """Share of the image in which the ground could be."""
        return len(self.place) / (self.shape[0] * self.shape[1])

    def target(self, space: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the plane in a space, growing with distance, and its change with log depth."""
        value = growing(self.z, space)
        return value, np.ones_like(value) if space == 'log' else np.abs(value)


def growing(z: np.ndarray, space: str) -> np.ndarray:
    """Return metres in a space, with the sign that makes them grow with distance."""
    value = from_metres(z, space)
    return -value if space == 'disparity' else value


def ground_cells(
    prediction: Prediction, K: np.ndarray, plane: GroundPlane, config: AlignmentConfig
) -> Cells:
    """Return the cells below the horizon, within the range of depth, where the map is known."""
    height, width = prediction.relative.shape
    step = cell_size((height, width))
    v, u = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    z = plane_depth(plane, K, u, v)
    uncertain = z / plane.height * plane.pitch_error
    relative = prediction.relative[v, u].astype(np.float64)
    low, high = prediction.censored
    with np.errstate(invalid='ignore'):
        seen = (z >= config.min_depth) & (z <= config.max_depth) & (uncertain <= _UNCERTAIN)
        seen &= (relative > low) & (relative < high)
    place = np.flatnonzero(seen)
    rows, columns = seen.shape
    return Cells(
        (rows, columns),
        place,
        u.ravel()[place],
        v.ravel()[place],
        z.ravel()[place],
        (z * uncertain).ravel()[place],
        (-relative if prediction.space == 'disparity' else relative).ravel()[place],
    )
