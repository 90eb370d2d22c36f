# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Weighted least squares between values and neighbouring cells of a grid.

Minimises  sum w_p (x - t)^2 + sum w_e (x_i - x_j)^2  by conjugate gradients preconditioned with
exact solutions along rows and columns.
"""

from marigold_ros.kernels.compiled import compiled
import numpy as np

_ROUNDS = 40
# Share of the first residual's power that float32 cannot reduce further.
_CONVERGED = 1e-13


def solve_on_grid(
    target: np.ndarray,
    weight: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    rounds: int = _ROUNDS,
) -> np.ndarray:
    """
    Minimise the sum above; (h, w) float32.

    ``target`` and ``weight`` (h, w) are the data, weight 0 where there is none; ``edges`` are
    weights between neighbours in rows (h, w - 1) and columns (h - 1, w); ``start`` (h, w) is the
    first guess, which far regions keep longest.
    """
    across, down = edges
    # The solution shifts with its data, and around 0 differences of neighbours round least.
    level = np.float32(start.mean())
    data, first = (np.asarray(part - level, np.float32) for part in (target, start))
    return level + _descend(data, weight.astype(np.float32), across, down, first, rounds)


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
    in_columns = factorise(diagonal, down)
    in_rows = factorise(diagonal.T.copy(), across.T.copy())
    x, image, step = start.copy(), np.empty_like(start), np.empty_like(start)
    turned = np.empty((columns, rows), start.dtype)
    multiply(diagonal, across, down, x, image)
    rest = weight * target - image
    power = precondition(rest, in_columns, in_rows, step, turned)
    along, least = step.copy(), _CONVERGED * power
    for _ in range(rounds):
        # Further on, both products would underflow.
        if not power > least:
            break
        share = power / multiply(diagonal, across, down, along, image)
        for i in range(rows):
            for j in range(columns):
                x[i, j] += share * along[i, j]
                rest[i, j] -= share * image[i, j]
        before, power = power, precondition(rest, in_columns, in_rows, step, turned)
        share = power / before
        for i in range(rows):
            for j in range(columns):
                along[i, j] = step[i, j] + share * along[i, j]
    return x


@compiled(any_order=True)
def multiply(
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
def precondition(
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
def factorise(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
