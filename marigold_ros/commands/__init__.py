# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The commands of ``python -m marigold_ros``: modules with ``add_arguments`` and ``run``.

numpy, torch, ``node`` and ``live_run`` are imported inside functions only, so that ``--help`` is
instant and needs no ROS.
"""
