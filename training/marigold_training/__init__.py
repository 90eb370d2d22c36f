# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training of depth models and of the fusion network; what scripts and ``adapt`` share.

Sub-rooms, each importing only those before it: ``data`` (pairs, sources, batches), ``objectives``
(networks trained together, losses, noise), ``networks`` (initialisation, export), ``families``
(how each is trained), ``run`` (recipe, loop, validation, model card), ``fusion`` (examples and
runs of the fusion network) and ``adapt`` (models for one robot's bags, proved). Beside them the
generator of held-out scenes, ablations, distillation and the plan of a run. May import all of
marigold_ros but node, live_run and web; nothing of marigold_ros imports it.
"""
