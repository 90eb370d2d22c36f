# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Parts and keys of ``/diagnostics``: the one list, for those who count, publish and read them.

A part is a DiagnosticStatus named ``NODE: PART``. CAUSE is the ``cause`` of an InputError, STAGE a
step of the frame (``Timings``), OUTPUT a topic below the node's name.
"""

from typing import Any

# Each image is received once and leaves once: received = served + dropped_newer + skipped_idle +
# rejected + in_flight.
FRAMES_RECEIVED = 'frames.received'
FRAMES_SERVED = 'frames.served'
FRAMES_DROPPED = 'frames.dropped_newer'  # replaced by a newer image before its turn
FRAMES_IDLE = 'frames.skipped_idle'  # nobody subscribed to any output
FRAMES_IN_FLIGHT = 'frames.in_flight'
FRAMES_REJECTED = 'frames.rejected.'  # + the cause of an error, or internal
FRAMES_DEACTIVATED = f'{FRAMES_REJECTED}deactivated'
CLOCK_JUMPS = 'clock_jumps'
INFOS_RECEIVED = 'infos.received'
INFOS_REJECTED = 'infos.rejected.calibration'
SCANS = 'scans'  # + .received, .rejected.CAUSE; of several sources in all
SCANS_RECEIVED = f'{SCANS}.received'
SCANS_REJECTED = f'{SCANS}.rejected.'  # + CAUSE
PAIRS = 'pairs.'  # + whole, without_info, without_scan, without_info_scan; by image
FITS = 'fits.'  # + fitted, held, none; by image
DOMAIN_GAP = 'domain_gap'  # mean of the last images, or unknown
ANSWERED_BY = 'answered_by'  # runtime of the last image, or unknown
NO_PUBLISHER = 'nobody publishes'  # + the topic; message of an input without publishers

_FRAMES = (FRAMES_RECEIVED, FRAMES_SERVED, FRAMES_DROPPED, FRAMES_IDLE, FRAMES_IN_FLIGHT)
# Shown from the start; the other counters appear with their first event.
ALWAYS_SHOWN = (*_FRAMES, SCANS_RECEIVED, INFOS_RECEIVED)
# Keys of each part; * stands for any text.
KEYS: dict[str, tuple[str, ...]] = {
    'frames': (*_FRAMES, f'{FRAMES_REJECTED}*', 'rate_hz', 'output_rate_hz', CLOCK_JUMPS),
    'infos': (INFOS_RECEIVED, INFOS_REJECTED, 'rate_hz'),
    'scans': (SCANS_RECEIVED, f'{SCANS_REJECTED}*', 'rate_hz', f'{PAIRS}*', f'{FITS}*'),
    # Instead of scans, of each of several sources.
    'scans.*': (
        *('scans.*.received', 'scans.*.rejected.*', 'scans.*.used', 'scans.*.missing'),
        *('points', 'rate_hz', f'{PAIRS}*', f'{FITS}*'),
    ),
    'timing': ('*.p50_ms', '*.p95_ms'),  # STAGE
    # Besides the keys of the model's ``description``.
    'model': ('name', 'device', 'resident_mb', 'gpu_mb', DOMAIN_GAP, ANSWERED_BY),
    # Also ``~/alignment``; made by geometry/fit_report.py.
    'alignment': (
        *('scale', 'shift', 'inliers', 'points', 'rms', 'condition', 'state', 'reason'),
        *('led_by', 'map_share', 'map_reason'),
        *('scan_stamp', 'image_stamp', 'age', 'image_coverage', 'nearest', 'farthest'),
        *('calibration', 'caution'),
    ),
    'transform': ('source', 'latest_used', 'fixed_frame', 'not_moved'),
    # TOPIC of an input, and the number of listeners of each OUTPUT.
    'qos': ('/*', 'message_filters', 'cv_bridge', 'listeners.*'),
}


def source_part(source: str) -> str:
    """Return the part of one of several sources of sparse depth."""
    return f'{SCANS}.{source}'


def values_of(status: Any) -> dict[str, str]:
    """Return the values of a DiagnosticStatus by key."""
    return {pair.key: pair.value for pair in status.values}
