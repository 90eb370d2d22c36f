# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The metric fit: scale, shift and local correction field, from sparse depth.

May import the ground modules; used by the pipeline, ``ground``, ``fusion``, ``sigma``,
``calibration`` and evaluation. Begin with ``align.py``.
"""
