# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The metric table, depth metrics, intervals, sigma, surfaces and temporal scores."""
