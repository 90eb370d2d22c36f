# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A campaign of good and broken messages, one at a time, against the real node over DDS.

A good frame must be served, and its depth must be the one that the pipeline gives without ROS, bit
by bit; a broken message must be counted under its cause, and no depth may come of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
import threading
from typing import Any

from faults import Fault, FAULTS
from loopback_node import Rig
from marigold_ros.config import AlignmentConfig, NodeConfig, PipelineConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.message_codec import (
    to_depth,
)
from marigold_ros.node.interface.messages import (
    stamp_ns,
)
from marigold_ros.node.loading import load
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import as_values
import numpy as np
from sensor_msgs.msg import Image
from synthetic_messages import mounting_parameters, View, views

_PERIOD = 500_000_000  # ns between frames: no scan of the one before fits
# No frame depends on those before, so that each has one right answer; small, for there are many.
_PIPELINE = PipelineConfig(
    processing_resolution=64, alignment=AlignmentConfig(smoothing=0.0, hold_limit=0.0)
)


@dataclass
class Outcome:
    """
    What came of a campaign.

    ``sent`` and ``counted`` are by fault; ``lost`` are good frames without depth, ``wrong`` those
    with another depth than the right one, ``unwanted`` depth that came of a broken message, each
    in words.
    """

    good: int = 0
    sent: Counter = field(default_factory=Counter)
    counted: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything was as it must be."""
        return self.sent == self.counted and not (self.lost or self.wrong or self.unwanted)


class Campaign:
    """
    Messages of one transport of images.

    Parameters
    ----------
    role : {'image', 'compressed'}
        How images come.
    places : list of View
        What is sent.
    seed : int
        Of the order.

    """

    def __init__(self, role: str, places: list[View], seed: int) -> None:
        self._role, self._views = role, places
        self._rng = np.random.default_rng([seed, len(role)])
        roles = {'image': ('image', 'info', 'scan'), 'compressed': ('compressed',)}[role]
        self._faults = [fault for fault in FAULTS if fault.role in roles]
        self._lock = threading.Lock()
        self._heard: dict[int, np.ndarray] = {}
        self._forbidden: dict[int, str] = {}  # stamps that must not get depth, and why
        self._relative: set[int] = set()
        self._stamp = 1_000_000_000_000
        self.outcome = Outcome()

    def run(self, messages: int, progress: Callable[[int], None]) -> Outcome:
        """Send so many good frames and broken messages, half of each."""
        parameters = {
            **as_values(_PIPELINE),
            'lidar.wait': 0.0,
            'image_transport': 'raw' if self._role == 'image' else 'compressed',
            **mounting_parameters(),
        }
        outputs = {'depth/image_rect': Image, 'relative/image': Image}
        with Rig(parameters, outputs, self._on_output) as rig:
            pipeline = FramePipeline(load(NodeConfig()), _PIPELINE)
            for view in self._views:
                view.solve(self._role, pipeline)
            # A good frame comes last: once its depth is there, so is all that came before it.
            for number in range(messages // 2):
                fault = self._faults[number % len(self._faults)]
                self._send_broken(rig, self._any_view(), fault)
                self._send_good(rig, self._any_view())
                progress(2)
        return self.outcome

    def _on_output(self, name: str, message: Any) -> None:
        stamp = stamp_ns(message.header.stamp)
        with self._lock:
            if name == 'relative/image':
                self._relative.add(stamp)
            elif stamp in self._forbidden:
                self.outcome.unwanted.append(f'{self._forbidden[stamp]} at {stamp / 1e9:.1f} s')
            else:
                self._heard[stamp] = to_depth(message)

    def _any_view(self) -> View:
        return self._views[int(self._rng.integers(len(self._views)))]

    def _next_stamp(self) -> int:
        self._stamp += _PERIOD
        return self._stamp

    def _send_good(self, rig: Rig, view: View) -> None:
        stamp = self._next_stamp()
        for role in ('scan', 'info', self._role):
            rig.arrive(role, view.message(role, stamp))
        rig.wait_idle()
        self.outcome.good += 1
        what = f'good frame {self.outcome.good} at {stamp / 1e9:.1f} s'
        try:
            rig.wait(lambda: stamp in self._heard, what, seconds=5.0)
        except MarigoldError:
            self.outcome.lost.append(what)
            return
        if not np.array_equal(self._heard.pop(stamp), view.depth[self._role], equal_nan=True):
            self.outcome.wrong.append(what)

    def _send_broken(self, rig: Rig, view: View, fault: Fault) -> None:
        stamp = self._next_stamp()
        before = rig.count(fault.counter)
        messages = {role: view.message(role, stamp) for role in ('scan', 'info', self._role)}
        fault.corrupt(messages[fault.role], self._rng)
        image = stamp_ns(messages[self._role].header.stamp)
        self._forbidden[image] = fault.name
        for role, message in messages.items():
            rig.arrive(role, message)
        rig.wait_idle()
        self.outcome.sent[fault.name] += 1
        self.outcome.counted[fault.name] += rig.count(fault.counter) - before
        if fault.served:
            rig.wait(lambda: image in self._relative, f'relative depth despite {fault.name}')
        self._relative.discard(image)


def run_campaign(messages: int, seed: int, progress: Callable[[int], None]) -> Outcome:
    """
    Send good and broken messages, three quarters with raw images and one with jpeg.

    Parameters
    ----------
    messages : int
        Good frames and broken messages together.
    seed : int
        The same seed sends the same messages.
    progress : callable
        Told of each message.

    """
    places = views(seed)
    total = Outcome()
    for role, share in (('image', messages - messages // 4), ('compressed', messages // 4)):
        part = Campaign(role, places, seed).run(share, progress)
        total.good += part.good
        total.sent += part.sent
        total.counted += part.counted
        for name in ('lost', 'wrong', 'unwanted'):
            getattr(total, name).extend(getattr(part, name))
    return total
