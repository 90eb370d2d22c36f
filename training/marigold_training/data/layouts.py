# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""File-based data sets by their layout: Hypersim, Virtual KITTI 2, and any folder of images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from marigold_ros.errors import ConfigurationError
from marigold_training.data.file_pairs import DepthRule, FilePairs

HYPERSIM_DEPTH = DepthRule(per_metre=1000.0, near=1e-5, far=65.0, usual_near=0.1)
# 655.35 m, the largest number, is the sky; Marigold takes depth beyond 80 m as unknown.
VKITTI_DEPTH = DepthRule(per_metre=100.0, near=1e-5, far=80.0, sky_above=655.3, usual_near=2.0)
BENCHMARK_CROP = (352, 1216)  # px, of the KITTI depth benchmark


class HypersimPairs(FilePairs):
    """
    Read one split of Hypersim as Marigold's preparation lays it out: rooms with depth in mm.

    ``<scene>/rgb_cam_XX_frYYYY.png`` beside ``<scene>/depth_plane_cam_XX_frYYYY.png``, which
    training/prepare_hypersim.py writes from the raw data.

    Parameters
    ----------
    data : Path
        Base of ``folder`` and ``list``.
    folder : str
        Folder or uncompressed tar of the split.
    list : str or None
        File with 'image depth' lines, names relative to the folder; None takes all files.
    count : int or None
        Number of pairs that there must be.
    sky_above : float or None, metres
        Depth from here on is sky; None: there is no sky.

    """

    def __init__(
        self,
        data: Path,
        folder: str,
        list: str | None = None,
        count: int | None = None,
        sky_above: float | None = None,
    ) -> None:
        images, depths = '**/rgb_cam_*_fr*.png', '**/depth_plane_cam_*_fr*.png'
        rule = replace(HYPERSIM_DEPTH, sky_above=sky_above)
        name = f'hypersim {folder}'
        super().__init__(name, data, folder, images, depths, rule, list, count=count)


class VirtualKittiPairs(FilePairs):
    """
    Read Virtual KITTI 2: streets with depth in cm and a sky.

    ``rgb/SceneXX/<condition>/frames/rgb/Camera_N/rgb_00000.jpg`` with
    ``depth/SceneXX/<condition>/frames/depth/Camera_N/depth_00000.png``.

    Parameters
    ----------
    data, folder, list, count, sky_above
        As of :class:`HypersimPairs`.
    crop : bool
        Whether to cut out the KITTI benchmark's 352x1216 pixels, bottom centre.
    scenes, conditions : list of str or None
        Those to use, such as Scene02 and clone; None uses all.

    """

    def __init__(
        self,
        data: Path,
        folder: str,
        list: str | None = None,
        crop: bool = True,
        count: int | None = None,
        scenes: Sequence[str] | None = None,
        conditions: Sequence[str] | None = None,
        sky_above: float | None = VKITTI_DEPTH.sky_above,
    ) -> None:
        if list is not None and (scenes or conditions):
            raise ConfigurationError(
                f'list is {list}, which names every file; leave scenes and conditions out'
            )
        kinds = (scenes, conditions)

        def chosen(name: str) -> bool:
            parts = name.split('/')[1:3]  # below rgb or depth
            return all(
                wanted is None or part in wanted
                for part, wanted in zip(parts, kinds, strict=False)
            )

        images = 'rgb/*/*/frames/rgb/*/rgb_*.jpg'
        depths = 'depth/*/*/frames/depth/*/depth_*.png'
        window = BENCHMARK_CROP if crop else None
        rule = replace(VKITTI_DEPTH, sky_above=sky_above)
        name = f'vkitti {folder}'
        super().__init__(name, data, folder, images, depths, rule, list, window, count, chosen)


class FolderPairs(FilePairs):
    """
    Read any folder or tar with images and dense or sparse depth maps.

    Parameters
    ----------
    data, folder, list
        As of :class:`HypersimPairs`; ``list`` replaces the patterns.
    images, depths : str
        Patterns of the files, relative to the folder; see listing.py.
    depth_scale : float
        Stored integers per metre: 1000 for mm, 256 for KITTI; 65535 is unknown, or sky from
        ``sky_above`` on. Floating-point files hold metres.
    min_depth, max_depth : float, metres
        Depth outside is unknown; a median ten times outside is an error.
    sky_above : float or None, metres
        Depth from here on is sky (``.inf``: infinite depth only); None: there is no sky.

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
