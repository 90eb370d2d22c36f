# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command benchmark: table, JSON, wrong usage."""

import json
import re
from statistics import median

from marigold_ros.__main__ import main
from marigold_ros.replay import frame_budget
from marigold_ros.replay.frame_budget import FrameCase
import pytest


@pytest.fixture
def arguments(small_checkpoint):
    return ['benchmark', '--model', str(small_checkpoint), '--device', 'cpu', '--size', '48x64']


def test_without_a_model_the_smallest_marigold_is_timed(capsys, tmp_path):
    call = ['benchmark', '--runs', '1', '--size', '48x64', '--json', '--out', str(tmp_path)]
    assert main(call) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['model']['name'] == 'tiny'
    assert found == json.loads((tmp_path / 'benchmark.json').read_text())


def test_a_full_disk_leaves_the_earlier_figures(arguments, capsys, tmp_path, full_disk):
    (tmp_path / 'benchmark.json').write_text('earlier')
    with full_disk(100):
        assert main([*arguments, '--runs', '1', '--out', str(tmp_path)]) == 1
    assert 'free some space' in capsys.readouterr().err
    assert (tmp_path / 'benchmark.json').read_text() == 'earlier'


def table(text, head):
    """Rows of a printed table, by their first cell."""
    lines = [re.split(r'\s{2,}', line) for line in text.splitlines()]
    start = next(i for i, cells in enumerate(lines) if cells[: len(head)] == head)
    rows = [*lines[start + 1 :], ['']]
    return {cells[0]: cells[1:] for cells in rows[: rows.index([''])]}


def test_the_table_holds_the_figures_of_every_stage(arguments, capsys, tmp_path):
    work = ['--steps', '2', '--members', '2', '--resolution', '64', '--seed', '7']
    assert main([*arguments, '--runs', '3', *work, '--out', str(tmp_path)]) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / 'benchmark.json').read_text())
    own, frame = found['own'], found['own']['frame_ms']
    shown = table(text, ['stage', 'p50 ms'])
    assert {'upload', 'encode', 'U-Net, all steps', 'U-Net per step', 'ensemble'} <= set(shown)
    assert list(shown)[-1] == 'frame'
    for cells, stage in zip(shown.values(), [*own['stages_ms'].values(), frame], strict=True):
        assert cells[:3] == [f'{stage[cut]:.2f}' for cut in ('p50', 'p95', 'p99')]
        assert 0 < stage['p50'] <= stage['p95'] <= stage['p99']
        assert stage['p50'] <= frame['p99']
    assert float(shown['U-Net per step'][0]) < float(shown['U-Net, all steps'][0])
    assert shown['frame'][3] == '100 %'
    assert f'{own["fps"]:.2f} frames per second' in text
    assert own['runs'] == 3
    assert found['work'] == {
        **{'height': 48, 'width': 64, 'steps': 2, 'members': 2, 'resolution': 64, 'seed': 7},
        'processing_size': [48, 64],
    }
    assert '2 steps, 2 members, 3 runs' in text
    assert own['tflop_per_s'] == pytest.approx(
        own['share_of_peak'] * own['matmul_peak_tflop_per_s'], rel=1e-6
    )
    assert own['peak_memory_bytes'] > 1e8  # with torch in it
    for words in (
        f'{found["model"]["parameters"] / 1e6:.1f} M parameters, float32',
        f'load average {found["device"]["load_average"]:.1f}',
        'image 48x64, networks 48x64',
        f'loaded in {own["load_s"]:.1f} s, first frame {own["first_ms"]:.0f} ms',
        f'peak memory {own["peak_memory_bytes"] / 1e9:.2f} GB',
        f'{own["tflop"]["frame"]:.3f} TFLOP per frame, {own["tflop_per_s"]:.3f} TFLOP/s: '
        f'{100 * own["share_of_peak"]:.0f} % of the measured matmul peak',
    ):
        assert words in text


@pytest.mark.slow  # imports all of diffusers, runs both
def test_against_the_reference_ratio_and_difference_agree(arguments, capsys, tmp_path):
    more = ['--against', 'diffusers', '--rounds', '2', '--runs', '2']
    assert main([*arguments, *more, '--json', '--out', str(tmp_path / 'out')]) == 0
    found = json.loads(capsys.readouterr().out)
    against = found['against']
    assert against['difference_exact']['max'] < 2e-4
    rounds = zip(against['ours_ms'], against['reference_ms'], against['ratios'], strict=True)
    assert [ratio for *_, ratio in rounds] == pytest.approx(
        [b / a for a, b in zip(against['ours_ms'], against['reference_ms'], strict=True)]
    )
    assert against['ratio'] == pytest.approx(median(against['ratios']))
    assert found['work']['processing_size'] == [96, 128]
    assert json.loads((tmp_path / 'out' / 'benchmark.json').read_text()) == found
    assert main([*arguments, *more]) == 0
    text = capsys.readouterr().out
    assert list(table(text, ['round', 'ours ms']))[:2] == ['1', '2']
    assert 'times as fast as diffusers in float32' in text
    assert 'difference of the predictions' in text


@pytest.mark.parametrize(
    ('wrong', 'words', 'code'),
    [
        (['--steps', '0'], 'denoising_steps is 0', 1),
        (['--variants', 'warp'], "'warp'; join any of channels_last", 1),
        (['--set', 'runtime.compile=turbo'], "'turbo'; choose one of", 2),
        (['--members', '99'], 'ensemble_size is 99', 1),
        (['--vae', 'tiny'], "no autoencoder 'tiny'", 1),
        (['--size', '99999x99999'], 'images of 99999x99999 need 720', 1),
    ],
)
def test_a_wrong_value_is_one_line(arguments, wrong, words, code, capsys):
    assert main([*arguments, *wrong]) == code
    error = capsys.readouterr().err
    assert words in error.splitlines()[-1]


def test_variants_stand_in_a_table(arguments, capsys, tmp_path):
    more = ['--runs', '1', '--rounds', '1', '--variants', 'channels_last']
    more += ['--set', 'runtime.channels_last=false', '--out', str(tmp_path)]
    assert main([*arguments, *more]) == 0
    found = json.loads((tmp_path / 'benchmark.json').read_text())
    assert found['model']['runtime']['channels_last'] is False
    row = found['variants'][0]
    assert row['difference']['max'] < 1e-3
    cells = table(capsys.readouterr().out, ['variant', 'ms'])['channels_last']
    assert cells[0] == f'{row["variant_ms"][0]:.1f}'
    assert cells[1] == f'{row["plain_ms"][0]:.1f}'
    assert cells[2] == f'{row["ratio"]:.2f}'
    assert row['ratio'] == pytest.approx(row['plain_ms'][0] / row['variant_ms'][0])


@pytest.mark.slow  # times whole frames
def test_the_budget_of_frames_covers_every_stage(monkeypatch, capsys, tmp_path):
    cases = [FrameCase(96, 64, 300, sensor) for sensor in ('random', 'lines', 'camera')]
    monkeypatch.setattr(frame_budget, 'CASES', cases)
    monkeypatch.setattr(frame_budget, '_WARM_UP', 2)
    call = ['benchmark', 'frame', '--model', 'unet', '--runs', '2', '--out', str(tmp_path)]
    assert main([*call, '--trace', str(tmp_path / 'trace.json')]) == 0
    shown = table(capsys.readouterr().out, ['milliseconds'])
    found = json.loads((tmp_path / 'benchmark.json').read_text())
    assert [frame['name'] for frame in found['frames']] == [case.name for case in cases]
    for place, frame in enumerate(found['frames']):
        stages = frame['stages_ms']
        assert list(stages)[:2] == ['decode', 'predict']
        assert list(stages)[-1] == 'cloud, encode'
        assert all(0 < stage['p50'] <= stage['p95'] for stage in stages.values())
        assert sum(stage['p50'] for stage in stages.values()) <= 1.5 * frame['wall_ms']['p95']
        assert frame['interpolation_core_ms'] > 0
        for name, value in {
            **stages,
            'frame': frame['wall_ms'],
            'CPU time': frame['core_ms'],
        }.items():
            assert shown[name][place] == f'{value["p50"]:.1f} ({value["p95"]:.1f})'
        share = frame['after_model_core_ms'] / frame['interpolation_core_ms']
        assert shown['its CPU time / SciPy'][place] == f'{share:.2f}'
        assert shown['allocated MB'][place] == f'{frame["allocated_mb"]:.1f}'
        # Depth, sigma and cloud, in float32, are in memory at the same time.
        assert frame['allocated_mb'] > 6 * 4 * 96 * 64 / 1e6
    _check_trace(json.loads((tmp_path / 'trace.json').read_text()), cases)
    assert main([*call, '--trace', str(tmp_path)]) == 1  # no file
    assert not capsys.readouterr().out  # refused before the work


def _check_trace(events, cases):
    named = [event['args']['name'] for event in events if event['ph'] == 'M']
    assert named == [case.name for case in cases]
    for place in range(len(cases)):
        calls = [event for event in events if event['ph'] == 'X' and event['pid'] == place]
        frame = next(call for call in calls if call['name'] == 'frame_budget._frame')
        scored = next(call for call in calls if call['name'] == 'candidates.surfaces')
        assert scored['tid'] != frame['tid']
        assert all(call['ts'] >= frame['ts'] for call in calls)
        assert sum(call['dur'] for call in calls if call['name'] == 'fuse.fuse') < frame['dur']


@pytest.mark.parametrize('model', ['unet', 'tiny+tiny-diffusion'])
def test_a_model_without_stages_is_refused_with_what_times_it(model, capsys):
    assert main(['benchmark', '--model', model]) == 2
    error = capsys.readouterr().err
    assert 'is no Marigold' in error
    assert '--model tiny' in error
    assert '`benchmark frame`' in error


@pytest.mark.parametrize(
    ('ignored', 'words'),
    [
        ('--arch sd2 --vae other', "--vae is 'other'"),
        ('--arch sd2 --model tiny', "--arch sd2 takes the place of --model 'tiny'"),
        ('--rounds 5', '--rounds is for --against or --variants; add one'),
        ('--trace trace.json', '`benchmark frame --trace FILE`'),
        ('frame --against diffusers', '--against is of a model alone'),
        ('frame --size 96x128', '--size is of a model alone'),
        ('frame --variants all', '--variants is of a model alone'),
    ],
)
def test_options_that_would_change_nothing_are_refused(ignored, words, capsys):
    assert main(['benchmark', *ignored.split()]) == 2
    assert words in capsys.readouterr().err


def test_the_help_says_how_many_frames_each_kind_of_benchmark_runs(capsys):
    with pytest.raises(SystemExit):
        main(['benchmark', '--help'])
    text = ' '.join(capsys.readouterr().out.split())
    assert 'frames (default: as many as fit in 15 s, with `frame` 20)' in text
