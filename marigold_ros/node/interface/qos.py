# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Quality of service of the inputs and outputs.

Decision: QoS ``auto`` follows the publishers. Best effort matches every publisher but loses large
images (88 of 100 over UDP, reliable 12); reliable matches only those who offer it. So the node
checks the publishers every second, and subscribes anew when the choice changes.
"""

from collections.abc import Sequence
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.node.distro import overrides
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2

# Policies that users may override, and their words; the depth is a number.
_POLICIES: dict[str, Any] = {
    'depth': (),
    'history': HistoryPolicy,
    'reliability': ReliabilityPolicy,
    'durability': DurabilityPolicy,
}


def output_profile(kind: type) -> QoSProfile:
    """
    Return the profile of a publisher, a new one each time: rclpy writes overrides into it.

    Images and clouds are kept last 1. What goes with them is small and kept last 5, so that one
    that must be sent again still completes its set.
    """
    return QoSProfile(
        depth=1 if kind in (Image, PointCloud2) else 5,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def input_profile(setting: str, depth: int, offers: Sequence[QoSProfile]) -> QoSProfile:
    """
    Choose the profile of a subscription that keeps ``depth`` messages.

    ``setting`` is 'auto', 'reliable' or 'best_effort', and ``offers`` are those of the topic's
    present publishers. Auto is reliable if every visible publisher is, best effort while none is
    visible. Unless best effort is asked for, it is transient local if every publisher is.
    """
    reliable = setting == 'reliable'
    if setting == 'auto' and offers:
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
    latched = setting != 'best_effort' and bool(offers)
    latched &= all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def describe_profile(profile: QoSProfile) -> str:
    """Return a profile in words: ``reliable, volatile``."""
    return f'{profile.reliability.name.lower()}, {profile.durability.name.lower()}'


def user_overrides(node, topic: str, kind: str) -> QoSOverridingOptions | None:
    """
    Return options that let ``qos_overrides.TOPIC.KIND.*`` win, if the user set such parameters.

    Declared for everybody, they would keep the first profile and end the adaptive choice. Raises
    ConfigurationError for a value that rclpy does not know.
    """
    prefix = f'qos_overrides.{topic}.{kind}.'
    given = {name: item.value for name, item in overrides(node).items() if name.startswith(prefix)}
    for name, value in given.items():
        policy = name.removeprefix(prefix)
        if policy not in _POLICIES:
            raise ConfigurationError(f'{name} is {value!r}; policies are {", ".join(_POLICIES)}')
        words = [item.name.lower() for item in _POLICIES[policy] if item.name != 'UNKNOWN']
        if words and str(value).lower() not in words:
            raise ConfigurationError(f'{name} is {value!r}; choose one of {", ".join(words)}')
        if policy == 'depth' and not (type(value) is int and value >= 0):
            raise ConfigurationError(f'{name} is {value!r}; give a number of messages')
    kinds = [QoSPolicyKind[policy.upper()] for policy in _POLICIES]
    return QoSOverridingOptions(kinds) if given else None
