# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Metrics, protocols, baselines and reports: numpy, SciPy and OpenCV; neither torch nor ROS."""

from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics

__all__ = ['depth_metrics']
