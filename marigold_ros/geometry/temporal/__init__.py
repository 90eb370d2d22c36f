# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
State from frame to frame: smoothing of metric depth, and the state of a stream with its breaks.

May import ``alignment``, ``calibration`` and ``cloud``; used by the pipeline and the temporal
metrics of evaluation.
"""
