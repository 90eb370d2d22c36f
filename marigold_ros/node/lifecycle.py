# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Lifecycle that tells what goes wrong, and a run to a clean exit code; knows nothing of depth.

rclpy swallows exceptions in transitions, dies of impossible ones, and answers nothing while one is
going on; all three are mended here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import functools
import os
import sys
import threading
import time
import traceback

from marigold_ros.errors import MarigoldError
from marigold_ros.node.distro import (
    ARGUMENT_ERRORS,
    guard_change_state,
    inherit_overrides,
    shut_down,
    spin,
    threaded_executor,
)
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

# SIGINT must end the process within 4 s, so frames in work get less than that, seconds.
PATIENCE = 2.0
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def transition(method: Callable) -> Callable:
    """Make a lifecycle callback: known errors are one line in the log, others a traceback."""

    @functools.wraps(method)
    def guarded(self, state) -> TransitionCallbackReturn:
        try:
            method(self)
        except MarigoldError as error:
            self.get_logger().error(str(error))
            return FAILURE
        except Exception:  # rclpy would hide it, and the executor must go on
            if self.context.ok():
                self.get_logger().error(traceback.format_exc())
            return FAILURE
        return SUCCESS

    return guarded


def tolerant(node: Node, work: Callable[[], None]) -> Callable[[], None]:
    """Make a timer callback whose errors are logged; escaping, they would end the process."""

    def guarded() -> None:
        try:
            work()
        except Exception:  # whatever it is, frames matter more
            if node.context.ok():
                node.get_logger().error(traceback.format_exc(), throttle_duration_sec=10.0)

    return guarded


class ManagedNode(LifecycleNode):
    """A lifecycle node whose services answer during transitions and survive impossible ones."""

    def __init__(self, name: str, inherited: Sequence[Parameter] = (), **options) -> None:
        # rclpy reads the clock's source before anything can be inherited.
        first = [item for item in inherited if item.name == 'use_sim_time']
        options['parameter_overrides'] = [*first, *options.get('parameter_overrides', ())]
        # As LifecycleNode does, but with a group that lets get_state run beside a long transition.
        Node.__init__(self, name, **options)
        inherit_overrides(self, inherited)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.transition_lock = threading.Lock()
        self.exit_code = 0
        guard_change_state(self, self._change_state)

    def _change_state(self, handler, request, response):
        if not self.transition_lock.acquire(blocking=False):
            self.get_logger().warning('change_state refused: another transition is going on')
            response.success = False
            return response
        try:
            return handler(request, response)
        except RuntimeError as error:  # RCLError
            reason = str(error).splitlines()[0]
            self.get_logger().warning(f'change_state refused: {reason}')
            response.success = False
            return response
        finally:
            self.transition_lock.release()

    def autostart(self) -> None:
        """Configure and activate; a failure makes the exit code 1 and ends the process."""
        with self.transition_lock:
            try:
                if self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS:
                    return
            except RuntimeError:  # RCLError, when the context went away meanwhile
                if self.context.ok():
                    raise
                return
        if self.context.ok():
            self.exit_code = 1
            self.context.try_shutdown()

    def is_idle(self) -> bool:
        """Whether no transition is going on, after a moment's patience."""
        if not self.transition_lock.acquire(timeout=0.5):
            return False
        self.transition_lock.release()
        return True

    def stop(self, patience: float) -> bool:
        """Stop before the process ends, within seconds; False if something is still at work."""
        return True


def run(make_nodes: Callable[[], Sequence[ManagedNode]], argv: list[str] | None = None) -> int:
    """
    Spin nodes until SIGINT, SIGTERM or a failed start.

    Parameters
    ----------
    make_nodes : callable
        Makes the nodes once rclpy is initialised; a MarigoldError ends the run in one line.
    argv : list of str or None
        Program name and arguments with ``--ros-args``; None takes them from the command line.

    Returns
    -------
    int
        1 for arguments that allow no start. A run that began ends the process itself: with 0 after
        a signal, with 1 after a failed start.

    """
    try:
        rclpy.init(args=argv)
    except ARGUMENT_ERRORS as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 0
    try:
        nodes = make_nodes()
        context = nodes[0].context
        executor = threaded_executor(context, 3 + len(nodes))
        for node in nodes:
            executor.add_node(node)
        threading.Thread(target=_autostart, args=(nodes,), name='autostart', daemon=True).start()
    except MarigoldError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 0
    except Exception:
        if rclpy.ok():
            raise
        return 0  # a signal ended the context, and with it what was being made
    try:
        spin(executor)
    except (ExternalShutdownException, KeyboardInterrupt):
        pass
    except RuntimeError:  # RCLError: a callback met the end of its context
        if context.ok():
            raise
    with contextlib.suppress(KeyboardInterrupt):  # an impatient second Ctrl-C
        shut_down(executor)
        deadline = time.monotonic() + PATIENCE
        stopped = [node.stop(max(0.0, deadline - time.monotonic())) for node in nodes]
        if all(stopped) and all(node.is_idle() for node in nodes):
            for node in nodes:
                node.destroy_node()
            rclpy.try_shutdown()
    # Nothing is left to do, and Python's own end would take seconds for torch on a busy machine,
    # or crash where a thread is still inside it: launch kills what does not end within 5 s.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(max(node.exit_code for node in nodes))


def _autostart(nodes: Sequence[ManagedNode]) -> None:
    """Start one node after the other, those that are to start by themselves."""
    for node in nodes:
        if node.context.ok() and node.get_parameter('autostart').value:
            node.autostart()


def _refuse(error: Exception) -> int:
    """Say in one line why there is no start."""
    print(f'marigold_ros: {" ".join(str(error).split())}', file=sys.stderr)
    return 1
