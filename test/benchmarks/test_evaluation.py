# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The benchmark of evaluate: the cost of a frame, part by part."""

import json
import re

from evaluation import BENCHMARK
import pytest


def test_parts_add_up_to_what_evaluate_does(short_drive, capsys, tmp_path):
    call = ['--data', str(short_drive), '--runs', '1']
    assert BENCHMARK.run([*call, '--json', '--out', str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / 'evaluation.json').read_text())
    assert (printed['frames'], printed['picture']) == (3, [72, 96])
    decoding, reading, scored, fitted, everything = printed['cpu_ms'].values()
    assert 0 < decoding < everything
    assert 0 < reading < scored < everything
    assert reading < fitted
    for name, rate in printed['frames_per_s'].items():
        assert rate == pytest.approx(1e3 / printed['cpu_ms'][name])


@pytest.mark.slow  # measures all again
def test_the_table_holds_the_cost_of_every_part(short_drive, capsys, tmp_path):
    call = ['--data', str(short_drive), '--runs', '1', '--out', str(tmp_path)]
    assert BENCHMARK.run(call) == 0
    found = json.loads((tmp_path / 'evaluation.json').read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('3 images of 96x72')
    rows = [re.split(r'\s{2,}', line) for line in lines[3:]]
    assert rows == [
        [name, f'{ms:.1f}', f'{found["frames_per_s"][name]:.0f}']
        for name, ms in found['cpu_ms'].items()
    ]
    assert rows[1][0] == 'reading, decoding, pairing'
    assert rows[-1][0].endswith('all but the model')


def test_a_bag_that_is_not_there_is_one_line(capsys, tmp_path):
    assert BENCHMARK.run(['--data', str(tmp_path / 'none')]) == 1
    assert 'none does not exist' in capsys.readouterr().err
