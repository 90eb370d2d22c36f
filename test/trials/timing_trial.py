# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
How fast the node is where it matters to a robot: start, age of what it publishes, its own cost.

The node is a process of its own with its default settings; a robot in this process sends images
of 640x480 with 2000 points, hears depth, colour and cloud, and takes the time at which the last of
them came, transport included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

from loopback_node import INPUTS
from marigold_ros.config import NodeConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.local_ros import keep_to_this_machine, own_context, spinning
from marigold_ros.live_run.process import NodeProcess, running_node
from marigold_ros.live_run.transport import use_roomy_transport
from marigold_ros.node.health.input_health import resident_mb
from marigold_ros.node.loading import load
from marigold_ros.pipeline import FramePipeline
import numpy as np
import rclpy
from synthetic_messages import mounting_parameters, View, views
from timing_robot import OUTPUTS, RATE, Robot

WIDTH, HEIGHT, POINTS = 640, 480, 2000
_LAST = 'points'  # of the outputs of a frame
_PATIENCE = 120.0
_CPU_FRAMES = 60
_PARTS = 10  # of a run, for progress and memory


@dataclass(frozen=True)
class Figure:
    """One figure and its limit; None where there is none."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def good(self) -> bool:
        """Whether it keeps its limit."""
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class Outcome:
    """All figures."""

    figures: list[Figure]

    @property
    def clean(self) -> bool:
        """Whether every figure keeps its limit."""
        return all(figure.good for figure in self.figures)


def run_trial(seconds: float, seed: int, progress: Callable[[float], None]) -> Outcome:
    """
    Measure the node.

    Parameters
    ----------
    seconds : float
        For which the camera runs alone, and again beside a busy process.
    seed : int
        Of what the robot sees.
    progress : callable
        Told of seconds done, of twice as many.

    Raises
    ------
    MarigoldError
        If the node ends or does not answer.

    """
    keep_to_this_machine()
    seen = views(seed, WIDTH, HEIGHT, POINTS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        use_roomy_transport(folder, os.environ)
        with _started(folder, seen):
            pass  # files that are in memory now are no part of the next start
        start_s, robot, process = stack.enter_context(_started(folder, seen))
        _settle(robot, process)
        alone = _run(robot, process, seconds, progress)
        with _busy_process():
            busy = _run(robot, process, seconds, progress)
        cpu_ms = _cpu_of_frames(robot, process)
        counts = _final_counts(robot, process)
    own_ms = _cpu_of_pipeline(seen)
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
    return Outcome(figures)


@contextmanager
def _started(folder: Path, seen: list[View]) -> Iterator[tuple[float, Robot, NodeProcess]]:
    """Give seconds from exec to the first answer, the robot and the node's process."""
    arguments = ['--ros-args', '-r', f'image:={INPUTS["image"][0]}']
    arguments += ['-r', f'lidar:={INPUTS["scan"][0]}']
    for name, value in mounting_parameters().items():
        arguments += ['-p', f'{name}:={value}']
    with own_context() as context:
        node = rclpy.create_node('robot', context=context, use_global_arguments=False)
        robot = Robot(node, seen)
        with spinning(node):
            begun = time.monotonic()
            with running_node(arguments, folder / 'node.log') as process:
                while robot.first_relative is None:
                    robot.send_for(0.1)
                    process.check()
                    if time.monotonic() - begun > _PATIENCE:
                        raise MarigoldError(f'no answer of the node within {_PATIENCE:g} s')
                yield robot.first_relative - begun, robot, process
                process.stop()
        node.destroy_node()


def _settle(robot: Robot, process: NodeProcess) -> None:
    """Wait until frames come one by one, so that all connections stand."""
    for index in range(20):
        robot.send_and_wait(index, [_LAST], process)


def _run(
    robot: Robot, process: NodeProcess, seconds: float, progress: Callable[[float], None]
) -> dict[str, float]:
    """Let the camera run; median and 99 % of the ages, time of a frame, rate, growth."""
    before = set(robot.arrivals[_LAST])
    memory = []
    for _ in range(_PARTS):
        memory.append(resident_mb(process.pid))
        robot.send_for(seconds / _PARTS)
        progress(seconds / _PARTS)
    seen = robot.reports
    came = {s: t for s, t in robot.arrivals[_LAST].items() if s not in before}
    if len(came) < 2:
        raise MarigoldError('the node answered less than twice; its log says why')
    robot.wait(lambda: robot.reports > seen, 'diagnostics', process)
    ages = [1e3 * (arrived - stamp / 1e9) for stamp, arrived in came.items()]
    span = max(came.values()) - min(came.values())
    return {
        'p50': float(np.percentile(ages, 50)),
        'p99': float(np.percentile(ages, 99)),
        'frame_ms': robot.number('timing', 'total.p50_ms'),
        'rate': (len(came) - 1) / span,
        'growth': 100.0 * (resident_mb(process.pid) / memory[1] - 1.0),
    }


def _cpu_of_frames(robot: Robot, process: NodeProcess) -> float:
    """CPU time of the node for a frame, where it serves each one, milliseconds."""
    _settle(robot, process)
    before = _cpu_seconds(process.pid)
    for index in range(_CPU_FRAMES):
        robot.send_and_wait(index, OUTPUTS, process)
    return 1e3 * (_cpu_seconds(process.pid) - before) / _CPU_FRAMES


def _cpu_of_pipeline(seen: list[View]) -> float:
    """CPU time of a frame in this process, without ROS, milliseconds."""
    config = NodeConfig()
    pipeline = FramePipeline(load(config), config.pipeline)
    frames = [view.frame() for view in seen]
    spent = 0.0
    for index in range(20 + _CPU_FRAMES):
        before = time.process_time()
        pipeline.process(frames[index % len(frames)])
        spent += (time.process_time() - before) * (index >= 20)
    return 1e3 * spent / _CPU_FRAMES


def _final_counts(robot: Robot, process: NodeProcess) -> dict[str, int]:
    """Wait for diagnostics in which no image is in work."""
    seen = robot.reports
    robot.wait(
        lambda: robot.reports > seen + 1 and robot.counts().get('frames.in_flight') == 0,
        'diagnostics without a frame in work',
        process,
    )
    return robot.counts()


@contextmanager
def _busy_process() -> Iterator[None]:
    busy: Any = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    # The name in brackets may hold anything; utime and stime are the 12th and 13th field behind.
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
