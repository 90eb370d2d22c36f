# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adapt models to the bags of one robot, and prove it on images that no network has seen.

``command`` is the command line, ``adaptation`` the whole run. ``blocks`` divides the images,
``mounting`` refuses a miscalibrated LiDAR, ``recipes`` are ordinary ones for ``run`` and
``fusion``, ``keep`` chooses the share of initial weights, ``judge`` and ``scores`` score frames,
``proof`` decides what is installed, and ``page`` draws it.
"""
