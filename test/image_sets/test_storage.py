# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The files of a folder or tar: which ones there are, and what is in them."""

import tarfile

from marigold_ros.errors import InputError
from marigold_ros.image_sets.storage import Folder, open_storage
import pytest


def save(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_folder_and_its_tar_name_and_read_the_same_files(tmp_path):
    save(tmp_path / 'set', 'b.png', 'a/c.png', 'a/b.png')
    (tmp_path / 'linked').mkdir()
    for name in ('b.png', 'a'):
        (tmp_path / 'linked' / name).symlink_to(tmp_path / 'set' / name)
    save(tmp_path / 'set', '._b.png', 'a/._b.png', '.cache/b.png')
    with tarfile.open(tmp_path / 'set.tar', 'w') as archive:
        archive.add(tmp_path / 'set', '.')
    for name in ('set', 'linked', 'set.tar'):
        storage = open_storage(tmp_path / name)
        assert storage.names == ('a/b.png', 'a/c.png', 'b.png')
        assert storage.read('./a/b.png') == b'a/b.png'
        assert storage.state('./a/b.png')[0] == 7
        assert storage.state('none.png') is None
        with pytest.raises(InputError, match=r'is missing|no member none.png'):
            storage.read('none.png')


@pytest.mark.timeout(20)
def test_a_folder_is_read_once_however_it_is_linked(tmp_path):
    save(tmp_path, 'set/z/a.png', 'set/b.png', 'other/.hidden/c.png', 'other/d/e.png')
    for name in ('a', 'z/a', 'z/b'):
        (tmp_path / 'set' / name).symlink_to(tmp_path / 'set')
    (tmp_path / 'set' / 'y').symlink_to(tmp_path / 'set' / 'z')
    (tmp_path / 'set' / 'x').symlink_to(tmp_path / 'other')
    (tmp_path / 'set' / 'w').symlink_to(tmp_path / 'other' / '.hidden')
    (tmp_path / 'other' / 'd' / 'f').symlink_to(tmp_path / 'set' / 'z')
    assert Folder(tmp_path / 'set').names == ('b.png', 'w/c.png', 'x/d/e.png', 'z/a.png')
