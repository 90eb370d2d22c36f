# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The node's ROS interface: parameters, subscriptions, publishers, QoS and transforms.

``parameter_file`` and its table need no ROS, for whoever writes docs.
"""
