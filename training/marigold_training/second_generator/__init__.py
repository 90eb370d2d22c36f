# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Another scene generator, independent of ``marigold_ros.synthetic``, to choose checkpoints by.

Entry point: ``generator.make_second_sample``.
"""
