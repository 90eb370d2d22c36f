# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Counters, timings, rates, blind cameras and clock offsets; what of it the console shows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.frame import SourceReport
from marigold_ros.node import health
from marigold_ros.node.health import (
    Counters,
    explain_missing_scan,
    Health,
    Rate,
    Timings,
    WarningLog,
)
from marigold_ros.reasons import as_reason
import numpy as np
import pytest
import torch

SECOND = 1_000_000_000


def test_a_doubtful_source_is_used_and_one_without_points_is_missing():
    doubts, running = as_reason('its depth is 1.30 times that of pointcloud'), Health()
    running.count_sources([SourceReport('ground', 9, doubts), SourceReport('radar', 0, doubts)])
    counted = running.counters.snapshot('scans.')
    assert (counted['scans.ground.used'], counted['scans.radar.missing']) == (1, 1)


def test_counters_add_up_in_every_snapshot_of_a_busy_node():
    counters = Counters()
    stop = threading.Event()

    def work(outcome):
        while not stop.is_set():
            counters.enter_frame()
            counters.leave_frame(outcome)

    threads = [
        threading.Thread(target=work, args=(outcome,))
        for outcome in ('frames.served', 'frames.dropped_newer', 'frames.rejected.encoding')
    ]
    for thread in threads:
        thread.start()
    for _ in range(200):
        moment = counters.snapshot('frames.')
        received = moment.pop('frames.received')
        assert received == sum(moment.values())
    stop.set()
    for thread in threads:
        thread.join()
    assert counters.snapshot()['frames.in_flight'] == 0


def test_percentiles_are_those_of_the_window():
    timings = Timings(window=5)
    for duration in (1000.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        timings.add({'predict': duration})
    assert timings.percentiles()['predict.p50_ms'] == 3.0
    assert timings.percentiles()['predict.p95_ms'] == pytest.approx(4.8)


def test_a_stage_that_the_last_frames_lack_is_not_reported_any_more():
    timings = Timings(window=5)
    timings.add({'predict': 2.0, 'age': 50.0})
    for _ in range(5):  # their stamps are of another clock
        timings.add({'predict': 2.0})
    assert set(timings.percentiles()) == {'predict.p50_ms', 'predict.p95_ms'}


@pytest.fixture
def clock(monkeypatch):
    """Return a function that advances a stopped clock."""
    now = [100.0]
    monkeypatch.setattr(health, 'time', SimpleNamespace(monotonic=lambda: now[0]))

    def move(seconds):
        now[0] += seconds

    return move


def test_a_rate_is_that_of_the_last_events(clock):
    rate = Rate()
    assert rate.hertz == 0.0
    for period in [1.0] * 5 + [0.1] * 40:
        clock(period)
        rate.tick()
    assert rate.hertz == pytest.approx(10.0)


def test_silence_makes_the_rate_zero(clock):
    rate = Rate()
    clock(7.0)
    assert rate.silence == pytest.approx(7.0)
    rate.tick()
    clock(0.5)
    rate.tick()
    assert rate.hertz == pytest.approx(2.0)
    clock(3.5)
    assert rate.hertz == 0.0
    assert rate.silence == pytest.approx(3.5)
    clock(60.0)
    for _ in range(3):  # the silence is no part of what follows
        rate.tick()
        clock(0.1)
    assert rate.hertz == pytest.approx(10.0)


def test_a_camera_that_is_slower_than_that_is_not_silent(clock):
    rate = Rate()
    for _ in range(5):
        clock(10.0)
        rate.tick()
    clock(9.0)
    assert rate.hertz == pytest.approx(0.1)
    assert not rate.is_silent(5.0)
    clock(12.0)
    assert rate.hertz == 0.0
    assert rate.is_silent(5.0)
    clock(3600.0)
    rate.tick()  # the pause was no period
    clock(21.0)
    assert rate.is_silent(5.0)


def test_a_problem_lasts_from_one_slow_frame_to_the_next(clock):
    state = Health()
    for _ in range(3):
        state.report('info', 'no camera_info')
        state.timings.add({'total': 20_000.0})
        clock(20.0)
        assert state.problem('info') == 'no camera_info'
    clock(6.0)
    assert state.problem('info') == ''
    state.timings.add({'total': 50.0})
    state.report('info', 'no camera_info')
    clock(5.5)
    assert state.problem('info') == ''


@pytest.fixture
def rng():
    """Return a seeded random generator."""
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ('newest', 'period', 'silence', 'words'),
    [
        (None, None, 9.0, 'no scan has arrived'),
        (137 * SECOND, None, 9.0, '37 s ahead of the image: two clocks?'),
        (63 * SECOND, 0.1, 0.1, '37 s behind the image: two clocks? synchronise them, or set li'),
        (99.8 * SECOND, None, 0.1, 'is 0.06 s; where scans come late, raise lidar.wait'),
        (99.8 * SECOND, 0.5, 0.2, 'is 0.06 s; scans come every 0.5 s: raise it to half of that'),
        # Some scan is always within 0.06 s of an image, or none came for more than a period.
        (99.93 * SECOND, 0.1, 0.1, 'is 0.06 s; where scans come late, raise lidar.wait'),
        (98.5 * SECOND, 0.5, 0.7, 'is 0.06 s; where scans come late, raise lidar.wait'),
        (97.5 * SECOND, 0.1, 2.4, '2.5 s behind the image: none has come for 2.4 s'),
    ],
)
def test_a_missing_scan_is_explained_by_the_clocks(newest, period, silence, words):
    period_ns = None if period is None else period * SECOND
    assert words in explain_missing_scan(100 * SECOND, newest, 60_000_000, period_ns, silence)


def test_images_without_a_stamp_are_the_reason_for_missing_scans():
    assert 'stamp of the images is 0' in explain_missing_scan(0, SECOND, 60_000_000, None, 0.1)


def test_memory_grows_with_what_is_held():
    # In a process of its own: this one may have room left from other tests.
    code = (
        'import time\n'
        'from marigold_ros.node.health import memory_mb\n'
        'before = memory_mb()["resident_mb"]\n'
        'held = bytearray(b"1") * 50_000_000\n'
        'deadline = time.monotonic() + 10.0\n'
        # Some kernels bring this figure up to date once a second only.
        'while memory_mb()["resident_mb"] - before < 40.0:\n'
        '    assert time.monotonic() < deadline\n'
        '    time.sleep(0.05)\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_memory_is_that_on_all_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda gpu=0: 3_000_000 * gpu)
    assert health.memory_mb()['gpu_mb'] == 3.0


def test_memory_is_known_while_another_thread_imports_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', ModuleType('torch'))  # as of its first lines
    assert set(health.memory_mb()) == {'resident_mb'}


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


def test_what_was_logged_long_ago_is_not_kept():
    log = WarningLog()
    for second, letter in enumerate('abcdefghij' * 20):  # as of images that start with any bytes
        log.update({'frames': letter * (second + 1)}, float(second))
    assert len(log._logged) == 30


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
    has_tf2 = importlib.util.find_spec('tf2_ros') is not None
    assert sum('transform: tf2 is not installed' in line for line in lines) == (not has_tf2)
    assert not any('alignment: ' in line for line in lines), 'there was no image yet'
    running.robot.offer('scan')
    running.wait_for(lambda: running.node.count_publishers(topic) == 1)
    running.node.refresh_inputs()
    running.status('scans')
    lines = capfd.readouterr().err.splitlines()
    (over,) = [line for line in lines if 'scans: ' in line]
    assert '[INFO]' in over
    assert f'scans: over: nobody publishes {topic}' in over
