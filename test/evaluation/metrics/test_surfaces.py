# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Edges, flying pixels and planes as planted; boundary F1 against its definition."""

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marigold_ros.evaluation.metrics.surfaces import (
    boundary_f1,
    flying_and_good,
    flying_rate,
    mean_surface_scores,
    planarity,
    surface_scores,
)
import numpy as np
import pytest

K = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])
depths = st.one_of(st.floats(0.5, 2.0), st.just(np.nan))


def box(size=(240, 320)):
    """A box at 3 m before a wall at 9 m."""
    truth = np.full(size, 9.0)
    truth[80:160, 100:220] = 3.0
    return truth


def by_definition(depth, truth):
    """Weighted F1 over all ordered pairs of neighbours, one at a time."""
    rows, columns = truth.shape
    pairs = [
        ((r, c), (r + down, c + right))
        for r in range(rows)
        for c in range(columns)
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= r + down < rows and 0 <= c + right < columns
    ]
    pairs = [p for p in pairs if all(np.isfinite(m[a]) for m in (depth, truth) for a in p)]
    total = weights = 0.0
    for factor in np.linspace(1.05, 1.25, 10):
        found = {p for p in pairs if depth[p[1]] / depth[p[0]] > factor}
        true = {p for p in pairs if truth[p[1]] / truth[p[0]] > factor}
        if factor == 1.05 and not true:
            return math.nan
        if found or true:
            total += factor * 2 * len(found & true) / (len(found) + len(true))
            weights += factor
    return total / weights


@given(arrays(np.float64, (4, 5), elements=depths), arrays(np.float64, (4, 5), elements=depths))
def test_boundary_f1_is_its_definition(depth, truth):
    assert boundary_f1(depth, truth) == pytest.approx(by_definition(depth, truth), nan_ok=True)


def test_a_blurred_edge_flies_and_a_sharp_one_does_not():
    truth = box()
    ramp = truth.copy()
    ramp[80:160, 103] = 5.0  # the fourth column from the wall, as deep as no surface
    assert flying_rate(truth, truth) == 0.0
    assert flying_rate(ramp, truth) == pytest.approx(80 / (240 * 320 - 80))
    assert math.isnan(flying_rate(3 * truth, truth))


def slanted(angle_deg, size=(240, 320)):
    """Depth of a plane 5 m ahead, turned about the vertical."""
    v, u = np.mgrid[: size[0], : size[1]]
    angle = math.radians(angle_deg)
    ray = (u - K[0, 2]) / K[0, 0]
    return 5.0 * math.cos(angle) / (math.cos(angle) + math.sin(angle) * ray)


@given(st.floats(-55, 55), st.floats(-55, 55))
def test_angle_between_planes_is_recovered_at_any_scale(predicted, true):
    found = planarity(1.7 * slanted(predicted), slanted(true), K)
    assert found['planes'] == 7 * 10
    assert found['planarity'] == pytest.approx(0, abs=1e-9)
    assert found['plane_angle_deg'] == pytest.approx(abs(predicted - true), abs=1e-4)


def test_waves_on_a_wall_are_measured_in_shares_of_its_depth():
    v, _ = np.mgrid[:240, :320]
    truth = slanted(20.0)
    wavy = truth * (1 + 0.03 * np.sin(2 * np.pi * v / 8))
    assert planarity(wavy, truth, K)['planarity'] == pytest.approx(0.03 / math.sqrt(2), rel=0.02)


def test_only_tiles_that_are_flat_in_the_truth_are_scored():
    rough = slanted(0.0) * np.random.default_rng(0).uniform(0.9, 1.1, (240, 320))
    assert planarity(rough, rough, K)['planes'] == 0
    half = rough.copy()
    half[:, :160] = slanted(0.0)[:, :160]
    assert planarity(half, half, K)['planes'] == 7 * 5
    assert math.isnan(planarity(half, half, None)['plane_angle_deg'])
    for factor in (1.01, 0, np.nan):
        dented = slanted(0.0)
        dented[5, 5] *= factor
        assert planarity(slanted(0.0), dented, K)['planes'] == 69
        found = planarity(dented, slanted(0.0), K)
        # Flat is what the truth says is flat; of its tiles the median counts.
        assert found['planes'] == (70 if factor == 1.01 else 69)
        assert found['planarity'] == pytest.approx(0, abs=1e-9)


def test_means_are_over_the_frames_that_have_a_figure():
    rows = [{}, surface_scores(box(), np.full(box().shape, np.nan), K)]
    assert mean_surface_scores(rows) == {}
    rows += [surface_scores(box(), box(), K), surface_scores(slanted(10), slanted(0), K)]
    found = mean_surface_scores(rows)
    assert found['boundary_f1'] == 1.0  # the plane has no edge
    assert found['plane_angle_deg'] == pytest.approx(5.0, abs=0.01)
    assert found['flying_rate'] == 0.0


def step():
    truth = np.full((40, 60), 5.0, dtype=np.float32)
    truth[:, 30:] = 10.0
    return truth


def test_depth_between_two_surfaces_flies_only_beside_the_step():
    depth = step()
    depth[10, 31] = depth[10, 50] = 7.0
    flying, good = flying_and_good(depth, step(), 3)
    assert np.argwhere(flying).tolist() == [[10, 31]]
    assert not good[10, [31, 50]].any()
    assert good.sum() == good.size - 2


def test_surfaces_reach_five_per_cent_to_either_side():
    depth = step()
    depth[10, 26:34] = 5 * 1.04, 5 * 0.96, 5 * 1.06, 5 * 0.94, 10 * 1.04, 9.6, 9.4, 10 * 1.06
    flying, good = flying_and_good(depth, step(), 4)
    assert flying[10, 26:34].tolist() == [False, False, True, False, False, False, True, False]
    assert good[10, 26:34].tolist() == [True, True, False, False, True, True, False, False]


def test_wrong_but_outside_the_two_surfaces_is_neither():
    depth = step()
    depth[10, 31], depth[11, 29] = 20.0, 2.0
    flying, good = flying_and_good(depth, step(), 3)
    assert not flying.any()
    assert good.sum() == good.size - 2


def test_no_point_is_classified_near_sky_or_unknown_truth():
    truth = step()
    truth[:10], truth[30, 5] = np.inf, np.nan
    flying, good = flying_and_good(np.full(truth.shape, 7.0, np.float32), truth, 2)
    assert not flying[:12].any()
    assert flying[12:, 28:32].any()
    _, good = flying_and_good(truth, truth, 2)
    assert not good[:12].any()
    assert not good[28:33, 3:8].any()
    assert good[12:28].all()


def test_unknown_depth_is_neither_flying_nor_good():
    depth = step()
    depth[20] = np.nan
    flying, good = flying_and_good(depth, step(), 3)
    assert not flying[20].any()
    assert not good[20].any()
