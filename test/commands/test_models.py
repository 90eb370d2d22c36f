# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Listing and checking checkpoints."""

import json
import re
import shutil

from marigold_ros.__main__ import main
from marigold_ros.errors import CheckpointError
from marigold_ros.frame import Prediction, UNBOUNDED
from marigold_ros.models import EMBEDDED
from marigold_ros.models.registry import FAMILIES
import numpy as np
import pytest


class GivenModel:
    censored = Prediction.censored

    def __init__(self, folder, answer):
        self.description = {
            'name': 'ramp',
            'path': str(folder),
            'space': 'log',
            'parameters': 1_500_000,
            'default_denoising_steps': 2,
            'default_ensemble_size': 1,
            'processing_resolution': 0,
            'processing_pixels': 49152,
            'notes': [],
        }
        self._answer = answer

    def predict(self, rgb):
        return Prediction(self._answer(rgb).astype(np.float32), censored=self.censored)


def ramp(rgb):
    return np.linspace(0, 1, rgb.shape[0])[:, None] * np.ones(rgb.shape[:2])


@pytest.fixture
def with_answer(monkeypatch, tmp_path):
    (tmp_path / 'weights').write_bytes(bytes(3 * 2**19))
    chosen = []

    def use(answer):
        def load(name, *options):
            chosen.append(name)
            return GivenModel(tmp_path, answer)

        monkeypatch.setattr('marigold_ros.models.load_model', load)
        monkeypatch.setattr('marigold_ros.models.list_checkpoints', lambda: ['ramp'])
        # Its files are no checkpoint: only the prediction is checked here.
        report = {'files': [], 'timesteps': [], 'timestep_spacing': '', 'round_trip_error': 0.0}
        monkeypatch.setattr('marigold_ros.commands.models._report', lambda args: report)
        return chosen

    return use


def test_the_list_tells_size_space_defaults_and_what_is_published(with_answer, capsys):
    with_answer(ramp)
    assert main(['models']) == 0
    lines = capsys.readouterr().out.splitlines()
    parts = '1.5 M parameters', '1.5 MiB', 'space log', '2 denoising steps', '49152 pixels'
    published = '5.2 GB', 'RAIL++-M', 'prs-eth/marigold-depth-v1-1'
    for name, known in (('ramp', parts), ('marigold-depth-v1-1', published)):
        line = next(line for line in lines if name in line)
        assert [part for part in known if part not in line] == []
    assert main(['models', '--json']) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed['checkpoints'][0]['bytes'] == 3 * 2**19
    assert {'marigold', 'unet', 'depth_anything', 'average'} <= set(listed['families'])


def test_a_broken_embedded_checkpoint_is_told_and_fails(monkeypatch, capsys):
    def load(*options):
        raise CheckpointError('unet is missing; copy it')

    monkeypatch.setattr('marigold_ros.models.load_model', load)
    monkeypatch.setattr('marigold_ros.models.list_checkpoints', lambda: ['tiny'])
    assert main(['models']) == 1
    assert 'tiny: unet is missing' in capsys.readouterr().out


def test_check_of_the_embedded_checkpoint_lists_what_it_checked(capsys):
    assert main(['models', 'check', 'tiny']) == 0
    text = capsys.readouterr().out
    assert text.count('as recorded') == len(list((EMBEDDED / 'tiny').rglob('*.safetensors'))) - 1
    assert 'timesteps 999' in text
    assert re.search(r'mean error of a depth image 0\.0\d+', text)


def test_check_names_a_changed_file_of_a_family_that_its_loader_alone_checks(tmp_path, capsys):
    shutil.copytree(EMBEDDED / 'unet', folder := tmp_path / 'mine')
    path = next(folder.glob('*.safetensors'))
    path.write_bytes(path.read_bytes()[:-1] + b'\x01')
    assert main(['models', 'check', str(folder)]) == 1
    assert 'SHA-256' in capsys.readouterr().err


def test_check_loads_the_given_checkpoint_and_says_ok(with_answer, monkeypatch, capsys):
    monkeypatch.setattr(GivenModel, 'censored', UNBOUNDED)
    chosen = with_answer(lambda rgb: 3 * ramp(rgb))
    assert main(['models', 'check', 'some/folder', '--json']) == 0
    assert chosen == ['some/folder']
    assert json.loads(capsys.readouterr().out)['ok'] is True


@pytest.mark.parametrize(
    ('answer', 'words'),
    [
        (lambda rgb: np.full(rgb.shape[:2], 0.5), 'same value'),
        (lambda rgb: np.full(rgb.shape[:2], np.nan), 'not finite'),
        (lambda rgb: 3 * ramp(rgb), r'not in \[0, 1\]'),
        (lambda rgb: ramp(rgb)[:5], 'shape'),
    ],
)
def test_check_refuses_an_answer_that_is_no_prediction(with_answer, capsys, answer, words):
    with_answer(answer)
    assert main(['models', 'check', 'x']) == 1
    text = capsys.readouterr().err
    assert text.count('\n') == 1
    assert re.search(words, text)


@pytest.mark.parametrize(
    ('options', 'code', 'words'),
    [
        (['get'], 2, 'no checkpoint to get was named'),
        (['list', 'here'], 2, 'write: models check here'),
        (['convert', '--family', 'unet', '--out', 'new'], 2, 'write: models convert FILE'),
        (['convert', 'x.pt', '--out', 'new'], 2, 'write: models convert FILE --family NAME'),
        (['convert', 'x.pt', '--family', 'unet'], 2, 'write: models convert FILE --family NAME'),
        (['check', ''], 1, "error: no checkpoint ''"),
        (['check', '/none'], 1, "error: no checkpoint '/none'"),
        (['list', '--family', 'unet'], 2, '--family is for convert'),
        (['check', '--out', 'new'], 2, '--out is for convert'),
        (['list', '--model', 'tiny'], 2, '--model changes nothing of `models list`'),
        (['list', '--torch-threads', '2'], 2, '--torch-threads changes nothing'),
        (['get', 'x/y', '--torch-threads', '2'], 2, '--torch-threads changes nothing'),
        (['check', 'tiny', '--model', 'x'], 2, '--model is beside tiny; give one of them'),
    ],
)
def test_what_names_no_checkpoint_or_changes_nothing_is_refused(options, code, words, capsys):
    assert main(['models', *options]) == code
    assert words in capsys.readouterr().err


def test_the_help_names_the_families_that_are_converted(capsys):
    with pytest.raises(SystemExit):
        main(['models', '--help'])
    shown = ' '.join(capsys.readouterr().out.split())
    named = ' or '.join(name for name, family in FAMILIES.items() if family.converter)
    assert f'for convert: {named}' in shown


def test_a_family_without_released_pickles_and_a_missing_file_are_refused(tmp_path, capsys):
    folder = ['--out', str(tmp_path / 'out')]
    assert main(['models', 'convert', 'x.pt', '--family', 'unet', *folder]) == 1
    printed = capsys.readouterr().err
    assert "family is 'unet'; choose one of prime_depth, diffusion_depth" in printed
    assert main(['models', 'convert', 'x.pt', '--family', 'diffusion_depth', *folder]) == 1
    assert 'x.pt is no file' in capsys.readouterr().err
