# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Guidance: steers the denoising of a model by sparse depth, for labels.

Works on any model with the stages of ``guided.GuidableModel``. May import the steps of
``models.marigold`` except its engine, which uses this room.
"""
