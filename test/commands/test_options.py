# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Settings as text take the type and the range of the parameter list."""

import argparse
from multiprocessing import get_context
from pathlib import Path
import re

from marigold_ros.__main__ import main
from marigold_ros.commands.terminal.options import (
    add_model_options,
    own_folder,
    read_settings,
    ReplayConfig,
)
from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.settings import as_values, parameters
import pytest


def test_every_default_written_as_text_reads_back():
    for kind in (ReplayConfig, NodeConfig):
        texts = [(p.name, str(p.default)) for p in parameters(kind)]
        assert as_values(read_settings(kind, texts)) == as_values(kind())


def test_tuples_are_numbers_with_commas():
    config = read_settings(
        ReplayConfig,
        [('extrinsics.translation', '1,2, 3'), ('extrinsics.rotation_xyzw', '[0, 0, 0, 1]')],
    )
    assert config.extrinsics.translation == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('seed', '1.5', 'value of type int'),
        ('seed', '-1', r'in \[0'),
        ('runtime.channels_last', 'maybe', 'true or false'),
        ('alignment.method', 'best', 'choose one of'),
        ('lidar.max_dt', 'nan', 'choose a value'),
        ('lidar.maxdt', '1', "did you mean 'lidar.max_dt'"),
        ('extrinsics.translation', 'a b', 'numbers separated by commas'),
    ],
)
def test_bad_values_are_refused_with_the_rule(name, text, words):
    with pytest.raises(ConfigurationError, match=words):
        read_settings(ReplayConfig, [(name, text)])


@pytest.mark.parametrize(
    ('command', 'remedy'),
    [
        ('evaluate bag --set points.stride=4', 'give --record too'),
        ('label bag --set points.stride=4', 'give --points too'),
        ('evaluate bag --set ground.height=1.5', 'as in sparse_source=ground'),
        ('demo --set ground.height=1.5', 'is of the source ground'),
        ('demo --bag bag --size 320x240', '--size is of the synthetic drive'),
    ],
)
def test_what_a_run_does_not_use_is_refused(command, remedy, tmp_path, capsys):
    assert main([*command.split(), '--out', str(tmp_path / 'out')]) == 2
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('command', ['evaluate bag', 'label bag', 'demo'])
def test_two_runs_at_once_never_share_a_folder(command, held_by_another, tmp_path, capsys):
    held_by_another(tmp_path)
    assert main([*command.split(), '--out', str(tmp_path)]) == 1
    assert f'another process is writing to {tmp_path}; wait' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


@pytest.mark.parametrize('command', ['predict x.png', 'benchmark', 'label bag', 'demo'])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(command, capsys):
    assert main([*command.split(), '--out', '/proc/sys']) == 1  # closed to root, too
    assert capsys.readouterr().err == (
        'error: --out /proc/sys cannot be written; give a writable folder\n'
    )


@pytest.mark.parametrize(
    ('command', 'words'),
    [
        ('evaluate bag --out file/out', 'cannot be created'),
        ('evaluate bag --out old', "'old/report.html' cannot be written; remove what is there"),
        ('demo --out old', "'old/node.log' cannot be written; remove what is there"),
        ('benchmark --out old', "'old/benchmark.json' cannot be written; remove what is there"),
        ('export unet --onnx LONG', 'give a file in an existing, writable folder'),
        ('models convert x.pt --family prime_depth --out LONG --json', 'too long'),
        ('compare LONG other', 'too long'),
        ('compare none other --page new/file', "--page 'new/file' cannot be written"),
        ('compare none other --csv new/file', "--csv 'new/file' cannot be written"),
        ('compare none other --latex new/file', "--latex 'new/file' cannot be written"),
        ('export unet --onnx new/file', 'give a file in an existing, writable folder'),
        ('label LONG --out new', 'too long'),
        ('label loop --out new', 'Too many levels of symbolic links'),
        ('evaluate bag --out=', '--out is empty'),
        ('label bag --out loop', 'cannot be created (File exists); give a writable folder'),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(command, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('loop').symlink_to('loop')
    Path('file').touch()
    for name in re.findall('old/[a-z.]+', words):
        Path(name).mkdir(parents=True)
    code = 2 if words == '--out is empty' else 1
    assert main(command.replace('LONG', 'x' * 256).split()) == code
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count('\n') == 1


def test_a_folder_is_free_once_its_process_has_ended(tmp_path):
    process = get_context('fork').Process(target=own_folder, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert own_folder(tmp_path) == own_folder(str(tmp_path)) == tmp_path


def test_help_of_the_model_says_nothing_of_the_node():
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    text = parser.format_help()
    assert '~/' not in text
    assert '(default: )' not in text
    assert '(default: unet)' in text
