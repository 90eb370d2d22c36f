# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command that starts the server: what is missing, where it listens, what it leaves."""

from __future__ import annotations

from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin, urlsplit
import urllib.request

from marigold_ros.__main__ import main
from marigold_ros.errors import MarigoldError
import pytest

SERVE = [sys.executable, '-m', 'marigold_ros', 'serve', '--port', '0']
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(Path(__file__).resolve().parents[2])}


def test_a_missing_extra_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    monkeypatch.delitem(sys.modules, 'marigold_ros.web.server', raising=False)
    assert main(['serve']) == 1
    error = capsys.readouterr().err
    assert 'pip install starlette uvicorn' in error
    assert len(error.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_one_sentence(capsys):
    pytest.importorskip('uvicorn')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert main(['serve', '--port', str(port)]) == 1
    error = capsys.readouterr().err
    assert f'cannot listen on 127.0.0.1, port {port} (Address already in use); choose' in error


def test_an_address_that_is_none_is_one_sentence(capsys):
    pytest.importorskip('uvicorn')
    assert main(['serve', '--host', '']) == 2  # not all addresses
    assert '--host is empty' in capsys.readouterr().err
    for host in ('no such host', 'é..x', 'ü' * 64):
        assert main(['serve', '--host', host, '--port', '0']) == 1
        (error,) = capsys.readouterr().err.splitlines()
        assert f'listen on {host}, port 0 (there is no such address); choose' in error


def test_limit_and_settings_are_those_that_are_given(monkeypatch):
    pytest.importorskip('uvicorn')
    given = []
    monkeypatch.setattr('marigold_ros.web.server.run_server', lambda *values: given.extend(values))
    options = ['--max-upload', '3', '--set', 'runtime.channels_last=false', '--vae', 'none']
    assert main(['serve', *options]) == 0
    _, _, limits, load, name, _ = given
    assert limits.other == 3_000_000
    assert load('tiny').description['runtime']['channels_last'] is False
    with pytest.raises(MarigoldError, match='none'):  # of the model that is given alone
        load(name)


@pytest.mark.slow  # a process that imports torch
def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(tmp_path):
    pytest.importorskip('uvicorn')
    command = [*SERVE, '--model', tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert ended.returncode == 1
    address, reason = ended.stderr.splitlines()
    assert address.startswith('open http://127.0.0.1:')
    assert f'{tmp_path} has no model_index.json' in reason


@contextmanager
def started(folder, host='0.0.0.0'):
    """Start the server with its temporary files in a folder; yields process, opener, address."""
    pytest.importorskip('uvicorn')
    command = [*SERVE, '--host', host, '--model', 'tiny']
    environment = {**ENVIRONMENT, 'TMPDIR': str(folder)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            printed = urlsplit(process.stderr.readline().split()[1])
            assert printed.query.startswith('token=')
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            address = urlsplit(
                printed.geturl().replace(printed.netloc, f'127.0.0.1:{printed.port}')
            )
            assert b'<h1>' in opener.open(address.geturl(), timeout=20).read()
            yield process, opener, address
        finally:
            process.send_signal(signal.SIGTERM)


def test_it_prints_its_address_and_leaves_no_file_not_even_of_killed_servers(tmp_path):
    killed, other = (tmp_path / f'marigold_ros_serve_{name}' for name in ('killed', 'other'))
    for left in (killed, other):
        left.mkdir()
        (left / 'private.jpg').touch()
    in_use = os.open(other, os.O_RDONLY)
    fcntl.flock(in_use, fcntl.LOCK_EX)  # as a running server does
    with started(tmp_path) as (process, _, address):
        assert not killed.exists()
        assert (other / 'private.jpg').exists()
        assert len(list(tmp_path.glob('marigold_ros_serve_*'))) == 2
        with socket.create_connection((address.hostname, address.port)) as upload:
            head = f'POST /api/files?name=a.png&{address.query} HTTP/1.1\r\n'
            head += f'Host: {address.netloc}\r\nContent-Length: 9\r\n\r\n'
            upload.sendall(head.encode())
            while not any(tmp_path.glob('marigold_ros_serve_*/*/upload')):
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.stderr.read() == ''  # not that a request was cancelled
    assert process.wait(20) == 143
    os.close(in_use)
    assert list(tmp_path.glob('marigold_ros*')) == [other]


@pytest.mark.slow  # starts a process
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason='this machine has no IPv6')
def test_all_addresses_of_ipv6_include_those_of_ipv4(tmp_path):
    with started(tmp_path, host='::') as (_, opener, address):
        v6 = address.geturl().replace('127.0.0.1', '[::1]')
        assert b'<h1>' in opener.open(v6, timeout=20).read()


@pytest.mark.slow  # starts a process, and waits for its patience to end
@pytest.mark.parametrize('end', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_while_the_reading_of_a_file_hangs(tmp_path, hears_hangup, end):
    fifo = tmp_path / 'hangs.mcap'
    os.mkfifo(fifo)
    with started(tmp_path) as (process, opener, address):
        bag = urljoin(address.geturl(), f'/api/bags?{urlencode({"path": fifo})}')
        asked = threading.Thread(target=ask_in_vain, args=(opener, bag))
        asked.start()
        asked.join(0.5)
        began = time.monotonic()
        process.send_signal(end)
        process.wait(20)
        assert time.monotonic() - began < 5
    asked.join()
    assert list(tmp_path.glob('marigold_ros*')) == []


def ask_in_vain(opener, address):
    try:
        opener.open(urllib.request.Request(address, method='POST'), timeout=20)
    except HTTPError as answer:  # Python 3.14 warns of those that stay open
        answer.close()
    except OSError:  # the server ends
        pass
