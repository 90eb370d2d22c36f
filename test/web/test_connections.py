# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Strangers who connect and ask for nothing hold up nobody, and do not fill the log."""

from __future__ import annotations

from contextlib import ExitStack
import io
import logging
import socket

import cv2
from marigold_ros.web import connections
from marigold_ros.web.connections import limited_logs, MOST_OPEN, MOST_RECORDS
import numpy as np
import pytest

PNG = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
HALF = b'GET / HTTP/1.1\r\nX-A: '


@pytest.fixture
def strangers(server):
    """Return a function that opens connections which send half a request."""
    with ExitStack() as kept:

        def connect(count):
            found = [socket.create_connection(('127.0.0.1', server.port)) for _ in range(count)]
            for stranger in found:
                kept.enter_context(stranger)
                stranger.settimeout(20)
                stranger.sendall(HALF)
            return found

        yield connect


def is_closed(connection):
    try:
        return connection.recv(1) == b''
    except ConnectionResetError:
        return True


@pytest.fixture
def patient(monkeypatch):
    """Give every connection more time than the test, so that only their number closes one."""
    monkeypatch.setattr(connections, 'HEAD_S', 60.0)


@pytest.mark.usefixtures('patient')
def test_the_oldest_half_requests_make_room(server, strangers):
    oldest, *_ = strangers(MOST_OPEN + 100)
    assert is_closed(oldest)
    assert server.send('a.png', PNG).status == 202


@pytest.mark.usefixtures('patient')
def test_an_upload_goes_on_while_strangers_connect(server, strangers):
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as upload:
        head = f'POST /api/files?name=a.png HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: '
        head += f'{server.bearer}\r\nContent-Length: {len(PNG)}\r\n\r\n'
        upload.sendall(head.encode() + PNG[:20])
        server.settles(lambda: any(server.folder.glob('*/upload/a.png')))
        oldest, *_ = strangers(MOST_OPEN + 100)
        assert is_closed(oldest)
        upload.sendall(PNG[20:])
        assert upload.recv(20).split()[1] == b'202'


def test_who_sends_no_whole_request_in_time_is_closed(server, strangers, monkeypatch):
    monkeypatch.setattr(connections, 'HEAD_S', 0.05)
    (stranger,) = strangers(1)
    assert is_closed(stranger)


@pytest.fixture
def log():
    """A logger of the time while the server runs, and what it wrote."""
    with limited_logs():
        handler = logging.getLogger().handlers[-1]
        written = io.StringIO()
        handler.setStream(written)
        yield logging.getLogger('asyncio.test'), lambda: written.getvalue().splitlines()


def test_the_log_is_limited_and_says_by_how_much(log, monkeypatch):
    logger, lines = log
    for number in range(MOST_RECORDS + 80):
        logger.warning('no file %d', number)
    assert len(lines()) == MOST_RECORDS
    monkeypatch.setattr(connections, 'PERIOD_S', 0.0)
    logger.warning('another %s', 'minute')
    assert lines()[-1] == 'another minute (80 left out before)'
    logger.warning('the next one')
    assert lines()[-1] == 'the next one'


def test_the_log_escapes_control_characters_also_in_tracebacks(log):
    logger, lines = log
    try:
        raise RuntimeError('\x1b]0;owned\x07 \u202egnp.exe')
    except RuntimeError:
        logger.exception('%s failed', 'a\nfalse line\x1b[2J')
    assert lines()[0] == r'a\nfalse line\u001b[2J failed'
    assert lines()[1] == 'Traceback (most recent call last):'
    assert lines()[-1] == r'RuntimeError: \u001b]0;owned\u0007 \u202egnp.exe'
