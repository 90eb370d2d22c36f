# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Hypersim as Marigold's preparation lays it out: images of rooms with depth in mm.

``<scene>/rgb_cam_XX_frYYYY.png`` beside ``<scene>/depth_plane_cam_XX_frYYYY.png`` in a folder or
tar for each split; training/prepare_hypersim.py makes it from the raw data.
"""

from __future__ import annotations

from pathlib import Path

from marigold_ros.learning.data.sources.files import DepthRule, FilePairs

RULE = DepthRule(per_metre=1000.0, near=1e-5, far=65.0, usual_near=0.1)


class HypersimPairs(FilePairs):
    """
    One split of Hypersim.

    Parameters
    ----------
    data : Path
        Where ``folder`` and ``list`` start.
    folder : str
        Folder or uncompressed tar of the split.
    list : str or None
        File with 'image depth' lines, names relative to the folder; None takes all there is.

    """

    def __init__(self, data: Path, folder: str, list: str | None = None) -> None:
        images, depths = '**/rgb_cam_*_fr*.png', '**/depth_plane_cam_*_fr*.png'
        super().__init__(f'hypersim {folder}', data, folder, images, depths, RULE, list)
