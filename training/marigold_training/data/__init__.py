# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training data: sources of image-depth pairs, their files, augmentation, and mixed batches.

``sources`` opens a recipe's entry, ``pairs`` is the protocol of all kinds, ``mixture`` makes
batches, ``record_blocks`` caches.
"""
