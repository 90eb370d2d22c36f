# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Send sound and corrupted messages, one at a time, to the real node over DDS.

  python test/trials/fault_campaign.py                 10 000 messages, every second one corrupted

A sound frame must be processed, and its depth must be the pipeline's without ROS, but for the
rounding of sums, which depends on where arrays lie in memory (1e-5); a corrupted message must be
counted under its cause, and must not lead to depth. Exit code 1 if a frame was lost or wrong, or a
fault was not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
import sys
import threading
from typing import Any

from faults import Fault, FAULTS
from loopback_node import LoopbackNode, wait_for
from marigold_ros.commands.terminal.options import integer
from marigold_ros.commands.terminal.output import grid
from marigold_ros.config import AlignmentConfig, NodeConfig, PipelineConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.message_codec import header_ns, to_depth
from marigold_ros.node.loading import load
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import as_values
import numpy as np
from sensor_msgs.msg import Image
from synthetic_messages import mounting_parameters, View, views
from trial_script import run_script

# Sums are rounded by where arrays lie in memory; a pixel on a threshold may then be withheld.
_ROUNDING, _ON_THRESHOLD = 1e-5, 1e-3
_PERIOD = 500_000_000  # ns between frames, so that no scan of the previous one fits
# No frame depends on earlier ones, so that each has one right answer; small, for there are many.
_PIPELINE = PipelineConfig(
    processing_resolution=64, alignment=AlignmentConfig(smoothing=0.0, hold_limit=0.0)
)


@dataclass
class CampaignResult:
    """
    Result of a campaign.

    ``sent`` and ``counted`` are by fault; ``lost`` are sound frames without depth, ``wrong`` those
    with depth that differs, ``unwanted`` depth that followed a corrupted message.
    """

    good: int = 0
    sent: Counter = field(default_factory=Counter)
    counted: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every fault was counted and every depth is right."""
        return self.sent == self.counted and not (self.lost or self.wrong or self.unwanted)


class Campaign:
    """A campaign with one transport of images: ``role`` is 'image' or 'compressed'."""

    def __init__(self, role: str, scenes: list[View], seed: int) -> None:
        self._role, self._views = role, scenes
        self._rng = np.random.default_rng([seed, len(role)])
        roles = {'image': ('image', 'info', 'scan'), 'compressed': ('compressed',)}[role]
        self._faults = [fault for fault in FAULTS if fault.role in roles]
        self._lock = threading.Lock()
        self._heard: dict[int, np.ndarray] = {}
        self._forbidden: dict[int, str] = {}  # fault by stamps that must not get depth
        self._relative: set[int] = set()
        self._stamp = 1_000_000_000_000
        self.result = CampaignResult()

    def run(self, messages: int, progress: Callable[[int], Any]) -> CampaignResult:
        """Send ``messages`` in all, sound frames and corrupted messages in turn."""
        parameters = {
            **as_values(_PIPELINE),
            'lidar.wait': 0.0,
            'runtime.backend': 'torch',  # as the depth expected; OpenVINO's is of bfloat16
            'image_transport': 'raw' if self._role == 'image' else 'compressed',
            **mounting_parameters(),
        }
        with LoopbackNode(parameters, (self._role, 'info', 'scan')) as loop:
            for name in ('depth/image_rect', 'relative/image'):
                loop.robot.subscribe(name, Image, partial(self._on_output, name))
            loop.start()
            loop.wait_connected(outputs=2)
            pipeline = FramePipeline(load(NodeConfig()), _PIPELINE)
            for view in self._views:
                view.solve(self._role, pipeline)
            # A sound frame comes last: once its depth is there, so is all that came before it.
            for number in range(messages // 2):
                fault = self._faults[number % len(self._faults)]
                self._send_corrupted(loop, self._any_view(), fault)
                self._send_sound(loop, self._any_view())
                progress(2)
        return self.result

    def _on_output(self, name: str, message: Any) -> None:
        stamp = header_ns(message)
        with self._lock:
            if name == 'relative/image':
                self._relative.add(stamp)
            elif stamp in self._forbidden:
                self.result.unwanted.append(f'{self._forbidden[stamp]} at {stamp / 1e9:.1f} s')
            else:
                self._heard[stamp] = to_depth(message)

    def _any_view(self) -> View:
        return self._views[int(self._rng.integers(len(self._views)))]

    def _next_messages(self, view: View) -> tuple[int, dict[str, Any]]:
        self._stamp += _PERIOD
        roles = ('scan', 'info', self._role)
        return self._stamp, {role: view.message(role, self._stamp) for role in roles}

    def _send_sound(self, loop: LoopbackNode, view: View) -> None:
        stamp, messages = self._next_messages(view)
        for role, message in messages.items():
            loop.deliver(role, message)
        loop.wait_idle()
        self.result.good += 1
        what = f'good frame {self.result.good} at {stamp / 1e9:.1f} s'
        try:
            wait_for(lambda: stamp in self._heard, 5.0, what)
        except MarigoldError:
            self.result.lost.append(what)
            return
        if not _same_depth(self._heard.pop(stamp), view.depth[self._role]):
            self.result.wrong.append(what)

    def _send_corrupted(self, loop: LoopbackNode, view: View, fault: Fault) -> None:
        before = loop.count(fault.counter)
        _, messages = self._next_messages(view)
        fault.corrupt(messages[fault.role], self._rng)
        image = header_ns(messages[self._role])
        self._forbidden[image] = fault.name
        for role, message in messages.items():
            loop.deliver(role, message)
        loop.wait_idle()
        self.result.sent[fault.name] += 1
        self.result.counted[fault.name] += loop.count(fault.counter) - before
        if fault.served:
            wait_for(lambda: image in self._relative, what=f'relative depth despite {fault.name}')
        self._relative.discard(image)


def _same_depth(heard: np.ndarray, expected: np.ndarray) -> bool:
    here, there = np.isfinite(heard), np.isfinite(expected)
    both = here & there
    few = np.mean(here != there) <= _ON_THRESHOLD
    return bool(few and np.allclose(heard[both], expected[both], _ROUNDING, 0.0))


def run_campaign(messages: int, seed: int, progress: Callable[[int], Any]) -> CampaignResult:
    """Send ``messages`` in all, three quarters with raw images and one quarter with JPEG."""
    scenes = views(seed)
    total = CampaignResult()
    for role, share in (('image', messages - messages // 4), ('compressed', messages // 4)):
        part = Campaign(role, scenes, seed).run(share, progress)
        total.good += part.good
        total.sent += part.sent
        total.counted += part.counted
        for name in ('lost', 'wrong', 'unwanted'):
            getattr(total, name).extend(getattr(part, name))
    return total


def _table(result: CampaignResult) -> list[str]:
    rows = [(name, str(sent), str(result.counted[name])) for name, sent in result.sent.items()]
    return [
        *grid([('fault', 'sent', 'counted'), *rows]),
        f'{result.good} good frames: {len(result.lost)} without depth, '
        f'{len(result.wrong)} with other depth than without ROS; '
        f'depth of corrupted messages: {len(result.unwanted)}',
        *(*result.lost[:5], *result.wrong[:5], *result.unwanted[:5]),
    ]


if __name__ == '__main__':
    option = ('--messages', integer(4), 10000, 'sound and corrupted ones (default: 10000)')
    sys.exit(run_script(__doc__, option, run_campaign, _table, int))
