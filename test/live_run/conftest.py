# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Messages may be read: what rclpy imports for the first one warns."""

from contextlib import suppress
import warnings

with warnings.catch_warnings(), suppress(ImportError):  # without ROS
    # The parser behind rclpy's type support imports sre_parse, which Python 3.11 calls deprecated.
    warnings.simplefilter('ignore', DeprecationWarning)
    import rosidl_generator_py  # noqa: F401
