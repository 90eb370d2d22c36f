# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One live run: start the depth node as its own process, play messages to it, record, and stop it.

Each step waits for what the next one needs (the node is active, topics are matched, camera_info
has arrived), never for a guessed time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
import itertools
import os
from pathlib import Path
import time

from marigold_ros.bags.playback import SerialMessage
from marigold_ros.bags.writer import BagWriter
from marigold_ros.live_run.local_ros import keep_to_this_machine, own_context, own_node, spinning
from marigold_ros.live_run.player import Played, Player
from marigold_ros.live_run.process import NodeProcess, running_node
from marigold_ros.live_run.recorder import OUTPUTS, Recorder
from marigold_ros.live_run.transport import use_roomy_transport
from marigold_ros.node.health import diagnostic_keys as keys

# Seconds; a full checkpoint takes long to load, and the machine may be busy with other things.
_START_PATIENCE = 300.0
_SETTLE_PATIENCE = 20.0
# Messages sent in search of camera_info: some bags have none, in others it begins much later.
_EARLY_MESSAGES = 200


@dataclass(frozen=True)
class LivePlan:
    """
    Inputs of a live run.

    ``topics`` maps the roles image, camera_info and lidar to (topic, message type);
    ``node_arguments`` follow ``node`` on its command line; ``latched`` are serialised messages of
    /tf_static; ``rate`` is None for auto; ``period`` is the recording's, in seconds; ``recording``
    is the bag to write and ``log`` the file for the node's output.
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
    Result of a live run.

    ``reports`` are the parts of the node's last diagnostics, ``recorded`` the messages by output,
    ``round_trip_ms`` the time from sending an image to its last output, by stamp; ``faults`` says
    what went wrong.
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
    Play messages to a node process and record its outputs.

    Raises
    ------
    MarigoldError
        If the node does not start, ends by itself, or receives nothing.

    """
    keep_to_this_machine()
    use_roomy_transport(plan.log.parent, os.environ)
    with (
        BagWriter(plan.recording) as writer,
        own_context() as context,
        own_node('marigold_demo', context) as ros,
        running_node(plan.node_arguments, plan.log) as process,
    ):
        recorder = Recorder(ros, writer)
        player = Player(ros, plan.topics, recorder, process.check)
        player.publish_transforms(plan.latched)
        with spinning(ros):
            queue = iter(messages)
            early = _make_ready(player, recorder, process, queue)
            played = player.play(
                itertools.chain(early, queue), plan.rate, plan.period, progress, announce
            )
            _settle(recorder, process, played)
        faults = process.stop()
    round_trip_ms = {
        stamp_ns: 1e3 * (arrival - sent)
        for stamp_ns, sent in played.sent_at.items()
        if (arrival := recorder.arrival(stamp_ns)) is not None
    }
    reports = {part: recorder.report(part) for part in keys.PARTS}
    return LiveRun(played, reports, recorder.heard, round_trip_ms, faults)


def _make_ready(
    player: Player, recorder: Recorder, process: NodeProcess, queue
) -> list[SerialMessage]:
    """Wait until the node is active and has camera_info; returns the messages read for that."""

    def require(condition: Callable[[], bool], what: str) -> None:
        recorder.require(condition, what, process.check, _START_PATIENCE)

    def outputs_matched() -> bool:
        qos = recorder.report('qos')
        return all(int(qos.get(f'listeners.{name}', 0)) > 0 for name in OUTPUTS)

    require(lambda: recorder.reports > 0, 'the node is not active')
    require(lambda: player.matched, 'the node does not listen to the topics')
    require(outputs_matched, 'the node does not see who listens to its outputs')
    early = []
    for message in itertools.islice(queue, _EARLY_MESSAGES):
        early.append(message)
        if message.role == 'camera_info':
            player.send(message)
            require(
                lambda: recorder.count(keys.INFOS_RECEIVED) > 0,
                'camera_info does not reach the node',
            )
            break
    return early


def _settle(recorder: Recorder, process: NodeProcess, played: Played) -> None:
    """Wait for the last outputs, and for diagnostics that count every image."""
    seen = recorder.reports

    def counted() -> bool:
        if recorder.reports <= seen or recorder.count(keys.FRAMES_IN_FLIGHT):
            return False
        everything = recorder.count(keys.FRAMES_RECEIVED) >= played.sent
        # Images that DDS lost never arrive: three reports without work are enough.
        return everything or recorder.reports >= seen + 3

    deadline = time.monotonic() + _SETTLE_PATIENCE
    while not recorder.wait(counted, 0.5) and time.monotonic() < deadline:
        process.check()
    recorder.wait(lambda: recorder.complete >= recorder.count(keys.FRAMES_SERVED), 5.0)
