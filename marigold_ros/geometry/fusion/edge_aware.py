# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Smooth depth that steps at the image's edges only: weighted least squares over a grid.

Minimises  sum w_p (x - t)^2 + sum w_e (x_i - x_j)^2  over neighbouring cells, with w_e small
where colour changes (Farbman et al., 2008, with points for data), by conjugate gradients
preconditioned with exact solutions along rows and columns.
"""

import cv2
import numpy as np

# Change of colour (CIELAB, white is 1) that divides the weight of an edge by e, and its least.
_COLOUR, _LEAST = 0.03, 0.002
_ROUNDS = 15


def edge_weights(rgb: np.ndarray | None, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Return weights between neighbours in rows (h, w - 1) and in columns (h - 1, w); float32.

    ``rgb`` (h, w, 3) uint8 is the image on the grid of ``shape`` (h, w); None has no edges.
    """
    rows, columns = shape
    if rgb is None:
        return np.ones((rows, columns - 1), np.float32), np.ones((rows - 1, columns), np.float32)
    bright = rgb.astype(np.float32) * np.float32(1 / 255)
    lab = np.asarray(cv2.cvtColor(bright, cv2.COLOR_RGB2Lab)) * np.float32(0.01)
    weights = []
    for axis in (1, 0):
        change = np.sqrt(np.square(np.diff(lab, axis=axis)).sum(axis=2))
        weights.append(np.maximum(np.exp(change * np.float32(-1 / _COLOUR)), np.float32(_LEAST)))
    return weights[0], weights[1]


def solve_edge_aware(
    target: np.ndarray, weight: np.ndarray, edges: tuple[np.ndarray, np.ndarray], start: np.ndarray
) -> np.ndarray:
    """
    Minimise the sum above; (h, w) float32.

    ``target`` and ``weight`` (h, w) are the data, weight 0 where there is none; ``edges`` come
    from :func:`edge_weights`; ``start`` (h, w) is the first guess, which far regions keep longest.
    """
    system = _System(weight, edges)
    x = start.astype(np.float32)
    rest = weight * target - system.times(x)
    step = system.solved_by_lines(rest)
    along, power = step, float(np.vdot(rest, step))
    for _ in range(_ROUNDS):
        if not power > 0.0:
            break
        image = system.times(along)
        share = np.float32(power / float(np.vdot(along, image)))
        x += share * along
        rest -= share * image
        step = system.solved_by_lines(rest)
        before, power = power, float(np.vdot(rest, step))
        along = step + np.float32(power / before) * along
    return x


class _System:
    """The normal equations: five entries a row, symmetric and positive definite."""

    def __init__(self, weight: np.ndarray, edges: tuple[np.ndarray, np.ndarray]) -> None:
        self.across, self.down = edges
        diagonal = weight.astype(np.float32)
        diagonal[:, :-1] += self.across
        diagonal[:, 1:] += self.across
        diagonal[:-1] += self.down
        diagonal[1:] += self.down
        self.diagonal = diagonal
        # All rows, and all columns, each as one long line that is cut at the ends.
        cut = np.zeros_like(diagonal)
        cut[:, :-1] = -self.across
        self._row_line = diagonal.ravel(), cut.ravel()[:-1]
        cut = np.zeros_like(diagonal.T)
        cut[:, :-1] = -self.down.T
        self._column_line = np.ascontiguousarray(diagonal.T).ravel(), cut.ravel()[:-1]

    def times(self, x: np.ndarray) -> np.ndarray:
        y = self.diagonal * x
        y[:, :-1] -= self.across * x[:, 1:]
        y[:, 1:] -= self.across * x[:, :-1]
        y[:-1] -= self.down * x[1:]
        y[1:] -= self.down * x[:-1]
        return y

    def solved_by_lines(self, rest: np.ndarray) -> np.ndarray:
        """Solve along rows and along columns, and add both."""
        from scipy.linalg.lapack import sptsv

        rows = sptsv(*self._row_line, rest.ravel())[2].reshape(rest.shape)
        columns = sptsv(*self._column_line, np.ascontiguousarray(rest.T).ravel())[2]
        return rows + columns.reshape(rest.T.shape).T
