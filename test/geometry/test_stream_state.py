# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The state between frames: what is kept, how a held fit ages, and which breaks end a stream."""

from dataclasses import FrozenInstanceError, replace

from marigold_ros.frame import Alignment, CurrentFrame
from marigold_ros.geometry.calibration.edge_agreement import EdgeEvidence
from marigold_ros.geometry.sigma.fused_sigma import SigmaHistory, SigmaScale
from marigold_ros.geometry.stream import is_break, StreamState
from marigold_ros.reasons import Reason
import numpy as np
import pytest

SECOND = 1_000_000_000
SHAPE = (120, 160)
DARK, BRIGHT = (np.full((24, 32), grey, np.float32) for grey in (20.0, 220.0))


def state_after(stamp_ns=10 * SECOND, **changes):
    metric = np.ones(SHAPE, np.float32)
    values = {'state': 'fitted', 'scale': 2.0, 'shift': 1.0, 'metric': metric} | changes
    alignment = Alignment(**values)
    sigma = SigmaHistory(scale=SigmaScale(np.ones((2, 2, 3))))
    state = StreamState(stamp_ns=stamp_ns, shape=SHAPE, sigma=sigma)
    current = CurrentFrame(DARK, stamp_ns)
    return state.after(current, alignment, alignment)


@pytest.mark.parametrize(
    ('stamp_ns', 'shape', 'grey', 'expected'),
    [
        (11 * SECOND, SHAPE, DARK, False),
        (9 * SECOND, SHAPE, DARK, False),  # one second back may be a late message
        (9 * SECOND - 1, SHAPE, DARK, True),
        (11 * SECOND, (60, 80), DARK, True),
        (11 * SECOND, SHAPE, BRIGHT, True),
    ],
)
def test_jumps_sizes_and_scene_cuts_break_a_stream(stamp_ns, shape, grey, expected):
    current = CurrentFrame(grey, stamp_ns)
    assert is_break(state_after(), stamp_ns, shape, current, 0.15) is expected


def test_first_frame_is_a_break_and_unknown_images_are_no_cut():
    assert is_break(StreamState(), 0, SHAPE, None, 0.15)
    assert not is_break(state_after(), 11 * SECOND, SHAPE, None, 0.15)


def test_held_fit_has_its_age_and_no_arrays_per_pixel():
    held = state_after().held_fit(12 * SECOND)
    assert (held.scale, held.shift, held.age_ns) == (2.0, 1.0, 2 * SECOND)
    assert held.metric is None
    assert state_after().held_fit(9 * SECOND).age_ns == SECOND
    assert state_after().held_fit(10 * SECOND) is None  # stamps that stand still show no age
    assert StreamState().held_fit(0) is None


def test_held_frames_keep_the_stamp_of_their_fit():
    state = state_after(state='held', age_ns=3 * SECOND)
    assert state.fit is None
    assert state.previous.stamp_ns == 7 * SECOND


@pytest.mark.parametrize(
    ('changes', 'idle'),
    [
        ({'shares': {'map': 0.0, 'points': 1.0}}, 1),
        ({'shares': {'map': 0.001, 'points': 0.999}}, 0),  # as good as none, but not none
        ({'shares': None}, 0),
        ({'shares': {'map': 0.0, 'points': 1.0}, 'map_refusal': None}, 0),
    ],
)
def test_only_a_map_that_was_refused_and_has_no_share_at_all_is_idle(changes, idle):
    refused = {'map_refusal': Reason('map_gains_nothing', {'of_map': 0.2, 'of_points': 0.1})}
    assert state_after(**(refused | changes)).idle == idle


def test_forgetting_fits_keeps_stream_and_calibration():
    state = replace(state_after(), edges=EdgeEvidence(frames=3))
    forgotten = state.without_fits()
    assert (forgotten.fit, forgotten.previous) == (None, None)
    assert state.sigma.scale is not None
    assert forgotten.sigma == SigmaHistory()
    assert (forgotten.stamp_ns, forgotten.shape) == (state.stamp_ns, state.shape)
    assert forgotten.calibration is state.calibration
    assert forgotten.edges is state.edges


def test_state_is_immutable():
    with pytest.raises(FrozenInstanceError):
        state_after().fit = None
