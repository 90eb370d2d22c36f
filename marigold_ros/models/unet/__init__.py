# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A plain U-Net from image to depth: the model for robots without a GPU.

Begin with ``model.py``, which loads ``network.py`` from its ``folder.py``; ``compiled_model.py``
runs it without torch.
"""
