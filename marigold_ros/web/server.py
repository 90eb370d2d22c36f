# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The running server: a socket, a temporary folder, a thread for jobs, uvicorn."""

from collections.abc import Callable
from contextlib import closing, suppress
import os
from pathlib import Path
import signal
import socket
import sys
import tempfile

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.protocol import DepthModel
from marigold_ros.web.app import make_app, Service
from marigold_ros.web.jobs import JobQueue
from marigold_ros.web.models import ModelStore
from marigold_ros.web.security import access_for
from marigold_ros.web.uploads import Limits
import numpy as np
import uvicorn

_PATIENCE_S = 2  # with open connections at the end


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

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 is any free one. Beyond the loopback a token is asked for.
    limits : Limits
        Largest uploads.
    load : function
        Loads a model by its name.
    model : str
        The model to load before the page is opened.
    ready : function
        Called with the address of the page.

    Raises
    ------
    ConfigurationError
        If the address cannot be used.

    """
    with _listening_socket(host, port) as listening:
        access = access_for(host)
        models = ModelStore(load, model)
        # The first image of a process takes longer than the others.
        models.get(model).predict(np.zeros((96, 128, 3), np.uint8))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with tempfile.TemporaryDirectory(prefix='marigold_ros_') as folder, JobQueue() as jobs:
            service = Service(models, jobs, Path(folder), limits)
            app = make_app(service, access)
            config = uvicorn.Config(
                app,
                ws='none',
                log_level='warning',
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_PATIENCE_S,
            )
            ready(_address(host, listening.getsockname()[1], access.token))
            with closing(service.live), suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])


def _address(host: str, port: int, token: str) -> str:
    """Return the address of the page; for all interfaces it has the name of this machine."""
    name = socket.gethostname() if host in ('', '0.0.0.0', '::') else host  # noqa: S104
    name = f'[{name}]' if ':' in name else name
    return f'http://{name}:{port}/' + (f'?token={token}' if token else '')


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        number = error.errno or 0  # negative: names that are not resolved
        why = os.strerror(number) if number > 0 else 'there is no such address'
        raise ConfigurationError(
            f'the server cannot listen on {host}, port {port} ({why}); choose another --port, or '
            'an address of this machine as --host'
        ) from error
