# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The benchmark of fusion: tables, JSON, image, stored scenes, time alone."""

import json
import re

import cv2
from fusion import BENCHMARK
import fusion_cases
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def few_cases(monkeypatch):
    monkeypatch.setattr(fusion_cases, 'MAPS', ('none', 'objects'))
    names = ('500 random', '16 rows')
    few = [pattern for pattern in fusion_cases.CONDITIONS if pattern.name in names]
    monkeypatch.setattr(fusion_cases, 'CONDITIONS', few)
    monkeypatch.setattr('fusion.FRAMES', ((96, 128, 300),))


def rows_of(text, title):
    """Cells of the table below a title, by the first one; the heads by ''."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title)) + 1
    block = [*lines[start:], '']
    cells = [re.split(r'\s{2,}', line) for line in block[: block.index('')]]
    return {'': cells[0][1:], **{row[0]: row[1:] for row in cells[1:]}}


def test_tables_hold_the_figures_of_the_json_file(tmp_path, capsys, monkeypatch):
    network = 'fusion.fusion_network'
    monkeypatch.setattr(network, lambda args: fusion_cases.only('smooth'))
    call = ['--scenes', '2', '--size', '96x128', '--runs', '2', '--ablate']
    assert BENCHMARK.run([*call, '--out', str(tmp_path)]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / 'fusion.json').read_text())
    assert (found['scenes'], found['source'], found['network']) == (2, 'synthetic', 'auto')
    plain = rows_of(text, 'without a map: AbsRel')
    maps, ablated = rows_of(text, 'with maps'), rows_of(text, 'ratio of AbsRel without parts')
    covered = rows_of(text, 'without a map: share within')
    assert len(found['cases']) == 2 * (len(plain) - 1) == 4
    for case in found['cases']:
        points, methods = case['points'], case['methods']
        shown = dict(zip(maps[''], maps[points], strict=True))
        assert shown[case['map']].startswith(f'{methods["fused"]["ratio"]["abs_rel"]:.3f}')
        if case['map'] != 'none':
            assert shown[case['map']].endswith(f'({methods["local"]["ratio"]["abs_rel"]:.3f})')
            continue
        shown = dict(zip(plain[''], plain[points], strict=True))
        assert shown['linear'] == f'{methods["linear"]["abs_rel"]:.4f}'
        assert shown['nearest'] == f'{methods["nearest"]["ratio"]["abs_rel"]:.3f}'
        assert covered[points][0] == f'{case["coverage"]:.3f}'
        shown = dict(zip(ablated[''], ablated[points], strict=True))
        assert shown['without network'] == f'{methods["closed form"]["ratio"]["abs_rel"]:.3f}'
    times = rows_of(text, 'map fit and fusion')
    assert times['total'] == [
        f'{cost["stages"]["total"]["p50"]:.1f} ({cost["stages"]["total"]["p95"]:.1f})'
        for cost in found['cost_ms']
    ]
    drawn = cv2.imread(str(tmp_path / 'fusion.png'))
    assert drawn.shape[1] == 7 * 320
    assert drawn.std() > 10


def test_stored_scenes_are_scored_with_the_closed_form(tmp_path, capsys):
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:96, 0:128]
    depth = 1500 + 3000 * (v < 40) + 800 * (u > 70) + rng.integers(0, 20, (96, 128))
    (tmp_path / 'a').mkdir()
    cv2.imwrite(str(tmp_path / 'a' / 'depth_mm.png'), depth.astype(np.uint16))
    call = ['--data', str(tmp_path), '--fusion', 'none', '--runs', '1']
    assert BENCHMARK.run(call) == 1
    assert 'no readable image.* of 128x96' in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / 'a' / 'image.png'), np.repeat(depth[..., None] / 20, 3, axis=2))
    assert BENCHMARK.run([*call, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['scenes'], found['source'], found['size']) == (1, 'stored', [96, 128])
    for case in found['cases']:
        assert case['methods']['fused'] == case['methods']['closed form']


def test_time_alone_needs_no_scores(tmp_path, capsys, monkeypatch):
    asked = []
    fusion_of = 'fusion.fusion_of'
    monkeypatch.setattr(fusion_of, lambda *how: asked.append(how) or fusion_cases.only('smooth'))
    call = ['--cost', '--runs', '1', '--out', str(tmp_path)]
    assert BENCHMARK.run(call) == 0
    assert set(asked) == {(None, 'auto')}
    assert capsys.readouterr().out.startswith('map fit and fusion')
    found = json.loads((tmp_path / 'fusion.json').read_text())
    assert 'cases' not in found
    assert 'network' in found['cost_ms'][0]['stages']
