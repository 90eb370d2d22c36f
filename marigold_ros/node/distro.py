# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Every difference between ROS distributions, and the inner parts of rclpy that the node leans on.

Humble to Lyrical are supported; a difference is handled here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
import inspect
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.impl.implementation_singleton import rclpy_implementation

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

# What rclpy raises for arguments that it cannot use: bad --ros-args, a broken parameter file.
ARGUMENT_ERRORS = (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError)


def on_incompatible_qos(callback: Callable[[Any], None]) -> SubscriptionEventCallbacks:
    """Event callbacks of a subscription that report publishers whose QoS does not fit."""
    return SubscriptionEventCallbacks(incompatible_qos=callback)


def watch_clock(node, callback: Callable[[Any], None]):
    """Call back when ROS time jumps back or changes its source; unregister the returned handle."""
    threshold = JumpThreshold(
        min_forward=None, min_backward=Duration(seconds=-0.1), on_clock_change=True
    )
    return node.get_clock().create_jump_callback(threshold, post_callback=callback)


def shut_down(executor) -> None:
    """End an executor without waiting for callbacks that do not end."""
    # Since Kilted the default waits for all threads of the pool, a loading model among them.
    known = inspect.signature(executor.shutdown).parameters
    executor.shutdown(0.3, **({'wait_for_threads': False} if 'wait_for_threads' in known else {}))


def parameter_overrides(node) -> dict[str, Any]:
    """Names and values that the user gave at start, declared by the node or not."""
    # rclpy drops overrides of undeclared parameters in silence; there is no public door to them.
    overrides = getattr(node, '_parameter_overrides', {})
    return {name: parameter.value for name, parameter in overrides.items()}


def guard_change_state(node, guard: Callable) -> None:
    """
    Put ``guard(handler, request, response)`` before the node's change_state service.

    rclpy lets the RCLError of an impossible transition escape from the service callback, which
    ends the executor and so the process: asking twice for `activate` would kill the node.
    """
    service = getattr(node, '_service_change_state', None)
    if service is None:
        return
    handler = service.callback
    service.callback = lambda request, response: guard(handler, request, response)
