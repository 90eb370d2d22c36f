# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command adapt: what it refuses ends with 1, one sentence and no result."""

import json

from marigold_ros.__main__ import main
from marigold_ros.synthetic.drive.drive import write_drive
import pytest


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp('drives') / 'short'
    write_drive(path, frames=4, seed=3, width=96, height=64, lidar_beams=16)
    return path


@pytest.fixture
def other_family(tmp_path):
    folder = tmp_path / 'other'
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps({'model_type': 'zoedepth'}))
    return folder


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ([], 'adapting needs at least 8'),
        (['--base', 'OTHER'], 'choose another --base'),
        (['--base', 'nothing/here'], "'nothing/here'"),
        (['--lidar', '/nothing'], '/nothing'),
        (['--out', ''], '--out is .; give the name'),
    ],
)
def test_what_is_refused_ends_with_one_and_no_result(
    drive, other_family, tmp_path, capsys, options, words
):
    out = tmp_path / 'robot'
    given = [str(other_family) if option == 'OTHER' else option for option in options]
    assert main(['adapt', str(drive), '--out', str(out), *given]) == 1
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_a_bag_given_twice_is_refused_for_its_judged_images_would_be_trained_on(
    drive, tmp_path, capsys
):
    for again in (drive, next(drive.glob('*.mcap'))):
        assert main(['adapt', str(drive), str(again), '--out', str(tmp_path / 'robot')]) == 1
        printed = capsys.readouterr().err
        assert 'is given twice' in printed or f'is a file of {drive}; give one of them' in printed
        assert not (tmp_path / 'robot').exists()


@pytest.mark.parametrize(
    ('option', 'value', 'words'),
    [
        ('--train', '5:2', 'FIRST:END'),
        ('--minutes', '0', "'0' is not a number above 0"),
        ('--minutes', 'inf', 'not a number above 0'),
        ('--hold-lines', '1', '0 or an integer of at least 2'),
    ],
)
def test_a_wrong_option_is_refused_before_bags_are_read(tmp_path, capsys, option, value, words):
    with pytest.raises(SystemExit, match='2'):
        main(['adapt', str(tmp_path / 'none'), '--out', str(tmp_path / 'robot'), option, value])
    assert words in capsys.readouterr().err
