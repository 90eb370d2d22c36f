# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One image from message to messages: decode, predict, pair, fit, publish.

No lifecycle and no subscriptions here; what is wrong with a frame is counted and reported here.
"""

from __future__ import annotations

import copy
from dataclasses import replace
import time
import traceback

from marigold_ros.bags.topics import is_rectified_name
from marigold_ros.config import NodeConfig
from marigold_ros.errors import CalibrationError, InputError, MarigoldError
from marigold_ros.frame import Camera, Frame
from marigold_ros.geometry.alignment.fit_report import details_of
from marigold_ros.geometry.camera.rectification import rectified_valid
from marigold_ros.geometry.camera.resizing import resize_frame
from marigold_ros.message_codec import to_camera
from marigold_ros.node.health.diagnostics import Health
from marigold_ros.node.health.input_health import ImageWatch
from marigold_ros.node.interface.messages import stamp_ns
from marigold_ros.pipeline import FramePipeline
from marigold_ros.sparse_sources import SPARSE_SOURCES

# Images without a scan, one after the other, that are worth a word.
_STAYS_AWAY = 10


class FrameServer:
    """
    Serves images one after the other, in the worker's thread.

    Parameters
    ----------
    node : rclpy.node.Node
        For its log and its context.
    pipeline : FramePipeline
        The algorithm.
    inputs, outputs, extrinsics : Inputs, Outputs, Extrinsics
        The node's ends.
    health : Health
        Told about everything.
    read_config : callable
        Gives the current NodeConfig.

    """

    def __init__(
        self,
        node,
        pipeline: FramePipeline,
        inputs,
        outputs,
        extrinsics,
        health: Health,
        read_config,
    ):
        self._node, self._pipeline = node, pipeline
        self._inputs, self._outputs, self._extrinsics = inputs, outputs, extrinsics
        self._health, self._read_config = health, read_config
        self._reset_wanted = False
        self._next_model = None
        self._bad_info = self._bad_scan = None
        self._read_scan: tuple = (None, None)
        self._warned_frames = False
        self._image_size = (0, 0)
        self._watch = ImageWatch()
        self._alone = 0  # images without a scan in a row

    def reset_soon(self) -> None:
        """Forget filters before the next frame."""
        self._reset_wanted = True

    def swap_model(self, model) -> None:
        """Use another model from the next frame on."""
        self._next_model = model

    def serve(self, message) -> None:
        """Work on one image; whatever happens is counted, and nothing escapes."""
        try:
            self._serve(message)
        except MarigoldError as error:
            self._fail(getattr(error, 'cause', 'calibration'), str(error))
        except Exception:  # the node goes on with the next image
            if self._node.context.ok():
                self._fail('internal', traceback.format_exc())
        else:
            self._health.counters.leave_frame('served')

    def _fail(self, cause: str, text: str) -> None:
        self._health.counters.leave_frame(f'rejected.{cause}')
        self._health.report('frame', text.strip().splitlines()[-1])
        self._node.get_logger().warning(f'frame rejected: {text}', throttle_duration_sec=5.0)

    def _serve(self, message) -> None:
        started = time.perf_counter()
        config = self._prepare()
        header = copy.copy(message.header)
        header.frame_id = config.frame_id or header.frame_id
        frame = self._decode(message, config)
        decoded = time.perf_counter()
        prediction = self._pipeline.predict(frame)
        predicted = time.perf_counter()
        choice = self._inputs.await_scan(frame.stamp_ns)
        # As late as possible: odometry of the image's time often comes after the image.
        place = self._extrinsics.camera_pose(header.frame_id, frame.stamp_ns)
        frame = replace(frame, T_world_camera=place)
        frame, scan_ns = self._with_sparse(frame, choice, header.frame_id)
        paired = time.perf_counter()
        result = self._pipeline.finish(frame, prediction)
        finished = time.perf_counter()
        details = details_of(result)
        self._health.alignment, self._health.details = result.alignment, details
        self._health.counters.add(f'fits.{result.alignment.state}')
        self._health.stamp_ns, self._health.scan_ns = frame.stamp_ns, scan_ns
        self._outputs.publish(result, header, config, scan_ns, details)
        self._health.published.tick()
        ended = time.perf_counter()
        own = {
            'decode': decoded - started,
            'predict': predicted - decoded,
            'pair': paired - predicted,
            'finish': finished - paired,
            'publish': ended - finished,
            'total': ended - started,
        }
        self._health.timings.add(
            {**result.timings_ms, **{name: 1e3 * seconds for name, seconds in own.items()}}
        )
        self._note_age(frame.stamp_ns)

    def _prepare(self) -> NodeConfig:
        """Take changes over, here between two frames."""
        config = self._read_config()
        self._inputs.set_config(config)
        self._pipeline.config = config.pipeline
        if self._next_model is not None:
            self._pipeline.model, self._next_model = self._next_model, None
            self._reset_wanted = True
        if self._reset_wanted:
            self._reset_wanted = False
            self._pipeline.reset()
        return config

    def _note_age(self, stamp: int) -> None:
        """Time between exposure and publishing, where the clocks make sense of it."""
        age_ms = (self._node.get_clock().now().nanoseconds - stamp) / 1e6
        if 0 <= age_ms < 60_000:
            self._health.timings.add({'age': age_ms})

    def _decode(self, message, config: NodeConfig) -> Frame:
        rgb = self._inputs.images.read(message)
        if blind := self._watch.look(rgb):
            self._health.report('camera', blind)
        self._image_size = rgb.shape[:2]
        camera = self._camera(message, rgb.shape[:2], config)
        frame = Frame(rgb=rgb, camera=camera, stamp_ns=stamp_ns(message.header.stamp))
        if config.output_resolution == 'input':
            return frame
        chosen = config.pipeline.prediction['processing_resolution']
        return resize_frame(frame, self._pipeline.model.processing_size(*rgb.shape[:2], chosen))

    def _camera(self, message, shape: tuple[int, int], config: NodeConfig) -> Camera | None:
        """Read camera_info; None, with the reason reported, where it is missing or senseless."""
        info = self._inputs.await_info()
        if info is None:
            self._health.report(
                'info',
                f'no camera_info on {self._inputs.inputs[1].topic}: no metric depth; publish it',
            )
            return None
        if info.header.frame_id != message.header.frame_id and not self._warned_frames:
            self._warned_frames = True
            self._node.get_logger().warning(
                f"the image is in frame '{message.header.frame_id}', its camera_info in "
                f"'{info.header.frame_id}'; the image's counts: check that they belong together"
            )
        rectified = config.image_rectified == 'yes' or (
            config.image_rectified == 'auto' and is_rectified_name(self._inputs.image_topic)
        )
        try:
            camera = to_camera(info, rectified=rectified)
            if (camera.height, camera.width) != shape:
                raise CalibrationError(
                    f'camera_info is for {camera.width}x{camera.height}, the image is '
                    f'{shape[1]}x{shape[0]}; they must agree: check which camera_info the node '
                    f'listens to ({self._inputs.inputs[1].topic})'
                )
            rectified_valid(camera)  # raises for an unknown distortion; its maps are kept
        except CalibrationError as error:
            if info is not self._bad_info:
                self._health.counters.add('infos.rejected.calibration')
                self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
            self._bad_info = info
            self._health.report('info', str(error))
            return None
        return camera

    def _count_pair(self, frame: Frame, scan) -> None:
        """Count which half of the pair is missing, and say why if it stays away."""
        if not self._inputs.has_sparse:
            return
        self._alone = self._alone + 1 if scan is None else 0
        halves = {'info': frame.camera, 'scan': scan}
        missing = [name for name, half in halves.items() if half is None]
        self._health.counters.add(
            f'pairs.without_{"_".join(missing)}' if missing else 'pairs.whole'
        )
        if self._alone >= _STAYS_AWAY:
            self._health.report('scan', self._inputs.why_no_scan(frame.stamp_ns))

    def _with_sparse(self, frame: Frame, choice, camera_frame: str) -> tuple[Frame, int | None]:
        """Add the chosen scan; without it, with the reason reported, where it cannot be used."""
        scan = choice.item
        self._count_pair(frame, scan)
        if scan is None or frame.camera is None or scan is self._bad_scan:
            return frame, None
        try:
            if scan is not self._read_scan[0]:  # one scan often serves several images
                source = SPARSE_SOURCES[self._inputs.config.sparse_source]
                self._read_scan = (scan, source.read(scan))
            reading = self._read_scan[1]
            reading.check_registered(self._image_size)
        except InputError as error:
            self._bad_scan = scan
            self._inputs.reject_scan(error)
            return frame, None
        if reading.depth is not None:
            return replace(frame, sparse_image=reading.depth), choice.stamp_ns
        try:
            T_cam_lidar = self._extrinsics.lookup(
                camera_frame, scan.header.frame_id, choice.stamp_ns, frame.stamp_ns
            )
        except CalibrationError as error:
            self._health.report('transform', str(error))
            self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
            return frame, None
        frame = replace(frame, points_lidar=reading.points, T_cam_lidar=T_cam_lidar)
        return frame, choice.stamp_ns
