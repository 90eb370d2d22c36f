# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Marigold: checkpoints in diffusers layout, denoising, ensembles and the engine for them."""
