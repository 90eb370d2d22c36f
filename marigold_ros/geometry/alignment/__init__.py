# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The metric fit: scale, shift, local correction field and counted errors, from sparse depth.

May import the ground modules; used by the pipeline, ``ground``, ``fusion``, ``sigma``,
``calibration`` and evaluation. Begin with ``align.py``.
"""
