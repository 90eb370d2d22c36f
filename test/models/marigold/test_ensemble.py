# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Merging members: exact medians, planted truth, and diffusers' merge as the peer."""

from diffusers import MarigoldDepthPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.models.marigold import ensemble
from marigold_ros.models.marigold.ensemble import (
    median,
    median_deviation,
    merge_members,
    merge_reference,
    minimise_objective,
    objective,
    sort_members,
)
import numpy as np
import pytest
from scipy.optimize import approx_fprime
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode


def planted(seed: int, count: int, noise: float, outlier: str) -> tuple[torch.Tensor, np.ndarray]:
    """Members that are scaled, shifted, noisy copies of a truth, one of them corrupted."""
    rng = np.random.default_rng(seed)
    height, width = 60, 80
    y, x = np.mgrid[:height, :width] / width
    truth = rng.normal() * x + rng.normal() * y + 0.5 * np.sin(6 * rng.random() * x + 1)
    for _ in range(rng.integers(0, 6)):
        top, left = rng.integers(0, height - 10), rng.integers(0, width - 10)
        truth[top : top + rng.integers(5, 30), left : left + rng.integers(5, 30)] = rng.normal()
    truth = (truth - truth.min()) / (truth.max() - truth.min())
    members = []
    for _ in range(count):
        scale = rng.uniform(0.3, 0.9)
        copy = scale * (truth + noise * rng.normal(size=truth.shape))
        members.append(np.clip(copy + rng.uniform(0, 1 - scale), 0, 1))
    if outlier == 'noise':
        members[0] = rng.random(truth.shape)
    if outlier == 'another scene':
        coarse = torch.from_numpy(rng.random((1, 1, 4, 5)))
        members[0] = functional.interpolate(coarse, truth.shape, mode='bilinear')[0, 0].numpy()
    if outlier == 'a wrong patch':
        top, left = rng.integers(0, height - 20), rng.integers(0, width - 20)
        members[0][top : top + 20, left : left + 20] = rng.random()
    return torch.from_numpy(np.stack(members)[:, None].astype(np.float32)), truth


def error(merged: torch.Tensor, truth: np.ndarray) -> float:
    """Mean absolute error after the best scale and shift."""
    design = np.stack([merged.numpy().ravel(), np.ones(truth.size)], 1).astype(np.float64)
    fit = np.linalg.lstsq(design, truth.ravel(), rcond=None)[0]
    return float(np.abs(design @ fit - truth.ravel()).mean())


@pytest.mark.parametrize('count', range(1, 21))
def test_the_sorting_network_gives_numpys_median_and_deviation(count):
    members = torch.rand(count, 1, 5, 7, generator=torch.Generator().manual_seed(count))
    ranked = sort_members(members)
    assert torch.equal(torch.stack(ranked), members.sort(0).values)
    middle = np.median(members.numpy(), 0)
    np.testing.assert_allclose(median(ranked).numpy(), middle, atol=1e-7)
    np.testing.assert_allclose(
        median_deviation(ranked, median(ranked)).numpy(),
        np.median(np.abs(members.numpy() - middle), 0),
        atol=1e-6,
    )


# Seeds are the same in each run: a search for the unluckiest noise would find it at last.
@settings(max_examples=min(20, settings().max_examples), derandomize=True)
@given(
    st.integers(0, 10**6),
    st.integers(3, 10),
    st.sampled_from([0.0, 0.01, 0.03, 0.1]),
    st.sampled_from(['none', 'noise', 'another scene', 'a wrong patch']),
)
@pytest.mark.slow  # the reference's merge
def test_the_merge_is_never_worse_than_the_references(seed, count, noise, outlier):
    members, truth = planted(seed, count, noise, outlier)
    theirs = error(MarigoldDepthPipeline.ensemble_depth(members)[0], truth)
    assert error(merge_members(members)[0], truth) <= 1.02 * theirs + 2e-4


def test_one_member_of_another_scene_leaves_the_others_median():
    members, truth = planted(3, 5, 0.0, 'another scene')
    merged, spread = merge_members(members)
    assert error(merged, truth) < 2e-3
    assert spread.median() < 5e-3


@pytest.mark.parametrize('merge', [merge_members, merge_reference])
@pytest.mark.parametrize('count', [2, 3, 6])
def test_constant_members_merge_into_a_finite_map(merge, count):
    merged, spread = merge(torch.full((count, 1, 20, 30), 0.4))
    assert torch.isfinite(merged).all()
    assert torch.isfinite(spread).all()


@pytest.mark.parametrize('merge', [merge_members, merge_reference])
@pytest.mark.parametrize('count', [2, 5])
def test_equal_members_merge_into_themselves(merge, count):
    # Metres of a stored scale would otherwise change with the number of members.
    one = 0.3 + 0.4 * planted(5, 1, 0.02, 'none')[0]
    merged, spread = merge(one.expand(count, -1, -1, -1))
    assert torch.allclose(merged, one, atol=1e-5)
    assert spread.max() < 1e-5


@pytest.mark.parametrize('merge', [merge_members, merge_reference])
@pytest.mark.parametrize('outlier', ['none', 'another scene'])
def test_a_merged_map_has_the_range_of_most_members(merge, outlier):
    members, _ = planted(5, 5, 0.02, outlier)
    merged, spread = merge(members)
    low, high = members.amin((1, 2, 3)), members.amax((1, 2, 3))
    assert merged.min() >= 0.0
    assert merged.max() <= 1.0
    assert merged.max() - merged.min() == pytest.approx((high - low).median(), rel=0.25)
    assert (spread >= 0).all()


def test_the_merge_asks_the_device_for_no_number():
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert 'local_scalar' not in str(function), 'a number was fetched from the device'
            return function(*args, **(kwargs or {}))

    members = torch.rand(5, 1, 70, 90)
    with Watch():
        merge_members(members)


def test_the_objectives_gradient_is_the_numerical_one():
    members, _ = planted(2, 4, 0.05, 'none')
    flat = members.flatten(1).double().numpy()
    rows = np.vstack([flat, np.ones(flat.shape[1])])
    moments = rows @ rows.T / flat.shape[1]
    parameters = np.array([1.0, 1.3, 0.8, 1.1, 0.1, -0.2, 0.05, 0.3])
    value, gradient = objective(parameters, moments, flat)
    numerical = approx_fprime(parameters, lambda p: objective(p, moments, flat)[0], 1e-7)
    np.testing.assert_allclose(gradient, numerical, atol=1e-5)
    aligned = parameters[:4, None] * flat + parameters[4:, None]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    distance = sum(np.sqrt(np.mean((aligned[i] - aligned[j]) ** 2)) for i, j in pairs)
    merged = np.sort(aligned, 0)[1]
    pull = 0.02 * (abs(merged.min()) + abs(1 - merged.max()))
    assert value == pytest.approx(distance + pull, rel=1e-9)


@pytest.mark.parametrize('seed', range(4))
def test_the_papers_objective_merges_about_as_well(seed):
    members, truth = planted(seed, 5, 0.03, 'none')
    theirs = error(MarigoldDepthPipeline.ensemble_depth(members)[0], truth)
    assert error(merge_reference(members)[0], truth) <= 1.02 * theirs + 2e-4


def test_the_papers_objective_is_left_before_its_scales_collapse():
    members, _ = planted(0, 5, 0.03, 'none')
    scale, _ = minimise_objective(members)
    assert scale.min() > 0.5


@pytest.mark.parametrize('noise', [0.2, 0.4])
def test_the_papers_objective_never_turns_noisy_members_round(noise):
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        truth = torch.rand(1, 1, 8, 40, generator=generator)
        members = truth + noise * torch.randn(3, 1, 8, 40, generator=generator)
        merged, _ = merge_reference(members.clamp(0.0, 1.0))
        assert np.corrcoef(merged.ravel(), truth.ravel())[0, 1] > 0.5


def test_what_is_an_outlier_depends_on_the_usual_residual_and_not_on_the_unit():
    residual = torch.rand(3, 200, generator=torch.Generator().manual_seed(0)) + 1.0
    residual[:, ::10] = 8.0
    weights = [ensemble._weight(k * residual, torch.ones(3, 200), 10) for k in (1.0, 100.0)]
    torch.testing.assert_close(*weights, atol=0.01, rtol=0.0)
    assert weights[0][:, ::10].max() < 0.1 < 0.5 < weights[0][:, 1::10].min()
