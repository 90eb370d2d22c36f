# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The commands of ``python -m marigold_ros``: modules with ``add_arguments`` and ``run``.

May import every package; numpy, torch, ``node`` and ``live_run`` inside functions only, so that
``--help`` is instant and needs no ROS. Used by ``__main__`` only.
"""
