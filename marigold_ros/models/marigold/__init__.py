# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The Marigold family: reads checkpoints in diffusers layout and runs them on images.

``engine`` holds the model; the other files are its steps: checkpoint, schedule,
denoiser and stream, ensemble, resizing, memory, guidance. May import diffusers, torch,
``models.runtime`` and the ground. Used by registry, benchmarks, training and commands.
"""
