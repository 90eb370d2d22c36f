# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The trials of the node: they pass, and they can fail."""

import dataclasses
import json
from pathlib import Path
import subprocess
import sys

import fault_campaign
from faults import FAULTS
import pytest
from synthetic_messages import View, views

pytestmark = pytest.mark.slow  # campaigns of faults, a soak, a node beside a busy core
TRIALS = Path(__file__).resolve().parents[1] / 'trials'
RAW = [fault for fault in FAULTS if fault.role != 'compressed']


def run_trial(script, *arguments):
    """Run a trial's script; its exit code and its figures."""
    command = [sys.executable, str(TRIALS / script), *arguments, '--json']
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope='module')
def scenes():
    """Draw what the robot sees."""
    return views(0)


def test_names_of_faults_are_distinct_and_enough():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 20


@pytest.mark.parametrize('role', ['image', 'compressed'])
def test_campaign_is_clean(scenes, role):
    faults = RAW if role == 'image' else [fault for fault in FAULTS if fault.role == role]
    result = fault_campaign.Campaign(role, scenes, 0).run(2 * len(faults), lambda _n: None)
    assert result.clean, result
    assert result.good == len(faults)
    assert set(result.counted) == {fault.name for fault in faults}


def test_campaign_finds_uncounted_faults_and_wrong_depth(scenes, monkeypatch):
    harmless = dataclasses.replace(RAW[0], name='nothing wrong', corrupt=lambda *_: None)
    monkeypatch.setattr(fault_campaign, 'FAULTS', (harmless,))
    other = View.solve

    def solve_wrongly(view, *arguments):
        other(view, *arguments)
        view.depth['image'] = view.depth['image'] + 0.001

    monkeypatch.setattr(View, 'solve', solve_wrongly)
    result = fault_campaign.Campaign('image', scenes, 0).run(2, lambda _n: None)
    assert not result.clean
    assert result.counted['nothing wrong'] == 0
    assert len(result.wrong) == len(result.unwanted) == 1


def test_half_a_minute_of_soak_leaks_no_memory_and_no_threads():
    code, result = run_trial('soak.py', '--minutes', '0.5')
    assert code == 0, result
    assert result['clean']
    assert sum(result['events'].values()) >= 10
    assert result['unaccounted'] == 0


def test_timing_trial_accounts_for_images_and_limits():
    code, result = run_trial('timing_trial.py', '--seconds', '4')
    figures = {figure['name']: figure for figure in result['figures']}
    assert figures['images not accounted for']['value'] == 0
    assert figures['frames a second']['value'] > 0
    assert figures['of it in FramePipeline.process']['value'] > 0
    late = [f for f in figures.values() if f['limit'] is not None and f['value'] > f['limit']]
    assert result['clean'] == (not late) == (code == 0)
