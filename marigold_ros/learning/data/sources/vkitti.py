# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Virtual KITTI 2: streets with depth in cm and a sky.

``rgb/SceneXX/<condition>/frames/rgb/Camera_N/rgb_00000.jpg`` with
``depth/SceneXX/<condition>/frames/depth/Camera_N/depth_00000.png`` in a folder or tar. 655.35 m,
the largest number, is the sky; beyond 80 m depth is taken as unknown (as in Marigold).
"""

from __future__ import annotations

from pathlib import Path

from marigold_ros.learning.data.sources.files import DepthRule, FilePairs

RULE = DepthRule(per_metre=100.0, near=1e-5, far=80.0, sky_above=655.3, usual_near=2.0)
BENCHMARK_CROP = (352, 1216)  # px, of the KITTI depth benchmark


class VirtualKittiPairs(FilePairs):
    """
    Virtual KITTI 2.

    Parameters
    ----------
    data : Path
        Where ``folder`` and ``list`` start.
    folder : str
        Folder or uncompressed tar that holds ``rgb`` and ``depth``.
    list : str or None
        File with 'image depth' lines, names relative to the folder; None takes all there is.
    crop : bool
        Whether to cut out the KITTI benchmark's 352x1216 at the bottom in the middle.

    """

    def __init__(
        self,
        data: Path,
        folder: str,
        list: str | None = None,
        crop: bool = True,
    ) -> None:
        images = 'rgb/*/*/frames/rgb/*/rgb_*.jpg'
        depths = 'depth/*/*/frames/depth/*/depth_*.png'
        window = BENCHMARK_CROP if crop else None
        super().__init__(f'vkitti {folder}', data, folder, images, depths, RULE, list, window)
