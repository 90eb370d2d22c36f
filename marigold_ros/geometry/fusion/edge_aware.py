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
# Share of the first residual's power that float32 cannot reduce further.
_CONVERGED = 1e-13


def edge_weights(rgb: np.ndarray | None, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Return weights between neighbours in rows (h, w - 1) and in columns (h - 1, w); float32.

    ``rgb`` (h, w, 3) of 0 to 255 is the image on the grid of ``shape`` (h, w); None has no edges.
    """
    rows, columns = shape
    if rgb is None:
        return np.ones((rows, columns - 1), np.float32), np.ones((rows - 1, columns), np.float32)
    bright = np.rint(rgb).astype(np.float32) * np.float32(1 / 255)
    lightness, a, b = cv2.split(cv2.cvtColor(bright, cv2.COLOR_RGB2Lab) * np.float32(0.01))
    weights = []
    for axis in (1, 0):
        change = np.square(np.diff(lightness, axis=axis))
        change += np.square(np.diff(a, axis=axis))
        change += np.square(np.diff(b, axis=axis))
        change = np.exp(np.sqrt(change) * np.float32(-1 / _COLOUR))
        weights.append(np.maximum(change, np.float32(_LEAST)))
    return weights[0], weights[1]


def solve_edge_aware(
    target: np.ndarray,
    weight: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    rounds: int = _ROUNDS,
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
    least = _CONVERGED * power
    for _ in range(rounds):
        # Further on, both products would underflow.
        if not power > least:
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
        self._rows = _factors(diagonal, cut)
        cut = np.zeros_like(diagonal.T)
        cut[:, :-1] = -self.down.T
        self._columns = _factors(diagonal.T, cut)

    def times(self, x: np.ndarray) -> np.ndarray:
        y = self.diagonal * x
        y[:, :-1] -= self.across * x[:, 1:]
        y[:, 1:] -= self.across * x[:, :-1]
        y[:-1] -= self.down * x[1:]
        y[1:] -= self.down * x[:-1]
        return y

    def solved_by_lines(self, rest: np.ndarray) -> np.ndarray:
        """Solve along rows and along columns, and add both."""
        from scipy.linalg.lapack import spttrs

        rows = spttrs(*self._rows, rest.ravel())[0].reshape(rest.shape)
        columns = spttrs(*self._columns, np.ascontiguousarray(rest.T).ravel())[0]
        return rows + columns.reshape(rest.T.shape).T


def _factors(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factorise a tridiagonal matrix, given row by row of the grid."""
    from scipy.linalg.lapack import spttrf

    pivots, beside, _ = spttrf(diagonal.ravel(), beside.ravel()[:-1])
    return pivots, beside
