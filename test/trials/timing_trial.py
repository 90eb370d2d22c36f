# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure what a robot notices of the node's speed: its start, the age of its depth, its own cost.

  python test/trials/timing_trial.py                   start, age of depth at 30 Hz, CPU time

The node is a process of its own with its default settings; a robot in this process sends images
of 640x480 with 2000 points, receives depth, colour and cloud, and takes the time at which the last
of them arrived, transport included. Exit code 1 if a figure misses its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
import os
from pathlib import Path
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any

from loopback_node import REMAP, Robot
from marigold_ros.commands.terminal.output import grid
from marigold_ros.config import NodeConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.exchange import Recorder
from marigold_ros.live_run.process import (
    keep_to_this_machine,
    NodeProcess,
    own_context,
    own_node,
    running_node,
    spinning,
)
from marigold_ros.live_run.transport import use_roomy_transport
from marigold_ros.node.health import resident_mb
from marigold_ros.node.loading import load
from marigold_ros.pipeline import FramePipeline
import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, PointCloud2
from synthetic_messages import mounting_parameters, View, views
from trial_script import run_script

WIDTH, HEIGHT, POINTS = 640, 480, 2000
RATE = 30.0  # images a second
OUTPUTS = {'depth/image_rect': Image, 'depth/color': Image, 'points': PointCloud2}
_ROLES = ('scan', 'info', 'image')
_FIRST, _LAST = 'relative/image', 'points'  # of the outputs of a frame
_PATIENCE, _AGAIN = 120.0, 5.0
_CPU_FRAMES = 60
_PARTS = 10  # of a run, for progress and memory


@dataclass(frozen=True)
class Figure:
    """One figure and its upper limit, if it has one."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def good(self) -> bool:
        """Whether the value is within the limit."""
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class TimingResult:
    """All figures of a trial."""

    figures: list[Figure]

    @property
    def clean(self) -> bool:
        """Whether every figure is within its limit."""
        return all(figure.good for figure in self.figures)


class Camera:
    """Sends frames stamped with the current time to a node process, and waits for its outputs."""

    def __init__(self, node, scenes: list[View]) -> None:
        self.recorder = Recorder(node, outputs={**OUTPUTS, _FIRST: Image})
        self.sent_at: dict[int, float] = {}
        self._robot = Robot(node)
        self._messages = [
            {role: bytearray(serialize_message(view.message(role, 0))) for role in _ROLES}
            for view in scenes
        ]

    def send(self, index: int) -> int:
        """Send scan, camera_info and image of now; returns their stamp."""
        stamp = time.time_ns()
        self.sent_at[stamp] = time.monotonic()
        for role, data in self._messages[index % len(self._messages)].items():
            # After the four bytes of CDR's encapsulation a message begins with its stamp.
            struct.pack_into('<iI', data, 4, stamp // 10**9, stamp % 10**9)
            self._robot.publishers[role].publish(bytes(data))
        return stamp

    def send_for(self, seconds: float) -> None:
        """Send at the camera's rate."""
        begun = time.monotonic()
        for index in range(round(seconds * RATE)):
            time.sleep(max(0.0, begun + index / RATE - time.monotonic()))
            self.send(index)

    def send_and_wait(self, index: int, names: Iterable[str], process: NodeProcess) -> None:
        """Send one frame and wait for some of its outputs; again if its scan comes too late."""
        arrivals, due, stamps = self.recorder.arrivals, 0.0, []

        def answered() -> bool:
            nonlocal due
            if time.monotonic() > due:
                stamps.append(self.send(index))
                due = time.monotonic() + _AGAIN
            return any(all(stamp in arrivals[n] for n in names) for stamp in stamps)

        self.wait(answered, 'no output', process)

    def wait(self, condition: Callable[[], bool], what: str, process: NodeProcess) -> None:
        """Wait for a condition on the outputs; raises MarigoldError with ``what``."""
        self.recorder.require(condition, what, process.check, _PATIENCE)


def run_timing(seconds: float, seed: int, progress: Callable[[float], Any]) -> TimingResult:
    """
    Measure the node for ``seconds`` alone, and again beside a busy process.

    Raises
    ------
    MarigoldError
        If the node ends or does not answer.

    """
    keep_to_this_machine()
    scenes = views(seed, WIDTH, HEIGHT, POINTS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        use_roomy_transport(folder, os.environ)
        with _started(folder, scenes):
            pass  # loads the files into memory, so that the next start does not read the disk
        start_s, camera, process = stack.enter_context(_started(folder, scenes))
        _settle(camera, process)
        alone = _run(camera, process, seconds, progress)
        with _busy_process():
            busy = _run(camera, process, seconds, progress)
        cpu_ms = _cpu_of_frames(camera, process)
        counts = _final_counts(camera, process)
    own_ms = _cpu_of_pipeline(scenes)
    frame = alone['frame_ms']
    period = 1e3 / RATE
    lost = counts.pop('frames.received') - sum(counts.values())
    figures = [
        Figure('exec to first ~/relative/image', start_s, 's', 8.0),
        Figure('time of a frame (T)', frame, 'ms'),
        Figure('age of a frame at its last output', alone['p50'], 'ms', frame + period / 2 + 10),
        Figure('age, 99 % of the frames', alone['p99'], 'ms', frame + period + 30),
        Figure('growth of memory', alone['growth'], '%', 5.0),
        Figure('frames a second', alone['rate'], '1/s'),
        Figure('images not accounted for', lost, '', 0),
        Figure('beside a busy process, times slower', alone['rate'] / busy['rate'], '', 2.5),
        Figure('CPU time of a frame', cpu_ms, 'ms'),
        Figure('of it in FramePipeline.process', own_ms, 'ms'),
        Figure('outside of it', cpu_ms - own_ms, 'ms', 20.0),
    ]
    return TimingResult(figures)


@contextmanager
def _started(folder: Path, scenes: list[View]) -> Iterator[tuple[float, Camera, NodeProcess]]:
    """Start the node; yields the seconds from exec to its first output, camera and process."""
    arguments = ['--ros-args', *REMAP]
    for name, value in mounting_parameters().items():
        arguments += ['-p', f'{name}:={value}']
    with own_context() as context, own_node('robot', context) as node:
        camera = Camera(node, scenes)
        first = camera.recorder.arrivals[_FIRST]
        with spinning(node):
            begun = time.monotonic()
            with running_node(arguments, folder / 'node.log') as process:
                while not first:
                    camera.send_for(0.1)
                    process.check()
                    if time.monotonic() - begun > _PATIENCE:
                        raise MarigoldError(f'no answer of the node within {_PATIENCE:g} s')
                yield min(first.values()) - begun, camera, process
                process.stop()


def _settle(camera: Camera, process: NodeProcess) -> None:
    """Send frames one by one, until all connections stand."""
    for index in range(20):
        camera.send_and_wait(index, [_LAST], process)


def _run(
    camera: Camera, process: NodeProcess, seconds: float, progress: Callable[[float], Any]
) -> dict[str, float]:
    """Run the camera; returns percentiles of the age, time of a frame, rate and growth."""
    recorder = camera.recorder
    before = set(recorder.arrivals[_LAST])
    memory = []
    for _ in range(_PARTS):
        memory.append(resident_mb(process.pid))
        camera.send_for(seconds / _PARTS)
        progress(seconds / _PARTS)
    seen = recorder.reports
    arrived = {s: t for s, t in recorder.arrivals[_LAST].items() if s not in before}
    if len(arrived) < 2:
        raise MarigoldError('the node answered less than twice; its log says why')
    camera.wait(lambda: recorder.reports > seen, 'no diagnostics', process)
    ages = [1e3 * (moment - camera.sent_at[stamp]) for stamp, moment in arrived.items()]
    span = max(arrived.values()) - min(arrived.values())
    return {
        'p50': float(np.percentile(ages, 50)),
        'p99': float(np.percentile(ages, 99)),
        'frame_ms': float(recorder.report('timing').get('total.p50_ms', 0.0)),
        'rate': (len(arrived) - 1) / span,
        'growth': 100.0 * (resident_mb(process.pid) / memory[1] - 1.0),
    }


def _cpu_of_frames(camera: Camera, process: NodeProcess) -> float:
    """Measure the node's CPU time per frame while it serves each one, milliseconds."""
    _settle(camera, process)
    before = _cpu_seconds(process.pid)
    for index in range(_CPU_FRAMES):
        camera.send_and_wait(index, OUTPUTS, process)
    return 1e3 * (_cpu_seconds(process.pid) - before) / _CPU_FRAMES


def _cpu_of_pipeline(scenes: list[View]) -> float:
    """Measure the CPU time per frame in this process, without ROS, milliseconds."""
    config = NodeConfig()
    pipeline = FramePipeline(load(config), config.pipeline)
    frames = [view.frame() for view in scenes]
    spent = 0.0
    for index in range(20 + _CPU_FRAMES):
        before = time.process_time()
        pipeline.process(frames[index % len(frames)])
        spent += (time.process_time() - before) * (index >= 20)
    return 1e3 * spent / _CPU_FRAMES


def _final_counts(camera: Camera, process: NodeProcess) -> dict[str, int]:
    """Wait for diagnostics in which no image is in flight; returns the counters of images."""
    recorder, seen = camera.recorder, camera.recorder.reports

    def idle() -> bool:
        return recorder.reports > seen + 1 and recorder.report('frames')['frames.in_flight'] == '0'

    camera.wait(idle, 'no diagnostics without a frame in flight', process)
    frames = recorder.report('frames')
    return {name: int(n) for name, n in frames.items() if name.startswith('frames.')}


@contextmanager
def _busy_process() -> Iterator[None]:
    busy = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    # The name in brackets may hold anything; utime and stime are the 12th and 13th field after it.
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _table(result: TimingResult) -> list[str]:
    rows = [('figure', 'measured', 'limit', '')]
    for figure in result.figures:
        limit = '' if figure.limit is None else f'{figure.limit:.1f}'
        text = f'{figure.value:.2f} {figure.unit}'
        rows.append((figure.name, text, limit, '' if figure.good else 'MISSED'))
    return grid(rows)


if __name__ == '__main__':
    option = ('--seconds', float, 30.0, 'duration alone, and again when busy (default: 30)')
    sys.exit(run_script(__doc__, option, run_timing, _table, lambda seconds: round(2 * seconds)))
