# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Frames for a long time while all changes around them: memory and threads must not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
import threading
import time

from faults import FAULTS
from loopback_node import Rig
from marigold_ros.node.health.input_health import memory_mb
import numpy as np
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, PointCloud2
from synthetic_messages import mounting_parameters, View, views

_RATE = 10.0  # frames a second
_CALM = 2.0  # seconds between two events
_GROWTH = 0.05  # of resident memory that is allowed
_JUMP = 100_000_000_000  # ns that the clock goes back
_FAULTS = tuple(fault for fault in FAULTS if fault.role != 'compressed')
_CHANGES = (
    ('alignment.method', ('global', 'local', 'median')),
    ('points.stride', (1, 2, 4)),
    ('depth_encoding', ('32FC1', '16UC1')),
    ('alignment.smoothing', (0.0, 0.6)),
)


@dataclass
class Outcome:
    """
    What came of a soak.

    ``events`` by kind; images ``received`` and ``served``, and ``unaccounted`` for; resident
    ``memory_mb`` and ``threads`` after the first tenth of the time and at its end.
    """

    events: Counter = field(default_factory=Counter)
    received: int = 0
    served: int = 0
    unaccounted: int = 0
    memory_mb: tuple[float, float] = (0.0, 0.0)
    threads: tuple[int, int] = (0, 0)

    @property
    def growth(self) -> float:
        """Of the memory, as a share."""
        return self.memory_mb[1] / max(self.memory_mb[0], 1e-9) - 1.0

    @property
    def clean(self) -> bool:
        """Whether all images are accounted for and nothing grew."""
        grown = self.growth > _GROWTH or self.threads[1] > self.threads[0]
        return self.served > 0 and self.unaccounted == 0 and not grown


class Soak:
    """
    A robot that sends frames, and what happens to it.

    Parameters
    ----------
    rig : Rig
        Node and robot.
    places : list of View
        What the robot sees.
    seed : int
        Of the events.

    """

    def __init__(self, rig: Rig, places: list[View], seed: int) -> None:
        self._rig, self._views = rig, places
        self._rng = np.random.default_rng(seed)
        self._stamp = 1_000_000_000_000
        self._number = 0
        self.events: Counter = Counter()

    def send(self) -> None:
        """Send the next frame; nothing is waited for."""
        self._number += 1
        self._stamp += round(1e9 / _RATE)
        view = self._views[self._number % len(self._views)]
        for role in ('scan', 'info', 'image'):
            self._rig.publishers[role].publish(view.message(role, self._stamp))

    def disturb(self) -> None:
        """Let one thing happen."""
        happenings = (
            self._change_parameter,
            self._break_message,
            self._jump_back,
            self._restart_driver,
            self._rest,
        )
        happening = happenings[int(self._rng.integers(len(happenings)))]
        self.events[happening.__name__.strip('_').replace('_', ' ')] += 1
        happening()

    def _change_parameter(self) -> None:
        name, choices = _CHANGES[int(self._rng.integers(len(_CHANGES)))]
        value = choices[int(self._rng.integers(len(choices)))]
        self._rig.node.set_parameters([Parameter(name, value=value)])

    def _break_message(self) -> None:
        fault = _FAULTS[int(self._rng.integers(len(_FAULTS)))]
        message = self._views[0].message(fault.role, self._stamp + 1)
        fault.corrupt(message, self._rng)
        self._rig.publishers[fault.role].publish(message)

    def _jump_back(self) -> None:
        self._stamp -= _JUMP

    def _restart_driver(self) -> None:
        role = ('image', 'info', 'scan')[int(self._rng.integers(3))]
        self._rig.open(role, reliable=bool(self._rng.integers(2)))

    def _rest(self) -> None:
        """Deactivate the node, let a frame pass, and activate it again."""
        node = self._rig.node
        with node.transition_lock:
            node.trigger_deactivate()
            self.send()
            node.trigger_activate()


def run_soak(seconds: float, seed: int, progress: Callable[[float], None]) -> Outcome:
    """
    Send ten frames a second, and every two seconds let something happen.

    Parameters
    ----------
    seconds : float
        How long.
    seed : int
        The same seed lets the same things happen.
    progress : callable
        Told of each second.

    """
    outputs = {'depth/image_rect': Image, 'points': PointCloud2}
    parameters = {**mounting_parameters(), 'processing_resolution': 64}
    with Rig(parameters, outputs, lambda _name, _message: None) as rig:
        robot = Soak(rig, views(seed), seed)
        samples = _drive(robot, seconds, progress)
        rig.wait_idle()
        frames = rig.node.health.counters.snapshot('frames.')
    received = frames.pop('frames.received')
    early, late = _early_and_late(samples)
    return Outcome(
        robot.events,
        received,
        frames['frames.served'],
        received - sum(frames.values()),
        (early[0], late[0]),
        (int(early[1]), int(late[1])),
    )


def _drive(
    robot: Soak, seconds: float, progress: Callable[[float], None]
) -> list[tuple[float, int]]:
    """Send frames at their rate; memory and threads at each second."""
    begun = time.monotonic()
    samples: list[tuple[float, int]] = []
    next_frame = next_event = begun
    while (now := time.monotonic()) < begun + seconds:
        if now >= next_frame:
            next_frame = max(next_frame + 1.0 / _RATE, now)
            robot.send()
        if now >= next_event:
            next_event += _CALM
            robot.disturb()
        if now - begun >= len(samples):
            samples.append((memory_mb()['resident_mb'], threading.active_count()))
            progress(1)
        time.sleep(max(0.0, min(next_frame, next_event) - time.monotonic()))
    return samples


def _early_and_late(samples: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Medians of the second and the last tenth; the first is when everything is loaded."""
    tenth = max(1, len(samples) // 10)
    values = np.array(samples, dtype=float)
    return np.median(values[tenth : 2 * tenth], axis=0), np.median(values[-tenth:], axis=0)
