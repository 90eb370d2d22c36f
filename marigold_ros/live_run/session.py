# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One live run: start the depth node as its own process, play a bag to it, record, stop and score it.

Each step waits for what the next one needs (the node is active, topics are matched, camera_info
has arrived), never for a guessed time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
import itertools
import os
import time
from types import SimpleNamespace
from typing import Any

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import NodeConfig
from marigold_ros.evaluation.report.report import write_all
from marigold_ros.evaluation.results.results import assemble, describe, describe_bag
from marigold_ros.evaluation.results.verdict import judge
from marigold_ros.evaluation.scoring.report_frames import best_for_cloud
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.live_run.exchange import OUTPUTS, Played, Player, Recorder
from marigold_ros.live_run.played_bag import (
    DemoJob,
    node_arguments,
    node_values,
    played_messages,
    SerialMessage,
)
from marigold_ros.live_run.process import (
    keep_to_this_machine,
    NodeProcess,
    own_context,
    own_node,
    running_node,
    spinning,
)
from marigold_ros.live_run.scoring import animate_recording, score_recording, write_cloud
from marigold_ros.live_run.transport import use_roomy_transport
from marigold_ros.models.locate import is_embedded
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.settings import build
import numpy as np
from sensor_msgs.msg import Image

Progress = Callable[[int], None]
ProgressBar = AbstractContextManager[Progress]

# Seconds; a full checkpoint takes long to load, and the machine may be busy with other things.
_START_PATIENCE = 300.0
_SETTLE_PATIENCE = 20.0
# Messages sent in search of camera_info: some bags have none, in others it begins much later.
_EARLY_MESSAGES = 200


def run_demo(
    job: DemoJob, say: Callable[[str], Any], bar: Callable[[int, str], ProgressBar]
) -> tuple[list[str], dict[str, Any]]:
    """
    Play a bag to a node process, score its recording, and write everything to the job's folder.

    The job's ``config`` holds the user's settings of the node. ``say`` prints a line, and
    ``bar(images, name)`` opens a progress bar.
    Returns what went wrong in the node, and the content of results.json. Raises MarigoldError if
    the node does not start, ends by itself, or receives nothing.
    """
    bag, folder = job.bag, job.folder
    extrinsics: Any = 'transforms of the bag'  # in the words of `evaluate`
    if job.config.extrinsics.translation:
        extrinsics = np.asarray(bag.T_cam_lidar).tolist()
    values = node_values(bag, job.config, every_frame=job.rate is None)
    job = replace(job, config=build(NodeConfig, values))
    say(f'node: starting; its log is {job.log}')
    with bar(bag.images, 'playing') as progress:
        recorder, played, faults = _run_node(job, node_arguments(bag, values), say, progress)
    round_trip_ms = {
        stamp_ns: 1e3 * (arrival - sent)
        for stamp_ns, sent in played.sent_at.items()
        if (arrival := recorder.arrival(stamp_ns)) is not None
    }
    with bar(bag.images, 'scoring') as progress:
        model = recorder.report('model')
        scorer, warnings = score_recording(job, model, round_trip_ms, progress)
    results = _results(job, recorder, played, scorer, warnings, extrinsics)
    seen = 'every 8th scan line' if bag.thinned else 'whole scans'
    seen = seen if bag.sees_lidar else 'no scans of the LiDAR'
    intro = (
        f'Checkpoint {results["provenance"]["checkpoint"].get("name", "model")}, run by the ROS 2 '
        f'node in its own process at {results["rate"]:.2f} of real time; it saw {seen}.'
    )
    write_all(folder, results, scorer, f'Demo: depth on {bag.path.resolve().name}', intro)
    best = best_for_cloud(shown for _, shown in scorer.report_frames)
    if best is not None and best.metric is not None and best.K is not None:
        write_cloud(job, best.metric, best.K, best.rgb)
    animate_recording(job)
    if not results['frames']['processed']:
        faults.append(f'none of {played.sent} images was processed; see {job.log}')
    return faults, results


def _results(
    job: DemoJob,
    recorder: Recorder,
    played: Played,
    scorer: Scorer,
    warnings: dict[str, int],
    extrinsics: Any,
) -> dict[str, Any]:
    """Assemble results.json; the counters are the node's own."""
    bag, frames = job.bag, recorder.report('frames')
    rejected = {
        name.removeprefix(keys.FRAMES_REJECTED): int(n)
        for name, n in frames.items()
        if name.startswith(keys.FRAMES_REJECTED)
    }
    served = int(frames.get(keys.FRAMES_SERVED, 0))
    described: Any = SimpleNamespace(description=recorder.report('model'))
    provenance = describe(
        [describe_bag(bag.path)],
        bag.topics.by_role,
        FramePipeline(described, job.config.pipeline).checkpoint,
        job.config.pipeline,
        job.config.lidar,
        ReplayOptions(sources=bag.fitted_sources, ground=job.config.ground).source_settings,
        mode='live node over DDS, its recording scored',
        rate={
            'asked': 'auto' if job.rate is None else job.rate,
            'achieved': bag.period * max(played.sent - 1, 1) / max(played.seconds, 1e-9),
        },
        scans='every 8th line' if bag.thinned else 'whole',
        extrinsics=extrinsics,
        ros={
            'distribution': os.environ.get('ROS_DISTRO', 'wheels'),
            'domain': os.environ.get('ROS_DOMAIN_ID', ''),
        },
        node={**frames, **recorder.report('infos'), **scan_counters(recorder, bag.sources)},
        recorded=dict(recorder.heard),
        warnings=warnings,
    )
    results = assemble(
        scorer,
        read=played.sent,
        dropped=played.sent - served - sum(rejected.values()),
        rejected=rejected,
        rate=played.rate,
        provenance=provenance,
    )
    # Frames that were served but not recorded were processed too.
    results['frames']['processed'] = served
    stages: dict[str, dict[str, float]] = {}
    for name, value in recorder.report('timing').items():  # as predict.p50_ms
        stage, _, key = name.rpartition('.')
        stages.setdefault(stage, {})[key.removesuffix('_ms')] = float(value)
    results['latency_ms'].update(stages)
    results['calibration'] = {'text': recorder.report('alignment').get('calibration', '')}
    name = results['provenance']['checkpoint'].get('name', '')
    results['verdict'] = judge(results, demonstration=is_embedded(name))
    return results


def scan_counters(recorder: Recorder, sources: Sequence[str]) -> dict[str, str]:
    """Return what the node counted of scans; each of several sources has a part of its own."""
    counters = dict(recorder.report(keys.SCANS))
    for part in map(keys.source_part, sources):
        counters |= {key: n for key, n in recorder.report(part).items() if '.' in key}
    return counters


def _run_node(
    job: DemoJob, arguments: Sequence[str], say: Callable[[str], Any], progress: Progress
) -> tuple[Recorder, Played, list[str]]:
    """Play a bag to a node process and record its outputs; returns what went wrong as well."""
    bag = job.bag
    # Nobody else asks the node for its deviations.
    outputs = OUTPUTS if job.rerun is None else {**OUTPUTS, 'uncertainty/image': Image}

    def announce(pace: float, seconds: float) -> None:
        say(f'rate auto: {pace:.2f} of real time (a frame takes {1e3 * seconds:.0f} ms)')

    with BagReader(bag.path) as reader:
        keep_to_this_machine()
        use_roomy_transport(job.folder, os.environ)
        with (
            BagWriter(job.recording) as writer,
            own_context() as context,
            own_node('marigold_demo', context) as ros,
            running_node(arguments, job.log) as process,
        ):
            recorder = Recorder(ros, writer, outputs)
            player = Player(ros, bag.inputs, recorder, process.check)
            player.publish_transforms(bag.latched)
            with spinning(ros):
                queue = played_messages(reader, bag)
                messages = itertools.chain(_make_ready(player, recorder, process, queue), queue)
                played = player.play(messages, job.rate, bag.period, progress, announce)
                _settle(recorder, process, played)
            return recorder, played, process.stop()


def _make_ready(
    player: Player, recorder: Recorder, process: NodeProcess, queue: Iterator[SerialMessage]
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
        # Images that DDS lost never arrive: three reports without work are enough.
        everything = recorder.count(keys.FRAMES_RECEIVED) >= played.sent
        return everything or recorder.reports >= seen + 3

    deadline = time.monotonic() + _SETTLE_PATIENCE
    while not recorder.wait(counted, 0.5) and time.monotonic() < deadline:
        process.check()
    recorder.wait(lambda: recorder.complete >= recorder.count(keys.FRAMES_SERVED), 5.0)
