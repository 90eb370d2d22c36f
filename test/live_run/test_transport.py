# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The profile for big messages: sound XML, and never over a user's own."""

from pathlib import Path
import shutil
from xml.etree import ElementTree

from marigold_ros.live_run import transport
import pytest

SPACE = '{http://www.eprosima.com}'


@pytest.mark.parametrize('room', [True, False])
def test_a_profile_is_written_and_pointed_at(tmp_path, monkeypatch, room):
    if not room:
        monkeypatch.setattr(transport, '_SHARED_MEMORY', tmp_path / 'none')
    elif shutil.disk_usage('/dev/shm').free < 4 * transport.SEGMENT_BYTES:
        pytest.skip('this machine has too little shared memory')
    environment = {}
    transport.use_roomy_transport(tmp_path, environment)
    assert len(set(environment.values())) == 1
    root = ElementTree.parse(environment['FASTRTPS_DEFAULT_PROFILES_FILE']).getroot()
    sizes = [int(element.text) for element in root.iter(f'{SPACE}segment_size')]
    assert sizes == [transport.SEGMENT_BYTES] * room
    assert root.find(f'.//{SPACE}heartbeatPeriod') is not None


def test_the_shipped_profile_is_the_one_that_is_used():
    shipped = Path(__file__).resolve().parents[2] / 'config' / 'fast_dds.xml'
    assert shipped.read_text(encoding='utf-8') == transport.profile()


def test_a_users_own_profile_stays(tmp_path):
    environment = {'FASTDDS_DEFAULT_PROFILES_FILE': '/somewhere.xml'}
    transport.use_roomy_transport(tmp_path, environment)
    assert environment == {'FASTDDS_DEFAULT_PROFILES_FILE': '/somewhere.xml'}
    assert not list(tmp_path.iterdir())
