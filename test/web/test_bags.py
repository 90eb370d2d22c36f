# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bags by upload and by path: looked at first, then scored as ``evaluate`` does."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from marigold_ros.errors import BagError
from marigold_ros.web import bag_jobs
from marigold_ros.web.bag_jobs import bag_words
import pytest

STATIC = '/tf_static'


def name_bag(server, path, **query):
    return server.ask('POST', f'/api/bags?{urlencode({"path": path, **query})}')


def test_a_bag_by_its_path_gives_verdict_and_report(server, short_drive):
    answer = name_bag(server, short_drive)
    assert answer.status == 202, answer.json
    job = server.wait(answer.json)
    assert (job['state'], job['name']) == ('done', 'drive'), job['text']
    assert job['result']['verdict'].startswith('<section class="verdict ')
    assert job['result']['facts'] == '3 images processed, all with metric depth.'
    assert job['result']['bag']['lidar'].startswith('/velodyne_points, ')
    report = server.file(job, 'report.html')
    assert report.headers['content-type'].startswith('text/html')
    assert 'sandbox allow-scripts' in report.headers['content-security-policy']
    results = json.loads(server.file(job, 'results.json').data)
    assert results['frames']['read'] == 3
    download = server.file(job, 'results.json').headers['content-disposition']
    assert download.startswith('attachment')


def test_all_problems_of_a_bag_are_named():
    problems = {'no transform': 2, 'no scan': 1}
    facts = {'seconds': 1.0, 'bytes': 1, 'topics': {}, 'lidar': {}, 'images': 3}
    words = bag_words({**facts, 'problems': problems})
    assert words['problem'] == 'no transform (2 of 3 images); no scan (1 of 3 images)'
    assert 'problem' not in bag_words({**facts, 'problems': {}})


def test_a_slow_camera_and_a_small_bag_are_not_nothing():
    image = {'topic': '/image', 'hertz': 1 / 60}
    facts = {'seconds': 600.0, 'bytes': 42_000, 'topics': {'image': image}, 'lidar': {}}
    words = bag_words({**facts, 'images': 3, 'problems': {}})
    assert words == {'length': '600.0 s, 0.042 MB', 'image': '/image, 0.017 Hz'}


def test_an_uploaded_bag_has_its_own_name_in_the_report_and_what_was_chosen(server, short_drive):
    (path,) = short_drive.glob('*.mcap')
    job = server.send('my drive.mcap', path.read_bytes(), every=2, steps=3, model='unet').json
    job = server.wait(job)
    assert (job['state'], job['name']) == ('done', 'my drive.mcap'), job['text']
    assert b'Depth on my drive.mcap' in server.file(job, 'report.html').data
    results = json.loads(server.file(job, 'results.json').data)
    assert results['frames']['processed'] == 2
    assert results['provenance']['checkpoint']['name'] == 'unet'
    assert results['provenance']['options']['denoising_steps'] == 3


@pytest.mark.parametrize(
    ('path', 'word'),
    [
        ('', 'missing'),
        (' ', 'missing'),
        ('/nowhere/drive', 'does not exist'),
        ('/dev/null', '/dev/null'),
        ('a\nb', 'missing'),
        ('/etc/passwd', 'passwd'),
        ('/nowhere/a\u3000drive', 'does not exist'),
        ('~nobody_here/drive', '~nobody_here/drive does not exist'),
        ('/' + 'a' * 300, 'File name too long'),
    ],
)
def test_a_path_without_a_bag_gets_one_sentence(server, path, word):
    answer = name_bag(server, path)
    assert answer.status in (400, 422)
    assert word in answer.json['error']
    assert '\n' not in answer.json['error']


def test_a_bag_that_cannot_be_scored_is_refused_before_any_work(server, changed_drive, tmp_path):
    gone = (STATIC, '/camera/depth_truth')
    bag = changed_drive(
        tmp_path / 'bag', lambda t, message, ns: None if t in gone else (t, {}, ns)
    )
    answer = name_bag(server, bag)
    assert answer.status == 422
    assert 'could be scored' in answer.json['error']


def test_a_damaged_bag_is_scored_as_far_as_it_goes(server, short_drive):
    (path,) = short_drive.glob('*.mcap')
    data = path.read_bytes()
    answer = server.send('cut.mcap', data[: len(data) * 9 // 10])
    assert answer.status == 202, answer.json
    job = server.wait(answer.json)
    assert job['state'] == 'done', job['text']
    assert job['result']['warning'].startswith('cut.mcap is incomplete: ')
    assert job['result']['warning'].endswith('; the readable part of the bag is scored')
    assert job['result']['bag']['problem'].startswith('cut.mcap is incomplete: ')
    files = (server.file(job, name).data.decode() for name in job['result']['downloads'])
    assert not [text for text in (json.dumps(job), *files) if str(server.folder) in text]


def test_a_job_that_fails_names_the_bag_as_it_was_sent(server, short_drive, monkeypatch):
    def fail(path, options):
        raise BagError(f'{path} is damaged')

    monkeypatch.setattr(bag_jobs, 'inspect_bag', fail)
    (path,) = short_drive.glob('*.mcap')
    job = server.wait(server.send('my drive.mcap', path.read_bytes()).json)
    assert (job['state'], job['text']) == ('failed', 'my drive.mcap is damaged')


def test_a_loaded_model_is_not_called_loading_before_its_first_image(
    server, short_drive, monkeypatch
):
    said = []

    def fail(*_bag, **_options):
        said.append(server.jobs.all()[-1].text)
        raise BagError('the bag is damaged')

    monkeypatch.setattr(bag_jobs, 'evaluate_bag', fail)
    job = server.wait(name_bag(server, short_drive).json)
    assert (job['text'], said) == ('the bag is damaged', ['scoring images'])
