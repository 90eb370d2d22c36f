# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Draw a recorded run as a moving picture: image, LiDAR, depth and, with dense truth, error."""

from collections.abc import Iterator
import itertools
from pathlib import Path

from marigold_ros.bags.frames import frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import NodeConfig
from marigold_ros.evaluation.report.animation import write_animation
from marigold_ros.evaluation.report.drawing import (
    colourise_depth,
    depth_scale,
    error_image,
    overlay_points,
)
from marigold_ros.geometry.camera.frames import sparse_of_frame
from marigold_ros.geometry.camera.lidar_projection import sparse_from_depth
from marigold_ros.geometry.camera.rectification import rectify_image
from marigold_ros.live_run.scoring import RecordedOutputs
from marigold_ros.live_run.source import PlayedBag
from marigold_ros.message_codec import to_depth
import numpy as np

FRAMES = 20


def animate_recording(path: Path, source: PlayedBag, recording: Path, config: NodeConfig) -> bool:
    """
    Write an animated WebP of at most 20 frames, evenly spaced, in real time.

    Returns
    -------
    bool
        False, and no file, where the recording has no depth or OpenCV is older than 4.11.

    """
    stride = max(1, -(-source.images // FRAMES))
    panels = _drawn_frames(source, recording, config, stride)
    return write_animation(path, panels, stride * source.period)


def _drawn_frames(
    source: PlayedBag, recording: Path, config: NodeConfig, stride: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the panels of every n-th frame, all with the colour scale of the first."""
    scale: tuple[float, float] | None = None
    with BagReader(source.path) as bag, BagReader(recording) as recorded:
        outputs = RecordedOutputs(recorded)
        stream = frames(bag, source.topics, config.lidar, source.T_cam_lidar)
        for number, item in enumerate(itertools.islice(stream, source.images)):
            found, frame = outputs.take(item.stamp_ns), item.frame  # needs every stamp in order
            if number % stride or frame is None or frame.camera is None or found is None:
                continue
            points, _ = sparse_of_frame(frame, config.pipeline.alignment)
            if points is None or 'depth' not in found.parts:
                continue
            metric = to_depth(found.parts['depth'])
            rgb = rectify_image(frame.rgb, frame.camera)
            scale = scale or depth_scale(points.z)
            panels = {
                'image': rgb,
                'LiDAR': overlay_points(rgb, points.u, points.v, points.z, *scale),
                'depth': colourise_depth(metric, *scale),
            }
            if item.truth is not None:
                truth = rectify_image(np.asarray(item.truth, np.float32), frame.camera, True)
                at = sparse_from_depth(truth, config.pipeline.alignment, 1)
                error = np.abs(metric[at.v, at.u] - at.z) / at.z
                panels['relative error, yellow from 50 %'] = error_image(rgb, at.u, at.v, error)
            yield panels
