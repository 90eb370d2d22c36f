# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth Anything and its kin: checkpoints in the layout of transformers, one pass of the network.

Begin with ``model.py``; ``kinds.py``, which imports no torch, says which networks there are.
"""
