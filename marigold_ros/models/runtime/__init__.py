# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Runtime: device, arithmetic, memory layout and compilers, for the same answer faster.

May import torch, config and errors, and of diffusers the types: a model that uses none of its
networks starts a second earlier. Used by the model families and the benchmarks.
"""
