# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""``models get`` against a server on this machine that answers as the Hugging Face hub does."""

import errno
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from threading import Thread
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import huggingface_hub
from huggingface_hub import constants
from marigold_ros.errors import CheckpointError
from marigold_ros.models.hub import fetch, look_up, Repository
from marigold_ros.models.locate import EMBEDDED, find_autoencoder, find_folder
import pytest

COMMIT = 'ab' * 20
WEIGHTS = 'unet/diffusion_pytorch_model-00001-of-00002.safetensors'


class Hub(ThreadingHTTPServer):
    """Serves the repository someone/tiny from a folder; counts what is sent."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(('127.0.0.1', 0), Answer)
        self.folder = folder
        self.asked = []  # method, path, first byte
        self.break_off = {}  # file: bytes after which the connection breaks, once
        self.on_break = lambda: None
        self.damaged = set()  # files that arrive with other bytes
        self.headers = {}  # in place of true ones
        self.facts_of_all = {}  # in place of true ones

    @property
    def address(self):
        return f'http://127.0.0.1:{self.server_port}'

    def facts(self, path):
        data = (self.folder / path).read_bytes()
        lfs = path.endswith('.safetensors')
        digest = (hashlib.sha256 if lfs else hashlib.sha1)(data).hexdigest()
        return len(data), digest, lfs

    def files(self):
        paths = (p for p in self.folder.rglob('*') if p.is_file())
        return sorted(p.relative_to(self.folder).as_posix() for p in paths)


class Answer(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path, self.headers.get('Range')))
        if path.startswith('/api/models/someone/gated'):
            return self.refuse(403, 'GatedRepo')
        if path.startswith('/api/models/someone/busy'):
            return self.refuse(503, '')
        if path.startswith('/api/models/') and not path.startswith('/api/models/someone/tiny'):
            return self.refuse(401, 'RepoNotFound')
        _, _, revision = path.partition('/revision/')
        if path.startswith('/api/models/someone/tiny/tree/'):
            return self.send([self.entry(name) for name in self.server.files()])
        if path.startswith('/api/models/'):
            if revision not in ('', 'main', 'v1', COMMIT):
                return self.refuse(404, 'RevisionNotFound')
            return self.send(self.info())
        if '/resolve/' not in path:
            return self.refuse(404, '')
        return self.file(path.partition(f'/someone/tiny/resolve/{COMMIT}/')[2])

    def refuse(self, code, kind):
        self.send_response(code)
        self.send_header('X-Error-Code', kind)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def send(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'text/plain')  # read as JSON nevertheless
        self.send_header('ETag', 'W/"1c3-a+b/../c="')  # of an answer, which names no file
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def entry(self, name):
        size, digest, lfs = self.server.facts(name)
        facts = {'type': 'file', 'path': name, 'size': size, 'oid': digest[:40]}
        return (
            {**facts, 'lfs': {'oid': digest, 'size': size, 'pointerSize': 130}} if lfs else facts
        )

    def info(self):
        siblings = []
        for name in self.server.files():
            size, digest, lfs = self.server.facts(name)
            item = {'rfilename': name, 'size': size, 'blobId': digest[:40]}
            if lfs:
                item['lfs'] = {'sha256': digest, 'size': size, 'pointerSize': 130}
            siblings.append(item)
        return {
            'id': 'someone/tiny',
            'modelId': 'someone/tiny',
            'sha': COMMIT,
            'siblings': siblings,
            'cardData': {'license': 'apache-2.0'},
            'tags': [],
            **self.server.facts_of_all,
        }

    def file(self, name):
        data = (self.server.folder / name).read_bytes()
        size, digest, _ = self.server.facts(name)
        if name in self.server.damaged:
            data = bytes(size)
        first = int((self.headers.get('Range') or 'bytes=0-')[6:].partition('-')[0])
        self.send_response(206 if first else 200)
        headers = {'ETag': f'"{digest}"', 'X-Repo-Commit': COMMIT, **self.server.headers}
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header('Content-Length', str(size - first))
        if first:
            self.send_header('Content-Range', f'bytes {first}-{size - 1}/{size}')
        self.end_headers()
        if self.command == 'HEAD':
            return
        end = self.server.break_off.get(name, size)
        self.wfile.write(data[first:end])
        if end < size:
            self.wfile.flush()
            self.server.break_off[name] = size
            self.server.on_break()
            self.close_connection = True


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / 'served'
    shutil.copytree(EMBEDDED / 'tiny', folder)
    (folder / 'unet' / 'diffusion_pytorch_model.fp16.safetensors').write_bytes(b'half')
    (folder / 'unet' / 'diffusion_pytorch_model.bin').write_bytes(b'pickle')
    (folder / 'README.md').write_text('about')
    server = Hub(folder)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(hub, tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(('HF_', 'HUGGING'))}
    return {**kept, 'HF_ENDPOINT': hub.address, 'HF_HOME': str(tmp_path / 'home')}


def start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, '-m', 'marigold_ros', 'models', *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def got(environment, name):
    """Run ``models get``; return the exit code, the output and the error line."""
    process = start(environment, 'get', name)
    output, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in errors
    return process.returncode, output, ''.join(lines)


def fetched(hub):
    return {
        path.rpartition(f'{COMMIT}/')[2]
        for method, path, _ in hub.asked
        if method == 'GET' and '/resolve/' in path
    }


def test_a_checkpoint_is_fetched_once(hub, environment):
    parts = 'fusion/config.json', 'prompt/model.safetensors', 'tokenizer/merges.txt'
    for name in ('metric_scale.json', 'preprocessor_config.json', *parts):
        (hub.folder / name).parent.mkdir(exist_ok=True)
        (hub.folder / name).write_text(name)
    code, output, error = got(environment, 'someone/tiny')
    assert (code, error) == (0, '')
    assert 'licence apache-2.0' in output
    assert f'commit {COMMIT[:12]}' in output
    unwanted = {name for name in hub.files() if name.endswith(('.bin', '.md')) or 'fp16' in name}
    assert len(unwanted) == 3
    assert fetched(hub) == set(hub.files()) - unwanted
    hub.asked.clear()
    assert got(environment, 'someone/tiny')[0] == 0
    assert fetched(hub) == set()


@pytest.mark.slow  # a process that imports torch
def test_a_fetched_checkpoint_is_found_without_the_hub(hub, environment):
    assert got(environment, 'someone/tiny')[0] == 0
    # Nobody listens there.
    offline = {**environment, 'HF_ENDPOINT': 'http://127.0.0.1:9'}
    process = start(offline, 'check', 'someone/tiny')
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert 'ok: loaded' in output


def test_a_fetched_autoencoder_is_found_beside_weights_of_other_programs(hub, environment):
    vae = hub.folder / 'vae'
    for path in vae.iterdir():
        path.rename(hub.folder / path.name)
    for part in (vae, hub.folder / 'unet', hub.folder / 'scheduler'):
        shutil.rmtree(part)
    (hub.folder / 'taesd_decoder.safetensors').write_bytes(b'of another program')
    assert got(environment, 'someone/tiny')[0] == 0
    assert 'taesd_decoder.safetensors' not in fetched(hub)
    find = "from marigold_ros.models import locate; print(locate.find_autoencoder('someone/tiny'))"
    found = subprocess.run([sys.executable, '-c', find], env=environment, capture_output=True)
    assert found.returncode == 0, found.stderr
    assert (Path(found.stdout.decode().strip()) / 'config.json').is_file()


@pytest.fixture
def asked_here(hub, monkeypatch):
    """Let this process ask the hub."""
    monkeypatch.setattr(constants, 'ENDPOINT', hub.address)
    files = f'{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', files)


@pytest.mark.usefixtures('asked_here')
@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('marigold-depth-v1-2', 'did you mean marigold-depth-v1-'),
        ('someone/other', 'no repository someone/other, or it is private'),
        ('prs-eth/marigold-depth-v11', 'did you mean prs-eth/marigold-depth-v1-1?'),
        ('someone/gated', 'accept its terms'),
        ('tinny', 'did you mean tiny?'),
        ('someone/tiny.git', 'no repository someone/tiny.git'),
        ('someone/busy', 'check HF_TOKEN, or try again later'),
        ('someone/tiny@v9', "no revision 'v9'"),
        ('tiny', 'is on this machine'),
    ],
)
def test_each_wrong_name_has_an_error_of_its_own(name, words):
    with pytest.raises(CheckpointError, match=re.escape(words)):
        look_up(name)


def test_no_network_is_an_error_of_its_own(environment):
    code, _, error = got({**environment, 'HF_ENDPOINT': 'http://127.0.0.1:9'}, 'someone/tiny')
    assert code == 1
    assert 'the hub cannot be reached' in error
    assert 'check the network' in error
    code, _, error = got({**environment, 'HF_HUB_OFFLINE': '1'}, 'someone/tiny')
    assert code == 1
    assert 'HF_HUB_OFFLINE is set' in error


@pytest.mark.slow  # a process
def test_a_connection_that_breaks_is_taken_up_where_it_was(hub, environment):
    hub.break_off = {WEIGHTS: 12_000_000}
    assert got(environment, 'someone/tiny')[0] == 0
    starts = [r for m, path, r in hub.asked if m == 'GET' and path.endswith(WEIGHTS)]
    assert len(starts) == 2
    assert int(starts[1][6:].partition('-')[0]) > 0


@pytest.mark.slow  # processes that are killed and started again
def test_a_killed_download_fetches_only_what_is_missing(hub, environment, tmp_path):
    hub.break_off = {WEIGHTS: 1_000_000}
    process = start(environment, 'get', 'someone/tiny')
    hub.on_break = process.kill
    process.communicate()
    assert process.returncode != 0
    (snapshot,) = tmp_path.glob('home/hub/models--someone--tiny/snapshots/*')
    there = {p.relative_to(snapshot).as_posix() for p in snapshot.rglob('*') if p.is_file()}
    assert WEIGHTS not in there
    hub.asked.clear()
    assert got(environment, 'someone/tiny')[0] == 0
    assert WEIGHTS in fetched(hub)
    assert not fetched(hub) & there


@pytest.mark.usefixtures('asked_here')
def test_a_damaged_file_is_removed_and_named(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    hub.damaged, found, config = {WEIGHTS}, look_up('someone/tiny@v1'), 'unet/config.json'
    with pytest.raises(CheckpointError, match=f'{WEIGHTS} of someone/tiny arrived damaged'):
        fetch(found)
    hub.damaged = set()
    folder = fetch(found)
    os.truncate(folder / config, 0)  # as a power cut does
    with pytest.raises(CheckpointError, match=f'{config} of someone/tiny arrived damaged'):
        fetch(found)
    assert fetch(found) == folder == find_folder('someone/tiny@v1')
    for name in found.files:
        assert (folder / name).read_bytes() == (hub.folder / name).read_bytes()


@pytest.mark.parametrize(
    ('headers', 'facts'),
    [
        ({'ETag': '"../../../../outside"'}, {}),
        ({}, {'siblings': [{'rfilename': 'unet/../../../../outside.json'}]}),
        ({}, {'siblings': [{'rfilename': 'x', 'lfs': {'sha256': '../../../../outside'}}]}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ({'X-Linked-ETag': '"../../../../outside"'}, {}),
                ({'X-Repo-Commit': '../../../../outside'}, {}),
                ({}, {'sha': '../../../../outside'}),
            )
        ),
    ],
)
def test_answers_that_would_lead_out_of_the_cache_are_refused(
    hub, environment, tmp_path, headers, facts
):
    hub.headers, hub.facts_of_all = headers, facts
    code, _, error = got(environment, 'someone/tiny')
    assert code == 1
    assert 'which is refused' in error
    assert [path for path in tmp_path.rglob('*outside*') if 'served' not in path.parts] == []


@pytest.mark.usefixtures('asked_here')
def test_a_licence_is_text_and_no_command_for_the_terminal(hub):
    for stated, text in (('\x1b[2J' + 'x' * 500, r'\\u001b\[2Jx+ … x+'), ([], 'not stated')):
        hub.facts_of_all = {'cardData': {'license': stated}}
        licence = look_up('someone/tiny').licence
        assert re.fullmatch(text, licence)
        assert len(licence) < 100


@pytest.mark.usefixtures('asked_here')
def test_half_precision_is_fetched_where_there_is_nothing_else(hub):
    half = 'unet/diffusion_pytorch_model.fp16.safetensors'
    assert half not in look_up('someone/tiny').files
    for folder in (hub.folder / 'unet', hub.folder):  # first beside a vae in full precision
        for path in folder.rglob('*.safetensors'):
            if 'fp16' not in path.name:
                path.unlink()
        assert half in look_up('someone/tiny').files
    (hub.folder / half).unlink()  # a pickle is left
    with pytest.raises(CheckpointError, match='no safetensors of a depth model.*choose another'):
        look_up('someone/tiny')


def test_a_disk_that_is_too_small_for_what_is_missing_is_told_before(monkeypatch, tmp_path):
    blobs = tmp_path / 'models--a--b' / 'blobs'
    blobs.mkdir(parents=True)
    (blobs / 'begun').touch()
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    found = Repository('a/b', None, COMMIT, 'mit', {'x': (10**9, '')})
    # What is missing fits, and would leave too little.
    for there, missing, free in ((0, r'1\.0 GB', 1.2e9), (6 * 10**8, r'400\.0 MB', 5e8)):
        os.truncate(blobs / 'begun', there)
        monkeypatch.setattr(
            shutil, 'disk_usage', lambda path, free=free: SimpleNamespace(free=free)
        )
        with pytest.raises(CheckpointError, match=f'^a/b needs {missing} more, .*; make room'):
            fetch(found)

    def deny(path):  # as another user's folder may
        raise PermissionError(errno.EACCES, 'Permission denied', path)

    monkeypatch.setattr(shutil, 'disk_usage', deny)
    with pytest.raises(CheckpointError, match='Permission denied.*set HF_HOME to a folder of'):
        fetch(found)


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'the disk is full; make room'),
        (OSError(errno.EDQUOT, 'Disk quota exceeded'), 'the disk is full; make room'),
        (OSError(errno.EROFS, 'Read-only', '/hub'), "'/hub'.*set HF_HOME to a folder of"),
        (PermissionError(errno.EACCES, 'Denied', '/hub'), "'/hub'.*set HF_HOME to a folder of"),
        (NotADirectoryError(errno.ENOTDIR, 'None', '/hub'), "'/hub'.*set HF_HOME to a folder of"),
        (None, r'broke off \(FileNotFoundError.*; the same command goes on'),  # removed meanwhile
    ],
)
def test_a_download_that_ends_early_is_named(monkeypatch, tmp_path, error, words):
    def download(*_, **__):
        if error:
            raise error
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=0))
    with pytest.raises(CheckpointError, match=words):
        fetch(Repository('a/b', None, COMMIT, 'mit', {'x': (0, '')}))  # which needs no space


def test_the_autoencoder_of_a_whole_checkpoint_is_its_part():
    assert find_autoencoder(str(EMBEDDED / 'tiny')) == EMBEDDED / 'tiny' / 'vae'
    assert find_autoencoder(str(EMBEDDED / 'tiny' / 'vae')) == EMBEDDED / 'tiny' / 'vae'
