# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Send frames for a long time while everything around them changes.

  python test/trials/soak.py --minutes 20              ten frames a second, an event every 2 s

Exit code 1 if an image is unaccounted for, or memory or threads grew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
import sys
import threading
import time
from typing import Any

from faults import FAULTS
from loopback_node import LoopbackNode, wait_for
from marigold_ros.commands.terminal.output import grid
from marigold_ros.node.health import memory_mb
import numpy as np
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from synthetic_messages import mounting_parameters, View, views
from trial_script import run_script

_RATE = 10.0  # frames a second
_EVENT_PERIOD = 2.0  # seconds
_GROWTH = 0.05  # of resident memory that is allowed
_RELOADS = 10.0  # minutes from which models are loaded anew: memory settles after some loads
_JUMP = 100_000_000_000  # ns by which the clock goes back
_FAULTS = tuple(fault for fault in FAULTS if fault.role != 'compressed')
_CHANGES = (
    ('alignment.method', ('global', 'local', 'median')),
    ('points.stride', (1, 2, 4)),
    ('depth_encoding', ('32FC1', '16UC1')),
    ('alignment.smoothing', (0.0, 0.6)),
)


@dataclass
class SoakResult:
    """
    Result of a soak.

    ``events`` by kind; images ``received``, ``served`` and ``unaccounted`` for; resident
    ``memory_mb`` and ``threads`` before half of the time and at its end.
    """

    events: Counter = field(default_factory=Counter)
    received: int = 0
    served: int = 0
    unaccounted: int = 0
    memory_mb: tuple[float, float] = (0.0, 0.0)
    threads: tuple[int, int] = (0, 0)

    @property
    def growth(self) -> float:
        """Growth of memory as a share."""
        return self.memory_mb[1] / max(self.memory_mb[0], 1e-9) - 1.0

    @property
    def clean(self) -> bool:
        """Whether all images are accounted for and nothing grew."""
        grown = self.growth > _GROWTH or self.threads[1] > self.threads[0]
        return self.served > 0 and self.unaccounted == 0 and not grown


class Soak:
    """A stream of frames and the events that disturb it, random by ``seed``."""

    def __init__(
        self, loop: LoopbackNode, scenes: list[View], seed: int, reloads: bool = False
    ) -> None:
        self._loop, self._views = loop, scenes
        self._rng = np.random.default_rng(seed)
        self._stamp = 1_000_000_000_000
        self._number = 0
        self.events: Counter = Counter()
        self._reload_model = loop.robot.node.create_client(Trigger, '/marigold_depth/reload')
        self._answers: list[Any] = []  # to come, of reloads
        self._reloads = (self._reload,) if reloads else ()

    def send(self) -> None:
        """Publish the next frame without waiting."""
        self._number += 1
        self._stamp += round(1e9 / _RATE)
        view = self._views[self._number % len(self._views)]
        for role in ('scan', 'info', 'image'):
            self._loop.robot.publishers[role].publish(view.message(role, self._stamp))

    def disturb(self) -> None:
        """Inject one event at random."""
        changes = (self._change_parameter, self._corrupt_message, *self._reloads)
        event = self._any((*changes, self._jump_back, self._restart_driver, self._pause))
        self.events[event.__name__.strip('_').replace('_', ' ')] += 1
        event()

    def _any(self, choices: tuple) -> Any:
        return choices[int(self._rng.integers(len(choices)))]

    def _change_parameter(self) -> None:
        name, choices = self._any(_CHANGES)
        self._loop.node.set_parameters([Parameter(name, value=self._any(choices))])

    def _corrupt_message(self) -> None:
        fault = self._any(_FAULTS)
        message = self._views[0].message(fault.role, self._stamp + 1)
        fault.corrupt(message, self._rng)
        self._loop.robot.publishers[fault.role].publish(message)

    def _jump_back(self) -> None:
        self._stamp -= _JUMP

    def _restart_driver(self) -> None:
        role = self._any(('image', 'info', 'scan'))
        self._loop.robot.offer(role, reliable=bool(self._rng.integers(2)))

    def _reload(self) -> None:
        """Load the model anew beside the frames; PyTorch answers until OpenVINO takes over."""
        self._answers = [answer for answer in self._answers if not answer.done()]
        self._answers.append(self._reload_model.call_async(Trigger.Request()))

    def wait_reloaded(self) -> None:
        """Wait until no model is being loaded: Python cannot end inside of that."""
        wait_for(lambda: all(answer.done() for answer in self._answers), what='the last reload')

    def _pause(self) -> None:
        """Deactivate the node, let a frame pass, and activate it again."""
        node = self._loop.node
        with node.transition_lock:
            node.trigger_deactivate()
            self.send()
            node.trigger_activate()


def run_soak(minutes: float, seed: int, progress: Callable[[float], Any]) -> SoakResult:
    """Send ten frames a second, with a random event every two seconds."""
    parameters = {**mounting_parameters(), 'processing_resolution': 64}
    with LoopbackNode(parameters) as loop:
        for name, kind in (('depth/image_rect', Image), ('points', PointCloud2)):
            loop.robot.subscribe(name, kind, lambda _message: None)
        loop.start()
        loop.wait_connected(outputs=2)
        soak = Soak(loop, views(seed), seed, minutes >= _RELOADS)
        samples = _drive(soak, 60.0 * minutes, progress)
        soak.wait_reloaded()
        loop.wait_idle()
        frames = loop.node.health.counters.snapshot('frames.')
    received = frames.pop('frames.received')
    # Medians of the tenth in the middle and of the last: before, everything is loaded, and each
    # method and kind of message comes for the first time.
    tenth = max(1, len(samples) // 10)
    values = np.array(samples, dtype=float)
    halves = values[4 * tenth : 5 * tenth], values[-tenth:]
    memory = [float(np.median(half[:, 0])) for half in halves]
    # Threads for work beside a frame come as they are needed, and stay.
    threads = [int(half[:, 1].min()) for half in halves]
    return SoakResult(
        soak.events,
        received,
        frames['frames.served'],
        received - sum(frames.values()),
        (memory[0], memory[1]),
        (threads[0], threads[1]),
    )


def _drive(
    soak: Soak, seconds: float, progress: Callable[[float], Any]
) -> list[tuple[float, int]]:
    """Send frames at their rate; returns memory in MB and threads, once a second."""
    begun = time.monotonic()
    samples: list[tuple[float, int]] = []
    next_frame = next_event = begun
    while (now := time.monotonic()) < begun + seconds:
        if now >= next_frame:
            next_frame = max(next_frame + 1.0 / _RATE, now)
            soak.send()
        if now >= next_event:
            next_event += _EVENT_PERIOD
            soak.disturb()
        if now - begun >= len(samples):
            samples.append((memory_mb()['resident_mb'], threading.active_count()))
            progress(1)
        time.sleep(max(0.0, min(next_frame, next_event) - time.monotonic()))
    return samples


def _table(result: SoakResult) -> list[str]:
    return [
        *grid([(name, str(count)) for name, count in result.events.items()]),
        f'frames: {result.received} received, {result.served} served, '
        f'{result.unaccounted} unaccounted for',
        f'memory: {result.memory_mb[0]:.0f} MB, then {result.memory_mb[1]:.0f} MB '
        f'({100 * result.growth:+.1f} %)',
        f'threads: {result.threads[0]}, then {result.threads[1]}',
    ]


if __name__ == '__main__':
    option = ('--minutes', float, 20.0, 'duration (default: 20)')
    sys.exit(run_script(__doc__, option, run_soak, _table, lambda minutes: round(60 * minutes)))
