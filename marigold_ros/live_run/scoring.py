# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Score and draw the outputs of a live node: its recording beside the bag that was played."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from marigold_ros.bags.frames import bag_frames, BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.evaluation.report.animation import write_animation
from marigold_ros.evaluation.report.drawing import (
    colourise_depth,
    depth_scale,
    error_image,
    overlay_points,
)
from marigold_ros.evaluation.results.results import RESULT_FILES
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.frame import Alignment, Frame, FrameResult, Prediction, UNBOUNDED
from marigold_ros.geometry.blind_image import ImageHealth
from marigold_ros.geometry.camera.lidar_projection import sparse_from_depth
from marigold_ros.geometry.camera.rectification import rectified, rectify_depth, rectify_image
from marigold_ros.geometry.cloud.files import write_ply
from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.live_run.played_bag import DemoJob, FIT_EVERY
from marigold_ros.message_codec import header_ns, to_depth
from marigold_ros.models.protocol import DepthModel
from marigold_ros.node.diagnostic_keys import values_of
from marigold_ros.pipeline import FramePipeline
from marigold_ros.reasons import as_reason
from marigold_ros.replay.bag_part import count_warnings
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.recording import NODE, remove_recording
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.replay.rerun_file import RerunFile
from marigold_ros.replay.sources import SourcesOfBag
import numpy as np

FILES = (*RESULT_FILES, 'cloud.ply', 'demo.webp', 'demo.rrd', 'node.log')  # of a run
_DRAWN = 20  # frames of an animation
_PARTS = {
    f'{NODE}/relative/image': 'relative',
    f'{NODE}/depth/image_rect': 'depth',
    f'{NODE}/uncertainty/image': 'sigma',
    f'{NODE}/alignment': 'alignment',
}
# Outputs of one frame arrive together; after this many younger frames the rest is lost.
_PATIENCE_FRAMES = 3


@dataclass
class RecordedFrame:
    """The messages that the node published for one image, by part."""

    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        if not {'relative', 'alignment'} <= self.parts.keys():
            return False
        return 'depth' in self.parts or self.values['state'] == 'none'

    @property
    def values(self) -> dict[str, str]:
        """The values of ``~/alignment``."""
        return values_of(self.parts['alignment'].status[0])


class RecordedOutputs:
    """Published frames by the stamp of their image, read in the order of the recording."""

    def __init__(self, reader: BagReader) -> None:
        topics = [topic for topic in _PARTS if topic in reader.topics]
        self._messages: Iterator[tuple[str, Any, int]] = reader.messages(topics)
        self._frames: dict[int, RecordedFrame] = {}
        self._has_sigma = any(_PARTS[topic] == 'sigma' for topic in topics)

    def take(self, stamp_ns: int) -> RecordedFrame | None:
        """Return the outputs of an image, None if incomplete; call in the order of time."""
        while not self._is_settled(stamp_ns):
            following = next(self._messages, None)
            if following is None:
                break
            topic, message, _ = following
            frame = self._frames.setdefault(header_ns(message), RecordedFrame())
            frame.parts[_PARTS[topic]] = message
        outputs = self._frames.pop(stamp_ns, None)
        return outputs if outputs is not None and outputs.complete else None

    def _is_settled(self, stamp_ns: int) -> bool:
        frame = self._frames.get(stamp_ns)
        if frame is not None and frame.complete:
            awaited = self._has_sigma and 'depth' in frame.parts
            if not awaited or 'sigma' in frame.parts:
                return True
        order = list(self._frames)
        place = order.index(stamp_ns) if stamp_ns in order else -1
        return len(order) - 1 - place > _PATIENCE_FRAMES


def _recorded_frames(job: DemoJob) -> Iterator[tuple[BagFrame, RecordedFrame | None]]:
    """Yield each image that was played with what the node published for it."""
    bag, config = job.bag, job.config
    with BagReader(bag.path) as played, BagReader(job.recording) as recorded:
        outputs = RecordedOutputs(recorded)
        stream = bag_frames(played, bag.topics, config.lidar, bag.T_cam_lidar)
        sources = SourcesOfBag(played, bag.topics, bag.sources, config.ground)
        for item in itertools.islice(stream, bag.images):
            if item.frame is not None and sources.has_lidar:
                item = replace(item, frame=sources.seen(item))
            yield item, outputs.take(item.stamp_ns)


def score_recording(
    job: DemoJob,
    model: Mapping[str, str],
    round_trip_ms: Mapping[int, float],
    progress: Callable[[int], None],
) -> tuple[Scorer, dict[str, int]]:
    """
    Score a recording; returns the scores, and how many frames each warning concerns.

    ``job`` has the settings that the node had. If its bag was thinned, the recorded depth is
    scored between the scan lines that the node received, else a fit of the recorded relative
    images to every n-th; without the LiDAR as a source, the recorded depth at all points.
    ``model`` is the node's description of its model, ``round_trip_ms`` are the milliseconds from
    image to last output, by stamp; ``progress`` receives the number of images processed so far.
    """
    config, bag = job.config, job.bag
    # Predictions are recorded; the description leads to the fusion network.
    described: Any = SimpleNamespace(description=model)
    # The node's own fit to thinned scans is scored, in place of another one.
    finish = None if bag.thinned else FramePipeline(described, config.pipeline).finish
    space = model.get('space', 'depth')
    # The node describes its model in strings.
    censored = UNBOUNDED if model.get('unbounded') == 'True' else Prediction.censored
    scorer = Scorer(config.pipeline.alignment, finish, FIT_EVERY)
    if not bag.sees_lidar:
        scorer.score_whole_scans()
    warnings: dict[str, int] = {}
    health = ImageHealth()
    with nullcontext() if job.rerun is None else RerunFile(job.rerun, config.points) as file:
        for number, (item, found) in enumerate(_recorded_frames(job), 1):
            progress(number)
            count_warnings(warnings, item, health)
            if item.frame is None or found is None:
                continue
            result, scan = _result(item.frame, found, space), found.values['scan_stamp']
            if item.stamp_ns in round_trip_ms:
                timings_ms = {'round_trip': round_trip_ms[item.stamp_ns]}
                result = replace(result, timings_ms=timings_ms)
            item = replace(item, scan_stamp_ns=int(scan) if scan else None)
            prediction = Prediction(result.relative, None, space, censored)
            row = scorer.add(item, prediction, result)
            if file is not None:
                file.add(result, row)
    return scorer, warnings


def animate_recording(job: DemoJob) -> bool:
    """
    Write an animated WebP, ``demo.webp``, of at most 20 frames, evenly spaced, in real time.

    Returns False, and writes none, where the recording has no depth or OpenCV is older than 4.11.
    """
    stride = max(1, -(-job.bag.images // _DRAWN))
    panels = drawn_frames(job, stride)
    return write_animation(job.folder / 'demo.webp', panels, stride * job.bag.period)


def drawn_frames(job: DemoJob, stride: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the panels of every n-th frame, all with the colour scale of the first."""
    scale: tuple[float, float] | None = None
    limits = job.config.pipeline.alignment
    for number, (item, found) in enumerate(_recorded_frames(job)):
        frame = item.frame
        if number % stride or frame is None or frame.camera is None or found is None:
            continue
        points, _ = sparse_of_frame(frame, limits)
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
        if job.bag.topics.truth is not None:  # a panel of every frame, also of those without
            truth = np.full(metric.shape, np.nan) if item.truth is None else item.truth
            truth = truth if item.truth_is_rectified else rectify_depth(truth, frame.camera)
            at = sparse_from_depth(truth, limits, 1)
            error = np.abs(metric[at.v, at.u] - at.z) / at.z
            panels['relative error, yellow from 50 %'] = error_image(rgb, at.u, at.v, error)
        yield panels


def evaluate_offline(
    job: DemoJob, model: DepthModel, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Evaluate the bag without a node, and write the cloud of its first metric frame."""
    bag, config = job.bag, job.config
    options = ReplayOptions(
        config.pipeline,
        config.lidar,
        T_cam_lidar=bag.T_cam_lidar,
        fit_every=FIT_EVERY,
        limit=bag.images,
        sources=bag.fitted_sources,
        ground=config.ground,
        rerun=job.rerun,
    )
    results = evaluate_bag(
        bag.path, model, options, job.folder, progress=lambda done, _: progress(done)
    )
    pipeline = FramePipeline(model, config.pipeline)
    with BagReader(bag.path) as reader:
        stream = bag_frames(reader, bag.topics, config.lidar, bag.T_cam_lidar)
        sources = SourcesOfBag(reader, bag.topics, bag.sources, config.ground)
        for item in itertools.islice(stream, bag.images):
            try:
                result = pipeline.process(sources.seen(item))
            except (InputError, CalibrationError):
                continue  # among the rejected images of the results
            if result.metric is not None and result.camera is not None:
                write_cloud(job, result.metric, result.camera.K, result.rgb)
                break
    return results


def read_alignment(values: Mapping[str, str], space: str) -> Alignment:
    """Parse an Alignment, without its images, from the values of ``~/alignment``."""
    return Alignment(
        state=values['state'],
        refusal=as_reason(values['reason']),
        scale=float(values['scale']),
        shift=float(values['shift']),
        space=space,
        n_points=int(values['points']),
        n_inliers=int(values['inliers']),
        rms=float(values['rms']),
        condition=float(values['condition']),
        age_ns=round(float(values['age']) * 1e9),
        led_by=values['led_by'],
        shares={'map': float(values['map_share'])},
        map_refusal=as_reason(values['map_reason']),
    )


def _result(frame: Frame, recorded: RecordedFrame, space: str) -> FrameResult:
    depth, sigma = recorded.parts.get('depth'), recorded.parts.get('sigma')
    rgb, camera = frame.rgb, frame.camera
    if camera is not None:
        rgb, camera = rectify_image(rgb, camera), rectified(camera)
    return FrameResult(
        relative=_floats(recorded.parts['relative']),
        space=space,
        alignment=read_alignment(recorded.values, space),
        metric=None if depth is None else to_depth(depth),
        sigma=None if sigma is None else _floats(sigma),
        spread=None,
        camera=camera,
        rgb=rgb,
        sparse=None,
        stamp_ns=frame.stamp_ns,
        timings_ms={},
    )


def _floats(image: Any) -> np.ndarray:
    """Return the pixels of an image of floats as they are: a zero, unlike in depth, is valid."""
    pixels = np.frombuffer(np.ascontiguousarray(image.data), np.dtype('<f4'))
    return pixels.reshape(image.height, image.width).copy()


def write_cloud(job: DemoJob, depth: np.ndarray, K: np.ndarray, rgb: np.ndarray) -> None:
    """Write depth (H, W), metres, as a coloured cloud, ``cloud.ply``, filtered as ~/points."""
    points = unproject_depth(depth_of_cloud(depth, depth, K, job.config.points), K)
    write_ply(job.folder / 'cloud.ply', points, rgb)


def clear_old(folder: Path) -> None:
    """
    Remove the results of an earlier run from a folder.

    Raises BagError if ``recording`` exists and is not a bag, so somebody else's.
    """
    remove_recording(folder / 'recording')
    earlier = (*(folder / 'pictures').glob('frame_*.png'), *(folder / n for n in FILES))
    for old in filter(Path.is_file, earlier):
        old.unlink()
