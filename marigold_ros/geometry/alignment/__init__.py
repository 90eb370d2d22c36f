# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The metric fit: scale, shift, local correction field and sigma from sparse depth.

May import the ground modules and ``geometry.camera``; used by the pipeline, ``fusion``,
``temporal``, ``calibration`` and evaluation. Begin with ``align.py``.
"""
