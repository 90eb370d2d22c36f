# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Flicker and drift of planted changes, for a camera that stands and one that moves."""

import math

from marigold_ros.evaluation.metrics.temporal import TemporalScores
from marigold_ros.frame import Alignment, Camera, Frame
import numpy as np
import pytest

K = np.array([[150.0, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])
STEP_NS, NOW_NS = 100_000_000, 1_700_000_000_000_000_000


def wall(at_m):
    """Image and depth of a patterned wall that is so far ahead."""
    v, u = np.mgrid[:120, :160]
    x, y = (u - K[0, 2]) / K[0, 0] * at_m, (v - K[1, 2]) / K[1, 1] * at_m
    grey = 120 + 100 * np.sin(1.7 * x) * np.sin(1.3 * y)
    rgb = np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, axis=2)
    return rgb, np.full((120, 160), at_m, np.float32)


def played(factors, step_m=0.0, posed=False, gap_ns=STEP_NS, scales=None, rows=None, dark=False):
    """Depth off by a factor in each frame, None without any, of a camera going towards a wall."""
    scores = TemporalScores()
    for number, factor in enumerate(factors):
        rgb, depth = wall(10.0 - number * step_m)
        rgb = np.zeros_like(rgb) if dark else rgb
        pose = None
        if posed:
            pose = np.eye(4)
            pose[2, 3] = number * step_m
        frame = Frame(
            rgb,
            Camera(np.diag([2, 2, 1]) @ K, 160, 120, P=K),
            stamp_ns=NOW_NS + number * gap_ns,
            T_world_camera=pose,
        )
        scale = scales[number] if scales else 2.0
        alignment = Alignment('fitted', scale=scale, shift=1.0 - scale)
        metric = None if factor is None else np.float32(factor) * depth
        row = scores.add(frame, rgb, metric, alignment, {'truth': factor})
        if rows is not None:
            rows.append(row)
    return scores.summary()


def test_a_still_camera_has_the_planted_flicker_by_pixel():
    found = played([1.0, 1.1, 1.0, 1.1, 1.0])
    change = (0.1 + (1 - 1 / 1.1)) / 2
    assert found['flicker']['value'] == pytest.approx(change, rel=1e-4)
    assert found['flicker']['matched_by'] == {'pose': 0, 'pixel': 4}
    assert found['scale_drift']['ratio'] == pytest.approx(math.log(1.1))
    assert found['scale_drift']['scale'] == found['scale_drift']['shift'] == 0


def test_true_depth_of_a_posed_moving_camera_does_not_flicker():
    still = played([1.0] * 4, step_m=0.2, posed=True)['flicker']
    assert still['matched_by'] == {'pose': 3, 'pixel': 0}
    assert still['value'] < 1e-3
    moved = played([1.0, 1.1, 1.0, 1.1], step_m=0.2, posed=True)['flicker']
    assert moved['value'] == pytest.approx(0.1, rel=0.1)


def test_moving_camera_without_pose_has_drift_but_no_flicker():
    found = played([1.0, 1.2], step_m=2.0)
    assert 'flicker' not in found
    assert found['scale_drift']['pairs'] == 1


def test_black_images_do_not_pass_for_a_camera_at_rest_but_a_pose_will_do():
    found = played([1.0, 1.02], step_m=0.2, dark=True)
    assert 'flicker' not in found
    assert found['scale_drift']['pairs'] == 1
    posed = played([1.0, 1.02], step_m=0.2, dark=True, posed=True)
    assert posed['flicker']['value'] == pytest.approx(0.02, rel=0.1)


def test_drift_of_the_fitted_scale_is_a_ratio():
    found = played([1.0] * 3, scales=[2.0, 4.0, 2.0])['scale_drift']
    assert found['scale'] == pytest.approx(math.log(2))
    assert found['shift'] == 2
    assert found['ratio'] == 0


def test_one_jump_is_in_the_mean_and_the_95th_percentile_but_not_in_the_median():
    found = played([1.0, *[1.1] * 5])
    flicker, drift = found['flicker'], found['scale_drift']
    of_five = np.array([0.2, 0.0, 0.8])
    assert [flicker[name] for name in ('value', 'median', 'p95')] == pytest.approx(
        0.1 * of_five, rel=1e-4
    )
    assert [drift[name] for name in ('ratio', 'median_ratio', 'p95_ratio')] == pytest.approx(
        math.log(1.1) * of_five
    )


def test_drift_compares_the_points_of_one_protocol():
    # Without a scan in one frame there are no held-out points, and those left are another choice.
    rgb, depth = wall(10.0)
    frames, scores = [{'truth': 1.2}, {'heldout': 1.0, 'truth': 1.2}, {'heldout': 1.0}] * 2, []
    temporal = TemporalScores()
    for number, ratios in enumerate(frames):
        frame = Frame(rgb, Camera(K, 160, 120), stamp_ns=number * STEP_NS)
        fit = Alignment('fitted', scale=2.0)
        scores.append(temporal.add(frame, rgb, depth, fit, ratios)['drift_ratio'])
    np.testing.assert_array_equal(scores, [np.nan, 0, 0, np.nan, 0, 0])
    found = temporal.summary()['scale_drift']
    assert (found['ratio'], found['scale'], found['pairs']) == (0, 0, 5)
    assert math.isnan(found['shift'])  # of no fit


@pytest.mark.parametrize('gap_ns', [0, -STEP_NS, 2_000_000_000])
def test_frames_that_are_no_neighbours_are_not_compared(gap_ns):
    rows = []
    assert played([1.0, 1.1], gap_ns=gap_ns, rows=rows) == {}
    assert all(math.isnan(value) for value in rows[1].values())


def test_a_frame_without_metres_or_of_another_size_parts_its_neighbours():
    assert played([1.0, None, 1.0]) == {}
    scores, (rgb, depth) = TemporalScores(), wall(10.0)
    for stamp_ns, half in ((0, np.s_[:]), (STEP_NS, np.s_[:60])):
        frame = Frame(rgb[half], Camera(K, 160, len(rgb[half])), stamp_ns=stamp_ns)
        scores.add(frame, rgb[half], depth[half], Alignment('fitted', scale=2.0), {'truth': 1.0})
    assert scores.summary() == {}
