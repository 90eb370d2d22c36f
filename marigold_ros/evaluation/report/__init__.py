# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The HTML report of an evaluation, the page of a comparison, and all drawing: charts (SVG), depth
and errors as colours, clouds to look at. ``page/`` holds the page's scripts and style.
"""
