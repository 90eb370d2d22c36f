# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training: the core that ``training/finetune.py`` and commands of the package share.

Sub-rooms, each importing only those before it: ``data`` (pairs, sources, batches), ``objectives``
(networks trained together, losses, noise), ``networks`` (initialisation, export), ``run`` (recipe,
loop, validation, model card) and ``fusion`` (examples and runs of the fusion network).
``parallel`` runs jobs in processes and serves ``replay`` as well. May import models, evaluation,
synthetic and what lies below; used by replay and scripts.
"""
