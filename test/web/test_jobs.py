# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One job at a time, the others wait and say so; cancelled and old ones leave nothing behind."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import cv2
from marigold_ros.web import jobs as jobs_module
from marigold_ros.web.jobs import Job, MOST_WAITING
import numpy as np
import pytest

PNG = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()


@pytest.fixture
def busy(server):
    """The server, whose model waits until the test ends or opens the gate."""
    gate = server.models.get('tiny').gate
    gate.clear()
    yield server, gate
    gate.set()
    server.settles(lambda: not server.is_busy)


def send(server, count):
    return [server.send(f'{number}.png', PNG).json for number in range(count)]


def test_jobs_wait_in_their_order_and_say_for_how_many(busy):
    server, gate = busy
    jobs = send(server, 3)
    server.wait(jobs[0], lambda job: job['state'] == 'working')
    second, third = (server.ask('GET', f'/api/jobs/{job["id"]}').json for job in jobs[1:])
    assert (second['state'], second['text']) == ('waiting', 'waiting for 1 other job')
    assert third['text'] == 'waiting for 2 other jobs'
    gate.set()
    assert [server.wait(job)['state'] for job in jobs] == ['done'] * 3


def test_a_job_that_comes_before_the_model_is_loaded_waits_and_says_so(loading):
    server, loads = loading
    (job,) = send(server, 1)
    assert (job['state'], job['text']) == ('waiting', 'loading the model')
    assert server.ask('GET', '/api/settings').json['loading']
    loads.set()
    assert server.wait(job)['state'] == 'done'
    assert not server.ask('GET', '/api/settings').json['loading']


def test_a_waiting_job_is_cancelled_at_once_and_the_next_one_moves_up(busy):
    server, _ = busy
    first, second, third = send(server, 3)
    server.wait(first, lambda job: job['state'] == 'working')
    cancelled = server.ask('DELETE', f'/api/jobs/{second["id"]}').json
    assert (cancelled['state'], cancelled['ended']) == ('cancelled', True)
    moved = server.ask('GET', f'/api/jobs/{third["id"]}').json
    assert moved['text'] == 'waiting for 1 other job'


def test_a_running_job_is_cancelled_at_its_next_step_with_its_files(busy):
    server, gate = busy
    (job,) = send(server, 1)
    server.wait(job, lambda job: job['state'] == 'working')
    server.ask('DELETE', f'/api/jobs/{job["id"]}')
    gate.set()
    ended = server.wait(job)
    assert (ended['state'], ended['files'], ended['result']) == ('cancelled', [], {})
    assert not server.jobs.find(job['id']).folder.exists()
    assert server.file(job, 'photo_depth.jpg').status == 404


def test_a_full_queue_refuses_before_the_body_is_read(busy):
    server, _ = busy
    first = server.wait(*send(server, 1), lambda job: job['state'] == 'working')
    waiting = send(server, MOST_WAITING)
    answer = server.ask('POST', '/api/files?name=a.png', headers={'Content-Length': '1000'})
    assert answer.status == 429
    assert 'come back later' in answer.json['error']
    for job in (first, *waiting):
        server.ask('DELETE', f'/api/jobs/{job["id"]}')


def test_only_the_newest_results_are_kept(server):
    jobs = [server.wait(job) for _ in range(5) for job in send(server, 4)]
    assert server.ask('GET', f'/api/jobs/{jobs[0]["id"]}').status == 404
    assert server.ask('GET', f'/api/jobs/{jobs[-1]["id"]}').status == 200
    assert len(list(server.folder.iterdir())) < len(jobs)


@pytest.fixture
def small_disk(serving, tmp_path, monkeypatch):
    """Yield a server whose disk has room for three jobs, and the first of them."""
    with serving(tmp_path) as server:
        first = server.wait(*send(server, 1))
        last = jobs_module.ROOM + 3 * used(tmp_path)

        def usage(path):
            return SimpleNamespace(free=last - used(tmp_path))

        monkeypatch.setattr(jobs_module.shutil, 'disk_usage', usage)
        yield server, first


def used(folder):
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


def test_a_server_whose_folder_was_deleted_says_so(serving, tmp_path):
    with serving(tmp_path / 'gone') as server:
        answer = server.send('a.png', PNG)
    assert answer.status == 503
    assert 'gone, where the server keeps files, was deleted' in answer.json['error']


def test_on_a_full_disk_the_oldest_results_make_room(small_disk):
    server, first = small_disk
    jobs = [server.wait(job) for _ in range(5) for job in send(server, 1)]
    assert [job['state'] for job in jobs] == ['done'] * 5
    assert server.ask('GET', f'/api/jobs/{first["id"]}').status == 404
    assert server.ask('GET', f'/api/jobs/{jobs[-1]["id"]}').status == 200


def test_a_disk_that_others_filled_is_named_with_the_remedy_and_costs_no_results(
    server, monkeypatch
):
    older = server.wait(*send(server, 1))
    monkeypatch.setattr(
        jobs_module.shutil, 'disk_usage', lambda path: SimpleNamespace(free=5_000_000)
    )
    answer = server.send('a.png', PNG)
    assert answer.status == 413
    assert 'the disk has 5.0 MB free; make room' in answer.json['error']
    assert server.ask('GET', f'/api/jobs/{older["id"]}').status == 200


def test_a_job_that_fills_the_disk_says_so_and_older_results_go(server, tmp_path):
    def fill(job):
        with open('/dev/full', 'wb', buffering=0) as file:
            file.write(b'depth')

    older = server.wait(*send(server, 1))
    job = Job('photo', 'a.png', tmp_path, fill)
    server.jobs.add(job)
    server.settles(lambda: not server.is_busy)
    assert job.state == 'failed'
    assert job.text.startswith('older results were deleted; send it again: the disk has ')
    assert server.ask('GET', f'/api/jobs/{older["id"]}').status == 404


def test_results_that_fill_the_disk_say_so_and_older_ones_go(server, monkeypatch):
    def fill(draft, path):
        raise OSError(errno.ENOSPC, 'No space left on device')

    older = server.wait(*send(server, 1))
    with monkeypatch.context() as patch:
        patch.setattr('marigold_ros.whole_files.os.replace', fill)
        job = server.wait(*send(server, 1))
    assert job['state'] == 'failed'
    assert job['text'].startswith('older results were deleted; send it again: the disk has ')
    assert server.ask('GET', f'/api/jobs/{older["id"]}').status == 404


def test_an_error_of_the_model_ends_its_job_only(server, monkeypatch, caplog):
    def predict(rgb, **options):
        raise RuntimeError('a secret of the machine')

    with monkeypatch.context() as patch:
        patch.setattr(server.models.get('tiny'), 'predict', predict)
        failed = server.wait(*send(server, 1))
    assert failed['state'] == 'failed'
    assert 'unexpectedly' in failed['text']
    assert 'secret' not in failed['text']
    assert 'a secret of the machine' in caplog.text
    assert server.wait(*send(server, 1))['state'] == 'done'
