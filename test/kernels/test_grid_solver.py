# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The solution on a grid: the minimum of its sum, by normal equations built edge by edge."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry.fusion.edge_aware import edge_weights
from marigold_ros.kernels.grid_solver import solve_on_grid
import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve

SEEDS = st.integers(0, 10_000)


def noise_image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def normal_equations(weight, edges):
    """Build the matrix of the normal equations edge by edge, as a sparse matrix."""
    index = np.arange(weight.size).reshape(weight.shape)
    pairs = [(index[:, :-1], index[:, 1:], edges[0]), (index[:-1], index[1:], edges[1])]
    first, second, strength = (
        np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*pairs, strict=True)
    )
    count = len(strength)
    each = np.concatenate([np.arange(count)] * 2)
    ends = np.concatenate([first, second])
    signs = np.repeat([1.0, -1.0], count)
    gradient = coo_matrix((signs, (each, ends)), (count, weight.size)).tocsr()
    laplacian = gradient.T @ diags(strength.astype(np.float64)) @ gradient
    return (laplacian + diags(weight.astype(np.float64).ravel())).tocsc()


def problem(seed, rows=9, columns=13, share=0.2):
    """Draw targets at a share of the cells, at least one, over an image of noise."""
    rng = np.random.default_rng(seed)
    weight = 33.0 * rng.integers(1, 4, (rows, columns)) * (rng.random((rows, columns)) < share)
    weight[rng.integers(rows), rng.integers(columns)] = 33.0
    target = rng.normal(1.5, 0.5, (rows, columns))
    smooth = np.clip(128 + 12 * rng.normal(size=(rows, columns, 3)), 0, 255).astype(np.uint8)
    edges = edge_weights(smooth, (rows, columns))
    return target.astype('f'), weight.astype('f'), edges


def residual(x, target, weight, edges):
    rest = (weight * target).ravel() - normal_equations(weight, edges) @ x.ravel().astype(float)
    return float(np.linalg.norm(rest))


@given(seed=SEEDS, rows=st.integers(2, 12), columns=st.integers(2, 12))
def test_enough_rounds_give_the_solution_of_the_normal_equations(seed, rows, columns):
    target, weight, edges = problem(seed, rows, columns)
    exact = spsolve(normal_equations(weight, edges), (weight * target).ravel().astype(float))
    start = np.full(target.shape, 1.5, 'f')
    found = solve_on_grid(target, weight, edges, start, rounds=150)
    np.testing.assert_allclose(found.ravel(), exact, atol=2e-3)


@given(seed=SEEDS)
def test_more_rounds_come_closer_in_the_norm_of_the_sum(seed):
    target, weight, edges = problem(seed, 12, 16)
    matrix = normal_equations(weight, edges)
    exact = spsolve(matrix, (weight * target).ravel().astype(float))
    start = np.random.default_rng(seed).normal(1.5, 0.5, target.shape).astype('f')
    energies = []
    for rounds in range(0, 15, 2):
        away = solve_on_grid(target, weight, edges, start, rounds).ravel() - exact
        energies.append(float(away @ (matrix @ away)))
    assert all(
        later < 1.001 * earlier + 1e-6
        for earlier, later in zip(energies, energies[1:], strict=False)
    )
    assert energies[-1] < 0.1 * energies[0]


@given(seed=SEEDS)
def test_the_default_rounds_reduce_the_residual(seed):
    target, weight, edges = problem(seed, 24, 32, 0.05)
    start = np.full(target.shape, 1.5, 'f')
    found = solve_on_grid(target, weight, edges, start)
    assert residual(found, target, weight, edges) < 3e-5 * residual(start, target, weight, edges)


@given(seed=SEEDS, shift=st.floats(-1000, 1000))
def test_a_shift_of_all_targets_and_of_the_start_shifts_the_solution(seed, shift):
    target, weight, edges = problem(seed)
    start = np.full(target.shape, 1.5, 'f')
    shift = np.float32(shift)
    shifted = solve_on_grid(target + shift, weight, edges, start + shift)
    plain = solve_on_grid(target, weight, edges, start)
    # To the rounding of what is given.
    np.testing.assert_allclose(shifted - shift, plain, atol=2e-6 + 2e-7 * abs(shift))


@given(seed=SEEDS, weight=st.floats(33, 33_000))
def test_points_in_every_cell_are_met(seed, weight):
    # Such a system converges so fast that a residual in float32 underflows.
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(8, 40, 2))
    target, edges = rng.normal(size=shape).astype('f'), edge_weights(noise_image(shape), shape)
    found = solve_on_grid(target, np.full(shape, weight, 'f'), edges, np.zeros(shape, 'f'))
    np.testing.assert_allclose(found, target, atol=15 / weight)


def test_arguments_are_not_changed():
    target, weight, edges = problem(5)
    start = np.full(target.shape, 1.5, 'f')
    before = [array.copy() for array in (target, weight, *edges, start)]
    solve_on_grid(target, weight, edges, start)
    for array, copy in zip((target, weight, *edges, start), before, strict=True):
        np.testing.assert_array_equal(array, copy)
