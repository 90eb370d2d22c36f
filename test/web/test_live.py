# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The stream of a running node, from a viewer that stands in for ROS."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
import socket
from unittest.mock import AsyncMock

from marigold_ros.web import live
from marigold_ros.web.live import Live
import pytest

NODE = '/marigold_depth'


@pytest.fixture
def planted(server, monkeypatch, planted_viewer):
    viewer = planted_viewer({NODE: b''}, {'fit': 'fitted'})
    monkeypatch.setattr(server.live, 'viewer', lambda: viewer)
    return viewer


@contextmanager
def watching(server):
    """Read the stream of the node over a connection of its own."""
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as connection:
        path = f'/api/live/images?node={NODE}'
        head = f'GET {path} HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: {server.bearer}'
        connection.sendall(f'{head}\r\n\r\n'.encode())
        with connection.makefile('rb') as stream:
            yield stream


def test_images_are_streamed_in_their_order_until_the_page_leaves(server, planted):
    with watching(server) as stream:
        assert stream.readline().split()[1] == b'200'
        text = b''.join(stream.readline() for _ in range(60))
        assert b'multipart/x-mixed-replace; boundary=frame' in text
        assert text.index(b'image 1\r\n') < text.index(b'image 2\r\n') < text.index(b'image 3\r\n')
        assert planted.watched == [NODE]
    server.settles(lambda: planted.watched == [])


def test_only_so_many_watch_at_once(server, planted, monkeypatch):
    monkeypatch.setattr(live, 'MOST_WATCHING', 1)
    with watching(server) as stream:
        stream.readline()
        server.settles(lambda: planted.watched == [NODE])
        answer = server.ask('GET', f'/api/live/images?node={NODE}')
        assert answer.status == 429
    server.settles(lambda: planted.watched == [])


def test_of_those_who_come_at_the_same_moment_no_more_watch(planted_viewer):
    async def open_all():
        view, present = Live(lambda: planted_viewer({NODE: b''})), AsyncMock(return_value=False)
        streams = [view.images(NODE, present) for _ in range(live.MOST_WATCHING + 2)]
        found = [await anext(stream, b'') for stream in streams]
        for stream in streams:
            await stream.aclose()
        return found.count(b'')

    assert asyncio.run(open_all()) == 2


def test_nodes_and_their_state_are_listed_and_others_are_refused(server, planted):
    assert server.ask('GET', '/api/live').json['nodes'] == [NODE]
    assert server.ask('GET', f'/api/live/state?node={NODE}').json['fit'] == 'fitted'
    answer = server.ask('GET', '/api/live/images?node=/other')
    assert answer.status == 404
    assert 'ROS_DOMAIN_ID' in answer.json['error']


def test_without_ros_one_sentence_says_so(server, without_rclpy):
    for address in ('/api/live', '/api/live/state', '/api/live/images'):
        answer = server.ask('GET', address)
        assert answer.status == 422
        assert 'needs rclpy' in answer.json['error']


def test_the_viewer_is_opened_once_and_closed_at_the_end_with_its_streams(planted_viewer):
    opened = []

    def open_viewer():
        opened.append(planted_viewer({NODE: b''}))
        return opened[-1]

    view = Live(open_viewer)
    assert opened == []
    assert view.viewer() is view.viewer()

    async def close_while_watched():
        stream = view.images(NODE, AsyncMock(return_value=False))
        assert b'image 1' in await anext(stream)
        view.close()
        return await anext(stream, b'')

    assert asyncio.run(close_while_watched()) == b''
    assert [viewer.closed.is_set() for viewer in opened] == [True]
