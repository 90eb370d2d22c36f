# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training objectives: the chain of networks, the loss of each objective, the training noise.

``losses.OBJECTIVES`` lists them by name.
"""
