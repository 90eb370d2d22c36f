# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Evaluations of many bags: in several processes, killed and gone on with."""

import io
from pathlib import Path
import pickle
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

from marigold_ros.__main__ import main
from marigold_ros.config import AlignmentConfig, PipelineConfig, PointsConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.results import results
from marigold_ros.image_sets.image_set import ImageChoice
from marigold_ros.image_sets.layouts import FOLDER
from marigold_ros.models import EMBEDDED
from marigold_ros.models.locate import FUSION
from marigold_ros.replay.bag_label import copy_bytes, LabelOptions
from marigold_ros.replay.bag_part import BagPart, PartStore
from marigold_ros.replay.bag_replay import empty_scorer, ModelScorer
from marigold_ros.replay.inspection import inspect_bag
from marigold_ros.replay.replay_plan import BagJob, plan_replay, ReplayOptions, ReplayPlan
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bags(short_drive, tmp_path):
    return [str(shutil.copytree(short_drive, tmp_path / f'bag{i}')) for i in range(3)]


@pytest.mark.parametrize(
    ('bags', 'text', 'named'),
    [
        (['a', '../b/c'], '../b/c is damaged, data/x is not', 'c is damaged, data/x is not'),
        (['a/drive', 'data/drive'], 'data/drive, a/drive/0.mcap', 'drive, drive/0.mcap'),
        (['.'], 'a file. ./0.mcap', 'a file. ./0.mcap'),
        (['a/drive'], f'{Path("a/drive").absolute()} is cut off', 'drive is cut off'),
    ],
)
def test_bags_are_named_without_their_folders_and_all_else_is_kept(bags, text, named):
    assert ReplayPlan([Path(bag) for bag in bags]).named(text) == named


def test_images_of_a_bag_that_is_given_twice_are_not_counted_double(bags, capsys, tmp_path):
    first, out = bags[0], str(tmp_path / 'out')
    inside = str(next(Path(first).glob('*.mcap')))
    for again, words in ((f'{first}/.', 'is given twice'), (inside, f'is a file of {first}')):
        assert main(['evaluate', first, again, '--out', out]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'results.json').exists()


@pytest.mark.slow  # two processes import all that one does
def test_two_processes_give_what_one_gives(bags, figures, tmp_path):
    options = ['--device', 'cpu', '--torch-threads', '1']
    for jobs in ('1', '2'):
        out = ['--out', str(tmp_path / jobs), '--limit', '2', '--jobs', jobs]
        assert main(['evaluate', *bags, *options, *out]) == 0
    assert figures(tmp_path / '1') == figures(tmp_path / '2')
    results, rows = figures(tmp_path / '2')
    assert results['frames']['read'] == 6
    assert results['frames']['metric'] == 6
    assert [row['bag'] for row in rows] == list('001122')
    assert not (tmp_path / '2' / 'parts').exists()


@pytest.mark.slow  # a process that loads a model, and all again
def test_a_process_that_is_killed_leaves_what_it_finished(bags, figures, capsys, tmp_path):
    options = ['--device', 'cpu', '--torch-threads', '1', '--out', str(tmp_path / 'out')]
    command = [sys.executable, '-m', 'marigold_ros', 'evaluate', *bags, *options]
    killed = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob('out/parts/*.finished.npz')) and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        killed.kill()
        killed.wait()
    assert not (tmp_path / 'out' / 'results.json').exists()
    assert main(['evaluate', *bags, *options]) == 0
    assert 'going on after image ' in capsys.readouterr().err
    assert figures(tmp_path / 'out')[0]['frames']['processed'] == 9


class Counting:
    """A model that is interrupted after so many images."""

    def __init__(self, ramp, images):
        self.description, self._ramp = ramp.description, ramp
        self.left, self.seen = images, 0

    def predict(self, rgb, **options):
        self.seen += 1
        if self.seen > self.left:
            raise KeyboardInterrupt
        return self._ramp.predict(rgb)


@pytest.mark.slow  # 25 images are scored
def test_a_killed_evaluation_resumes_with_the_missing_bags(
    bags, ramp, figures, monkeypatch, capsys, tmp_path
):
    call = ['evaluate', *bags, '--out', str(tmp_path / 'killed')]
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: ramp)
    more = ['--require', 'frames.metric>=9']  # may be added to what goes on
    assert main(['evaluate', *bags, *more, '--out', str(tmp_path / 'whole')]) == 0
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: Counting(ramp, 7))
    assert main(call) == 130
    assert len(list((tmp_path / 'killed' / 'parts').glob('*.finished.npz'))) == 2
    capsys.readouterr()

    assert main([*call, '--fit-every', '4']) == 1
    error = capsys.readouterr().err
    assert 'an evaluation with fit_every = 8, not 4; go on with the same options' in error
    with monkeypatch.context() as upgrade:
        newer = {**results.versions(), 'numpy': 'x'}
        upgrade.setattr(results, 'versions', lambda: newer)
        assert main(call) == 1
    assert f'versions.numpy = {np.__version__}, not x; ' in capsys.readouterr().err

    again = Counting(ramp, 100)
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: again)
    assert main([*call, *more]) == 0
    assert 'going on after image 6 of 9' in capsys.readouterr().err
    assert again.seen == 3
    assert figures(tmp_path / 'killed') == figures(tmp_path / 'whole')


def test_a_bag_that_was_changed_meanwhile_is_replayed(bags, ramp, tmp_path):
    store = PartStore(tmp_path / 'parts')
    store.open({'a': 2})
    store.open({'a': 1})  # nothing was finished, so nothing is mixed
    path = tmp_path / 'bag0'
    job = BagJob(path, 0)
    store.put(job, BagPart(None, read=5))
    assert store.get(job).read == 5
    assert store.get(BagJob(path, 0, corruption=('fog', 1))) is None
    assert store.get(BagJob(path, 9)).read == 5
    (path / 'results.json').write_text('of an evaluation with --out BAG')
    assert store.get(job).read == 5
    (path / 'metadata.yaml').touch()
    assert store.get(job) is None


def test_an_image_set_that_was_changed_meanwhile_is_replayed(tmp_path):
    path, store = tmp_path / 'set', PartStore(tmp_path / 'parts')
    for name in ('a/image.png', 'a/depth_mm.png', 'b/image.png', 'b/depth_mm.png'):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b'some')

    def job(**choice):
        (found,) = plan_replay([path], ReplayOptions(images=ImageChoice(FOLDER, **choice))).jobs
        return found

    store.put(job(), BagPart(None, read=2))
    (path / 'results.json').write_text('of an evaluation with --out SET')
    assert store.get(job()).read == 2
    (tmp_path / 'list.txt').write_text('a/image.png a/depth_mm.png')
    assert store.get(job(split=str(tmp_path / 'list.txt'))) is None
    (path / 'a' / 'depth_mm.png').write_bytes(b'other')
    assert store.get(job()) is None
    store.put(job(), BagPart(None, read=2))
    (path / 'c').mkdir()
    (path / 'c' / 'image.png').touch()  # without depth, and counted
    assert store.get(job()) is None


def test_a_link_to_nothing_is_no_file_of_a_bag(short_drive, tmp_path):
    bag = shutil.copytree(short_drive, tmp_path / 'bag')
    (bag / '.#metadata.yaml').symlink_to('user@host.1234')  # as Emacs does during a change
    store, job = PartStore(tmp_path / 'parts'), BagJob(bag, 0)
    store.put(job, BagPart(None, read=5))
    assert store.get(job).read == 5
    options = ReplayOptions()
    assert inspect_bag(bag, options) == {**inspect_bag(short_drive, options), 'bag': str(bag)}
    label = LabelOptions(options, tmp_path, PointsConfig())
    assert copy_bytes(bag, label) == copy_bytes(short_drive, label)


def part(**facts):
    return BagPart(empty_scorer(ReplayOptions()), checkpoint={'name': 'tiny'}, **facts)


def test_parts_add_up_and_say_of_which_bag_each_image_is():
    unknown, good, later = (SimpleNamespace(text=text) for text in ('', '0.1 degrees', 'none'))
    first = part(bags=['a'], topics={'image': '/a'}, read=5, warnings={'dark': 2}, peak_bytes=7)
    second = part(bags=['b'], topics={'image': '/b'}, read=3, warnings={'dark': 1})
    first.calibration, second.calibration = unknown, good
    first.reject('size', 'too small')
    first.reject('size', 'too wide')
    second.reject('size', 'too large')
    second.failed, second.peak_bytes = {'b': 'cut off'}, 6
    third = part(bags=['c'], calibration=later)
    total = BagPart(empty_scorer(ReplayOptions()))
    for seconds, one in enumerate((first, second, third), 1):
        one.scorer.rows.append({'index': 0, 'stamp': seconds})
        one.wall_s, one.recorded_s = seconds, 2.5 * seconds
        total.add(one)
    assert [(row['stamp'], row['bag']) for row in total.scorer.rows] == [(1, 0), (2, 1), (3, 2)]
    assert (total.bags, total.topics) == (['a', 'b', 'c'], {'image': '/a'})
    assert (total.read, total.rejected) == (8, {'size': 3})
    rejected = {f'rejected: {text}': 1 for text in ('too small', 'too wide', 'too large')}
    assert (total.warnings, total.first_error) == ({'dark': 3, **rejected}, 'too small')
    assert (total.wall_s, total.recorded_s, total.rate) == (6.0, 15.0, 2.5)
    assert (total.peak_bytes, total.failed) == (7, {'b': 'cut off'})
    assert (total.checkpoint, total.calibration) == ({'name': 'tiny'}, good)
    with pytest.raises(ConfigurationError, match='the checkpoint has changed'):
        total.add(BagPart(empty_scorer(ReplayOptions()), checkpoint={'name': 'unet'}))


class Evil:
    def __reduce__(self):
        return eval, ('1 + 1',)


def archive(*arrays):
    data = io.BytesIO()
    np.savez(data, *arrays)
    return data.getvalue()


@pytest.mark.parametrize(
    'content',
    [
        pickle.dumps(Evil()),
        b'',
        b'\x80\x04nonsense',
        archive(np.array([Evil()], object)),
        archive(np.zeros(3)),
    ],
)
def test_a_part_that_is_none_is_not_read(bags, content, tmp_path):
    store, job = PartStore(tmp_path / 'parts'), BagJob(tmp_path / 'bag0', 0)
    store.open({})
    store.put(job, BagPart(None))
    (file,) = (tmp_path / 'parts').glob('*.finished.npz')
    file.write_bytes(content)
    assert store.get(job) is None


def test_the_weights_of_the_fusion_network_are_part_of_the_checkpoint(tmp_path):
    folder = Path(shutil.copytree(EMBEDDED / FUSION, tmp_path / 'net'))
    options = ReplayOptions(PipelineConfig(alignment=AlignmentConfig(fusion=str(folder))))
    model = SimpleNamespace(description={'name': 'planted'})
    before = ModelScorer(model, options).checkpoint
    weights = load_file(folder / 'model.safetensors')
    halves = {name: 0.5 * values for name, values in weights.items()}
    save_file(halves, folder / 'model.safetensors')
    after = ModelScorer(model, options).checkpoint
    assert before['name'] == after['name'] == 'planted'
    assert before['fusion_sha256'] != after['fusion_sha256']
