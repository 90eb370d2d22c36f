# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Every difference between ROS distributions, and the inner parts of rclpy that the node leans on.

Humble to Lyrical are supported; a difference is handled here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import inspect
import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.executors import MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.parameter import Parameter

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

# Seconds for which a callback group is waited for; its callbacks take milliseconds.
_PATIENCE = 1.0
# What rclpy raises for arguments that it cannot use: bad --ros-args, a broken parameter file.
ARGUMENT_ERRORS = (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError)


def on_incompatible_qos(callback: Callable[[Any], None]) -> SubscriptionEventCallbacks:
    """Event callbacks of a subscription that report publishers whose QoS does not fit."""
    return SubscriptionEventCallbacks(incompatible_qos=callback)


def without_events() -> PublisherEventCallbacks:
    """Event callbacks of a publisher that is told of nothing."""
    return PublisherEventCallbacks(use_default_callbacks=False)


class HoldableGroup(MutuallyExclusiveCallbackGroup):
    """
    A callback group that can be held while its entities are destroyed.

    Where an entity's QoS event is ready and another thread destroys the entity before the executor
    takes the event, rclpy lets InvalidHandle escape, which ends the executor and leaves the group
    locked for ever. While the group is held, nothing of it is taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_entity(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the group, once its callback in work is done; not from inside a callback of it."""
        deadline = time.monotonic() + _PATIENCE
        while not (mine := self.beginning_execution(self)) and time.monotonic() < deadline:
            time.sleep(0.001)
        try:
            yield
        finally:
            if mine:
                self.ending_execution(self)


def watch_clock(node, callback: Callable[[Any], None]):
    """Call back when ROS time jumps back or changes its source; unregister the returned handle."""
    threshold = JumpThreshold(
        min_forward=None, min_backward=Duration(seconds=-0.1), on_clock_change=True
    )
    return node.get_clock().create_jump_callback(threshold, post_callback=callback)


class OncePool(ThreadPoolExecutor):
    """
    Threads that take each task once.

    rclpy's executor hands a task to its pool again and again until a thread has begun it. On a
    busy machine thousands of copies gather before the next task, and callbacks lag by half a
    second for ever after.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._waiting: set[Any] = set()

    def submit(self, task: Any) -> None:  # type: ignore[override]
        """Take a task, or give the threads time for the copy that waits already."""
        if task in self._waiting:
            time.sleep(0.0005)
            return
        self._waiting.add(task)
        super().submit(self._begin, task)

    def _begin(self, task: Any) -> None:
        self._waiting.discard(task)
        task()


def threaded_executor(context, threads: int) -> MultiThreadedExecutor:
    """Make an executor of several threads whose pool takes each task once."""
    executor = MultiThreadedExecutor(threads, context=context)
    pool = getattr(executor, '_executor', None)
    if isinstance(pool, ThreadPoolExecutor):
        pool.shutdown(wait=False)
        executor._executor = OncePool(threads)
    return executor


def spin(executor) -> None:
    """
    Spin until the end, also where something is taken away while the executor gets ready to wait.

    Of an entity with QoS events rclpy then lets InvalidHandle escape, and the next round is sound;
    of the executor's own guards, at its shutdown, AttributeError.
    """
    while True:
        try:
            executor.spin()
        except rclpy_implementation.InvalidHandle:
            if executor.context.ok():
                continue
        except AttributeError:
            if not getattr(executor, '_is_shutdown', False):
                raise
        return


def shut_down(executor) -> None:
    """End an executor without waiting for callbacks that do not end."""
    # Since Kilted the default waits for all threads of the pool, a loading model among them.
    known = inspect.signature(executor.shutdown).parameters
    executor.shutdown(0.3, **({'wait_for_threads': False} if 'wait_for_threads' in known else {}))


def parameter_overrides(node) -> dict[str, Any]:
    """Names and values that the user gave at start, declared by the node or not."""
    return {parameter.name: parameter.value for parameter in overrides_of(node)}


def overrides_of(node) -> list[Parameter]:
    """Parameters that the user gave at start, declared by the node or not."""
    # rclpy drops overrides of undeclared parameters in silence; there is no public door to them.
    return list(getattr(node, '_parameter_overrides', {}).values())


def inherit_overrides(node, inherited: Iterable[Parameter]) -> None:
    """Take over what was given to another node, where this one has nothing; before declaring."""
    for parameter in inherited:
        node._parameter_overrides.setdefault(parameter.name, parameter)


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
