# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What the node says about itself: /diagnostics once a second, and the status of each fit.

Decision: written by hand and not with diagnostic_updater, whose Python tasks measure with a clock
of their own and so show wall time under use_sim_time, and which the ROS wheels lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from marigold_ros.frame import Alignment
from marigold_ros.geometry.alignment.fit_report import fit_report
from marigold_ros.node.health.counters import Counters, Timings
from marigold_ros.node.health.input_health import memory_mb, Rate
from marigold_ros.node.interface.messages import status
from marigold_ros.node.interface.qos import describe
from marigold_ros.node.ros_helpers import FILTERS

_OK, _WARN, _ERROR = (
    int.from_bytes(level, 'little') if isinstance(level, bytes) else int(level)
    for level in (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
)
# A problem that did not come again for this long is over, seconds.
_MEMORY = 5.0
_SETTING = {
    'image': 'image_reliability',
    'info': 'info_reliability',
    'scan': 'lidar_reliability',
}


@dataclass
class Health:
    """What happened lately: counters, timings, the last fit, and what is wrong with which part."""

    counters: Counters = field(default_factory=Counters)
    timings: Timings = field(default_factory=Timings)
    alignment: Alignment = field(default_factory=Alignment)
    details: dict[str, Any] = field(default_factory=dict)
    stamp_ns: int = 0
    scan_ns: int | None = None
    published: Rate = field(default_factory=Rate)
    problems: dict[str, tuple[float, str]] = field(default_factory=dict)

    def report(self, part: str, text: str) -> None:
        """Note what is wrong with a part: image, camera, info, scan, transform or frame."""
        self.problems[part] = (time.monotonic(), text)

    def problem(self, part: str) -> str:
        """What was wrong with a part in the last seconds; empty if nothing."""
        when, text = self.problems.get(part, (float('-inf'), ''))
        return text if time.monotonic() - when < _MEMORY else ''


def alignment_status(
    name: str,
    alignment: Alignment,
    image_ns: int,
    scan_ns: int | None,
    details: Mapping[str, Any],
):
    """DiagnosticStatus of one fit: the numbers that put the image into metres, or why not."""
    report = fit_report(alignment, image_ns, scan_ns, details)
    level = _OK if report.is_good else _WARN
    return status(f'{name}: alignment', level, report.text, report.values)


def diagnostics(node, health: Health, parts: Mapping[str, Any]) -> DiagnosticArray:
    """
    Everything worth knowing, in one message.

    Parameters
    ----------
    node : rclpy.node.Node
        Gives name and time.
    health : Health
        Counters and what is wrong.
    parts : mapping
        ``inputs`` (Inputs), ``outputs`` (Outputs), ``extrinsics`` (Extrinsics), ``model`` (its
        description as a mapping) and ``config`` (NodeConfig).

    """
    name = node.get_fully_qualified_name()
    message = DiagnosticArray()
    message.header.stamp = node.get_clock().now().to_msg()
    message.status = [
        *_input_statuses(name, health, parts['inputs']),
        _timing_status(name, health),
        status(
            f'{name}: model',
            _OK,
            str(parts['model'].get('name', '')),
            {**parts['model'], **memory_mb()},
        ),
        alignment_status(name, health.alignment, health.stamp_ns, health.scan_ns, health.details),
        _transform_status(name, health, parts['extrinsics'], parts['config']),
        _qos_status(name, parts['inputs'], parts['outputs']),
    ]
    for item in message.status:
        item.hardware_id = str(parts['model'].get('device', ''))
    return message


def _input_statuses(name: str, health: Health, inputs) -> Iterator[DiagnosticStatus]:
    for part, source in zip(('image', 'info', 'scan'), inputs.inputs, strict=False):
        prefix = {'image': 'frames', 'info': 'infos', 'scan': 'scans'}[part]
        values: dict[str, Any] = dict(health.counters.snapshot(f'{prefix}.'))
        values['rate_hz'] = source.rate.hertz
        if part == 'image':
            values['output_rate_hz'] = health.published.hertz
        for own in {'image': ('clock_jumps',), 'scan': ('pairs.', 'fits.')}.get(part, ()):
            values.update(health.counters.snapshot(own))
        text = next(filter(None, _complaints(part, source, health)), '')
        yield status(f'{name}: {prefix}', _WARN if text else _OK, text or source.topic, values)


def _complaints(part: str, source, health: Health) -> Iterator[str]:
    """Say what may be wrong with an input, the cause before its effects."""
    if not source.publishers:
        yield f'nobody publishes {source.topic}'
    silent = source.rate.silence > _MEMORY
    if silent and source.incompatible:
        yield (
            f'{source.topic} is published, but what is offered does not fit '
            f'{describe(source.profile)}: set {_SETTING[part]}'
        )
    yield health.problem(part)
    if part == 'image':
        yield health.problem('camera')
        yield health.problem('frame')
    if silent and part != 'info':  # some publish camera_info once
        yield f'{source.topic} is published, but nothing arrives: network, or a driver that hangs?'


def _timing_status(name: str, health: Health) -> DiagnosticStatus:
    """Durations of each stage; nothing to do is no fault."""
    frames = health.counters.snapshot('frames.')
    idle = health.published.silence > _MEMORY and frames['frames.skipped_idle'] > 0
    text = 'idle: nobody listens' if idle else 'milliseconds a frame'
    return status(f'{name}: timing', _OK, text, health.timings.percentiles())


def _transform_status(name: str, health: Health, extrinsics, config) -> DiagnosticStatus:
    values = {
        'source': extrinsics.source,
        'latest_used': extrinsics.latest_used,
        'fixed_frame': extrinsics.fixed_frame or 'none: motion is not compensated',
        'not_moved': extrinsics.not_moved,
    }
    text = health.problem('transform')
    if (
        not text
        and extrinsics.source.startswith('none')
        and config.sparse_source
        in (
            'pointcloud',
            'scan',
        )
    ):
        text = (
            'tf2 is not installed and no extrinsics are given: no metric depth; set '
            'extrinsics.translation and extrinsics.rotation_xyzw'
        )
    said = text or extrinsics.source
    if extrinsics.not_moved:
        said += f'; motion was not known in time for {extrinsics.not_moved} scans'
    return status(f'{name}: transform', _WARN if text else _OK, said, values)


def _qos_status(name: str, inputs, outputs) -> DiagnosticStatus:
    values: dict[str, Any] = {}
    deaf = []
    for item in inputs.inputs:
        chosen = describe(item.profile) if item.profile is not None else 'not subscribed'
        values[item.topic] = f'{chosen} ({item.reliability}, {item.publishers} publishers)'
        if item.incompatible:
            deaf.append(f'{item.topic} has a publisher whose QoS does not fit {chosen}')
    values['message_filters'] = FILTERS
    values['cv_bridge'] = inputs.images.state
    values.update({f'listeners.{topic}': n for topic, n in outputs.listeners().items()})
    return status(f'{name}: qos', _WARN if deaf else _OK, '; '.join(deaf) or 'compatible', values)
