# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
State from frame to frame: smoothing of metric depth, and what a stream keeps or forgets.

May import ``alignment``, ``calibration`` and ``cloud``; used by the pipeline and the temporal
metrics of evaluation.
"""
