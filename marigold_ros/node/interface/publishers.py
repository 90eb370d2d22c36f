# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The node's outputs: which topic carries what; only what has a subscriber is computed.

Every message has the header of its image. Plain publishers, not lifecycle ones: frames exist only
while the node is active, and a second gate that drops messages in silence helps nobody.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
import posixpath
import time
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.bags.topics import sibling_info
from marigold_ros.config import NodeConfig
from marigold_ros.frame import FrameResult
from marigold_ros.geometry.cloud.organised import cloud_of
from marigold_ros.geometry.postprocess import confidence
from marigold_ros.message_codec import (
    camera_info_fields,
    CloudFields,
    encode_cloud,
    encode_compressed_depth,
    encode_depth,
    encode_image,
    encode_jpeg,
)
from marigold_ros.node.diagnostics import alignment_status
from marigold_ros.node.distro import HoldableGroup
from marigold_ros.node.interface.qos import output_profile, user_overrides
from marigold_ros.node.interface.subscriptions import infos_read, is_remapped
from marigold_ros.node.ros_helpers import (
    cloud_message,
    compressed_message,
    image_message,
    info_message,
    organised_message,
)
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

TOPICS = {
    'depth/image_rect': Image,
    'depth/camera_info': CameraInfo,
    'depth/image_rect/compressedDepth': CompressedImage,
    'depth/color': Image,
    'depth/color/compressed': CompressedImage,
    'rgb/image_rect': Image,
    'rgb/camera_info': CameraInfo,
    'relative/image': Image,
    'relative/camera_info': CameraInfo,
    'uncertainty/image': Image,
    'uncertainty/camera_info': CameraInfo,
    'confidence/image': Image,
    'confidence/camera_info': CameraInfo,
    'points': PointCloud2,
    'alignment': DiagnosticArray,
    'alignment/points': PointCloud2,
}
# Outputs that accompany an image.
_IMAGE_OF = {
    'depth/camera_info': 'depth/image_rect',
    'depth/image_rect/compressedDepth': 'depth/image_rect',
    'depth/color/compressed': 'depth/color',
    'rgb/camera_info': 'rgb/image_rect',
    'relative/camera_info': 'relative/image',
    'uncertainty/camera_info': 'uncertainty/image',
    'confidence/camera_info': 'confidence/image',
}
# As in reports and on the page: near is bright, far dark, and invalid pixels, shade 0, are black.
_RAMP = np.r_[255, 255:0:-1].astype(np.uint8)
_SHADES = cv2.applyColorMap(_RAMP, cv2.COLORMAP_VIRIDIS).reshape(256, 1, 3)
_SHADES[0] = 0


def _moved_topic(node, name: str) -> str:
    """
    Return the topic of an output that follows its remapped image; '' where it has its own.

    By image_transport's rules camera_info is the sibling of its image, and compressed forms are
    below it. An output that is remapped itself does not follow, nor does a camera_info to where
    the node reads that of a camera, which it would take for its own.
    """
    image = _IMAGE_OF.get(name)
    if image is None or is_remapped(node, f'~/{name}') or not is_remapped(node, f'~/{image}'):
        return ''
    topic, leaf = node.resolve_topic_name(f'~/{image}'), posixpath.basename(name)
    if leaf != 'camera_info':
        return posixpath.join(topic, leaf)
    beside = sibling_info(topic)
    return '' if node.resolve_topic_name(beside) in infos_read(node) else beside


class Outputs:
    """The publishers of one node."""

    def __init__(self, node) -> None:
        self._node = node
        self._publishers: dict[str, Any] = {}
        self._group = HoldableGroup()  # of their QoS events
        self._last_cloud = float('-inf')

    def open(self) -> None:
        """Create all publishers."""
        node = self._node
        for name, kind in TOPICS.items():
            topic = _moved_topic(node, name) or f'~/{name}'
            overrides = user_overrides(node, node.resolve_topic_name(topic), 'publisher')
            self._publishers[name] = node.create_publisher(
                kind,
                topic,
                output_profile(kind),
                callback_group=self._group,
                qos_overriding_options=overrides,
            )

    def close(self) -> None:
        """Destroy all publishers."""
        with self._group.held():
            for publisher in self._publishers.values():
                self._node.destroy_publisher(publisher)
        self._publishers = {}

    def listeners(self) -> dict[str, int]:
        """Return the number of subscribers of each output."""
        return {name: p.get_subscription_count() for name, p in self._publishers.items()}

    def has_listeners(self) -> bool:
        """Whether any output has a subscriber."""
        return any(p.get_subscription_count() > 0 for p in self._publishers.values())

    def publish(
        self,
        result: FrameResult,
        header,
        config: NodeConfig,
        scan_ns: int | None,
        details: Mapping[str, Any],
    ) -> None:
        """Publish what a frame gave to those who listen; metres only if the result is metric."""
        for name, make in self._messages(result, header, config, scan_ns, details):
            publisher = self._publishers.get(name)
            if publisher is not None and publisher.get_subscription_count() > 0:
                message = make()
                if message is not None:
                    publisher.publish(message)

    def _messages(
        self, result, header, config: NodeConfig, scan_ns, details
    ) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield each output that the result allows, with what makes its message."""
        camera, metric = result.camera, result.metric

        image = functools.partial(image_message, header)
        compressed = functools.partial(compressed_message, header)

        def info():
            return info_message(header, camera_info_fields(camera))

        def floats(values):
            return image(encode_image(values, '32FC1'))

        def alignment():
            name = self._node.get_fully_qualified_name()
            status = alignment_status(name, result.alignment, result.stamp_ns, scan_ns, details)
            return DiagnosticArray(header=header, status=[status])

        yield 'relative/image', lambda: floats(result.relative)
        if camera is not None:
            yield 'relative/camera_info', info
            yield 'rgb/image_rect', lambda: image(encode_image(result.rgb, 'rgb8'))
            yield 'rgb/camera_info', info
        yield 'alignment', alignment
        if result.sparse is not None and camera is not None:
            yield 'alignment/points', lambda: cloud_message(header, _alignment_points(result))
        if metric is None:
            return

        @functools.cache
        def colour() -> np.ndarray:
            return colour_depth(metric, config.color_min_depth, config.color_max_depth)

        def compressed_depth():
            return compressed(encode_compressed_depth(metric, config.depth_max))

        yield 'depth/image_rect', lambda: image(encode_depth(metric, config.depth_encoding))
        if camera is not None:
            yield 'depth/camera_info', info
        yield 'depth/image_rect/compressedDepth', compressed_depth
        yield 'depth/color', lambda: image(encode_image(colour(), 'bgr8'))
        yield 'depth/color/compressed', lambda: compressed(encode_jpeg(colour()[..., ::-1]))
        if result.sigma is not None:
            yield 'uncertainty/image', lambda: floats(result.sigma)
            known = result.alignment.metric
            yield 'confidence/image', lambda: floats(confidence(known, result.sigma))
            if camera is not None:
                yield 'uncertainty/camera_info', info
                yield 'confidence/camera_info', info
        if camera is not None:
            yield 'points', lambda: self._points(result, header, config)

    def _points(self, result, header, config: NodeConfig) -> PointCloud2 | None:
        """Return the cloud; None where ``points.max_rate`` or the result allows none."""
        now, points = time.monotonic(), config.points
        period = 1.0 / points.max_rate if points.max_rate > 0 else 0.0
        due = self._last_cloud + period
        if now < due:
            return None
        # From when it was due: from now on, each cloud would miss an image that comes a bit early.
        self._last_cloud = due if now < due + period else now
        cloud = cloud_of(result, points)
        return None if cloud is None else organised_message(header, cloud)


def _alignment_points(result) -> CloudFields:
    """Lift the sparse points to the optical frame, each with whether the fit kept it."""
    sparse, K = result.sparse, result.camera.K
    points = np.zeros((1, len(sparse)), [(name, '<f4') for name in ('x', 'y', 'z', 'inlier')])
    down = (sparse.v - K[1, 2]) / K[1, 1]
    points['x'] = (sparse.u - K[0, 2] - K[0, 1] * down) / K[0, 0] * sparse.z
    points['y'] = down * sparse.z
    points['z'] = sparse.z
    if result.alignment.inlier is not None:
        points['inlier'] = result.alignment.inlier
    return encode_cloud(points)


def colour_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """
    Colour depth (H, W), metres, for viewers: logarithmic from ``near`` to ``far``, metres.

    Returns (H, W, 3) uint8 bgr, black where depth is NaN.
    """
    per_log = 254.0 / np.log(far / near)
    logs = cv2.log(np.maximum(depth.astype(np.float32, copy=False), np.float32(near)))
    shade = cv2.convertScaleAbs(logs, alpha=per_log, beta=1.0 - per_log * np.log(near))
    shade *= np.isfinite(depth)
    return cv2.applyColorMap(shade, _SHADES)
