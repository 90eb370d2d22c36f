# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One live run: starts the depth node as its own process, plays messages to it, records, stops it.

Each step waits for what the next one needs (the node is active, everybody listens, camera_info has
come), never for a guessed time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import time
from typing import Any

from marigold_ros.bags.playback import SerialMessage
from marigold_ros.bags.writer import BagWriter
from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.local_ros import keep_to_this_machine, own_context, spinning
from marigold_ros.live_run.player import Played, Player
from marigold_ros.live_run.process import NodeProcess, running_node
from marigold_ros.live_run.recorder import OUTPUTS, Recorder
from marigold_ros.live_run.transport import use_roomy_transport
import rclpy

# Seconds; a full checkpoint takes long to load, and the machine may be busy with other things.
_START_PATIENCE = 300.0
_SETTLE_PATIENCE = 20.0


@dataclass(frozen=True)
class LivePlan:
    """
    What to run.

    ``topics`` maps the roles image, camera_info and lidar to (topic, message type);
    ``node_arguments`` go behind ``node``; ``latched`` are serialised messages of /tf_static;
    ``rate`` is None for auto; ``period`` is the recording's, in seconds; ``recording`` the bag to
    write and ``log`` the file for what the node prints.
    """

    topics: Mapping[str, tuple[str, str]]
    node_arguments: Sequence[str]
    latched: Sequence[bytes]
    rate: float | None
    period: float
    recording: Path
    log: Path


@dataclass(frozen=True)
class LiveRun:
    """
    What came of it.

    ``reports`` are the parts of the node's last diagnostics, ``round_trip_ms`` the time from
    sending an image to its last output, by stamp; ``faults`` is what went wrong, in words.
    """

    played: Played
    reports: Mapping[str, Mapping[str, str]]
    recorded: Mapping[str, int]
    round_trip_ms: Mapping[int, float]
    faults: Sequence[str]


def run_live(
    plan: LivePlan,
    messages: Iterable[SerialMessage],
    progress: Callable[[int], None],
    announce: Callable[[float, float], None],
) -> LiveRun:
    """
    Play messages to a node of its own and record what it says.

    Raises
    ------
    MarigoldError
        If the node does not start, ends on its own, or hears nothing.

    """
    keep_to_this_machine()
    use_roomy_transport(plan.log.parent, os.environ)
    with (
        BagWriter(plan.recording) as writer,
        _ros() as ros,
        running_node(plan.node_arguments, plan.log) as process,
    ):
        recorder = Recorder(ros, writer)
        player = Player(ros, plan.topics, recorder, process.check)
        player.publish_transforms(plan.latched)
        with spinning(ros):
            queue = iter(messages)
            early = _make_ready(player, recorder, process, queue)
            played = player.play(_chain(early, queue), plan.rate, plan.period, progress, announce)
            _settle(recorder, process, played)
        faults = process.stop()
    reports = {name: recorder.report(name) for name in _REPORTS}
    return LiveRun(played, reports, recorder.heard, _round_trips(played, recorder), faults)


_REPORTS = ('frames', 'infos', 'scans', 'timing', 'model', 'alignment', 'transform', 'qos')


@contextmanager
def _ros():
    """Give a ROS node in a context of its own."""
    with own_context() as context:
        node = rclpy.create_node('marigold_demo', context=context, use_global_arguments=False)
        try:
            yield node
        finally:
            node.destroy_node()


def _make_ready(
    player: Player, recorder: Recorder, process: NodeProcess, queue
) -> list[SerialMessage]:
    """Wait until the node works and has camera_info; give the messages read on the way."""
    _await(lambda: recorder.reports > 0, recorder, process, 'the node is not active')
    _await(lambda: player.matched, recorder, process, 'the node does not listen to the topics')
    _await(
        lambda: all(int(recorder.report('qos').get(f'listeners.{n}', 0)) > 0 for n in OUTPUTS),
        recorder,
        process,
        'the node does not see who listens to its outputs',
    )
    early = []
    for message in queue:
        early.append(message)
        if message.role == 'camera_info':
            player.send(message)
            _await(
                lambda: recorder.count('infos.received') > 0,
                recorder,
                process,
                'camera_info does not reach the node',
            )
            break
        if len(early) >= 200:  # a bag without camera_info, or one that begins much later
            break
    return early


def _await(condition: Callable[[], bool], recorder: Recorder, process: NodeProcess, what: str):
    deadline = time.monotonic() + _START_PATIENCE
    while not recorder.wait(condition, 0.1):
        process.check()
        if time.monotonic() > deadline:
            raise MarigoldError(
                f'{what} after {_START_PATIENCE:g} s; look at node.log, and whether a firewall or '
                'ROS_DOMAIN_ID keeps the processes apart'
            )


def _settle(recorder: Recorder, process: NodeProcess, played: Played) -> None:
    """Wait for the last outputs, and for diagnostics that count every image."""
    seen = recorder.reports

    def counted() -> bool:
        if recorder.reports <= seen or recorder.count('frames.in_flight'):
            return False
        everything = recorder.count('frames.received') >= played.sent
        # Images that were lost on the way never come: two reports without work are enough.
        return everything or recorder.reports >= seen + 3

    deadline = time.monotonic() + _SETTLE_PATIENCE
    while not recorder.wait(counted, 0.5) and time.monotonic() < deadline:
        process.check()
    recorder.wait(lambda: recorder.complete >= recorder.count('frames.served'), 5.0)


def _round_trips(played: Played, recorder: Recorder) -> dict[int, float]:
    trips = {}
    for stamp_ns, sent in played.sent_at.items():
        arrival = recorder.arrival(stamp_ns)
        if arrival is not None:
            trips[stamp_ns] = 1e3 * (arrival - sent)
    return trips


def _chain(early: list[SerialMessage], queue) -> Iterable[Any]:
    yield from early
    yield from queue
