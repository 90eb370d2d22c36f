# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""ROS kept to one process or machine: an own domain, context and node, and a spinning thread."""

from contextlib import contextmanager
import os
import random
import threading

from marigold_ros.node.distro import spin
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor


def keep_to_this_machine() -> None:
    """Choose a random domain on localhost, unless the user has chosen one."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    # Domains 1 to 101 stay clear of the ephemeral ports on every platform.
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))


@contextmanager
def own_context():
    """Open an rclpy context that leaves Ctrl-C to Python."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        yield context
    finally:
        context.try_shutdown()


@contextmanager
def own_node(name: str, context):
    """Create a node that ignores the arguments of the process, and destroy it at the end."""
    node = rclpy.create_node(name, context=context, use_global_arguments=False)
    try:
        yield node
    finally:
        node.destroy_node()


@contextmanager
def spinning(node, executor=None):
    """Spin a node in a thread; an exception from a callback is raised at the end."""
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
