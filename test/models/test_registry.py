# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The registry finds a family by a checkpoint's files; a new one is a package and one line."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
import json
import sys
from threading import Barrier, BrokenBarrierError
from types import ModuleType, SimpleNamespace

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.models import list_checkpoints, load_model, registry
from marigold_ros.models.locate import (
    EMBEDDED,
    fingerprint,
    is_embedded,
    sha256,
    SUMS,
    verify_sums,
)
from marigold_ros.models.registry import FAMILIES, Family, find_family, has_file
import pytest
import torch


def test_every_embedded_checkpoint_belongs_to_a_family():
    found = {name: find_family(EMBEDDED / name) for name in list_checkpoints()}
    marigold, unet = FAMILIES['marigold'], FAMILIES['unet']
    assert found == {'tiny': marigold, 'tiny-diffusion': marigold, 'unet': unet}
    assert is_embedded('tiny+unet')
    assert not is_embedded('tiny+other')


def test_a_folder_of_no_family_is_refused_with_the_layout(tmp_path):
    with pytest.raises(CheckpointError, match='a checkpoint, in the layout of diffusers or trans'):
        load_model(str(tmp_path), device='cpu')
    for kind in (None, [1]):
        (tmp_path / 'config.json').write_text(json.dumps({'model_type': kind}))
        with pytest.raises(CheckpointError, match='no known depth.*; choose one of depth_any'):
            load_model(str(tmp_path), device='cpu')


@pytest.mark.parametrize('place', ['my_model', 'snapshots/0123abc'])
def test_the_checkpoint_in_the_folder_of_a_run_or_of_the_cache_is_named(tmp_path, place):
    checkpoint = tmp_path / place
    (checkpoint / 'unet').mkdir(parents=True)
    for name in ('model_index.json', 'unet/config.json'):
        (checkpoint / name).write_text('{}')
    with pytest.raises(CheckpointError, match=f'such as {checkpoint}, in the'):
        find_family(tmp_path)
    (checkpoint / 'model_index.json').unlink()  # what is left are parts
    with pytest.raises(CheckpointError, match='folder of a checkpoint, in the'):
        find_family(checkpoint)


def test_another_family_is_one_line_of_the_registry(tmp_path, monkeypatch):
    package = ModuleType('dummy_family')
    package.load = lambda *arguments: SimpleNamespace(arguments=arguments, warm_up=lambda: None)
    monkeypatch.setitem(sys.modules, 'dummy_family', package)
    line = Family(has_file('config.json', model_type='dummy'), 'dummy_family:load', takes_vae=True)
    monkeypatch.setattr(registry, 'FAMILIES', {'dummy': line, **FAMILIES})
    (tmp_path / 'config.json').write_text('{"model_type": "dummy"}')
    found = load_model(tmp_path, device='cpu', dtype='float32', vae='own')
    plain = RuntimeConfig(backend='torch')
    assert found.arguments == (tmp_path, torch.device('cpu'), 'float32', plain, 'own')


def test_threads_import_the_networks_of_their_models_one_after_the_other(tmp_path, monkeypatch):
    package, both, begun, met = ModuleType('dummy_family'), Barrier(2), [], []

    def import_networks():
        begun.append(True)
        with suppress(BrokenBarrierError):
            met.append(both.wait(0.1))

    package.load = lambda *arguments: SimpleNamespace()
    monkeypatch.setitem(sys.modules, 'dummy_family', package)
    monkeypatch.setattr(registry, 'import_networks', import_networks)
    family = Family(has_file('config.json'), 'dummy_family:load', diffusers=True)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(family.load, [tmp_path] * 2))
    assert len(begun) == 2
    assert met == []


@pytest.mark.parametrize(
    ('content', 'matches'),
    [
        ('{"model_type": "dummy", "more": 1}', True),
        ('{"model_type": "other"}', False),
        ('{}', False),
        ('{', False),
        (None, False),
    ],
)
def test_a_file_matches_by_its_values(tmp_path, content, matches):
    if content is not None:
        (tmp_path / 'config.json').write_text(content)
    assert has_file('config.json', model_type='dummy')(tmp_path) == matches
    assert has_file('config.json')(tmp_path) == (content is not None)


def test_a_fingerprint_is_of_the_bytes_and_of_which_file_has_them(tmp_path):
    def written(**contents):
        for name, content in contents.items():
            (tmp_path / f'{name}.safetensors').write_bytes(content)
        return fingerprint([tmp_path])

    first = written(a=b'12', b=b'3')
    (tmp_path / 'notes.txt').write_text('of no weight')
    assert written() == first
    assert len({first, written(a=b'1', b=b'23'), written(a=b'23', b=b'1')}) == 3


def test_sums_are_compared_in_either_case_and_of_files_of_the_folder_alone(tmp_path):
    outside, folder = tmp_path / 'outside', tmp_path / 'folder'
    folder.mkdir()
    for path in (outside, folder / 'inside'):
        path.write_text('the same')
    digest = sha256(outside)
    for line in (f'{digest}  inside', f'{digest.upper()} *inside'):
        (folder / SUMS).write_text(line + '\n')
        assert list(verify_sums(folder)) == ['inside']
    for name in ('../outside', str(outside), 'missing', ''):
        (folder / SUMS).write_text(f'{digest}  {name}\n')
        with pytest.raises(CheckpointError, match='which is not in the folder'):
            verify_sums(folder)
