# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The ground as the source of a replay: the fit sees no point of the bag, which scores it."""

from dataclasses import replace
from pathlib import Path

from marigold_ros.bags.frames import BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import GroundConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Frame
from marigold_ros.geometry.ground.plane import ground_plane
import numpy as np


class GroundOfBag:
    """The ground below the camera of one bag, by the settings or its /tf_static."""

    def __init__(self, path: Path, config: GroundConfig) -> None:
        self._config = config
        with BagReader(path) as reader:
            self._transforms = reader.static_transforms()

    def on_ground(self, item: BagFrame) -> Frame:
        """Return the frame with the ground in place of its sparse depth."""
        assert item.frame is not None
        camera_frame = item.image_message.header.frame_id
        bare = replace(item.frame, points_lidar=None, sparse=None, sparse_image=None)

        def pose(ground_frame: str) -> np.ndarray:
            return self._transforms.lookup(camera_frame, ground_frame)

        try:
            return replace(bare, ground=ground_plane(self._config, pose))
        except CalibrationError as error:
            return replace(bare, no_points=f'{error}; or set ground.height')
