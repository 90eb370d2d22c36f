# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The console shows warnings of the diagnostics when they appear, last and end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.node.health.warning_log import WarningLog


def test_a_warning_is_logged_when_it_appears_every_half_minute_and_when_it_ends():
    log = WarningLog()
    shown = {
        second: log.update({'scans': f'the newest scan is {second} s behind'}, float(second))
        for second in range(62)
    }
    logged = {second: lines for second, (lines, _) in shown.items() if lines}
    assert list(logged) == [0, 30, 60]
    assert logged[30] == ['scans: the newest scan is 30 s behind']
    assert not any(ends for _, ends in shown.values())
    assert log.update({}, 62.0) == ([], ['scans: over: the newest scan is 60 s behind'])
    assert log.update({}, 63.0) == ([], [])


def test_another_problem_of_the_same_part_is_logged_at_once():
    log = WarningLog()
    log.update({'frames': 'nobody publishes /a'}, 0.0)
    lines, ends = log.update({'frames': 'the image is black', 'scans': 'x'}, 1.0)
    assert (lines, ends) == (['frames: the image is black', 'scans: x'], [])


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from('ab'), st.sampled_from(['nothing 1', 'nothing 2', 'late'])
        ),
        max_size=100,
    )
)
def test_a_flickering_warning_does_not_flood_the_console(seconds):
    log = WarningLog()
    counts: dict = {}
    for now, warnings in enumerate(seconds):
        lines, ends = log.update(warnings, float(now))
        for line in lines:
            kind = line.rstrip(' 12')
            assert now - counts.get(kind, -30) >= 30
            counts[kind] = now
        assert len(ends) <= 2
    # What is wrong and was never logged does not exist.
    last = seconds[-1] if seconds else {}
    assert {f'{part}: {text}'.rstrip(' 12') for part, text in last.items()} <= set(counts)


def test_the_console_says_why_there_is_no_depth_and_when_there_is(bench, capfd):
    running = bench({'extrinsics.translation': None, 'extrinsics.rotation_xyzw': None})
    running.robot.node.destroy_publisher(running.robot.lidar)
    topic = '/velodyne_points'
    running.wait_for(lambda: running.node.count_publishers(topic) == 0)
    running.node.refresh_inputs()
    for _ in range(3):
        running.status('scans')
    lines = capfd.readouterr().err.splitlines()
    assert sum(f'scans: nobody publishes {topic}' in line for line in lines) == 1
    assert sum('transform: tf2 is not installed' in line for line in lines) == 1
    assert not any('alignment: ' in line for line in lines), 'there was no image yet'
    running.robot.offer('scan')
    running.wait_for(lambda: running.node.count_publishers(topic) == 1)
    running.node.refresh_inputs()
    running.status('scans')
    lines = capfd.readouterr().err.splitlines()
    (over,) = [line for line in lines if 'scans: ' in line]
    assert '[INFO]' in over
    assert f'scans: over: nobody publishes {topic}' in over
