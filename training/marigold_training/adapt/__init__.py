# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adapt models to the bags of one robot, and prove it on images that no network has seen.

``command`` is the command line, ``adaptation`` the whole run. ``blocks`` divides the images,
``recipes`` are ordinary ones for ``run`` and ``fusion``, ``keep`` chooses the share of initial
weights, ``calibration`` refuses a miscalibrated LiDAR, ``judge`` scores frames, ``metric`` fits a
scale, ``proof`` decides what is installed, and ``page`` draws it.
"""
