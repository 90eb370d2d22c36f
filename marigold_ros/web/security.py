# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Who may talk to the server: names of the host, the token, requests of other sites.

A page of another site can send requests to a server on localhost, also under a name of its own
that resolves to 127.0.0.1 (DNS rebinding). So the Host header has to name this machine, requests
that change something must come from the server's own page, and answers can be embedded nowhere
else.
"""

from contextlib import suppress
from dataclasses import dataclass
import hmac
import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({'localhost', '127.0.0.1', '::1'})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report brings its own policy, which allows its own script only; here it loses the origin.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)
_HEADERS = {
    'content-security-policy': POLICY,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
    'cache-control': 'no-store',
}
_SAFE = ('GET', 'HEAD')
_OTHER_SITE = 'a page of another site may not use this server; open its own'


@dataclass(frozen=True)
class Access:
    """Names under which the server may be reached, and its token."""

    names: frozenset[str]
    any_address: bool  # whether numeric addresses are names too: no site has one of those
    token: str


def access_for(host: str) -> Access:
    """Return who may reach a server: on the loopback too the token keeps other users out."""
    token, address = secrets.token_urlsafe(24), _address(host)
    if host.lower() == 'localhost' or (address is not None and address.is_loopback):
        return Access(LOOPBACK | {host.lower()}, False, token)
    own = socket.gethostname().lower()
    short = own.partition('.')[0]
    names = LOOPBACK | {host.lower(), own, short, f'{short}.local'}
    return Access(names, True, token)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a numeric address; None for a name."""
    with suppress(ValueError):
        return ipaddress.ip_address(name)
    return None


class Guard:
    """Checks every request before the application sees it, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with one sentence."""
        if scope['type'] == 'lifespan':
            await self._app(scope, receive, send)
            return
        if scope['type'] != 'http':  # a WebSocket; there are none
            await send({'type': 'websocket.close', 'code': 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._greeting(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist('host')
        if len(hosts) != 1 or not self._is_named(hosts[0]):
            shown = ', '.join(hosts)[:80] or 'none'
            return refusal(
                403,
                f"the request asks for host '{shown}', which is not a name of this server; use "
                'the address that it printed at its start',
            )
        changes = scope['method'] not in _SAFE
        if changes and headers.get('origin', f'//{hosts[0]}').partition('//')[2] != hosts[0]:
            return refusal(403, _OTHER_SITE)
        elsewhere = headers.get('sec-fetch-site') in ('cross-site', 'same-site')
        if elsewhere and (changes or headers.get('sec-fetch-mode') != 'navigate'):
            return refusal(403, _OTHER_SITE)
        if not self._has_token(scope, headers):
            return refusal(
                401,
                'this server asks for a token; open the address with ?token=… that it printed at '
                'its start',
            )
        return None

    def _is_named(self, host: str) -> bool:
        try:
            parts = urlsplit(f'//{host}')
            name, _ = parts.hostname or '', parts.port  # that names the cookie
        except ValueError:
            return False
        return name in self._access.names or (
            self._access.any_address and _address(name) is not None
        )

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        given = [
            headers.get('authorization', '').removeprefix('Bearer '),
            cookie_parser(headers.get('cookie', '')).get(_cookie(scope), ''),
            QueryParams(scope['query_string']).get('token', ''),
        ]
        wanted = self._access.token.encode()
        # All are compared, so that the time does not depend on which one was given.
        found = [hmac.compare_digest(text.encode(), wanted) for text in given]
        return any(found)

    def _greeting(self, scope: Scope) -> Response | None:
        """Return the answer that moves a token from the address into a cookie."""
        if scope['path'] != '/' or not scope['query_string']:
            return None
        answer = RedirectResponse('/', 303)
        # A strict one would not be sent to where a link of another site, as a terminal in the
        # browser, is redirected to. Nothing that is opened by a link changes anything.
        answer.set_cookie(_cookie(scope), self._access.token, httponly=True, samesite='lax')
        return answer


def _cookie(scope: Scope) -> str:
    """Return the name of the cookie: all ports, forwarded ones too, share those of their host."""
    host = Headers(scope=scope)['host']
    return f'marigold_token_{urlsplit(f"//{host}").port or 80}'


def refusal(status: int, text: str) -> Response:
    """Return an error in one sentence, which ends the connection."""
    # What is left of an upload would be taken for the next request.
    return JSONResponse({'error': text}, status, {'connection': 'close'})
