# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The live view: coloured depth of running nodes as MJPEG; ROS is imported when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
import threading
from typing import Any, TYPE_CHECKING

from marigold_ros.errors import needing, ROS_REMEDY
from marigold_ros.web.uploads import Refused
from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from marigold_ros.live_run.viewer import DepthViewer

BOUNDARY = 'frame'
MOST_WATCHING = 8
_WAIT_S = 0.5


def open_viewer() -> DepthViewer:
    """Return a viewer, for a ``with`` block; raises MarigoldError where ROS is missing."""
    with needing('the live view', ROS_REMEDY):
        from marigold_ros.live_run.viewer import DepthViewer
    return DepthViewer()


class Live:
    """The viewer of a server, opened when somebody first asks for it; ``close`` it at the end."""

    def __init__(self, open_viewer: Callable[[], Any] = open_viewer) -> None:
        self._open = open_viewer
        self._lock = threading.Lock()
        self._subscriptions = ExitStack()
        self._viewer: Any = None
        self._watching = 0
        self._closed = False

    def close(self) -> None:
        self._closed = True
        with self._lock, suppress(Exception):  # of a DDS that is already gone
            self._subscriptions.close()

    def viewer(self) -> Any:
        """Return the viewer; raises MarigoldError where ROS is missing."""
        with self._lock:
            if self._viewer is None:
                self._viewer = self._subscriptions.enter_context(self._open())
            return self._viewer

    def check(self, name: str) -> None:
        """Raise Refused unless a node of this name is seen, and few others watch."""
        if name not in self.viewer().nodes():
            raise Refused(
                404,
                f'no depth node {ascii(name[:80])} is seen; start it, and check ROS_DOMAIN_ID',
            )
        if self._watching >= MOST_WATCHING:
            raise Refused(429, f'{MOST_WATCHING} pages watch already; close one of them')

    async def images(
        self, name: str, is_gone: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Yield the parts of an MJPEG stream until the watcher is gone."""
        viewer, number = self.viewer(), 0
        if self._watching >= MOST_WATCHING:  # others were checked at the same time
            return
        self._watching += 1
        try:
            with viewer.watching(name):
                while not (self._closed or await is_gone()):
                    found = await run_in_threadpool(viewer.next_image, name, number, _WAIT_S)
                    if found is None:
                        continue
                    number, image = found
                    head = f'--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: '
                    yield f'{head}{len(image)}\r\n\r\n'.encode() + image + b'\r\n'
        finally:
            self._watching -= 1
