# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training data: sources, augmentation, mixtures and cached latents."""
