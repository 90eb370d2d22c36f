# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Reading released pickles: tensors and plain values come out, and nothing is run."""

from argparse import Namespace
import io
import os
import pickle
import zipfile

from marigold_ros.bags.limited import run_limited
from marigold_ros.errors import CheckpointError
from marigold_ros.models.convert import pickles
from marigold_ros.models.convert.keys import rename, require_fit
from marigold_ros.models.convert.pickles import Released, unpack
from marigold_ros.models.weights import read_weights, whole_folder
import pytest
import torch


class Attack:
    """Makes a file where it is loaded with code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def read(path, folder):
    folder.mkdir(exist_ok=True)
    text = unpack(path, str(folder))
    return Released(path, read_weights(sorted(folder.glob('*.safetensors'))), text)


def test_tensors_of_all_levels_come_out_once_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, '_PART', 100)
    shared = torch.arange(12.0).reshape(3, 4)
    net = {'a': shared, 'same': shared, 'b': shared.T, 'c': torch.tensor(7)}
    whole = {'net': net, 'epoch': 3}
    torch.save({**whole, 'args': Namespace(max_depth=88.0, lists=[1, 'x'])}, tmp_path / 'x.pt')
    found = read(tmp_path / 'x.pt', tmp_path / 'out')
    assert sorted(found.tensors) == ['net.a', 'net.b', 'net.c', 'net.same']
    assert len(list((tmp_path / 'out').iterdir())) > 1
    torch.testing.assert_close(found.tensors['net.b'], shared.T)
    for part in ('"epoch": 3', '"args.max_depth": 88.0', '"args.lists.1": "x"'):
        assert part in found.values


def test_an_old_file_of_torch_is_read_too(tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / 'x.pt', _use_new_zipfile_serialization=False)
    assert list(read(tmp_path / 'x.pt', tmp_path / 'out').tensors) == ['a']


def attacks(tmp_path):
    """Return files that are no released weights, and what is said of them."""
    good = io.BytesIO()
    torch.save({'a': torch.randn(4000)}, good)
    script = io.BytesIO(good.getvalue())  # with the constants that TorchScript has
    with zipfile.ZipFile(script, 'a') as file:
        file.writestr('archive/constants.pkl', pickle.dumps((), 2))
    code = io.BytesIO()
    torch.save({'a': torch.ones(2), 'b': Attack(tmp_path / 'ran')}, code)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('readme.txt', 'nothing')
    huge = io.BytesIO()
    torch.save({'a': torch.ones(1).expand(10**11)}, huge)
    twice = io.BytesIO()
    torch.save({'a.b': torch.ones(2), 'a': {'b': torch.ones(2)}}, twice)
    many = io.BytesIO()
    torch.save({'a': [torch.ones(0)] * 20_001}, many)
    sparse = io.BytesIO()
    torch.save({'a': torch.eye(3).to_sparse()}, sparse)
    return {
        'cut': (good.getvalue()[:9000], 'no whole file of torch.save'),
        'empty': (b'', 'no whole file of torch.save'),
        'image': (b'\x89PNG\r\n\x1a\n' + bytes(100), 'no whole file of torch.save'),
        'zip': (archive.getvalue(), 'no whole file of torch.save'),
        'script': (script.getvalue(), 'no whole file of torch.save'),
        'code': (code.getvalue(), 'asks to run [a-z]+.system'),
        'bare': (pickle.dumps(Attack(tmp_path / 'ran'), 2), 'asks to run [a-z]+.system'),
        'huge': (huge.getvalue(), '400000.0 MB'),
        'many': (many.getvalue(), 'holds 20001 tensors'),
        'sparse': (sparse.getvalue(), '1 are sparse'),
        'twice': (twice.getvalue(), 'a.b twice'),
        'none': (pickle.dumps({'a': 1}, 2), 'no whole file|holds no tensors'),
    }


@pytest.mark.parametrize(
    'kind',
    ['cut', 'empty', 'image', 'zip', 'script', 'code', 'bare', 'huge', 'many', 'sparse', 'twice']
    + ['none'],
)
def test_what_is_no_file_of_weights_is_refused_and_nothing_is_run(kind, tmp_path):
    content, words = attacks(tmp_path)[kind]
    (tmp_path / 'x.pt').write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / 'x.pt', tmp_path / 'out')
    assert not (tmp_path / 'ran').exists()
    assert list((tmp_path / 'out').iterdir()) == []


def test_the_child_takes_arguments_and_time_to_start(tmp_path, monkeypatch):
    (tmp_path / 'aside.py').write_text('def join(path, *more): return path.name + " ".join(more)')
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'file').write_text('x')
    assert run_limited('aside:join', tmp_path / 'file', ' a', 'b', start_s=5.0) == 'file a b'


def test_every_tensor_is_used_once_or_named(tmp_path):
    tensors = {'net.a.weight': torch.ones(2), 'net.loss': torch.ones(1)}
    released = Released(tmp_path / 'x.pt', tensors, {})
    rules = [(r'net\.a\.(.*)', r'first.\1'), (r'net\.loss', None)]
    found, unused = rename(released, rules)
    assert (list(found), unused) == (['first.weight'], ['net.loss'])
    with pytest.raises(CheckpointError, match=r'1 tensors .*first: net\.loss'):
        rename(released, rules[:1])
    with pytest.raises(CheckpointError, match='twice'):
        rename(released, [(r'net\..*', 'same')])


@pytest.mark.parametrize(
    ('tensors', 'words'),
    [
        ({'weight': torch.ones(2, 3)}, '1 weights missing'),
        ({'weight': torch.ones(2, 3), 'bias': torch.ones(2), 'more': torch.ones(1)}, '1 unknown'),
        ({'weight': torch.ones(3, 3), 'bias': torch.ones(2)}, '1 of other shape'),
        ({'weight': torch.full((2, 3), torch.nan), 'bias': torch.ones(2)}, 'not finite'),
    ],
)
def test_tensors_of_another_network_are_refused(tensors, words, tmp_path):
    with torch.device('meta'):
        network = torch.nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match=words):
        require_fit(Released(tmp_path / 'x.pt', tensors, {}), tensors, network)


def test_half_precision_whose_sum_is_beyond_its_range_is_finite(tmp_path):
    network = torch.nn.Linear(300, 300, bias=False)
    tensors = {'weight': torch.ones(300, 300, dtype=torch.float16)}
    require_fit(Released(tmp_path / 'x.pt', tensors, {}), tensors, network)


def test_a_folder_that_cannot_be_replaced_stays_and_nothing_beside_it(tmp_path, monkeypatch):
    folder, replace = tmp_path / 'model', os.replace
    for text in ('first', 'second'):
        with whole_folder(folder) as draft:
            (draft / 'weights').write_text(text)

    def refuse(source, target):
        if target == folder and source.name != '.model-old':
            raise OSError('the disk is gone')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', refuse)
    with (
        pytest.raises(CheckpointError, match='the disk is gone.*and export again'),
        whole_folder(folder) as draft,
    ):
        (draft / 'weights').write_text('third')
    with pytest.raises(CheckpointError, match='is a file'), whole_folder(folder / 'weights'):
        pass
    assert (folder / 'weights').read_text() == 'second'
    assert list(tmp_path.iterdir()) == [folder]
