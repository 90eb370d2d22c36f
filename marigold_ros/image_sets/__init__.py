# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Folders and tars of images with depth: files, lists, patterns, decoding, published layouts.

``image_set`` is what ``evaluate --dataset`` reads.
"""
