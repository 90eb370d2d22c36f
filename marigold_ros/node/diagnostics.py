# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Diagnostics of the node: ``/diagnostics`` once a second, and the status of each fit.

All parts and keys stand in ``diagnostic_keys``. Decision: not made with diagnostic_updater, whose
Python tasks use a clock of their own and so report wall time under use_sim_time, and which the ROS
wheels lack.
"""

from collections.abc import Iterator, Mapping
import math
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from marigold_ros.config import NodeConfig
from marigold_ros.errors import shown
from marigold_ros.frame import Alignment
from marigold_ros.geometry.fit_report import fit_report
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.node.health import explain_gap, Health, memory_mb, PROBLEM_MEMORY
from marigold_ros.node.ros_helpers import FILTERS
from marigold_ros.sparse_sources import GROUND, needs_extrinsics, source_names

_OK, _WARN = b'\0', b'\1'  # as messages have them in every distribution
# Each input's parameter of its reliability, and further counters that it shows.
_INPUTS = {
    'image': ('image_reliability', (keys.CLOCK_JUMPS,)),
    'info': ('info_reliability', ()),
    'scan': ('lidar_reliability', (keys.PAIRS, keys.FITS)),
}


def _status(name: str, level: bytes, text: str, values: dict) -> DiagnosticStatus:
    """Return a DiagnosticStatus; floats are written with six digits, texts as one line each."""
    pairs = [
        KeyValue(key=key, value=f'{value:.6g}' if isinstance(value, float) else shown(value))
        for key, value in values.items()
    ]
    return DiagnosticStatus(name=name, level=level, message=shown(text), values=pairs)


def alignment_status(
    name: str,
    alignment: Alignment,
    image_ns: int,
    scan_ns: int | None,
    details: Mapping[str, Any],
) -> DiagnosticStatus:
    """Return the DiagnosticStatus of one fit: its numbers, or why there is none."""
    report = fit_report(alignment, image_ns, scan_ns, details)
    level = _OK if report.is_good else _WARN
    return _status(f'{name}: alignment', level, report.text, report.values)


def diagnostics(
    node, inputs, outputs, extrinsics, model: Mapping[str, str], config: NodeConfig
) -> DiagnosticArray:
    """
    Return the message for ``/diagnostics``, of all parts in ``diagnostic_keys``.

    ``node`` is the DepthNode, with its Inputs, Outputs, Extrinsics and current settings; ``model``
    is the description of the model.
    """
    name, health = node.get_fully_qualified_name(), node.health
    message = DiagnosticArray()
    message.header.stamp = node.get_clock().now().to_msg()
    gap = health.domain_gap
    facts = {**model, **memory_mb(), keys.DOMAIN_GAP: 'unknown' if math.isnan(gap) else gap}
    facts[keys.ANSWERED_BY] = health.answered_by
    text = f'{model.get("name", "")}: {explain_gap(gap)}'
    message.status = [
        *_input_statuses(name, health, inputs, config),
        _timing_status(name, health, outputs),
        _status(f'{name}: model', _OK, text, facts),
        _last_fit(name, health),
        transform_status(name, health, extrinsics, config),
        _qos_status(name, inputs, outputs),
    ]
    for item in message.status:
        item.hardware_id = inputs.image.topic  # several cameras share one device
    return message


def warnings_of(message: DiagnosticArray) -> dict[str, str]:
    """Return the warnings of a message for ``/diagnostics``, by part."""
    return {
        status.name.rpartition(': ')[2]: status.message
        for status in message.status
        if status.level != _OK
    }


def _input_statuses(
    name: str, health: Health, inputs, config: NodeConfig
) -> Iterator[DiagnosticStatus]:
    for item in inputs.inputs:
        if item.name not in _INPUTS:  # needed by some depth images only
            continue
        part, further = item.part, _INPUTS[item.name][1]
        values: dict[str, Any] = dict(health.counters.snapshot(f'{part}.'))
        if item.source in health.sources:
            values['points'] = health.sources[item.source].points
        values['rate_hz'] = item.rate.hertz
        if item.name == 'image':
            values['output_rate_hz'] = health.published.hertz
        for prefix in further:
            values.update(health.counters.snapshot(prefix))
        text = next(filter(None, _complaints(item, health)), '')
        level = _WARN if text else _OK
        yield _status(f'{name}: {part}', level, text or item.topic, values)
    names = source_names(config.sparse_source)
    if GROUND in names and len(names) > 1:
        part, report = keys.source_part(GROUND), health.sources.get(GROUND)
        values = {**health.counters.snapshot(f'{part}.'), 'points': report.points if report else 0}
        text = report.reason if report else ''
        yield _status(f'{name}: {part}', _WARN if text else _OK, text or 'the plane below', values)
    elif GROUND in names:
        yield _status(
            f'{name}: scans', _OK, 'the plane below', health.counters.snapshot(keys.FITS)
        )


def _complaints(item, health: Health) -> Iterator[str]:
    """Yield what may be wrong with an input, causes before their effects."""
    yield item.mismatch
    if not item.publishers:
        yield f'{keys.NO_PUBLISHER} {item.topic}'
    silent = item.rate.is_silent(PROBLEM_MEMORY)
    if silent and item.incompatible:
        yield (
            f'{item.topic} is published, but what is offered does not fit '
            f'{item.qos}: set {_INPUTS[item.name][0]}'
        )
    if silent and item.name != 'info':  # some drivers publish camera_info once
        yield (
            f'{item.topic} is published, but nothing arrives: network, a driver that hangs, or '
            'one of another user (with Fast DDS set FASTDDS_BUILTIN_TRANSPORTS=UDPv4)?'
        )
    parts = ('clock', 'image') if item.name == 'image' else (item.problem_part,)
    for problem in filter(None, map(health.problem, parts)):
        if item.publishers > 1:  # whose messages may contradict each other
            problem += f'; {item.topic} has {item.publishers} publishers'
        yield problem
    if item.source in health.sources:
        yield health.sources[item.source].reason
    if item.name == 'image':
        yield health.problem('camera')
        yield health.problem('frame')


def _last_fit(name: str, health: Health) -> DiagnosticStatus:
    """Return the status of the last fit; that no image has been served yet is no fault of it."""
    status = alignment_status(
        name, health.alignment, health.stamp_ns, health.scan_ns, health.details
    )
    if not health.counters.snapshot(keys.FITS):
        status.level, status.message = _OK, 'no image has been served yet'
    return status


def _timing_status(name: str, health: Health, outputs) -> DiagnosticStatus:
    """Return the durations of each stage; an idle node is no fault."""
    skipped = health.counters.snapshot(keys.FRAMES_IDLE)[keys.FRAMES_IDLE]
    idle = skipped > 0 and not outputs.has_listeners()
    text = 'idle: nobody listens' if idle else 'milliseconds a frame'
    return _status(f'{name}: timing', _OK, text, health.timings.percentiles())


def transform_status(
    name: str, health: Health, extrinsics, config: NodeConfig
) -> DiagnosticStatus:
    values = {
        'source': extrinsics.source,
        'latest_used': extrinsics.latest_used,
        'fixed_frame': extrinsics.fixed_frame or 'none: motion is not compensated',
        'not_moved': extrinsics.not_moved,
    }
    problem = health.problem('transform')
    needed = needs_extrinsics(config.sparse_source)
    if not problem and needed and extrinsics.source.startswith('none'):
        settings = 'extrinsics.translation and extrinsics.rotation_xyzw'
        problem = f'tf2 is not installed: no metric depth; set {settings}'
    text = problem or extrinsics.source
    if extrinsics.not_moved:
        text += f'; motion was not known in time for {extrinsics.not_moved} scans'
    return _status(f'{name}: transform', _WARN if problem else _OK, text, values)


def _qos_status(name: str, inputs, outputs) -> DiagnosticStatus:
    values: dict[str, Any] = {}
    incompatible = []
    for item in inputs.inputs:
        values[item.topic] = f'{item.qos} ({item.reliability}, {item.publishers} publishers)'
        if item.incompatible:
            incompatible.append(f'{item.topic} has a publisher whose QoS does not fit {item.qos}')
    values['message_filters'] = FILTERS
    values['cv_bridge'] = inputs.images.state
    values.update({f'listeners.{topic}': n for topic, n in outputs.listeners().items()})
    text = '; '.join(incompatible) or 'compatible'
    return _status(f'{name}: qos', _WARN if incompatible else _OK, text, values)
