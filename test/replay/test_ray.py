# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Many bags on a Ray cluster of one CPU: the figures, lost workers, kept parts, no Ray at all."""

import os
from pathlib import Path
import shutil
import sys

from marigold_ros.__main__ import main
from marigold_ros.errors import CheckpointError
from marigold_ros.replay.bag_part import BagPart, PartStore
from marigold_ros.replay.executor import BagWorker, Cluster, on_ray
from marigold_ros.replay.replay_plan import BagJob
import pytest

# Ray leaves files and processes to its own threads when it ends.
pytestmark = [
    pytest.mark.slow,  # a cluster starts and ends
    pytest.mark.filterwarnings('ignore::ResourceWarning'),
    pytest.mark.filterwarnings('ignore::FutureWarning'),
    pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]


@pytest.fixture(scope='module')
def cluster():
    ray = pytest.importorskip('ray', reason='Ray is not installed')
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get('PYTHONPATH'))))
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        logging_level='ERROR',
        log_to_driver=False,
        object_store_memory=100_000_000,
        runtime_env={'env_vars': {'PYTHONPATH': path}},
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def bags(tmp_path):
    paths = [tmp_path / f'bag{i}' for i in range(3)]
    for path in paths:
        path.mkdir()
    return [BagJob(path, number) for number, path in enumerate(paths)]


def lost(options, job, text):
    return BagPart(None, failed={str(job.path): text})


def test_a_killed_worker_is_replaced_and_its_bag_retried(cluster, bags, tmp_path):
    def play(model, options, job, progress):
        mark = job.path / 'tried'
        if job.path.name == 'bag1' and not mark.exists():
            mark.touch()
            os._exit(9)
        return BagPart(None, read=job.number + model, topics={'image': str(job.path)})

    reported = []
    worker = BagWorker(play, lost, lambda: 10, None, progress=reported.append)
    with on_ray(worker, bags, Cluster()) as parts:
        found = list(parts)
    assert (bags[1].path / 'tried').exists()
    assert [part.read for part in found] == [10, 11, 12]
    assert not any(part.failed for part in found)
    assert reported[-1] == 33


def test_a_bag_that_kills_every_worker_does_not_lose_the_others(cluster, bags, tmp_path):
    def play(model, options, job, progress):
        with (job.path / 'tries').open('a') as file:
            file.write('x')
        if job.path.name == 'bag1':
            os._exit(9)
        return BagPart(None, read=1)

    store = PartStore(tmp_path / 'parts')
    store.open({})
    with on_ray(BagWorker(play, lost, lambda: 0, None, store), bags, Cluster()) as parts:
        found = list(parts)
    assert [bool(part.failed) for part in found] == [False, True, False]
    assert 'its worker was lost' in found[1].failed[str(bags[1].path)]
    assert len((bags[1].path / 'tries').read_text()) == 4  # once, and three retries
    assert len(list((tmp_path / 'parts').glob('*.finished.npz'))) == 2


def test_finished_bags_are_not_worked_on_again(cluster, bags, tmp_path):
    def play(model, options, job, progress):
        raise AssertionError('this bag was finished')

    store = PartStore(tmp_path / 'parts')
    store.open({})
    for job in bags:
        store.put(job, BagPart(None, read=job.number))
    with on_ray(BagWorker(play, lost, lambda: 0, None, store), bags, Cluster()) as parts:
        assert [part.read for part in parts] == [0, 1, 2]


def test_a_known_error_in_a_worker_is_that_error_here(cluster, bags):
    def load():
        raise CheckpointError('no such checkpoint')

    worker = BagWorker(lambda *job: None, lost, load, None)
    with pytest.raises(CheckpointError), on_ray(worker, bags, Cluster()) as parts:
        list(parts)


def test_evaluate_and_label_give_the_same_on_ray(cluster, short_drive, figures, tmp_path):
    bags = [str(shutil.copytree(short_drive, tmp_path / name)) for name in ('one', 'two')]
    options = ['--limit', '4', '--device', 'cpu', '--torch-threads', '1']
    assert main(['evaluate', *bags, *options, '--out', str(tmp_path / 'here')]) == 0
    assert main(['evaluate', *bags, *options, '--out', str(tmp_path / 'ray'), '--ray']) == 0
    assert figures(tmp_path / 'ray') == figures(tmp_path / 'here')
    assert not (tmp_path / 'ray' / 'parts').exists()
    assert main(['label', *bags[:1], '--out', str(tmp_path / 'labelled'), '--ray']) == 0
    assert (tmp_path / 'labelled' / 'one' / 'metadata.yaml').is_file()


def test_without_ray_the_option_is_one_sentence(short_drive, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert main(['evaluate', str(short_drive), '--out', str(tmp_path), '--ray']) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: --ray needs Ray')
    assert 'pip install ray, or use --jobs' in line


def test_a_cluster_that_is_not_there_is_one_sentence(short_drive, monkeypatch, capsys, tmp_path):
    class NoRay:
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**options):
            raise ConnectionError('Could not find any\nrunning Ray instance.')

    monkeypatch.setitem(sys.modules, 'ray', NoRay)
    out = ['--out', str(tmp_path), '--ray', 'auto']
    assert main(['evaluate', str(short_drive), *out]) == 1
    error = capsys.readouterr().err
    assert 'no Ray cluster at auto (Could not find any running Ray instance.)' in error
