# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What a start leaves for the next is found again, and never decides whether a start succeeds."""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
import logging
import os
from pathlib import Path
import threading

from marigold_ros.models.runtime import disk_cache
from marigold_ros.models.runtime.disk_cache import (
    cache_folder,
    CACHE_VARIABLE,
    DIGEST,
    files_key,
    KEPT,
    known_sizes,
    load_or_make,
    network_key,
    remember_size,
    SIZES,
    SIZES_KEPT,
    use_cache,
)
import pytest
import torch


def never(*_):
    raise AssertionError('loaded, or made again')


def damaged(data):
    raise RuntimeError('bad header')


def save(made, folder):
    path = folder / 'draft'
    path.write_bytes(made)
    return path


def load(data):
    return data[:-DIGEST]


def keep(path, made, load=load, save=save):
    """Load what is kept at a path, or make and keep it."""
    return load_or_make(path, load, (lambda: made) if made else never, save)


def test_a_network_is_loaded_from_its_file_by_the_first_start_too(tmp_path, monkeypatch):
    path = tmp_path / 'cache' / 'a.blob'
    assert keep(path, b'code', lambda data: ('mapped', data[:4])) == ('mapped', b'code')
    monkeypatch.setattr(os, 'utime', os.rmdir)  # is refused, as where others filled the folder
    assert keep(path, None) == b'code'
    assert [file.name for file in path.parent.iterdir()] == ['a.blob']


def test_a_file_that_the_runtime_refuses_is_reported_and_replaced(tmp_path, caplog):
    path = tmp_path / 'a.blob'
    keep(path, b'of another version')
    with caplog.at_level(logging.WARNING):
        assert keep(path, b'code', damaged) == b'code'  # as it was made
    assert 'bad header' in caplog.text
    assert keep(path, None) == b'code'


@pytest.mark.parametrize('place', [0, 99, 100, -1])
def test_a_damaged_file_is_never_loaded(tmp_path, caplog, place):
    path = tmp_path / 'a.blob'
    keep(path, bytes(100))
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert keep(path, b'code') == b'code'
    assert caplog.text.count('its checksum differs') == 1
    assert keep(path, None) == b'code'


def test_an_empty_file_is_never_loaded(tmp_path):
    (tmp_path / 'a.blob').write_bytes(b'')
    assert keep(tmp_path / 'a.blob', b'code') == b'code'


def test_what_the_runtime_cannot_write_is_used_all_the_same(tmp_path, caplog):
    def full(made, folder):
        save(made[:2], folder)
        raise RuntimeError('basic_ios::clear: iostream error')

    assert keep(tmp_path / 'a.blob', b'code', save=full) == b'code'
    assert 'cannot be written (perhaps it is full)' in caplog.text
    assert list(tmp_path.iterdir()) == []


# Of too long a name one may not even ask whether there is such a file, as in another user's home.
@pytest.mark.parametrize('name', ['file', 256 * 'n'])
def test_a_folder_that_cannot_be_used_costs_time_only(tmp_path, caplog, name):
    (tmp_path / 'file').write_text('no folder')
    folder = tmp_path / name
    with caplog.at_level(logging.WARNING):
        assert keep(folder / 'a.blob', b'code') == b'code'
        remember_size(folder, 'tiny', (480, 640))
    assert caplog.text.count('converts networks again; set runtime.cache_dir to') == 1
    assert known_sizes(folder, 'tiny') == []


def test_a_user_without_a_home_has_no_cache_that_can_be_written(monkeypatch):
    for name in ('HOME', 'XDG_CACHE_HOME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, 'getuid', lambda: 2**31 - 9)  # has no entry in /etc/passwd
    assert cache_folder('') == Path('/.cache/marigold_ros/compiled')
    assert cache_folder('~nobody_at_all/kept') == Path('~nobody_at_all/kept')


def test_compiled_code_is_kept_where_the_settings_say_or_torch_does(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv(CACHE_VARIABLE, 'own')
    use_cache('')
    (tmp_path / 'file').write_text('no folder')
    for name in ('file', 'file/inside'):
        use_cache(str(tmp_path / name))
        assert f'{name} cannot be written' in caplog.text
    assert os.environ[CACHE_VARIABLE] == 'own'
    monkeypatch.setenv('HOME', str(tmp_path))
    use_cache('~/given')
    assert os.environ[CACHE_VARIABLE] == str(tmp_path / 'given')
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    use_cache('')
    assert os.environ[CACHE_VARIABLE] == str(tmp_path / 'marigold_ros' / 'compiled')


def test_the_networks_used_last_are_kept(tmp_path):
    paths = [tmp_path / f'{number}.blob' for number in range(KEPT + 3)]
    for number, path in enumerate(paths):
        keep(path, b'code')
        os.utime(path, (number, number))
        keep(paths[0], None)
    assert len(list(tmp_path.glob('*.blob'))) == KEPT
    assert paths[0].is_file()
    assert not paths[1].is_file()
    assert paths[-1].is_file()
    for path in tmp_path.glob('*.blob'):
        os.utime(path, (2**33, 2**33))  # written before the clock was set back
    keep(paths[1], b'code')
    assert len(list(tmp_path.glob('*.blob'))) == KEPT
    assert paths[1].is_file()


def test_what_a_killed_process_left_goes_and_what_another_one_writes_stays(tmp_path):
    old, new = tmp_path / 'draft-old', tmp_path / 'draft-new'
    for folder in (old, new):
        folder.mkdir()
        (folder / 'model.bin').write_bytes(b'half')
    os.utime(old, (1, 1))
    keep(tmp_path / 'a.blob', b'code')
    assert {path.name for path in tmp_path.iterdir()} == {'a.blob', 'draft-new'}


def test_a_file_that_another_process_removes_meanwhile_costs_nothing(tmp_path):
    (tmp_path / 'gone.blob').symlink_to(tmp_path / 'nowhere')
    assert keep(tmp_path / 'a.blob', b'code') == b'code'


def test_two_threads_may_keep_the_same_network_at_once(tmp_path, caplog):
    both = threading.Barrier(2, timeout=20)

    def save_together(made, folder):
        path = save(made, folder)
        both.wait()
        return path

    with ThreadPoolExecutor(2) as pool:
        first, second = (
            pool.submit(keep, tmp_path / 'a.blob', b'code', save=save_together) for _ in range(2)
        )
        assert first.result() == second.result() == b'code'
    assert caplog.text == ''
    assert [path.name for path in tmp_path.iterdir()] == ['a.blob']


def test_the_key_depends_on_weights_structure_and_facts():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    same = torch.nn.Linear(3, 2)
    same.load_state_dict(layer.state_dict())
    key = network_key(layer, {'shapes': ((1, 3),)})
    assert network_key(same, {'shapes': ((1, 3),)}) == key
    others = [
        network_key(layer, {'shapes': ((2, 3),)}),
        network_key(torch.nn.Linear(3, 2), {'shapes': ((1, 3),)}),
        network_key(torch.nn.Sequential(layer), {'shapes': ((1, 3),)}),
        *(network_key(torch.nn.Flatten(axis), {}) for axis in (0, 1)),  # of no weights
    ]
    for depth, source in ((20, 'a'), (80, 'a'), (80, 'b')):  # of networks of the libraries
        same.config = {'max_depth': depth, '_name_or_path': source}
        others.append(network_key(same, {'shapes': ((1, 3),)}))
    assert len({key, *others}) == 8
    assert others[-1] == others[-2]


def test_the_key_depends_on_the_source_code(tmp_path, monkeypatch):
    path, called = tmp_path / 'layer_of_test.py', tmp_path / 'package' / 'called.py'
    path.write_text('import torch\n\n\nclass Layer(torch.nn.ReLU):\n    pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(disk_cache, '__file__', str(called.parent / 'runtime' / 'cache.py'))
    called.parent.mkdir()
    layer, keys = import_module(path.stem).Layer(), {''}
    for file in (path, called, path):
        with file.open('a') as source:
            source.write('\n\nMORE = 1\n')
        keys.add(network_key(layer, {}))
    assert len(keys) == 4


def test_the_key_of_files_depends_on_where_each_ends_and_on_facts(tmp_path):
    files, keys = (tmp_path / 'a', tmp_path / 'b'), set()
    for contents in (('12', '3'), ('1', '23')):
        for path, content in zip(files, contents, strict=True):
            path.write_text(content)
        keys |= {files_key(files, {}), files_key(files, {'threads': 1})}
    assert len(keys) == 4


def test_sizes_are_known_by_model_and_the_last_ones_kept(tmp_path):
    assert known_sizes(tmp_path, 'tiny') == []
    for width in range(100, 106):
        remember_size(tmp_path, 'tiny', (50, width))
    remember_size(tmp_path, 'tiny', (50, 103))
    remember_size(tmp_path, 'other', (1, 2))
    found = known_sizes(tmp_path, 'tiny')
    assert found == [(50, 102), (50, 104), (50, 105), (50, 103)]
    assert len(found) == SIZES_KEPT
    assert known_sizes(tmp_path, 'other') == [(1, 2)]
    written = (tmp_path / SIZES).stat()
    remember_size(tmp_path, 'other', (1, 2))  # known already: a read-only folder is no problem
    assert (tmp_path / SIZES).stat().st_ino == written.st_ino


def test_sizes_of_cameras_that_begin_at_once_are_all_kept(tmp_path, caplog):
    for attempt in range(20):
        folder, together = tmp_path / str(attempt), threading.Barrier(SIZES_KEPT)

        def begin(width, folder=folder, together=together):
            together.wait(10)
            remember_size(folder, 'tiny', (50, width))

        with ThreadPoolExecutor(SIZES_KEPT) as cameras:
            list(cameras.map(begin, range(1, SIZES_KEPT + 1)))
        assert sorted(known_sizes(folder, 'tiny')) == [(50, 1), (50, 2), (50, 3), (50, 4)]
    assert caplog.text == ''


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[]',
        '{"tiny": 3}',
        '{"tiny": [[5, 1e999]]}',
        '{"tiny": [[0, 5], [5, 99999]]}',
    ]
    + ['\x00', 100_000 * '['],
    ids=lambda text: text[:20],
)
def test_damaged_sizes_are_unknown_sizes(tmp_path, text, caplog):
    (tmp_path / SIZES).write_text(text)
    assert known_sizes(tmp_path, 'tiny') == []
    is_read = '99' in text  # only sizes out of range are left out of it
    assert ('image_sizes.json cannot be used' in caplog.text) != is_read
    remember_size(tmp_path, 'tiny', (3, 4))
    assert known_sizes(tmp_path, 'tiny') == [(3, 4)]
