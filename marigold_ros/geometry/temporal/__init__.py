# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Temporal smoothing: metric depth carried over from frame to frame.

May import ``alignment`` and ``cloud``; used by ``calibration``, the stream state, the pipeline and
the temporal metrics of evaluation.
"""
