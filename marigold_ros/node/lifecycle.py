# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A lifecycle node that reports its errors; knows nothing of depth.

rclpy swallows exceptions in transitions, ends the process on impossible ones, answers no service
during one, and offers the services of a destroyed node; ManagedNode mends all four.
"""

from collections.abc import Callable, Sequence
import functools
import threading
import traceback

from marigold_ros.errors import MarigoldError
from marigold_ros.node.distro import (
    destroy_state_machine,
    guard_change_state,
    keep_state_machine,
    look_each_second,
    node_creation,
    overrides,
)
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def transition(undo: str = '') -> Callable[[Callable], Callable]:
    """
    Wrap a lifecycle callback to log known errors in one line, others with a traceback.

    After an error the node's method ``undo`` releases what the callback had begun.
    """

    def wrapped(method: Callable) -> Callable:
        @functools.wraps(method)
        def guarded(self, state) -> TransitionCallbackReturn:
            try:
                method(self)
            except Exception as error:  # rclpy would hide it
                known = isinstance(error, MarigoldError)
                if known or self.context.ok():
                    self.get_logger().error(str(error) if known else traceback.format_exc())
                if undo:
                    getattr(self, undo)()
                return FAILURE
            return SUCCESS

        return guarded

    return wrapped


def tolerant(node: Node, work: Callable[[], None]) -> Callable[[], None]:
    """Wrap a timer callback so that it logs its errors, which would end the process."""

    def guarded() -> None:
        try:
            work()
        except Exception:  # frames matter more than diagnostics
            if node.context.ok():
                node.get_logger().error(traceback.format_exc(), throttle_duration_sec=10.0)

    return guarded


class ManagedNode(LifecycleNode):
    """A lifecycle node whose services answer during transitions and survive impossible ones."""

    def __init__(self, name: str, inherited: Sequence[Parameter] = (), **options) -> None:
        # rclpy reads the clock's source before overrides can be inherited.
        first = [item for item in inherited if item.name == 'use_sim_time']
        options['parameter_overrides'] = [*first, *options.get('parameter_overrides', ())]
        # As LifecycleNode does, but with a group that lets get_state run during a transition.
        with node_creation(options.get('context')):
            Node.__init__(self, name, **options)
        for item in inherited:
            overrides(self).setdefault(item.name, item)
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.transition_lock = threading.Lock()
        self.exit_code = 0
        keep_state_machine(self)
        guard_change_state(self, self._change_state)
        look_each_second(self)

    def _change_state(self, handler, request, response):
        if not self.transition_lock.acquire(blocking=False):
            self.get_logger().warning('change_state refused: another transition is going on')
            response.success = False
            return response
        try:
            return handler(request, response)
        except RuntimeError as error:  # RCLError
            self.get_logger().warning(f'change_state refused: {str(error).splitlines()[0]}')
            response.success = False
            return response
        finally:
            self.transition_lock.release()

    def destroy_node(self) -> None:
        """Destroy the node and all that it offers."""
        super().destroy_node()
        destroy_state_machine(self)

    def autostart(self) -> None:
        """Configure and activate; on failure set the exit code to 1 and end the process."""
        with self.transition_lock:
            try:
                if self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS:
                    return
            except RuntimeError:  # RCLError, when the context ended meanwhile
                if self.context.ok():
                    raise
                return
        if self.context.ok():
            self.exit_code = 1
            self.context.try_shutdown()

    def is_idle(self) -> bool:
        """Whether no transition is going on; waits for half a second."""
        if not self.transition_lock.acquire(timeout=0.5):
            return False
        self.transition_lock.release()
        return True
