# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Any folder or tar with images and dense or sparse depth maps."""

from __future__ import annotations

from pathlib import Path

from marigold_ros.learning.data.sources.files import DepthRule, FilePairs


class FolderPairs(FilePairs):
    """
    Images and depth maps of a folder.

    Parameters
    ----------
    data : Path
        Where ``folder`` and ``list`` start.
    folder : str
        Folder or uncompressed tar.
    images, depths : str
        Patterns of the files relative to the folder. An image and a depth map belong together
        when the stars of both stand for the same texts, a last ``.*`` left out (listing.py).
    list : str or None
        File with 'image depth' lines, names relative to the folder, in place of the patterns.
    depth_scale : float
        Whole numbers per metre: 1000 for mm, 256 for KITTI. Floating-point files hold metres.
    min_depth, max_depth : float, metres
        Depth outside is unknown; a median ten times outside is an error.
    sky_above : float or None, metres
        From here on it is sky, ``.inf`` for infinite depth only; None: there is no sky.

    """

    def __init__(
        self,
        data: Path,
        folder: str,
        images: str = 'images/*.*',
        depths: str = 'depths/*.*',
        list: str | None = None,
        depth_scale: float = 1000.0,
        min_depth: float = 1e-3,
        max_depth: float = 100.0,
        sky_above: float | None = None,
    ) -> None:
        rule = DepthRule(depth_scale, min_depth, max_depth, sky_above)
        super().__init__(f'folder {folder}', data, folder, images, depths, rule, list)
