# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Newest coloured depth of running nodes, as JPEG.

The node encodes ``~/depth/color/compressed`` only while somebody subscribes, so a topic is
subscribed to only while somebody watches it; its bytes are handed on as they are.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.live_run.process import own_context, own_node, spinning
from marigold_ros.node.diagnostic_keys import values_of
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

_IMAGES, _STATE = '/depth/color/compressed', '/alignment'
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
_WINDOW = 20  # images over which the rate is counted
_DISCOVERY_S = 1.0  # until nodes that run already are seen


@dataclass
class _Watched:
    """A node that somebody watches: its newest image, when the last ones came, its fit."""

    subscriptions: list[Any] = field(default_factory=list)
    watchers: int = 0
    number: int = 0
    image: bytes = b''
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    fit: dict[str, str] = field(default_factory=dict)
    heard: float | None = None  # when the last image or fit came


class DepthViewer:
    """Watches the depth nodes of the user's ROS domain; use it in a ``with`` block."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._changed = threading.Condition()
        self._stack = ExitStack()

    def __enter__(self) -> 'DepthViewer':
        context = self._stack.enter_context(own_context())
        self._node = self._stack.enter_context(own_node('marigold_view', context))
        self._stack.enter_context(spinning(self._node))
        time.sleep(_DISCOVERY_S)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def nodes(self) -> list[str]:
        """Return the names of the depth nodes that are seen, such as /marigold_depth."""
        topics = [name for name, _ in self._node.get_topic_names_and_types()]
        images = [name for name in topics if name.endswith(_IMAGES)]
        # A topic outlives its node as long as somebody subscribes, as the viewer itself does.
        published = [name for name in images if self._node.count_publishers(name)]
        return sorted(name.removesuffix(_IMAGES) for name in published)

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Subscribe to a node's outputs, unless somebody else watches it already."""
        with self._changed:
            watched = self._watched.setdefault(name, _Watched())
            watched.watchers += 1
            if watched.watchers == 1:
                self._subscribe(name, watched)
        try:
            yield
        finally:
            with self._changed:
                watched.watchers -= 1
                if not watched.watchers:
                    del self._watched[name]
                    for subscription in watched.subscriptions:
                        self._node.destroy_subscription(subscription)

    def _subscribe(self, name: str, watched: _Watched) -> None:
        def take_image(message: CompressedImage) -> None:
            with self._changed:
                watched.image = bytes(message.data)
                watched.number += 1
                watched.heard = time.monotonic()
                watched.arrivals.append(watched.heard)
                self._changed.notify_all()

        def take_fit(message: DiagnosticArray) -> None:
            if not message.status:  # of another node: ours states one
                return
            with self._changed:
                watched.fit = values_of(message.status[0])
                watched.heard = time.monotonic()

        subscribe = self._node.create_subscription
        watched.subscriptions = [
            subscribe(CompressedImage, name + _IMAGES, take_image, _QOS),
            subscribe(DiagnosticArray, name + _STATE, take_fit, _QOS),
        ]

    def next_image(self, name: str, after: int, seconds: float) -> tuple[int, bytes] | None:
        """Wait for an image later than number ``after`` of a watched node; None without one."""
        with self._changed:
            watched = self._watched[name]
            if not self._changed.wait_for(lambda: watched.number > after, seconds):
                return None
            return watched.number, watched.image

    def state(self, name: str) -> dict[str, Any]:
        """
        Return what is known of a node.

        ``hertz`` of its images and ``age`` of the newest in seconds, both None before there are
        any, ``silence`` since its last image or fit, ``fit`` (fitted, held or none) and the
        ``reason``; empty while nobody watches it.
        """
        with self._changed:
            watched = self._watched.get(name)
            if watched is None:
                return {}
            times = list(watched.arrivals)
            span = times[-1] - times[0] if times else 0.0
            now = time.monotonic()
            return {
                'hertz': (len(times) - 1) / span if span > 0 else None,
                'age': now - times[-1] if times else None,
                'silence': None if watched.heard is None else now - watched.heard,
                'fit': watched.fit.get('state', ''),
                'reason': watched.fit.get('reason', ''),
            }
