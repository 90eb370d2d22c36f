# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command that starts the server: what is missing, where it listens, what it leaves."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit
import urllib.request

from marigold_ros.__main__ import main
import pytest


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
    assert main(['serve', '--host', 'no such host', '--port', '0']) == 1
    assert '(there is no such address); choose' in capsys.readouterr().err


@pytest.mark.parametrize('port', ['99999', '-1', 'http'])
def test_what_is_no_port_is_wrong_usage(port, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['serve', f'--port={port}'])
    assert stop.value.code == 2
    assert f"'{port}'" in capsys.readouterr().err


def test_it_prints_its_address_and_leaves_no_file(tmp_path):
    pytest.importorskip('uvicorn')
    command = [sys.executable, '-m', 'marigold_ros', 'serve', '--host', '0.0.0.0', '--port', '0']
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, 'TMPDIR': str(tmp_path), 'PYTHONPATH': str(root)}
    with subprocess.Popen(
        [*command, '--model', 'tiny'], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            address = process.stderr.readline().split()[1]
            assert '?token=' in address
            assert list(tmp_path.iterdir()) != []
            local = urlsplit(address)._replace(netloc=f'127.0.0.1:{urlsplit(address).port}')
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            assert b'<h1>' in opener.open(local.geturl(), timeout=20).read()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert [path for path in tmp_path.iterdir() if path.name.startswith('marigold_ros')] == []
