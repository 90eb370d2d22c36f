# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Released checkpoints of other projects, pickles, become folders of safetensors.

``pickles.py`` reads the tensors in a process of its own, ``released.py`` hands them to a family
and writes what it makes of them, ``keys.py`` gives them their names here.
"""
