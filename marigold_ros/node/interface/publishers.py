# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The outputs: one place that knows which topic carries what; only what somebody hears is computed.

Everything leaves with the image's own header. Plain publishers, not lifecycle ones: frames exist
only while the node is active, and a second gate that drops messages in silence helps nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.config import NodeConfig
from marigold_ros.frame import FrameResult
from marigold_ros.geometry.cloud.organised import cloud_of
from marigold_ros.message_codec import (
    camera_info_fields,
    encode_cloud,
    encode_compressed_depth,
    encode_depth,
    encode_image,
    encode_jpeg,
)
from marigold_ros.node.distro import HoldableGroup
from marigold_ros.node.health.diagnostics import alignment_status
from marigold_ros.node.interface.messages import (
    colour_depth,
    compressed_message,
    image_message,
    info_message,
)
from marigold_ros.node.interface.qos import output_profile, user_overrides
from marigold_ros.node.ros_helpers import cloud_message, organised_message
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

TOPICS = {
    'depth/image_rect': Image,
    'depth/camera_info': CameraInfo,
    'depth/image_rect/compressedDepth': CompressedImage,
    'depth/color': Image,
    'depth/color/compressed': CompressedImage,
    'relative/image': Image,
    'relative/camera_info': CameraInfo,
    'uncertainty/image': Image,
    'uncertainty/camera_info': CameraInfo,
    'points': PointCloud2,
    'alignment': DiagnosticArray,
    'alignment/points': PointCloud2,
}


class Outputs:
    """The publishers of one node."""

    def __init__(self, node) -> None:
        self._node = node
        self._publishers = {}
        self._group = HoldableGroup()  # of their QoS events
        for name, kind in TOPICS.items():
            overrides = user_overrides(node, node.resolve_topic_name(f'~/{name}'), 'publisher')
            options: dict[str, Any] = {'callback_group': self._group}
            if overrides is not None:
                options['qos_overriding_options'] = overrides
            self._publishers[name] = node.create_publisher(
                kind, f'~/{name}', output_profile(), **options
            )
        self._last_cloud = float('-inf')

    def close(self) -> None:
        """Drop all publishers."""
        with self._group.held():
            for publisher in self._publishers.values():
                self._node.destroy_publisher(publisher)
        self._publishers = {}

    def heard(self, name: str) -> bool:
        """Whether somebody subscribes to an output."""
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def listeners(self) -> dict[str, int]:
        """How many subscribers each output has."""
        return {name: p.get_subscription_count() for name, p in self._publishers.items()}

    def anybody(self) -> bool:
        """Whether somebody subscribes to any output."""
        return any(p.get_subscription_count() > 0 for p in self._publishers.values())

    def publish(
        self,
        result: FrameResult,
        header,
        config: NodeConfig,
        scan_ns: int | None,
        details: Mapping[str, Any],
    ) -> None:
        """Send what the frame gave to those who listen; metres only where the result is metric."""
        self._publish_relative(result, header)
        self._publish_alignment(result, header, scan_ns, details)
        if result.metric is None:
            return
        self._publish_depth(result, header, config)
        self._publish_uncertainty(result, header)
        self._publish_points(result, header, config)

    def _send(self, name: str, make, *arguments) -> None:
        """Publish ``make(*arguments)`` if somebody listens."""
        if self.heard(name):
            self._publishers[name].publish(make(*arguments))

    def _send_info(self, name: str, result, header) -> None:
        if result.camera is not None:
            self._send(name, lambda: info_message(header, camera_info_fields(result.camera)))

    def _publish_relative(self, result, header) -> None:
        self._send(
            'relative/image',
            lambda: image_message(header, encode_image(result.relative, '32FC1')),
        )
        self._send_info('relative/camera_info', result, header)

    def _publish_depth(self, result, header, config: NodeConfig) -> None:
        self._send(
            'depth/image_rect',
            lambda: image_message(header, encode_depth(result.metric, config.depth_encoding)),
        )
        self._send_info('depth/camera_info', result, header)
        self._send(
            'depth/image_rect/compressedDepth',
            lambda: compressed_message(
                header, encode_compressed_depth(result.metric, config.depth_max)
            ),
        )
        if not (self.heard('depth/color') or self.heard('depth/color/compressed')):
            return
        colour = colour_depth(result.metric, config.color_min_depth, config.color_max_depth)
        self._send('depth/color', lambda: image_message(header, encode_image(colour, 'bgr8')))
        self._send(
            'depth/color/compressed',
            lambda: compressed_message(header, encode_jpeg(colour[..., ::-1])),
        )

    def _publish_uncertainty(self, result, header) -> None:
        if result.sigma is None:
            return
        self._send(
            'uncertainty/image', lambda: image_message(header, encode_image(result.sigma, '32FC1'))
        )
        self._send_info('uncertainty/camera_info', result, header)

    def _publish_points(self, result, header, config: NodeConfig) -> None:
        if result.camera is None or not self.heard('points'):
            return
        now, points = time.monotonic(), config.points
        if points.max_rate > 0 and now - self._last_cloud < 1.0 / points.max_rate:
            return
        self._last_cloud = now
        cloud = cloud_of(result, points)
        if cloud is None:
            return
        self._send('points', organised_message, header, cloud, lambda: encode_cloud(cloud))

    def _publish_alignment(self, result, header, scan_ns, details) -> None:
        self._send(
            'alignment',
            lambda: DiagnosticArray(
                header=header,
                status=[
                    alignment_status(
                        self._node.get_fully_qualified_name(),
                        result.alignment,
                        result.stamp_ns,
                        scan_ns,
                        details,
                    )
                ],
            ),
        )
        if result.sparse is None or result.camera is None:
            return
        self._send(
            'alignment/points',
            lambda: cloud_message(header, encode_cloud(_alignment_points(result))),
        )


def _alignment_points(result) -> np.ndarray:
    """Lift the sparse points to the optical frame, each with whether the fit kept it."""
    sparse, K = result.sparse, result.camera.K
    points = np.zeros((1, len(sparse)), [(name, '<f4') for name in ('x', 'y', 'z', 'inlier')])
    points['x'] = (sparse.u - K[0, 2]) / K[0, 0] * sparse.z
    points['y'] = (sparse.v - K[1, 2]) / K[1, 1] * sparse.z
    points['z'] = sparse.z
    if result.alignment.inlier is not None:
        points['inlier'] = result.alignment.inlier
    return points
