# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One image from message to messages: decode, predict, pair, fit, publish.

No lifecycle and no subscriptions here; every problem of a frame is counted and reported here.
"""

from collections.abc import Mapping
import copy
from dataclasses import dataclass, replace
import gc
import time
import traceback
from typing import Any

from marigold_ros.bags.topics import is_rectified_name
from marigold_ros.config import NodeConfig
from marigold_ros.errors import (
    CalibrationError,
    escape_controls,
    InputError,
    MarigoldError,
    shown,
)
from marigold_ros.frame import Camera, Frame, SparseInput
from marigold_ros.geometry.alignment.fit_report import details_of
from marigold_ros.geometry.camera.rectification import rectified_valid
from marigold_ros.geometry.camera.resizing import resize_frame
from marigold_ros.geometry.ground.plane import ground_plane
from marigold_ros.message_codec import header_ns, to_camera
from marigold_ros.models.protocol import DepthModel
from marigold_ros.models.runtime.disk_cache import cache_folder, remember_size
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.node.health import ImageHealth
from marigold_ros.node.interface.publishers import Outputs
from marigold_ros.node.interface.subscriptions import Input, Inputs
from marigold_ros.node.interface.transforms import Extrinsics
from marigold_ros.pairing import Choice
from marigold_ros.pipeline import FramePipeline
from marigold_ros.reasons import as_reason, Reason
from marigold_ros.sparse_sources import GROUND, source_names, SPARSE_SOURCES, SparseReading
import numpy as np

# Images without a scan in a row that are reported.
_UNPAIRED = 10
# Ages above this come from clocks that differ, milliseconds.
_MAX_AGE_MS = 60_000


class _Stopwatch:
    """Milliseconds between laps, by name."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps_ms[name] = 1e3 * (now - self._last)
        self._last = now

    def total_ms(self) -> float:
        return 1e3 * (self._last - self._start)


@dataclass(frozen=True)
class _CameraFrame:
    """The frame_id of an image's header, and the one that the outputs have in its place."""

    own: str
    published: str

    def named_in(self, reading: SparseReading) -> str:
        """Return the one of both that a reading may have."""
        return self.own if reading.frame_id == self.own else self.published


class FrameServer:
    """Processes images one after the other, in the worker's thread, with the node's settings."""

    def __init__(
        self,
        node,
        pipeline: FramePipeline,
        inputs: Inputs,
        outputs: Outputs,
        extrinsics: Extrinsics,
    ) -> None:
        self._node, self._pipeline = node, pipeline
        self._inputs, self._outputs, self._extrinsics = inputs, outputs, extrinsics
        self._health = node.health
        self._reset_wanted = False
        self._next_model: DepthModel | None = None
        self._bad_info = None
        self._no_camera: Reason | None = None  # why the frame in work has none
        # The last scan of each source and what it holds, None if it was rejected.
        self._read_scans: dict[str, tuple] = {}
        self._warned_frames = False
        self._image_size = (0, 0)
        self._image_health = ImageHealth()
        self._unpaired: dict[str, int] = {}  # images without a scan in a row, by source

    def reset_soon(self) -> None:
        """Reset the pipeline before the next frame."""
        self._reset_wanted = True

    def swap_model(self, model: DepthModel) -> None:
        """Use another model from the next frame on."""
        self._next_model = model

    def swap_now(self) -> None:
        """Use the model of ``swap_model``, if any; called between two frames."""
        if self._next_model is not None:
            self._pipeline.model, self._next_model = self._next_model, None
            gc.collect()  # large models may have circles that hold gigabytes
            self._health.gaps.clear()
            self._reset_wanted = True

    def serve(self, message) -> None:
        """Process one image; its outcome is counted, and no exception escapes."""
        try:
            self._serve(message)
        except MarigoldError as error:
            self._fail(getattr(error, 'cause', 'calibration'), str(error))
        except Exception:  # the node goes on with the next image
            if self._node.context.ok():
                text = escape_controls(traceback.format_exc(), kept='\n')
                self._node.get_logger().error(text, throttle_duration_sec=5.0)
                self._fail('internal', text)
        else:
            self._health.counters.leave_frame(keys.FRAMES_SERVED)

    def _fail(self, cause: str, text: str) -> None:
        self._health.counters.leave_frame(f'{keys.FRAMES_REJECTED}{cause}')
        self._health.report('frame', f'frame rejected: {text.strip().splitlines()[-1]}')

    def _serve(self, message) -> None:
        watch, health = _Stopwatch(), self._health
        config = self._prepare()
        header = copy.copy(message.header)
        header.frame_id = config.frame_id or header.frame_id
        frame = self._decode(message, config)
        watch.lap('decode')
        prediction = self._pipeline.predict(frame)
        watch.lap('predict')
        health.answered_by = getattr(self._pipeline.model, 'answered_by', 'unknown')
        choices = self._inputs.await_scans(frame.stamp_ns)
        # As late as possible: odometry of the image's time often arrives after the image.
        place = self._extrinsics.camera_pose(header.frame_id, frame.stamp_ns)
        frame = replace(frame, T_world_camera=place)
        camera_frame = _CameraFrame(message.header.frame_id, header.frame_id)
        frame, scan_ns = self._with_sparse(frame, choices, camera_frame)
        watch.lap('pair')
        result = self._pipeline.finish(frame, prediction)
        watch.lap('finish')
        health.gaps.append(result.domain_gap)
        health.alignment, health.details = result.alignment, details_of(result)
        health.count_sources(result.sources)
        health.counters.add(f'{keys.FITS}{result.alignment.state}')
        health.stamp_ns, health.scan_ns = frame.stamp_ns, scan_ns
        self._outputs.publish(result, header, config, scan_ns, health.details)
        health.published.tick()
        watch.lap('publish')
        health.timings.add({**result.timings_ms, **watch.laps_ms, 'total': watch.total_ms()})
        age_ms = (self._node.get_clock().now().nanoseconds - frame.stamp_ns) / 1e6
        if 0 <= age_ms < _MAX_AGE_MS:
            health.timings.add({'age': age_ms})

    def _prepare(self) -> NodeConfig:
        """Apply changed settings, a new model and a reset, here between two frames."""
        config = self._node.current_config()
        self._inputs.set_config(config)
        self._pipeline.config = config.pipeline
        self.swap_now()
        if self._reset_wanted:
            self._reset_wanted = False
            self._pipeline.reset()
        return config

    def _decode(self, message, config: NodeConfig) -> Frame:
        rgb = self._inputs.images.read(message)
        if problem := self._image_health.check(rgb):
            self._health.report('camera', problem)
        if rgb.shape[:2] != self._image_size:
            self._image_size = rgb.shape[:2]
            if config.runtime.backend == 'auto':
                folder = cache_folder(config.runtime.cache_dir)
                remember_size(folder, config.model.model, rgb.shape[:2])
        camera = self._camera(message, rgb.shape[:2], config)
        frame = Frame(rgb=rgb, camera=camera, stamp_ns=header_ns(message))
        if config.output_resolution == 'input':
            return frame
        model: Any = self._pipeline.model
        chosen = config.pipeline.prediction['processing_resolution']
        return resize_frame(frame, model.processing_size(*rgb.shape[:2], chosen))

    def _camera(self, message, shape: tuple[int, int], config: NodeConfig) -> Camera | None:
        """Decode camera_info; None, with the reason reported, if it is missing or invalid."""
        info = self._inputs.await_info()
        topic = self._inputs.info.topic
        if info is None:
            text = f'no camera_info on {topic}: no metric depth; publish it'
            self._no_camera = as_reason(text)
            self._health.report('info', text)
            return None
        if info.header.frame_id != message.header.frame_id and not self._warned_frames:
            self._warned_frames = True
            self._node.get_logger().warning(
                f"the image is in frame '{shown(message.header.frame_id, 200)}', its camera_info "
                f"in '{shown(info.header.frame_id, 200)}'; the image's counts: check that they "
                'belong together'
            )
        rectified = config.image_rectified == 'yes' or (
            config.image_rectified == 'auto' and is_rectified_name(self._inputs.image.topic)
        )
        try:
            camera = to_camera(info, rectified=rectified)
            if (camera.height, camera.width) != shape:
                raise CalibrationError(
                    f'camera_info is for {camera.width}x{camera.height}, the image is '
                    f'{shape[1]}x{shape[0]}; they must agree: check which camera_info the node '
                    f'listens to ({topic})'
                )
            rectified_valid(camera)  # raises for an unknown distortion; its maps are cached
        except CalibrationError as error:
            if info is not self._bad_info:
                self._health.counters.add(keys.INFOS_REJECTED)
            self._bad_info, self._no_camera = info, as_reason(error)
            self._health.report('info', str(error))
            return None
        return camera

    def _count_pair(self, frame: Frame, choices: Mapping[str, Choice]) -> None:
        """Count which parts of the pair are missing, and report scans that stay away."""
        if not choices:
            return
        found = any(choice.item is not None for choice in choices.values())
        parts = {'info': frame.camera, 'scan': found or None}
        missing = '_'.join(name for name, part in parts.items() if part is None)
        self._health.counters.add(keys.PAIRS + (f'without_{missing}' if missing else 'whole'))
        for item in self._inputs.sparse:
            away = choices[item.source].item is None
            self._unpaired[item.source] = self._unpaired.get(item.source, 0) + 1 if away else 0
            if self._unpaired[item.source] >= _UNPAIRED:
                why = self._inputs.why_no_scan(item.source, frame.stamp_ns)
                self._health.report(item.problem_part, why)

    def _with_sparse(
        self, frame: Frame, choices: Mapping[str, Choice], camera_frame: _CameraFrame
    ) -> tuple[Frame, int | None]:
        """
        Add the sparse depth of all sources; return the stamp of the first scan too, or None.

        What is wrong with a source is reported.
        """
        self._count_pair(frame, choices)
        config = self._inputs.config
        names = source_names(config.sparse_source)
        if frame.camera is None:
            inputs = tuple(SparseInput(name, no_points=self._no_camera) for name in names)
            return replace(frame, inputs=inputs), None
        stamps, given = [], {}
        for number, item in enumerate(self._inputs.sparse):
            given[item.source], stamp = self._of_sensor(
                item, choices[item.source], frame, camera_frame, is_first=not number
            )
            stamps.append(stamp)
        if GROUND in names:
            given[GROUND] = self._of_ground(frame, camera_frame.published)
        frame = replace(frame, inputs=tuple(given[name] for name in names))
        return frame, next((stamp for stamp in stamps if stamp is not None), None)

    def _of_sensor(
        self,
        item: Input,
        choice: Choice,
        frame: Frame,
        camera_frame: _CameraFrame,
        is_first: bool,
    ) -> tuple[SparseInput, int | None]:
        """Return the sparse depth of a scan and its stamp; None without depth."""
        nothing = SparseInput(item.source)
        scan, scan_ns = choice.item, choice.stamp_ns
        before, reading = self._read_scans.get(item.source, (None, None))
        rejected = scan is before and reading is None
        if scan is None or scan_ns is None or rejected:
            return nothing, None
        try:
            if scan is not before:  # one scan often serves several images
                reading = SPARSE_SOURCES[item.source].read(scan)
            depth_camera = item.camera(reading, camera_frame.named_in(reading), self._image_size)
        except InputError as error:
            self._read_scans[item.source] = scan, None
            self._inputs.reject_scan(item, error)
            return replace(nothing, no_points=as_reason(error)), None
        self._read_scans[item.source] = scan, reading
        found = reading.input(item.source, None, depth_camera)
        if reading.depth is not None and depth_camera is None:
            return found, scan_ns
        names = '', camera_frame.own, camera_frame.published
        if depth_camera is not None and reading.frame_id in names:  # of another size only
            return replace(found, T_cam_lidar=np.eye(4)), scan_ns
        try:
            pose = self._extrinsics.lookup(
                camera_frame.published, scan.header.frame_id, scan_ns, frame.stamp_ns, is_first
            )
        except CalibrationError as error:
            self._health.report('transform', str(error))
            return replace(nothing, no_points=as_reason(error)), None
        return replace(found, T_cam_lidar=pose), scan_ns

    def _of_ground(self, frame: Frame, camera_frame: str) -> SparseInput:
        """Return the plane of the ground, or the reason, which is reported too, for none."""

        def pose(ground_frame: str) -> np.ndarray:
            return self._extrinsics.pose(
                camera_frame, ground_frame, frame.stamp_ns, 'ground.height'
            )

        try:
            return SparseInput(GROUND, ground=ground_plane(self._inputs.config.ground, pose))
        except CalibrationError as error:
            self._health.report('transform', str(error))
            return SparseInput(GROUND, no_points=as_reason(error))
