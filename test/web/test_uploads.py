# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What is sent: photos and videos give depth; what is broken gets one sentence and no 500."""

from __future__ import annotations

from contextlib import ExitStack
import io
import socket
import struct
import threading
import zlib

import cv2
from marigold_ros.frame import Prediction
from marigold_ros.replay.photos import IMAGE_SUFFIXES
from marigold_ros.web import app, uploads
from marigold_ros.web.jobs import MOST_WAITING
import numpy as np
import pytest

RGB = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 6)


def encoded(kind, rgb=RGB):
    return cv2.imencode(f'.{kind}', rgb[..., ::-1])[1].tobytes()


def png_of_size(width, height):
    """A PNG of a few hundred bytes that claims any size."""

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', check)

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = (chunk(b'IHDR', header), chunk(b'IDAT', pixels), chunk(b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def wrong_checksum():
    data = bytearray(encoded('png'))
    data[20] ^= 0xFF
    return bytes(data)


JPEG, PNG = encoded('jpg'), encoded('png')
BROKEN = [
    # Names.
    ('', PNG, 400),
    ('.png', PNG, 400),
    ('..', PNG, 400),
    ('../../etc/passwd.png', PNG, 400),
    ('/etc/passwd.png', PNG, 400),
    ('..\\windows.png', PNG, 400),
    ('a\0b.png', PNG, 400),
    ('a\nb.png', PNG, 400),
    ('a\u202egnp.png', PNG, 400),
    ('a' * 250 + '.png', PNG, 400),
    ('ü' * 120 + '.png', PNG, 400),
    ('photo', PNG, 415),
    ('photo.', PNG, 415),
    ('photo.heic', PNG, 415),
    ('photo.svg', b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', 415),
    ('photo.html', b'<script>alert(1)</script>', 415),
    ('photo.exe', b'MZ', 415),
    ('photo.png.zip', PNG, 415),
    ('model.safetensors', b'\x08', 415),
    ('bag.tar', b'ustar', 415),
    ('weights.pth', b'\x80\x02.', 415),
    # Photos.
    ('empty.png', b'', 400),
    ('zeros.png', bytes(4096), 422),
    ('noise.jpg', RGB.tobytes(), 422),
    ('text.jpg', b'not an image', 422),
    ('page.jpg', b'<!DOCTYPE html><img src=x onerror=alert(1)>', 422),
    ('vector.png', b'<svg xmlns="http://www.w3.org/2000/svg"/>', 422),
    ('short.jpg', JPEG[:100], 422),
    ('head.png', PNG[:40], 422),
    ('signature.png', PNG[:8], 422),
    ('checksum.png', wrong_checksum(), 422),
    ('huge.png', png_of_size(60_000, 60_000), 422),
    ('wide.png', png_of_size(2**31 - 1, 1), 422),
    ('large.png', png_of_size(9000, 9000), 422),
    ('nothing.png', png_of_size(0, 0), 422),
    ('bitmap.bmp', b'BM' + bytes(60), 422),
    ('tagged.tiff', b'II*\0' + b'\xff' * 40, 422),
    ('web.webp', b'RIFF\x10\0\0\0WEBPVP8 ', 422),
    ('pickle.png', b'\x80\x04\x95\x10\0\0\0\0\0\0\0.', 422),
    ('archive.png', b'PK\x03\x04' + bytes(60), 422),
    # Videos.
    ('empty.mp4', b'', 400),
    ('zeros.mp4', bytes(4096), 422),
    ('text.mp4', b'not a video', 422),
    ('box.mp4', b'\0\0\0\x18ftypmp42' + bytes(12), 422),
    ('riff.avi', b'RIFF\xff\xff\xff\xffAVI LIST', 422),
    ('matroska.mkv', b'\x1aE\xdf\xa3' + bytes(64), 422),
    ('web.webm', b'\x1aE\xdf\xa3', 422),
    ('playlist.mp4', b'#EXTM3U\nfile:///etc/passwd\n', 422),
    # Bags.
    ('empty.mcap', b'', 400),
    ('zeros.mcap', bytes(4096), 422),
    ('magic.mcap', b'\x89MCAP0\r\n', 422),
    ('twice.mcap', b'\x89MCAP0\r\n' * 2, 422),
    ('text.bag', b'not a bag', 422),
    ('head.bag', b'#ROSBAG V2.0\n', 422),
    ('length.bag', b'#ROSBAG V2.0\n' + b'\xff' * 64, 422),
    ('text.db3', b'not a database', 422),
    ('head.db3', b'SQLite format 3\0' + bytes(100), 422),
    ('two  spaces.mcap', bytes(4096), 422),
    ('\u5199\u771f\u30001.db3', b'not a database', 422),
    ('a' * 190 + '.db3', b'not a database', 422),
]


# A process looks at each that is refused with 422; of each kind one is enough for a quick run.
LOOKED_AT = {'zeros.png', 'huge.png', 'pickle.png', 'text.mp4', 'two  spaces.mcap', 'text.db3'}


@pytest.fixture
def left(server):
    """Return a function that lists what the uploads of a test have left."""
    of_others = set(server.folder.iterdir())
    return lambda: [path for path in server.folder.iterdir() if path not in of_others]


def one_sentence(text):
    return text and '\n' not in text and 'Traceback' not in text and len(text) < 700


@pytest.mark.parametrize(
    ('name', 'body', 'status'),
    [
        pytest.param(
            *broken,
            id=ascii(broken[0][:30]),
            marks=[pytest.mark.slow] * (broken[2] == 422 and broken[0] not in LOOKED_AT),
        )
        for broken in BROKEN
    ],
)
def test_broken_files_get_one_sentence(server, left, name, body, status, capfd):
    answer = server.send(name, body)
    assert answer.status == status, answer.data
    assert one_sentence(answer.json['error'])
    assert str(server.folder) not in answer.json['error']
    if status == 422:
        assert ' '.join(name.split()) in answer.json['error']
    if name.endswith('.db3'):
        assert 'file is not a database' in answer.json['error']
    assert left() == []


@pytest.mark.parametrize(
    ('query', 'word'),
    [
        ({'model': '../../secret'}, 'no model'),
        ({'model': 'owner/name'}, 'no model'),
        ({'steps': '-1'}, 'steps'),
        ({'steps': '1e3'}, 'steps'),
        ({'steps': '51'}, 'denoising_steps'),
        ({'steps': '²'}, 'steps'),
        ({'name': 'drive.mcap', 'every': '0'}, 'every'),
        ({'name': 'drive.mcap', 'every': '9' * 30}, 'every'),
    ],
)
def test_wrong_choices_get_one_sentence(server, query, word):
    answer = server.send(body=PNG, **{'name': 'photo.png', **query})
    assert answer.status in (400, 422)
    assert word in answer.json['error']


def test_the_choices_of_bags_do_not_refuse_a_photo(server):
    assert server.wait(server.send('photo.png', PNG, every='0').json)['state'] == 'done'


@pytest.mark.parametrize(
    ('name', 'length', 'status'),
    [
        ('photo.jpg', '100000000', 413),
        ('video.mp4', '100000000000', 413),
        ('drive.mcap', '9' * 20, 413),
        ('drive.mcap', '9' * 5000, 400),
        ('photo.jpg', None, 411),
        ('photo.jpg', '-1', 400),
        ('photo.jpg', 'many', 400),
    ],
)
def test_the_length_is_refused_before_the_body_is_read(server, left, name, length, status):
    path = f'/api/files?name={name}'
    headers = {} if length is None else {'Content-Length': length}
    answer = server.ask('POST', path, headers=headers)  # no body follows
    assert answer.status == status
    if status == 413:
        assert one_sentence(answer.json['error'])
        assert answer.headers['connection'] == 'close'
    assert left() == []


def begun_upload(server, path='/api/files?name=a.png'):
    """Return a connection that has sent 100 of the 1000 bytes of a photo."""
    connection = socket.create_connection(('127.0.0.1', server.port), timeout=20)
    head = f'POST {path} HTTP/1.1\r\nHost: {server.host}\r\n'
    head += f'Authorization: {server.bearer}\r\nContent-Length: 1000\r\n\r\n'
    connection.sendall(head.encode() + PNG[:100])
    return connection


def test_an_upload_that_ends_early_leaves_nothing_behind(server, left):
    with begun_upload(server):
        server.settles(left)
    server.settles(lambda: left() == [])


@pytest.mark.parametrize(
    ('path', 'check'),
    [('/api/files?name=a.png', 'check_content'), ('/api/bags?path=/drive', 'check_bag')],
)
def test_a_file_whose_page_is_closed_while_it_is_checked_becomes_no_job(
    server, left, monkeypatch, path, check
):
    begins, ends, before = threading.Event(), threading.Event(), server.jobs.all()
    monkeypatch.setattr(app, check, lambda *_: (begins.set(), ends.wait(20)))
    with begun_upload(server, path) as connection:
        connection.sendall(bytes(900))
        assert begins.wait(20)
    server.settles(lambda: not server.state.connections)
    ends.set()
    server.settles(lambda: not server.state.tasks)
    assert (server.jobs.all(), left()) == (before, [])


def test_only_so_many_uploads_come_at_once(server, left):
    with ExitStack() as begun:
        for _ in range(MOST_WAITING):
            begun.enter_context(begun_upload(server))
        server.settles(lambda: len(list(server.folder.glob('*/upload'))) == MOST_WAITING)
        answer = server.ask('POST', '/api/files?name=a.png', headers={'Content-Length': '9'})
        assert answer.status == 429
    server.settles(lambda: left() == [])


def test_an_upload_whose_sender_is_gone_without_a_word_ends(server, left, monkeypatch):
    monkeypatch.setattr(uploads, 'SILENCE_S', 0.05)
    with begun_upload(server) as connection, connection.makefile('rb') as answers:
        answer = answers.read()
    assert answer.split()[1] == b'400'
    assert b'has 100 bytes where 1000 were announced' in answer
    server.settles(lambda: left() == [])


def test_images_of_too_many_pixels_are_refused_by_their_size(server, monkeypatch, tmp_path):
    monkeypatch.setattr(uploads, 'MOST_PIXELS', 48 * 64 - 1)
    assert 'it has 64x48 pixels, and may have 3071' in server.send('a.png', PNG).json['error']
    path = tmp_path / 'a.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5.0, (64, 48))
    writer.write(RGB)
    writer.release()
    error = server.send('a.avi', path.read_bytes()).json['error']
    assert 'its images have more than 3071 pixels' in error


def test_a_chunked_body_is_refused(server):
    answer = server.ask('POST', '/api/files?name=a.png', headers={'Transfer-Encoding': 'chunked'})
    assert answer.status == 411


@pytest.mark.parametrize(
    'name',
    [
        *('street.png', 'Straße – ü.JPG', "a'b & c.webp", '50%.png'),
        *('Screenshot at 9.41.00\u202fAM.png', '写真\u30001.png'),  # as macOS and Japan name them
        *('می\u200cخواهم.png', 'family \U0001f468\u200d\U0001f467.png'),
    ],
)
def test_a_photo_gives_depth_to_look_at_and_the_files_of_predict(server, name):
    job = server.wait(server.send(name, encoded('png')).json)
    assert (job['state'], job['name'], job['kind']) == ('done', name, 'photo')
    result = job['result']
    assert (result['width'], result['height'], result['metric']) == (64, 48, False)
    assert result['frames'][0]['ticks'] == {'near': 0, 'far': 1}
    stem = name.rpartition('.')[0]
    ends = ('relative.png', 'relative.npy', 'color.png', 'side_by_side.png')
    assert [f'{stem}_{end}' for end in ends] == result['downloads'][:4]
    assert result['downloads'][4:] == [f'{stem}.ply', f'{stem}.glb']
    assert b'comment x right, y up, z towards' in server.file(job, f'{stem}.ply').data
    cloud = server.file(job, result['cloud']).json
    assert 0 < cloud['points']['count'] <= 64 * 48
    assert 'field of view' in cloud['note']
    relative = np.load(io.BytesIO(server.file(job, f'{stem}_relative.npy').data))
    np.testing.assert_array_equal(relative, RGB[..., 0].astype(np.float32) / 255)
    shown = server.file(job, result['frames'][0]['depth'])
    assert shown.headers['content-type'] == 'image/jpeg'
    image = cv2.imdecode(np.frombuffer(shown.data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (48, 64, 3)
    data = server.file(job, result['frames'][0]['image']).data
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert (
        np.abs(image.astype(int) - RGB).mean()
        < 3
        < np.abs(image[..., ::-1].astype(int) - RGB).mean()
    )


def test_a_photo_without_a_surface_has_a_cloud_and_no_mesh_as_of_predict(server):
    job = server.wait(server.send('line.png', encoded('png', RGB[:1])).json)
    assert job['result']['downloads'][4:] == ['line.ply']


def test_metric_depth_has_a_scale_in_metres(server, monkeypatch):
    metres = np.geomspace(1.0, 50.0, 48 * 64, dtype=np.float32).reshape(48, 64)
    found = Prediction(metres, space='metric')
    monkeypatch.setattr(server.models.get('tiny'), 'predict', lambda rgb, **options: found)
    job = server.wait(server.send('street.png', PNG).json)
    ticks = job['result']['frames'][0]['ticks']
    assert job['result']['metric']
    assert list(ticks) == ['near, 0.94 m', '5 m', '10 m', 'far, 53 m']
    places = list(ticks.values())
    assert places == sorted(places)
    assert server.file(job, 'cloud.json').json['note'].startswith('In metres; ')


def test_images_that_predict_reads_are_photos_of_the_page(server):
    assert {'.jfif', '.gif', '.avif', '.webp', '.tiff'} < set(IMAGE_SUFFIXES)
    for suffix in IMAGE_SUFFIXES:
        content = encoded('jpg' if suffix == '.jfif' else suffix[1:])
        job = server.wait(server.send(f'photo{suffix}', content).json)
        assert (job['state'], job['kind']) == ('done', 'photo'), (suffix, job['text'])


def test_an_image_of_fewer_bits_than_its_file_is_read_as_such_and_says_so(server):
    deep = cv2.imencode('.png', RGB[..., ::-1].astype(np.uint16) << 4)[1].tobytes()  # 12 bits
    job = server.wait(server.send('deep.png', deep).json)
    assert 'taken for 12-bit ones' in job['result']['remark']
    relative = np.load(io.BytesIO(server.file(job, 'deep_relative.npy').data))
    np.testing.assert_array_equal(relative, RGB[..., 0].astype(np.float32) / 255)


def test_a_large_photo_is_reduced_for_the_page_only(server):
    rgb = cv2.resize(RGB, (2000, 1500))
    job = server.wait(server.send('large.png', encoded('png', rgb)).json)
    assert job['state'] == 'done', job['text']
    shown = server.file(job, job['result']['frames'][0]['depth']).data
    image = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (960, 1280, 3)
    assert server.file(job, 'cloud.json').json['points']['count'] <= 60_000
    assert list(server.folder.glob('*/upload')) == []
    relative = np.load(io.BytesIO(server.file(job, 'large_relative.npy').data))
    assert relative.shape == (1500, 2000)


def test_files_that_are_no_result_are_not_served(server):
    job = server.wait(server.send('a.png', PNG).json)
    server.jobs.find(job['id']).files['a_color.png'].unlink()  # as cleaners of /tmp do
    for name in ('upload.png', '..%2f..%2fetc%2fpasswd', 'none', '.', 'a_color.png'):
        assert server.ask('GET', f'/api/jobs/{job["id"]}/files/{name}').status == 404


def test_a_video_gives_its_frames_and_a_video(server, tmp_path):
    path = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5.0, (64, 48))
    for number in range(250):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    job = server.wait(server.send('drive.avi', path.read_bytes()).json)
    assert job['state'] == 'done', job['text']
    result = job['result']
    assert (result['images'], result['rate']) == (250, 5.0)
    numbers = [frame['number'] for frame in result['frames']]
    assert 40 < len(numbers) <= 101
    assert numbers[0] == 0
    assert len({b - a for a, b in zip(numbers, numbers[1:], strict=False)}) == 1
    assert all(server.file(job, frame['image']).status == 200 for frame in result['frames'][::9])
    assert server.file(job, 'drive_depth.mp4').data[4:8] == b'ftyp'
