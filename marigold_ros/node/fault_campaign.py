# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A campaign of good and broken messages, one at a time, against the real node over DDS.

A good frame must be served, and its depth must be the one that the pipeline gives without ROS, bit
by bit; a broken message must be counted under its cause, and no depth may come of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
import copy
from dataclasses import dataclass, field
import threading
from typing import Any

from marigold_ros.bags.static_transforms import pose_matrix
from marigold_ros.config import AlignmentConfig, NodeConfig, PipelineConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.frame import Camera, Frame
from marigold_ros.geometry import unproject_depth
from marigold_ros.message_codec import (
    camera_info_fields,
    encode_cloud,
    encode_image,
    encode_jpeg,
    to_camera,
    to_depth,
    to_points,
    to_rgb,
)
from marigold_ros.node.faults import Fault, FAULTS
from marigold_ros.node.loading import load
from marigold_ros.node.messages import (
    compressed_message,
    image_message,
    info_message,
    stamp_ns,
    to_stamp,
)
from marigold_ros.node.rig import Rig
from marigold_ros.node.ros_helpers import cloud_message
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import as_values
from marigold_ros.synthetic.drive import simulate_drive
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

WIDTH, HEIGHT, VIEWS = 160, 120, 6
_PERIOD = 500_000_000  # ns between frames: no scan of the one before fits
# No frame depends on those before, so that each has one right answer; small, for there are many.
_PIPELINE = PipelineConfig(
    processing_resolution=64, alignment=AlignmentConfig(smoothing=0.0, hold_limit=0.0)
)
_TRANSLATION = [0.0, -0.2, 0.1]
_ROTATION = [0.5, -0.5, 0.5, 0.5]  # x forward, y left, z up to z forward, x right, y down


def mounting_parameters() -> dict[str, list[float]]:
    """Where the LiDAR of the views is, as parameters of the node."""
    return {'extrinsics.translation': _TRANSLATION, 'extrinsics.rotation_xyzw': _ROTATION}


@dataclass
class Outcome:
    """
    What came of a campaign.

    ``sent`` and ``counted`` are by fault; ``lost`` are good frames without depth, ``wrong`` those
    with another depth than the right one, ``unwanted`` depth that came of a broken message, each
    in words.
    """

    good: int = 0
    sent: Counter = field(default_factory=Counter)
    counted: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything was as it must be."""
        return self.sent == self.counted and not (self.lost or self.wrong or self.unwanted)


class View:
    """One picture with its scan and camera, as messages of any moment, and its right depth."""

    def __init__(self, rgb: np.ndarray, points: np.ndarray, camera: Camera) -> None:
        self._rgb, self._camera = encode_image(rgb, 'rgb8'), camera_info_fields(camera)
        self._jpeg = encode_jpeg(rgb)
        cloud = np.zeros((1, len(points)), [(axis, '<f4') for axis in 'xyz'])
        for column, axis in enumerate('xyz'):
            cloud[axis] = points[:, column]
        self._cloud = encode_cloud(cloud)
        self.depth: dict[str, np.ndarray] = {}

    def message(self, role: str, stamp: int) -> Any:
        """Make a sound message of an input."""
        frame = 'lidar' if role == 'scan' else 'camera_optical'
        header = Header(stamp=to_stamp(stamp), frame_id=frame)
        if role == 'image':
            return image_message(header, self._rgb)
        if role == 'compressed':
            return compressed_message(header, self._jpeg)
        if role == 'info':
            return info_message(header, self._camera)
        return copy.deepcopy(cloud_message(header, self._cloud))

    def solve(self, role: str, pipeline: FramePipeline, T_cam_lidar: np.ndarray) -> None:
        """Remember the depth that the pipeline gives without ROS."""
        frame = Frame(
            rgb=to_rgb(self.message(role, 0)),
            camera=to_camera(self.message('info', 0)),
            points_lidar=to_points(self.message('scan', 0)),
            T_cam_lidar=T_cam_lidar,
        )
        depth = pipeline.process(frame).metric
        if depth is None:
            raise MarigoldError('a view has no depth without ROS; use another seed')
        self.depth[role] = depth


def views(seed: int) -> list[View]:
    """Draw a street and look at it a few times, with scans of the same place."""
    drive = simulate_drive(VIEWS, 1.0, seed, WIDTH, HEIGHT)
    T_lidar_cam = np.linalg.inv(pose_matrix(_TRANSLATION, _ROTATION))
    made = []
    for frame in drive.frames:
        v, u = np.nonzero(np.isfinite(frame.depth) & (frame.depth < 60.0))
        few = np.random.default_rng(seed).choice(len(u), 600, replace=False)
        optical = unproject_depth(frame.depth, drive.camera.K)[v[few], u[few]]
        points = optical @ T_lidar_cam[:3, :3].T + T_lidar_cam[:3, 3]
        made.append(View(frame.rgb, points, drive.camera))
    return made


class Campaign:
    """
    Messages of one transport of pictures.

    Parameters
    ----------
    role : {'image', 'compressed'}
        How pictures come.
    places : list of View
        What is sent.
    seed : int
        Of the order.

    """

    def __init__(self, role: str, places: list[View], seed: int) -> None:
        self._role, self._views = role, places
        self._rng = np.random.default_rng([seed, len(role)])
        roles = {'image': ('image', 'info', 'scan'), 'compressed': ('compressed',)}[role]
        self._faults = [fault for fault in FAULTS if fault.role in roles]
        self._lock = threading.Lock()
        self._heard: dict[int, np.ndarray] = {}
        self._forbidden: dict[int, str] = {}  # stamps that must not get depth, and why
        self._relative: set[int] = set()
        self._stamp = 1_000_000_000_000
        self.outcome = Outcome()

    def run(self, messages: int, progress: Callable[[int], None]) -> Outcome:
        """Send so many good frames and broken messages, half of each."""
        parameters = {
            **as_values(_PIPELINE),
            'lidar.wait': 0.0,
            'image_transport': 'raw' if self._role == 'image' else 'compressed',
            **mounting_parameters(),
        }
        outputs = {'depth/image_rect': Image, 'relative/image': Image}
        with Rig(parameters, outputs, self._on_output) as rig:
            pipeline = FramePipeline(load(NodeConfig()), _PIPELINE)
            for view in self._views:
                view.solve(self._role, pipeline, pose_matrix(_TRANSLATION, _ROTATION))
            # A good frame comes last: once its depth is there, so is all that came before it.
            for number in range(messages // 2):
                fault = self._faults[number % len(self._faults)]
                self._send_broken(rig, self._any_view(), fault)
                self._send_good(rig, self._any_view())
                progress(2)
        return self.outcome

    def _on_output(self, name: str, message: Any) -> None:
        stamp = stamp_ns(message.header.stamp)
        with self._lock:
            if name == 'relative/image':
                self._relative.add(stamp)
            elif stamp in self._forbidden:
                self.outcome.unwanted.append(f'{self._forbidden[stamp]} at {stamp / 1e9:.1f} s')
            else:
                self._heard[stamp] = to_depth(message)

    def _any_view(self) -> View:
        return self._views[int(self._rng.integers(len(self._views)))]

    def _next_stamp(self) -> int:
        self._stamp += _PERIOD
        return self._stamp

    def _send_good(self, rig: Rig, view: View) -> None:
        stamp = self._next_stamp()
        for role in ('scan', 'info', self._role):
            rig.arrive(role, view.message(role, stamp))
        rig.wait_idle()
        self.outcome.good += 1
        what = f'good frame {self.outcome.good} at {stamp / 1e9:.1f} s'
        try:
            rig.wait(lambda: stamp in self._heard, what, seconds=5.0)
        except MarigoldError:
            self.outcome.lost.append(what)
            return
        if not np.array_equal(self._heard.pop(stamp), view.depth[self._role], equal_nan=True):
            self.outcome.wrong.append(what)

    def _send_broken(self, rig: Rig, view: View, fault: Fault) -> None:
        stamp = self._next_stamp()
        before = rig.count(fault.counter)
        messages = {role: view.message(role, stamp) for role in ('scan', 'info', self._role)}
        fault.spoil(messages[fault.role], self._rng)
        picture = stamp_ns(messages[self._role].header.stamp)
        self._forbidden[picture] = fault.name
        for role, message in messages.items():
            rig.arrive(role, message)
        rig.wait_idle()
        self.outcome.sent[fault.name] += 1
        self.outcome.counted[fault.name] += rig.count(fault.counter) - before
        if fault.served:
            rig.wait(lambda: picture in self._relative, f'relative depth despite {fault.name}')
        self._relative.discard(picture)


def run_campaign(messages: int, seed: int, progress: Callable[[int], None]) -> Outcome:
    """
    Send good and broken messages, three quarters with raw pictures and one with jpeg.

    Parameters
    ----------
    messages : int
        Good frames and broken messages together.
    seed : int
        The same seed sends the same messages.
    progress : callable
        Told of each message.

    """
    places = views(seed)
    total = Outcome()
    for role, share in (('image', messages - messages // 4), ('compressed', messages // 4)):
        part = Campaign(role, places, seed).run(share, progress)
        total.good += part.good
        total.sent += part.sent
        total.counted += part.counted
        for name in ('lost', 'wrong', 'unwanted'):
            getattr(total, name).extend(getattr(part, name))
    return total
