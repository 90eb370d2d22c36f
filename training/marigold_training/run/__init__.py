# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A training run: recipe, stages, loop, checkpoints, validation, scores and the model card.

``recipe.TrainingRun`` ties them together.
"""
