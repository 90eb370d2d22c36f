# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The process: creates the node, or one per entry of ``cameras``, and spins them to a clean exit.

Decision: each camera is a whole node in a namespace of its own, with its topics, parameters,
lifecycle and diagnostics, because that is what ROS tools and parameter files expect.
"""

from collections.abc import Sequence
import contextlib
from functools import partial
import logging
import os
import sys
import threading
import time
from typing import NoReturn

from marigold_ros.errors import ConfigurationError, MarigoldError
from marigold_ros.node.depth_node import DepthNode, PATIENCE
from marigold_ros.node.distro import (
    begin,
    overrides,
    shut_down,
    spin,
    threaded_executor,
)
from marigold_ros.node.loading import load, ModelPool
import rclpy
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException


def make_nodes(load_model=load, cli_args=(), **options) -> list[DepthNode]:
    """
    Create the node, or one for each of its ``cameras``.

    ``load_model`` loads the model for a NodeConfig, ``cli_args`` are ROS arguments of these nodes,
    starting with ``--ros-args``, and ``options`` those of rclpy's Node. Each of several cameras
    has the namespace of its name below the node's own, and inherits parameters given for the node
    where none are given for itself. Raises ConfigurationError if parameters are wrong, or two
    cameras take their images from one topic.
    """
    node = DepthNode(load_model, cli_args=list(cli_args), **options)
    names = node.cameras
    if not names:
        return [node]
    above = node.get_namespace().rstrip('/')
    inherited = list(overrides(node).values())
    node.destroy_node()
    pool = ModelPool(load_model)
    nodes = [
        DepthNode(
            partial(pool.load, name),
            inherited,
            cli_args=['--ros-args', '-r', f'__ns:={above}/{name}', *cli_args],
            **options,
        )
        for name in names
    ]
    _check_topics(dict(zip(names, nodes, strict=True)))
    return nodes


class _ToRosout(logging.Handler):
    """Hands on what modules without ROS log."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = rclpy.logging.get_logger('marigold_depth')
        # Levels have the same numbers in rclpy and in logging.
        logger.log(self.format(record), rclpy.logging.LoggingSeverity(record.levelno))


def _check_topics(nodes: dict[str, DepthNode]) -> None:
    """Refuse two cameras with one topic, as from a remapping rule with an absolute name."""
    owners: dict[str, str] = {}
    for name, node in nodes.items():
        topic = node.resolve_topic_name('image')
        if topic in owners:
            raise ConfigurationError(
                f'cameras {owners[topic]} and {name} both take their images from {topic}; remap '
                f'image to a relative name, as in image:=image_raw, or each by itself, as in '
                f'{node.get_namespace()}/image:={topic}'
            )
        owners[topic] = name


def main(argv: list[str] | None = None) -> int:
    """
    Run the node or nodes until SIGINT, SIGTERM or a failed start.

    ``argv`` are the program name and arguments with ``--ros-args``; None takes the process's own.
    Returns 1 for arguments that allow no start. A run that began ends the process itself: with 0
    after a signal, with 1 after a failed start.
    """
    try:
        begin(args=argv)
    except MarigoldError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 0
    try:
        own = logging.getLogger('marigold_ros')
        own.setLevel(logging.INFO)
        own.addHandler(_ToRosout())
        nodes = make_nodes()
        if '--params-file' in (argv or sys.argv) and not any(map(overrides, nodes)):
            text = 'no --params-file has a setting of this node: name the section /** or '
            nodes[0].get_logger().warning(text + nodes[0].get_fully_qualified_name())
        context = nodes[0].context
        executor = threaded_executor(context, 3 + len(nodes))
        for node in nodes:
            executor.add_node(node)
        threading.Thread(target=_autostart, args=(nodes,), name='autostart', daemon=True).start()
    except (MarigoldError, InvalidParameterTypeException) as error:  # the latter: use_sim_time
        return _refuse(error)
    except KeyboardInterrupt:
        return _end(0)
    except Exception:
        if rclpy.ok():
            raise
        return _end(0)  # a signal ended the context while nodes were created
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
    return _end(max(node.exit_code for node in nodes))


def _end(code: int) -> NoReturn:
    """
    End the process.

    Python's own exit takes seconds with torch on a busy machine, or crashes while a thread is
    inside it or rclpy ends its contexts; launch kills what does not end within 5 s.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _autostart(nodes: Sequence[DepthNode]) -> None:
    """Start the nodes that have ``autostart``, one after the other."""
    for node in nodes:
        if node.context.ok() and node.get_parameter('autostart').value:
            node.autostart()


def _refuse(error: Exception) -> int:
    """Print in one line why the node does not start."""
    print(f'marigold_ros: {error}', file=sys.stderr)
    return 1
