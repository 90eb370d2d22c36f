# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Every difference between ROS distributions, and every use of rclpy's internals.

Humble to Lyrical are supported; a difference is handled here and nowhere else.
"""

import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import functools
import inspect
import time
from typing import Any, Literal

from marigold_ros.errors import MarigoldError
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.executors import MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.parameter import Parameter
from rclpy.utilities import remove_ros_args

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks

    LOCALHOST = 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST'
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

    LOCALHOST = 'ROS_LOCALHOST_ONLY', '1'

# Seconds to wait for a callback group, whose callbacks take milliseconds, or for rclpy's thread.
_PATIENCE = 1.0

STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def begin(args: list[str] | None, **options: Any) -> None:
    """Initialise rclpy; raises MarigoldError for wrong arguments and a log without a folder."""
    try:
        rclpy.init(args=args, **options)
        if others := remove_ros_args(args)[1:]:
            raise rclpy_implementation.UnknownROSArgsError(others)
    except rclpy_implementation.UnknownROSArgsError as error:
        remedy = 'give --ros-args -r FROM:=TO -p NAME:=VALUE'
        raise MarigoldError(f'unknown arguments {error}; {remedy}') from error
    except rclpy_implementation.RCLError as error:
        text = str(error)
        if 'initialize logging' in text:
            text += '; set ROS_LOG_DIR to a folder you may write to'
        raise MarigoldError(text) from error


@contextmanager
def node_creation(context: Any = None) -> Iterator[None]:
    """Raise MarigoldError if the middleware cannot create a node, as with wrong settings."""
    try:
        yield
    except rclpy_implementation.RCLError as error:
        if not rclpy.ok(context=context):  # a signal ended the context meanwhile
            raise
        remedy = 'the lines above say why; check CYCLONEDDS_URI, or the profile of Fast DDS'
        raise MarigoldError(f'{error}; {remedy}') from error


def without_events(of: Literal['publisher', 'subscription'] = 'publisher') -> Any:
    """Return event callbacks that handle no events."""
    kind = PublisherEventCallbacks if of == 'publisher' else SubscriptionEventCallbacks
    return kind(use_default_callbacks=False)


class HoldableGroup(MutuallyExclusiveCallbackGroup):
    """
    A callback group that can be held while its entities are destroyed.

    If another thread destroys an entity whose QoS event is ready before the executor takes the
    event, rclpy lets InvalidHandle escape, which ends the executor and leaves the group locked.
    While the group is held, the executor takes nothing of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_entity(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the group once its running callback ends; not to be called from such a callback."""
        mine = _wait_for(lambda: self.beginning_execution(self))
        try:
            yield
        finally:
            if mine:
                self.ending_execution(self)


def _wait_for(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; returns False if it does not in time."""
    deadline = time.monotonic() + _PATIENCE
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return holds


def look_each_second(node) -> None:
    """
    Wake the node's executor each second, so that it sees when its context has ended.

    rclpy's signal thread wakes executors just before it ends the context. One that looks in
    between waits again, for ever if nothing else wakes it.
    """
    node.create_timer(1.0, lambda: None, clock=STEADY)


def watch_clock(node, callback: Callable[[Any], None]):
    """Call back when ROS time jumps back or changes its source; returns a handle to unregister."""
    threshold = JumpThreshold(
        min_forward=None, min_backward=Duration(seconds=-0.1), on_clock_change=True
    )
    return node.get_clock().create_jump_callback(threshold, post_callback=callback)


class OncePool(ThreadPoolExecutor):
    """
    A thread pool that queues each task once.

    rclpy's executor submits a task again and again until a thread has begun it. On a busy machine
    thousands of copies queue before the next task, and callbacks lag by half a second.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._waiting: set[Any] = set()

    def submit(self, task: Any) -> None:  # type: ignore[override]
        """Queue a task, or give the threads time for the copy that is queued already."""
        if task in self._waiting:
            time.sleep(0.0005)
            return
        self._waiting.add(task)
        super().submit(self._begin, task)

    def _begin(self, task: Any) -> None:
        self._waiting.discard(task)
        task()


def threaded_executor(context, threads: int) -> MultiThreadedExecutor:
    """Create an executor of several threads whose pool queues each task once."""
    executor = MultiThreadedExecutor(threads, context=context)
    pool = getattr(executor, '_executor', None)
    if isinstance(pool, ThreadPoolExecutor):
        pool.shutdown(wait=False)
        executor._executor = OncePool(threads)
    return executor


def spin(executor) -> None:
    """
    Spin until shutdown, even if something is destroyed while the executor prepares to wait.

    rclpy then lets InvalidHandle escape for an entity with QoS events, after which spinning can go
    on, and AttributeError for the executor's own guards at its shutdown.
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
    """Shut an executor down whose context ends, without waiting for callbacks that do not end."""
    # After a signal rclpy's own thread walks the guard conditions that are destroyed here, with
    # nothing to keep them, and then ends the context.
    _wait_for(lambda: not executor.context.ok())
    # Since Kilted the default waits for all threads of the pool, even one that loads a model.
    known = inspect.signature(executor.shutdown).parameters
    executor.shutdown(0.3, **({'wait_for_threads': False} if 'wait_for_threads' in known else {}))


def overrides(node) -> dict[str, Parameter]:
    """
    Return the parameters given at start by name, declared by the node or not.

    What is changed here before a parameter is declared counts as given. rclpy drops overrides of
    undeclared parameters in silence and offers no way to list them.
    """
    return node._parameter_overrides


def byte_array(data) -> array.array:
    """Return bytes as the array type that a message takes without checking each byte."""
    result = array.array('B')
    result.frombytes(memoryview(data).cast('B') if len(data) else b'')
    return result


def keep_state_machine(node) -> None:
    """
    Keep a lifecycle node's state machine while a service of the node answers.

    rclpy crashes where a service reads a state machine that is destroyed meanwhile.
    """
    machine = node._state_machine

    def kept(handler, request, response):
        with machine:
            return handler(request, response)

    for service in node.services:
        service.callback = functools.partial(kept, service.callback)


def destroy_state_machine(node) -> None:
    """
    Destroy a lifecycle node's state machine, once no service and no transition uses it.

    rclpy leaves it to the garbage collector. Until then services of a destroyed node are offered
    that answer nothing, and its DDS participant stays, even beyond the end of the process.
    """
    node._state_machine.destroy_when_not_in_use()


def guard_change_state(node, guard: Callable) -> None:
    """
    Wrap the node's change_state service in ``guard(handler, request, response)``.

    rclpy lets the RCLError of an impossible transition escape from the service callback, which
    ends the process: requesting `activate` twice would kill the node.
    """
    service = getattr(node, '_service_change_state', None)
    if service is None:
        return
    handler = service.callback
    service.callback = lambda request, response: guard(handler, request, response)
