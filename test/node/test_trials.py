# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The trials of the node: they pass, and they can fail."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

import fault_campaign
from faults import FAULTS  # noqa: E402
from synthetic_messages import View, views  # noqa: E402

RAW = [fault for fault in FAULTS if fault.role != 'compressed']


@pytest.fixture(scope='module')
def places():
    """Draw what the robot sees."""
    return views(0)


def test_names_of_faults_are_told_apart_and_there_are_enough():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20


def test_every_fault_is_counted_every_good_frame_served_and_no_depth_is_wrong(places):
    outcome = fault_campaign.Campaign('image', places, 0).run(2 * len(RAW), lambda _n: None)
    assert outcome.clean, outcome
    assert outcome.good == len(RAW)
    assert set(outcome.counted) == {fault.name for fault in RAW}


def test_the_same_holds_for_compressed_images(places):
    faults = [fault for fault in FAULTS if fault.role == 'compressed']
    outcome = fault_campaign.Campaign('compressed', places, 0).run(
        2 * len(faults), lambda _n: None
    )
    assert outcome.clean, outcome
    assert set(outcome.counted) == {fault.name for fault in faults}


def test_a_fault_that_is_not_counted_and_depth_that_differs_are_found(places, monkeypatch):
    harmless = dataclasses.replace(RAW[0], name='nothing wrong', corrupt=lambda *_: None)
    monkeypatch.setattr(fault_campaign, 'FAULTS', (harmless,))
    other = View.solve

    def solve_wrongly(view, *arguments):
        other(view, *arguments)
        view.depth['image'] = view.depth['image'] + 0.001

    monkeypatch.setattr(View, 'solve', solve_wrongly)
    outcome = fault_campaign.Campaign('image', places, 0).run(2, lambda _n: None)
    assert not outcome.clean
    assert outcome.counted['nothing wrong'] == 0
    assert len(outcome.wrong) == len(outcome.unwanted) == 1


def test_a_minute_of_changes_and_restarts_leaves_neither_memory_nor_threads_behind():
    command = [sys.executable, '-m', 'marigold_ros', 'stress', 'soak', '--minutes', '1', '--json']
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, outcome
    assert outcome['clean']
    assert sum(outcome['events'].values()) >= 20
    assert outcome['unaccounted'] == 0


def test_the_timing_trial_accounts_for_every_image_and_says_what_missed_its_limit():
    command = [sys.executable, '-m', 'marigold_ros', 'stress', 'timing', '--seconds', '2']
    done = subprocess.run(
        [*command, '--json'], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout.strip().splitlines()[-1])
    figures = {figure['name']: figure for figure in outcome['figures']}
    assert figures['images not accounted for']['value'] == 0
    assert figures['frames a second']['value'] > 0
    assert figures['of it in FramePipeline.process']['value'] > 0
    late = [f for f in figures.values() if f['limit'] is not None and f['value'] > f['limit']]
    assert outcome['clean'] == (not late) == (done.returncode == 0)
