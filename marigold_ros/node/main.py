# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The process: one node, or with the parameter ``cameras`` one for each camera and a model for all.

Decision: each camera is a whole node in a namespace of its own, with its topics, parameters,
lifecycle and diagnostics, because that is what tools and parameter files of ROS expect.
"""

from __future__ import annotations

from functools import partial

from marigold_ros.errors import ConfigurationError
from marigold_ros.node.depth_node import DepthNode
from marigold_ros.node.distro import overrides_of
from marigold_ros.node.lifecycle import run
from marigold_ros.node.loading import load
from marigold_ros.node.sharing import ModelPool


def make_nodes(load_model=load, cli_args=(), **options) -> list[DepthNode]:
    """
    Make the node, or one for each of its ``cameras``.

    Parameters
    ----------
    load_model : callable
        Takes a NodeConfig and gives a model.
    cli_args : sequence of str
        Arguments of ROS for these nodes, with ``--ros-args`` in front.
    **options
        Of rclpy's Node.

    Returns
    -------
    list of DepthNode
        With several cameras, each in the namespace of its name below the node's own; what was
        given for the node holds for all of them, where nothing is given for the one.

    Raises
    ------
    ConfigurationError
        If parameters are wrong, or two cameras take their images from one topic.

    """
    node = DepthNode(load_model, cli_args=list(cli_args), **options)
    names = node.cameras
    if not names:
        return [node]
    above = node.get_namespace().rstrip('/')
    inherited = overrides_of(node)
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


def _check_topics(nodes: dict[str, DepthNode]) -> None:
    """Refuse two cameras with one topic: a rule with an absolute name leads all of them there."""
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
    """Run until told to stop; returns the exit code."""
    return run(make_nodes, argv)
