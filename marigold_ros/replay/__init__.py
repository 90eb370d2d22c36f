# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bags through the pipeline without ROS: scored or labelled, in processes or on a cluster."""
