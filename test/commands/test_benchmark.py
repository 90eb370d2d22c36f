# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command benchmark: table, JSON, image, wrong usage."""

import json
from xml.etree import ElementTree

from marigold_ros.__main__ import main
import pytest

SVG = '{http://www.w3.org/2000/svg}'


@pytest.fixture
def arguments(small_checkpoint):
    return ['benchmark', '--model', str(small_checkpoint), '--device', 'cpu', '--size', '48x64']


def test_the_table_names_every_stage_and_the_work(arguments, capsys):
    assert main([*arguments, '--runs', '3', '--steps', '2', '--members', '2']) == 0
    text = capsys.readouterr().out
    for word in (
        'upload',
        'preprocess',
        'encode',
        'U-Net per step',
        'decode',
        'ensemble',
        'download',
        'p99',
        'frames a second',
        'peak memory',
        'TFLOP',
        'matmul peak',
        'load average',
        '2 steps, 2 members, 3 runs',
    ):
        assert word in text


def test_against_the_reference_ratio_and_difference_stand_together(arguments, capsys, tmp_path):
    more = ['--against', 'diffusers', '--rounds', '2', '--runs', '2', '--json']
    assert main([*arguments, *more, '--out', str(tmp_path / 'out')]) == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert found['against']['difference_exact']['max'] < 2e-4
    assert len(found['against']['ratios']) == 2
    assert found['work']['processing_size'] == [96, 128]
    assert json.loads((tmp_path / 'out' / 'benchmark.json').read_text()) == found
    drawn = ElementTree.parse(tmp_path / 'out' / 'benchmark.svg')
    texts = [item.text for item in drawn.iter(f'{SVG}text')]
    for side in ('ours', 'diffusers'):
        assert [text for text in texts if text.startswith(side)] == [f'{side} 1', f'{side} 2']
    assert main([*arguments, *more[:-1]]) == 0
    text = capsys.readouterr().out
    assert 'times as fast as diffusers in float32' in text
    assert 'difference of the answers' in text


@pytest.mark.parametrize(
    'wrong', [['--size', '480'], ['--size', '0x4'], ['--runs', '0'], ['--against', 'nobody']]
)
def test_wrong_usage_exits_with_2(arguments, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *wrong])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (['--steps', '0'], 'denoising_steps is 0'),
        (['--variants', 'warp'], "'warp'; join any of channels_last"),
        (['--set', 'compile=turbo'], "'turbo'; choose one of"),
        (['--members', '99'], 'ensemble_size is 99'),
        (['--vae', 'tiny'], "no autoencoder 'tiny'"),
        (['--arch', 'sd2', '--vae', 'other'], "--vae is 'other'"),
    ],
)
def test_a_wrong_value_is_one_line(arguments, wrong, words, capsys):
    assert main([*arguments, *wrong]) == 1
    error = capsys.readouterr().err
    assert words in error.splitlines()[-1]


def test_variants_stand_in_a_table_and_in_the_image(arguments, capsys, tmp_path):
    more = [
        '--runs',
        '1',
        '--rounds',
        '1',
        '--variants',
        'channels_last',
        '--set',
        'channels_last=false',
    ]
    assert main([*arguments, *more, '--out', str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert 'max diff' in text
    assert 'channels_last' in text
    found = json.loads((tmp_path / 'benchmark.json').read_text())
    assert found['model']['runtime']['channels_last'] is False
    assert found['variants'][0]['difference']['max'] < 1e-3
