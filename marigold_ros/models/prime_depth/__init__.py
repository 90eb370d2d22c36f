# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
PrimeDepth: depth from one pass of a frozen U-Net of Stable Diffusion (Zavadski et al., ACCV 2024).

Begin with ``model.py``; ``preimage.py`` reads the frozen U-Net, ``refiner.py`` is the trained
network, ``checkpoint.py`` its folder.
"""
