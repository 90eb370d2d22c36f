# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Smooth depth that steps at the image's edges only: weighted least squares over a grid.

Minimises  sum w_p (x - t)^2 + sum w_e (x_i - x_j)^2  over neighbouring cells, with w_e small
where colour changes (Farbman et al., 2008, with points for data), by conjugate gradients
preconditioned with exact solutions along rows and columns. The changes of a texture differ from
cell to cell, those of an edge are alike along it (relative total variation, Xu et al., 2012).
"""

import cv2
from marigold_ros.kernels.compiled import compiled
import numpy as np

# Change of colour (CIELAB, white is 1) that divides the weight of an edge by e, and its least.
_COLOUR, _LEAST = 0.03, 0.0005
# Part of a change that counts where those around cancel, and what is added where all are alike;
# changes of the last size are noise.
_TEXTURE, _EDGE, _NOISE = 0.25, 1.2, 0.01
_AROUND = (3, 3)
_ROUNDS = 40
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
    colour = cv2.cvtColor(bright, cv2.COLOR_RGB2Lab) * np.float32(0.01)
    weights = []
    for axis in (1, 0):
        change = np.diff(colour, axis=axis)
        size = _length(change)
        alike = _length(cv2.blur(change, _AROUND)) / (cv2.blur(size, _AROUND) + np.float32(_NOISE))
        size *= (np.float32(_TEXTURE) + np.float32(_EDGE) * alike) * np.float32(-1 / _COLOUR)
        weights.append(np.maximum(np.exp(size), np.float32(_LEAST)))
    return weights[0], weights[1]


def _length(change: np.ndarray) -> np.ndarray:
    """Return the length (h, w) of changes of colour (h, w, 3)."""
    return np.sqrt(cv2.transform(np.square(change), np.ones((1, 3), np.float32)))


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
    across, down = edges
    data = target.astype(np.float32), weight.astype(np.float32)
    return _descend(*data, across, down, start.astype(np.float32), rounds)


@compiled(any_order=True)
def _descend(
    target: np.ndarray,
    weight: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    start: np.ndarray,
    rounds: int,
) -> np.ndarray:
    """Run conjugate gradients on the normal equations, of five entries a row; all float32."""
    rows, columns = weight.shape
    diagonal = weight.copy()
    for i in range(rows):
        for j in range(columns - 1):
            diagonal[i, j] += across[i, j]
            diagonal[i, j + 1] += across[i, j]
    for i in range(rows - 1):
        for j in range(columns):
            diagonal[i, j] += down[i, j]
            diagonal[i + 1, j] += down[i, j]
    in_columns = _factors(diagonal, down)
    in_rows = _factors(diagonal.T.copy(), across.T.copy())
    x, image, step = start.copy(), np.empty_like(start), np.empty_like(start)
    turned = np.empty((columns, rows), start.dtype)
    _multiply(diagonal, across, down, x, image)
    rest = weight * target - image
    power = _precondition(rest, in_columns, in_rows, step, turned)
    along, least = step.copy(), _CONVERGED * power
    for _ in range(rounds):
        # Further on, both products would underflow.
        if not power > least:
            break
        share = power / _multiply(diagonal, across, down, along, image)
        for i in range(rows):
            for j in range(columns):
                x[i, j] += share * along[i, j]
                rest[i, j] -= share * image[i, j]
        before, power = power, _precondition(rest, in_columns, in_rows, step, turned)
        share = power / before
        for i in range(rows):
            for j in range(columns):
                along[i, j] = step[i, j] + share * along[i, j]
    return x


@compiled(any_order=True)
def _multiply(
    diagonal: np.ndarray, across: np.ndarray, down: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.float32:
    """Put the matrix of the normal equations times x into y, (h, w) each; return x times y."""
    rows, columns = x.shape
    product = np.float32(0)
    for i in range(rows):
        for j in range(columns):
            y[i, j] = diagonal[i, j] * x[i, j]
        for j in range(columns - 1):
            y[i, j] -= across[i, j] * x[i, j + 1]
        for j in range(columns - 1):
            y[i, j + 1] -= across[i, j] * x[i, j]
        if i + 1 < rows:
            for j in range(columns):
                y[i, j] -= down[i, j] * x[i + 1, j]
        if i > 0:
            for j in range(columns):
                y[i, j] -= down[i - 1, j] * x[i - 1, j]
        for j in range(columns):
            product += x[i, j] * y[i, j]
    return product


@compiled(any_order=True)
def _precondition(
    rest: np.ndarray,
    in_columns: tuple[np.ndarray, np.ndarray],
    in_rows: tuple[np.ndarray, np.ndarray],
    step: np.ndarray,
    turned: np.ndarray,
) -> np.float32:
    """Put the solutions along columns and along rows, added, into step; return rest times step."""
    rows, columns = rest.shape
    for i in range(rows):
        for j in range(columns):
            step[i, j] = rest[i, j]
            turned[j, i] = rest[i, j]
    _solve(step, in_columns)
    _solve(turned, in_rows)
    product = np.float32(0)
    for i in range(rows):
        for j in range(columns):
            step[i, j] += turned[j, i]
            product += rest[i, j] * step[i, j]
    return product


@compiled(any_order=True)
def _factors(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factorise the tridiagonal matrix of each column: inverse pivots (h, w), lower (h - 1, w)."""
    inverse, lower = np.empty_like(diagonal), np.empty_like(beside)
    rows, columns = diagonal.shape
    for j in range(columns):
        inverse[0, j] = 1 / diagonal[0, j]
    for i in range(1, rows):
        for j in range(columns):
            lower[i - 1, j] = beside[i - 1, j] * inverse[i - 1, j]
            inverse[i, j] = 1 / (diagonal[i, j] - lower[i - 1, j] * beside[i - 1, j])
    return inverse, lower


@compiled(any_order=True)
def _solve(x: np.ndarray, factors: tuple[np.ndarray, np.ndarray]) -> None:
    """Solve along each column in place, all columns at once."""
    inverse, lower = factors
    rows, columns = x.shape
    for i in range(1, rows):
        for j in range(columns):
            x[i, j] += lower[i - 1, j] * x[i - 1, j]
    for j in range(columns):
        x[rows - 1, j] *= inverse[rows - 1, j]
    for i in range(rows - 2, -1, -1):
        for j in range(columns):
            x[i, j] = inverse[i, j] * x[i, j] + lower[i, j] * x[i + 1, j]
