# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""ROS for a run of our own: a domain nobody else uses, a context, a thread that spins."""

from __future__ import annotations

from contextlib import contextmanager
import os
import random
import threading

from marigold_ros.node.distro import spin
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor


def keep_to_this_machine() -> None:
    """Choose a domain nobody else uses, unless the user has chosen one."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    # 1 to 101 is what is free of the ephemeral ports on every platform.
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))


@contextmanager
def own_context():
    """Give a context of its own, which leaves Ctrl-C to Python."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        yield context
    finally:
        context.try_shutdown()


@contextmanager
def spinning(node, executor=None):
    """Spin a node in a thread of its own; what escapes a callback is raised at the end."""
    executor = SingleThreadedExecutor(context=node.context) if executor is None else executor
    executor.add_node(node)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            spin(executor)
        except ExternalShutdownException:
            pass
        except Exception as error:  # handed to the main thread below
            failure.append(error)

    thread = threading.Thread(target=work, name=f'spin {node.get_name()}', daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
    if failure:
        raise failure[0]
