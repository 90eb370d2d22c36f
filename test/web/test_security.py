# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Only the page of the server, under a name of the machine and with its token, is answered."""

import re
import socket

from marigold_ros.web.security import access_for
import pytest

ADDRESSES = ['/', '/page/serve.js', '/api/settings', '/api/jobs/none', '/nothing']


@pytest.mark.parametrize('host', ['localhost', '127.0.0.1', '[::1]', 'LOCALHOST'])
def test_names_of_the_loopback_are_answered(server, host):
    answer = server.ask('GET', '/', headers={'Host': f'{host}:{server.port}'})
    assert answer.status == 200


@pytest.mark.parametrize(
    'host',
    [
        *('evil.example', '127.0.0.1.evil.example', '10.1.2.3', '', '[::1', 'localhost@evil'),
        *('localhost:99999', 'localhost:no', 'localhost:-1', None),
    ],
)
def test_other_names_are_refused(server, host):
    answer = server.ask('GET', '/api/settings', headers={'Host': host})
    assert answer.status in (400, 403)
    assert b'models' not in answer.data


def test_a_request_that_names_no_host_is_refused(server):
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as connection:
        connection.sendall(b'GET / HTTP/1.0\r\n\r\n')
        assert connection.recv(20).split()[1] == b'403'


def test_a_server_has_the_names_of_its_machine_only_where_others_reach_it():
    for host in ('LOCALHOST', '127.0.0.5', '::1'):
        access = access_for(host)
        assert access.names == {'localhost', '127.0.0.1', '::1', host.lower()}
        assert not access.any_address
    name = socket.gethostname().lower().partition('.')[0]
    access = access_for('0.0.0.0')
    assert {'localhost', name, f'{name}.local'} < access.names
    assert access.any_address


@pytest.mark.parametrize('method', ['POST', 'DELETE', 'PUT'])
@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://evil.example'},
        {'Origin': 'null'},
        {'Origin': 'http://localhost:1'},
        {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate'},
        {'Sec-Fetch-Site': 'same-site'},
    ],
)
def test_pages_of_other_sites_change_nothing(server, method, headers):
    answer = server.ask(method, '/api/files?name=a.png', b'x', headers)
    assert answer.status == 403
    assert 'another site' in answer.json['error']


def test_pages_of_other_sites_embed_nothing(server):
    headers = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors'}
    assert server.ask('GET', '/api/settings', headers=headers).status == 403
    linked = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate'}
    assert server.ask('GET', '/', headers=linked).status == 200
    own = {'Origin': f'http://{server.host}', 'Sec-Fetch-Site': 'same-origin'}
    assert server.ask('DELETE', '/api/jobs/none', headers=own).status == 404


@pytest.mark.parametrize('path', ADDRESSES)
def test_every_answer_has_the_policy_and_allows_no_other_origin(server, path):
    headers = server.ask('GET', path, headers={'Origin': 'http://evil.example'}).headers
    policy = headers['content-security-policy']
    assert "default-src 'none'" in policy
    assert 'unsafe' not in policy
    assert headers['x-content-type-options'] == 'nosniff'
    assert headers['cache-control'] == 'no-store'  # by the browser
    assert headers['referrer-policy'] == 'no-referrer'  # the address may hold the token
    assert headers['cross-origin-resource-policy'] == 'same-origin'
    assert not [name for name in headers if name.startswith('access-control')]


def test_the_page_holds_no_inline_script_style_or_outside_address(server):
    text = server.ask('GET', '/').data.decode()
    assert not re.search(r'<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=|https?:', text)
    own = {*re.findall(r'(?:src|href)="(/[^"]+)"', text)}
    assert len(own) >= 7
    assert all(server.ask('GET', path).status == 200 for path in own)


@pytest.fixture(scope='module')
def open_server(tmp_path_factory, serving):
    """A server that other machines could reach; here it still listens on the loopback only."""
    with serving(tmp_path_factory.mktemp('open'), host='0.0.0.0') as client:
        yield client


@pytest.mark.parametrize('host', ['127.0.0.1', '0.0.0.0'])
def test_nothing_is_answered_without_the_token(server, open_server, host):
    asked = server if host == '127.0.0.1' else open_server
    token = asked.access.token
    assert len(token) >= 32
    assert token != access_for(host).token
    none = {'Authorization': None}
    for path in ADDRESSES:
        assert asked.ask('GET', path, headers=none).status == 401
        assert asked.ask('GET', f'{path}?token={token[:-1]}', headers=none).status == 401
        for wrong in ('', 'é', token[:-1], token.upper() + 'a'):
            cookie = {'Cookie': f'marigold_token_{asked.port}={wrong}'.encode(), **none}
            assert asked.ask('GET', path, headers=cookie).status == 401
    for path in ('/api/files?name=a.png', '/api/bags?path=/home/other/drive'):
        answer = asked.ask('POST', path, b'x', none)
        assert answer.status == 401
        assert 'that it printed' in answer.json['error']


def test_the_token_of_the_address_becomes_a_cookie_that_scripts_cannot_read(server):
    none = {'Authorization': None}
    answer = server.ask('GET', server.address.removeprefix(f'http://{server.host}'), headers=none)
    assert (answer.status, answer.headers['location']) == (303, '/')
    cookie = answer.headers['set-cookie']
    assert 'HttpOnly' in cookie
    assert 'SameSite=lax' in cookie
    # Browsers send cookies of one port to all others of a machine.
    assert cookie.startswith(f'marigold_token_{server.port}=')
    kept = {'Cookie': cookie.partition(';')[0], **none}
    assert server.ask('GET', '/', headers=kept).status == 200
    assert server.ask('GET', '/api/settings', headers=kept).status == 200
    assert server.ask('GET', '/api/settings').status == 200


@pytest.mark.parametrize(
    ('host', 'other'),
    [('localhost:8191', 'localhost:8192'), ('[::1]:8191', '[::1]:8192'), ('localhost', '[::1]:1')],
)
def test_servers_behind_forwarded_ports_have_cookies_of_their_own(server, host, other):
    path, none = server.address.removeprefix(f'http://{server.host}'), {'Authorization': None}
    greeting = server.ask('GET', path, headers={'Host': host, **none})
    kept = {'Cookie': greeting.headers['set-cookie'].partition(';')[0], **none}
    assert server.ask('GET', '/api/jobs', headers={'Host': host, **kept}).status == 200
    greeting = server.ask('GET', path, headers={'Host': other, **none})
    name = greeting.headers['set-cookie'].partition('=')[0]
    assert name != kept['Cookie'].partition('=')[0]
    assert server.ask('GET', '/api/jobs', headers={'Host': other, **kept}).status == 401


def test_beyond_the_loopback_addresses_are_names_and_other_names_are_not(open_server):
    for host in ('192.168.1.7:8090', '[fe80::1]:8090', 'localhost:8090'):
        assert open_server.ask('GET', '/', headers={'Host': host}).status == 200
    assert open_server.ask('GET', '/', headers={'Host': 'evil.example'}).status == 403


def test_websockets_are_refused(server):
    upgrade = {
        'Connection': 'Upgrade',
        'Upgrade': 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
        'Origin': 'http://evil.example',
    }
    assert server.ask('GET', '/api/none', headers=upgrade).status == 404
