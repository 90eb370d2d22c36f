# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
DiffusionDepth (Duan et al., ECCV 2024): metric depth by denoising a latent of half resolution.

Begin with ``model.py``; ``network.py`` puts the parts together: ``features.py`` (what the image
says), the latent of depth and ``denoiser.py`` (one refinement, all DDIM steps).
"""
