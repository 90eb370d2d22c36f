# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A running server with a model whose prediction is the red channel of the image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
import json
import socket
import threading
import time
from types import SimpleNamespace
from urllib.parse import quote, urlencode

from marigold_ros.frame import Prediction
import numpy as np
import pytest

uvicorn = pytest.importorskip('uvicorn', reason='the extra serve is not installed')
pytest.importorskip('starlette', reason='the extra serve is not installed')


class RedChannelModel:
    """Predicts at once, or waits for ``gate`` where a test wants it to."""

    space = 'depth'

    def __init__(self, name):
        self.description = {'name': name, 'path': '/nowhere', 'space': 'depth'}
        self.gate = threading.Event()
        self.gate.set()
        self.asked = []  # the options of each prediction

    def predict(self, rgb, **options):
        self.asked.append(options)
        self.gate.wait(20)
        return Prediction(rgb[..., 0].astype(np.float32) / 255, space=self.space)

    def reset(self):
        pass


class PlantedViewer:
    """Has images of nodes, with numbers after them; ``watched`` are the nodes that are watched."""

    def __init__(self, images, state=None):
        self.images, self.planted, self.watched = images, state or {}, []
        self.closed = threading.Event()

    def nodes(self):
        return [*self.images]

    @contextmanager
    def watching(self, name):
        self.watched.append(name)
        try:
            yield
        finally:
            self.watched.remove(name)

    def next_image(self, name, after, seconds):
        time.sleep(0.05)
        return after + 1, self.images[name] + f'image {after + 1}'.encode()

    def state(self, name):
        return self.planted

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed.set()


class Client:
    """Requests to a server, each over a connection of its own."""

    def __init__(self, port, models, folder, token):
        self.port, self.models, self.folder = port, models, folder
        self.host = f'127.0.0.1:{port}'
        self.bearer = f'Bearer {token}'
        self.address = f'http://{self.host}/?token={token}'

    def ask(self, method, path, body=None, headers=None):
        """Return status, headers and body of an answer; JSON is decoded."""
        connection = HTTPConnection('127.0.0.1', self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        headers = {'Host': self.host, 'Authorization': self.bearer, **(headers or {})}
        if body is not None:
            headers.setdefault('Content-Length', str(len(body)))
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        kind = answer.headers.get('content-type', '')
        return SimpleNamespace(
            status=answer.status,
            headers=answer.headers,
            data=data,
            json=json.loads(data) if kind.startswith('application/json') else None,
        )

    def send(self, name, body, **query):
        return self.ask('POST', f'/api/files?{urlencode({"name": name, **query})}', body)

    def file(self, job, name):
        return self.ask('GET', f'/api/jobs/{job["id"]}/files/{quote(name)}')

    @property
    def is_busy(self):
        """Whether a job is being worked on, or waits."""
        return not all(self.jobs.describe(job)['ended'] for job in self.jobs.all())

    def settles(self, condition):
        """Wait for what the server does on its own."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def wait(self, job, until=lambda job: job['ended']):
        """Poll a job, as the page does."""
        deadline = time.monotonic() + 30
        while not until(job):
            assert time.monotonic() < deadline, job
            job = self.ask('GET', f'/api/jobs/{job["id"]}').json
        return job


@contextmanager
def running_server(folder, host='127.0.0.1', load=RedChannelModel, **limits) -> Iterator[Client]:
    """Serve in a thread of this process; yields its client."""
    from marigold_ros.web.app import make_app, Service
    from marigold_ros.web.jobs import JobQueue
    from marigold_ros.web.models import ModelStore
    from marigold_ros.web.security import access_for
    from marigold_ros.web.server import server_config
    from marigold_ros.web.uploads import Limits

    models = ModelStore(load, 'tiny')
    access = access_for(host)
    with socket.create_server(('127.0.0.1', 0)) as listening, JobQueue(models.prepare) as jobs:
        service = Service(models, jobs, folder, Limits(**limits))
        server = uvicorn.Server(server_config(make_app(service, access)))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        client = Client(listening.getsockname()[1], models, folder, access.token)
        client.access, client.jobs, client.live = access, jobs, service.live
        client.state = server.server_state  # its connections, and the tasks of requests
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope='module')
def server(tmp_path_factory) -> Iterator[Client]:
    """One server for the tests of a module, which leave no job behind."""
    with running_server(tmp_path_factory.mktemp('server')) as client:
        yield client


@pytest.fixture
def loading(tmp_path) -> Iterator[tuple[Client, threading.Event]]:
    """Yield a server that is still loading its model, until the event is set."""
    loads = threading.Event()

    def load(name):
        loads.wait(20)
        return RedChannelModel(name)

    with running_server(tmp_path, load=load) as client:
        yield client, loads
        loads.set()


@pytest.fixture(scope='session')
def serving():
    """The context manager, for servers with other options."""
    return running_server


@pytest.fixture(scope='session')
def planted_viewer():
    """The class, for viewers of other images."""
    return PlantedViewer
