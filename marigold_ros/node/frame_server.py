# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One image from message to messages: decode, predict, pair, fit, publish.

No lifecycle and no subscriptions here; every problem of a frame is counted and reported here.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import copy
from dataclasses import dataclass, replace
from functools import partial
import gc
import threading
import time
import traceback
from typing import Any

from marigold_ros.bags.topics import is_rectified_name
from marigold_ros.config import NodeConfig
from marigold_ros.errors import (
    CalibrationError,
    ConfigurationError,
    escape_controls,
    InputError,
    MarigoldError,
    shown,
)
from marigold_ros.frame import Camera, Frame, SparseInput
from marigold_ros.geometry.blind_image import ImageHealth
from marigold_ros.geometry.camera.rectification import rectified_valid
from marigold_ros.geometry.camera.resizing import resize_frame
from marigold_ros.geometry.fit_report import details_of
from marigold_ros.geometry.ground.plane import ground_plane
from marigold_ros.message_codec import header_ns, to_camera
from marigold_ros.models.protocol import DepthModel
from marigold_ros.models.runtime.disk_cache import cache_folder, remember_size
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.node.interface.publishers import Outputs
from marigold_ros.node.interface.subscriptions import Input, Inputs
from marigold_ros.node.interface.transforms import Extrinsics
from marigold_ros.node.loading import check_model
from marigold_ros.pairing import Choice
from marigold_ros.pipeline import FramePipeline
from marigold_ros.reasons import as_reason, Reason
from marigold_ros.sparse_sources import GROUND, source_names, SPARSE_SOURCES
import numpy as np

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
class ImageInWork:
    """
    What the first half of an image leaves to the second.

    ``header`` is that of the outputs, ``own_frame`` the frame_id of the image, or of its
    camera_info where it has none, and ``size`` its (H, W) as it came. It ``is_paired`` if it has
    its points; its ``prediction`` comes last.
    """

    header: Any
    own_frame: str
    config: NodeConfig
    frame: Frame
    size: tuple[int, int]
    watch: _Stopwatch
    prediction: Any = None
    is_paired: bool = False


class FrameServer:
    """
    Processes images in two halves, with the node's settings: one may be predicted beside another.

    Halves of one kind are never called at the same time. Before the next image the pipeline is
    reset if ``reset_wanted`` is set, and takes the model in ``next_model``, if any. What is known
    of the LiDAR's mounting stays, unless ``forgets_mounting`` is set before.
    """

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
        self._asked: NodeConfig | None = None
        self._applied = NodeConfig()
        self.reset_wanted = self.forgets_mounting = False
        self.next_model: deque[DepthModel] = deque(maxlen=1)  # to be filled by another thread
        self._bad_info = None
        # The last scan of each source and what it holds, or the reason why it was rejected.
        self._read_scans: dict[str, tuple] = {}
        self._pairing = threading.Lock()  # either half may do it
        self._warned_frames = False
        self._image_size = (0, 0)
        self._image_health = ImageHealth()

    def swap_now(self) -> None:
        """Use ``next_model``, if any; called between two frames."""
        if self.next_model:
            self._pipeline.model = self.next_model.pop()
            gc.collect()  # large models may have circles that hold gigabytes
            self._health.gaps.clear()
            self.reset_wanted = True

    def overlaps(self) -> bool:
        """
        Whether the next image may be predicted while this one is finished.

        Only where they do not compete for the same cores, and the second half leaves the model
        alone.
        """
        device = getattr(self._pipeline.model, 'device', 'cpu')
        return str(device) != 'cpu' and self._pipeline.finishes_without_model

    def predict(self, message, alone: Callable[[], object]) -> ImageInWork | None:
        """
        Run the first half of an image; None if it failed, which is counted.

        ``alone`` waits until the image before is finished.
        """
        with self._counted():
            return self._predict(message, alone)
        return None

    def finish(self, image: ImageInWork) -> None:
        """Run the second half; the image's outcome is counted, and no exception escapes."""
        with self._counted():
            self._finish(image)
            self._health.counters.leave_frame(keys.FRAMES_SERVED)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count and report the failure of an image; the node goes on with the next."""
        try:
            yield
        except MarigoldError as error:
            self._fail(error.cause, str(error))
        except Exception:
            if self._node.context.ok():
                text = escape_controls(traceback.format_exc(), kept='\n')
                self._node.get_logger().error(text, throttle_duration_sec=5.0)
                self._fail('internal', text)

    def _fail(self, cause: str, text: str) -> None:
        self._health.counters.leave_frame(f'{keys.FRAMES_REJECTED}{cause}')
        self._health.report('frame', f'frame rejected: {text.strip().splitlines()[-1]}')

    def _predict(self, message, alone: Callable[[], object]) -> ImageInWork:
        watch = _Stopwatch()
        config = self._prepare(alone)
        self._inputs.check_age(header_ns(message), config.max_input_age)  # it may have waited
        info = self._inputs.await_info(header_ns(message))
        header = copy.copy(message.header)
        own_frame = header.frame_id or (info.header.frame_id if info else '')
        header.frame_id = config.frame_id or own_frame
        rgb = self._decode(message, config)
        camera, no_camera = self._camera(info, own_frame, rgb.shape[:2], config)
        frame = Frame(rgb, camera, stamp_ns=header_ns(message), no_camera=no_camera)
        if config.output_resolution != 'input':
            model: Any = self._pipeline.model
            chosen = config.pipeline.prediction['processing_resolution']
            frame = resize_frame(frame, model.processing_size(*rgb.shape[:2], chosen))
        watch.lap('decode')
        image = ImageInWork(header, own_frame, config, frame, rgb.shape[:2], watch)
        choices = self._inputs.settled_scans(frame.stamp_ns)
        if choices is not None and self._are_placed(image, choices):
            image = self._with_sparse(image, choices)  # scored beside the model
        watch.lap('pair')
        prediction = self._pipeline.predict(image.frame)
        watch.lap('predict')
        self._health.answered_by = getattr(self._pipeline.model, 'answered_by', 'unknown')
        return replace(image, prediction=prediction)

    def _finish(self, image: ImageInWork) -> None:
        watch, health = image.watch, self._health
        watch.lap('wait')
        if not image.is_paired:
            image = self._with_sparse(image, self._inputs.await_scans(image.frame.stamp_ns))
            watch.lap('pair')
        # As late as possible: odometry of the image's time often arrives after the image.
        frame = image.frame
        place = self._extrinsics.camera_pose(image.header.frame_id, frame.stamp_ns)
        frame = replace(frame, T_world_camera=place)
        result = self._pipeline.finish(frame, image.prediction)
        watch.lap('finish')
        health.gaps.append(result.domain_gap)
        health.alignment, health.details = result.alignment, details_of(result)
        health.count_sources(result.sources)
        health.counters.add(f'{keys.FITS}{result.alignment.state}')
        health.stamp_ns, health.scan_ns = frame.stamp_ns, frame.scan_ns
        self._outputs.publish(result, image.header, image.config, frame.scan_ns, health.details)
        health.published.tick()
        watch.lap('publish')
        timings_ms = {**result.timings_ms, **watch.laps_ms, 'total': watch.total_ms()}
        age_ms = (self._node.get_clock().now().nanoseconds - frame.stamp_ns) / 1e6
        if 0 <= age_ms < _MAX_AGE_MS:
            timings_ms['age'] = age_ms
        health.timings.add(timings_ms)

    def _prepare(self, alone: Callable[[], object]) -> NodeConfig:
        """Apply changed settings, a new model and a reset, once no image is in work."""
        config = self._node.current_config()
        changed = config is not self._asked
        if changed or self.reset_wanted or self.next_model:
            alone()
            self.swap_now()
            self._asked, self._applied = config, self._served(config)
            self._inputs.set_config(self._applied)
            self._pipeline.config = self._applied.pipeline
            if self.reset_wanted:
                mounting = self._pipeline.state.without_fits()
                self._pipeline.reset()
                if not self.forgets_mounting:
                    self._pipeline.state = mounting
                self.forgets_mounting = self.reset_wanted = False
        return self._applied

    def _served(self, config: NodeConfig) -> NodeConfig:
        """Leave the model its settings where it refuses those of one that ~/reload is to load."""
        try:
            check_model(self._pipeline.model, config)
        except ConfigurationError:
            return replace(config, pipeline=self._pipeline.config)
        return config

    def _decode(self, message, config: NodeConfig) -> np.ndarray:
        rgb: np.ndarray = self._inputs.images.read(message)
        if problem := self._image_health.check(rgb):
            self._health.report('camera', problem)
        if rgb.shape[:2] != self._image_size:
            self._image_size = rgb.shape[:2]
            if config.runtime.backend != 'torch':  # the others compile for each size
                folder = cache_folder(config.runtime.cache_dir)
                remember_size(folder, config.model.model, rgb.shape[:2])
        return rgb

    def _camera(
        self, info: Any, own_frame: str, shape: tuple[int, int], config: NodeConfig
    ) -> tuple[Camera | None, Reason | None]:
        """Decode camera_info; None and the reason, also reported, if it is missing or invalid."""
        topic = self._inputs.info.topic
        if info is None:
            text = f'no camera_info on {topic}: no metric depth; publish it, or remap camera_info'
            self._health.report('info', text)
            return None, as_reason(text)
        if info.header.frame_id != own_frame and not self._warned_frames:
            self._warned_frames = True
            self._node.get_logger().warning(
                f"the image is in frame '{shown(own_frame, 200)}', its camera_info "
                f"in '{shown(info.header.frame_id, 200)}'; the image's counts: check that they "
                'belong together'
            )
        rectified = config.image_rectified == 'yes' or (
            config.image_rectified == 'auto' and is_rectified_name(self._inputs.image.topic)
        )
        try:
            camera = to_camera(info, rectified=rectified)
            remedy = f'check which camera_info the node listens to ({topic})'
            camera.require_size(shape, f'{remedy}, or calibrate at this size')
            rectified_valid(camera)  # raises for an unknown distortion; its maps are cached
        except CalibrationError as error:
            if info is not self._bad_info:
                self._health.counters.add(keys.INFOS_REJECTED)
            self._bad_info = info
            self._health.report('info', str(error))
            return None, as_reason(error)
        return camera, None

    def _count_pair(self, frame: Frame, choices: Mapping[str, Choice]) -> None:
        """Count which parts of the pair are missing, and report scans that stay away."""
        if not choices:
            return
        found = any(choice.item is not None for choice in choices.values())
        parts = {'info': frame.camera, 'scan': found or None}
        missing = '_'.join(name for name, part in parts.items() if part is None)
        self._health.counters.add(keys.PAIRS + (f'without_{missing}' if missing else 'whole'))
        for item in self._inputs.sparse:
            item.unpaired = item.unpaired + 1 if choices[item.source].item is None else 0
            if item.is_away and not item.refused:
                why = self._inputs.why_no_scan(item, frame.stamp_ns)
                self._health.report(item.problem_part, why)

    def _are_placed(self, image: ImageInWork, choices: Mapping[str, Choice]) -> bool:
        """Whether scans can be placed in their image as well now as after its prediction."""
        if GROUND in source_names(self._inputs.config.sparse_source):
            return False  # ground is looked for in the prediction
        for number, item in enumerate(self._inputs.sparse):
            scan, scan_ns = choices[item.source].item, choices[item.source].stamp_ns
            if scan is None or scan_ns is None:
                continue
            published, frame = image.header.frame_id, scan.header.frame_id
            frame = published if frame == image.own_frame else frame
            if not self._extrinsics.is_settled(published, frame, scan_ns, not number):
                return False
        return True

    def _with_sparse(self, image: ImageInWork, choices: Mapping[str, Choice]) -> ImageInWork:
        """Add the sparse depth of all sources; what is wrong with one is reported."""
        frame = image.frame
        names = source_names(self._inputs.config.sparse_source)
        with self._pairing:
            self._count_pair(frame, choices)
            if frame.camera is None:
                inputs = tuple(SparseInput(name, no_points=frame.no_camera) for name in names)
                return replace(image, frame=replace(frame, inputs=inputs), is_paired=True)
            given = {
                item.source: self._of_sensor(item, choices[item.source], image, not number)
                for number, item in enumerate(self._inputs.sparse)
            }
            if GROUND in names:
                given[GROUND] = self._of_ground(frame, image.header.frame_id)
        frame = replace(frame, inputs=tuple(given[name] for name in names))
        return replace(image, frame=frame, is_paired=True)

    def _of_sensor(
        self, item: Input, choice: Choice, image: ImageInWork, is_first: bool
    ) -> SparseInput:
        """Return the sparse depth of a scan, or why it has none."""
        nothing = SparseInput(item.source)
        own, published = image.own_frame, image.header.frame_id
        scan, scan_ns = choice.item, choice.stamp_ns
        before, reading = self._read_scans.get(item.source, (None, None))
        if scan is None or scan_ns is None:
            return nothing
        if scan is before and isinstance(reading, Reason):
            return replace(nothing, no_points=reading)
        try:
            if is_new := scan is not before:  # one scan often serves several images
                reading = SPARSE_SOURCES[item.source].read(scan)
            frame_id = own if reading.frame_id == own else published
            found = item.with_camera(reading, scan_ns, frame_id, image.size)
        except InputError as error:
            reason = as_reason(error)
            if error.cause != 'camera_info':  # which may still come while the scan serves images
                reading = reason
            self._read_scans[item.source] = scan, reading
            if is_new:
                self._inputs.reject_scan(item, error)
            return replace(nothing, no_points=reason)
        self._read_scans[item.source] = scan, reading
        found = replace(found, stamp_ns=scan_ns)
        if found.sparse_image is not None and reading.frame_id in ('', own, published):
            return found if found.sparse_camera is None else replace(found, T_cam_lidar=np.eye(4))
        try:
            pose = self._extrinsics.lookup(
                published, scan.header.frame_id, scan_ns, image.frame.stamp_ns, is_first
            )
        except CalibrationError as error:
            self._health.report('transform', str(error))
            return replace(nothing, no_points=as_reason(error))
        return replace(found, T_cam_lidar=pose)

    def _of_ground(self, frame: Frame, camera_frame: str) -> SparseInput:
        """Return the plane of the ground, or the reason, which is reported too, for none."""
        pose = partial(
            self._extrinsics.pose, camera_frame, stamp_ns=frame.stamp_ns, settings='ground.height'
        )
        try:
            return SparseInput(GROUND, ground=ground_plane(self._inputs.config.ground, pose))
        except CalibrationError as error:
            self._health.report('transform', str(error))
            return SparseInput(GROUND, no_points=as_reason(error))
