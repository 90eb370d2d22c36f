# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The benchmark of masks: its table, its JSON, and that masks do what they promise."""

import json

from cloud import BENCHMARK
import pytest


@pytest.mark.slow  # renders drives
def test_it_measures_masks_on_synthetic_drives(tmp_path, capsys, monkeypatch):
    drives = (('street', (14,)), ('room', ()))
    monkeypatch.setattr('cloud.DRIVES', drives)
    call = ['--runs', '1', '--size', '192x256', '--device', 'cpu']
    assert BENCHMARK.run([*call, '--out', str(tmp_path)]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / 'cloud.json').read_text())
    for name, shares in found['flying_pixels'].items():
        row = next(line for line in text.splitlines() if line.startswith(name))
        assert row.split()[-2] == f'{100 * shares["good_lost"]:.2f}'
    assert set(found['flying_pixels']) == {'blurred over 4 px', 'blurred over 12 px', 'unet'}
    assert set(found['cost_ms']) == {'flying pixels', 'sky', 'normals'}
    assert all(f'{name} {ms:.1f} ms' in text for name, ms in found['cost_ms'].items())
    assert found['pictures'] == 1
    sharp = found['flying_pixels']['blurred over 4 px']
    assert sharp['removed'] > 0.7
    assert sharp['good_lost'] < 0.05
    assert found['sky']['wrong'] < 0.002
    assert found['sky']['wrong_in_rooms'] == 0
