# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The Marigold family: reads checkpoints in diffusers layout and runs them on images.

``engine`` holds the model, ``prompted`` one that takes points; the other files are their steps:
checkpoint, schedule, denoiser, stream, ensemble, memory, guidance, prompt.
"""
