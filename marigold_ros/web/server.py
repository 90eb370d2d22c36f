# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The running server: a socket, a temporary folder, a thread for jobs, uvicorn."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
import fcntl
import logging
import os
from pathlib import Path
import shutil
import signal
import socket
import sys
import tempfile
import threading
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.protocol import DepthModel
from marigold_ros.web.app import make_app, Service
from marigold_ros.web.connections import ACCEPTED_AT_ONCE, Connection, limited_logs
from marigold_ros.web.jobs import JobQueue
from marigold_ros.web.models import ModelStore
from marigold_ros.web.security import access_for
from marigold_ros.web.uploads import Limits
import uvicorn

_PATIENCE_S = 1  # with open connections at the end
_LAST_S = 4.0  # after a signal; what still works then is given up
_TERMINATED = 143  # exit code, as the shell reports SIGTERM
_PREFIX = 'marigold_ros_serve_'


def run_server(
    host: str,
    port: int,
    limits: Limits,
    load: Callable[[str], DepthModel],
    model: str,
    ready: Callable[[str], None],
) -> None:
    """
    Serve until Ctrl-C; everything that was uploaded is deleted at the end.

    Port 0 is any free one. ``load`` loads a model by its name, ``model`` first, while the page is
    open already; ``ready`` is called with the address of the page, which holds its token. Raises
    ConfigurationError if the address cannot be used, and the error of a model that cannot be
    loaded.
    """
    with _listening_socket(host, port) as listening:
        access = access_for(host)
        models = ModelStore(load, model)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        jobs = JobQueue(models.prepare)
        with limited_logs(), _ending(jobs), _upload_folder() as folder:
            service = Service(models, jobs, folder, limits)
            config = server_config(make_app(service, access))
            ready(_address(host, listening.getsockname()[1], access.token))
            with jobs, closing(service.live), suppress(KeyboardInterrupt):
                _Server(config, folder, jobs).run(sockets=[listening])
            if jobs.failure:
                raise jobs.failure


def server_config(app: Callable[..., Any]) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws='none',
        backlog=ACCEPTED_AT_ONCE,
        log_config=None,
        log_level='warning',
        access_log=False,  # addresses hold the token
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_PATIENCE_S,
    )


class _Server(uvicorn.Server):
    """Ends in any case some seconds after a signal, or if the model cannot be loaded."""

    def __init__(self, config: uvicorn.Config, folder: Path, jobs: JobQueue) -> None:
        super().__init__(config)
        self._jobs = jobs
        self._last = threading.Timer(_LAST_S, self._give_up, [folder])
        self._last.daemon = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end, which uvicorn asks ten times a second."""
        return await super().on_tick(counter) or self._jobs.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close connections, and end the process if that or what follows takes too long."""
        self._last.start()
        # uvicorn would log each cancelled request with a traceback.
        logging.getLogger('uvicorn.error').disabled = True
        await super().shutdown(sockets)

    def _give_up(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(_TERMINATED)


@contextmanager
def _ending(jobs: JobQueue) -> Iterator[None]:
    """End the process at last if a job is still inside a library, where nothing stops it."""
    try:
        yield
    finally:
        if not jobs.has_ended:
            os._exit(_TERMINATED)


@contextmanager
def _upload_folder() -> Iterator[Path]:
    """Yield a locked temporary folder; those of killed servers hold no lock and are deleted."""
    for left in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
        yield Path(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder of this user; raises OSError if it is that of another, locked, or a link."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(number).st_uid != os.getuid():
            raise PermissionError
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)


def _address(host: str, port: int, token: str) -> str:
    """Return the address of the page; for all interfaces it has the name of this machine."""
    name = socket.gethostname() if host in ('', '0.0.0.0', '::') else host  # noqa: S104
    name = f'[{name}]' if ':' in name else name
    return f'http://{name}:{port}/?token={token}'


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    both = host == '::' and socket.has_dualstack_ipv6()  # the name it prints often has IPv4 only
    try:
        host.encode('idna')  # else a socket would raise TypeError, and stay open
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        number = getattr(error, 'errno', None) or 0  # negative: names that are not resolved
        why = os.strerror(number) if number > 0 else 'there is no such address'
        raise ConfigurationError(
            f'the server cannot listen on {host}, port {port} ({why}); choose another --port, or '
            'an address of this machine as --host'
        ) from error
