# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Look at a few images of a bag to see what is there, before a model is loaded.

Three places of the bag are read through its index, so that its size does not matter. Frames are
paired, projected and judged as in a replay.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
import math
from pathlib import Path
from typing import Any

from marigold_ros.bags.frames import bag_frames, BagFrame, Excerpt
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.storage import bag_files
from marigold_ros.bags.topics import BagTopics, listing
from marigold_ros.errors import BagError, MarigoldError, UsageError
from marigold_ros.frame import Frame, SparseDepth
from marigold_ros.geometry.blind_image import sample_pixels, why_blind
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.models.protocol import DepthModel
from marigold_ros.reasons import Reason, sentence
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.replay.sources import choose_sources, SourcesOfBag
from marigold_ros.sparse_sources import source_of_topic
import numpy as np

_PLACES, _IMAGES_A_PLACE = 3, 3
_NO_TOPIC = (
    'no topic holds sparse depth (a PointCloud2, a LaserScan, or a depth image with sparse_depth '
    'in its name)'
)
_SQUARE = 32  # pixels; the share of an image with points is counted in such squares


@dataclass(frozen=True)
class BagSample:
    """One image of a bag: its frame, its sparse depth in view, and what is missing."""

    item: BagFrame
    points: SparseDepth | None
    problem: str

    @property
    def can_be_scored(self) -> bool:
        """Whether there is sparse depth in view, or true depth."""
        truth = self.item.truth
        return self.points is not None or (truth is not None and bool(np.isfinite(truth).any()))


def sample_bag(reader: BagReader, topics: BagTopics, options: ReplayOptions) -> list[BagSample]:
    """
    Return a few images of an open bag, from its beginning, its first and its second third on.

    Raises BagError where nothing can be read, or header stamps cannot be used.
    """
    start_ns, end_ns = reader.span_ns
    seconds = (end_ns - start_ns) / 1e9
    samples: dict[int, BagSample] = {}
    for place in range(1 if reader.lost else _PLACES):  # damaged files have no index
        begin = seconds * place / _PLACES
        try:
            pose, excerpt = options.T_cam_lidar, Excerpt(start=begin)
            stream = bag_frames(reader, topics, options.lidar, pose, options.stamps, excerpt)
            for item in islice(stream, _IMAGES_A_PLACE):
                sample = _sample(item, options)
                known = samples.get(item.stamp_ns)
                # The first image of a place may come after its scan.
                if known is None or (sample.can_be_scored and not known.can_be_scored):
                    samples[item.stamp_ns] = sample
        except BagError:  # of damage, after all that is readable
            if not samples:
                raise
    return list(samples.values())


def _sample(item: BagFrame, options: ReplayOptions) -> BagSample:
    """Find the points in view of a frame, or why there are none."""
    if item.frame is None:
        return BagSample(item, None, str(item.error))
    points, reason = _points_in_view(item.frame, options)
    return BagSample(item, points, item.warning or reason)


def _points_in_view(frame: Frame, options: ReplayOptions) -> tuple[SparseDepth | None, str]:
    """Return the points of the first input of a frame, or None and why there are none."""
    # Hidden points are in view as well; to find them, Numba would be imported for a look.
    every = replace(options.pipeline.alignment, occlusion_window=1)
    try:
        points, refusal = sparse_of_frame(frame, every)
    except MarigoldError as error:
        return None, str(error)
    if points is not None and not len(points):
        return None, str(Reason('none_in_view'))
    return points, sentence(refusal)


def why_not_scored(topics: BagTopics, samples: Sequence[BagSample]) -> str:
    """Return the most frequent reason why images cannot be scored; '' where one can be."""
    if any(sample.can_be_scored for sample in samples):
        return ''
    if topics.lidar is None and topics.truth is None:
        return f'{_NO_TOPIC}, and none true depth (--truth names it)'
    return _frequent_problem(topics, samples)


def why_not_fitted(topics: BagTopics, samples: Sequence[BagSample]) -> str:
    """Return the most frequent reason why images have no sparse depth; '' where one has."""
    if any(sample.points is not None for sample in samples):
        return ''
    return _NO_TOPIC if topics.lidar is None else _frequent_problem(topics, samples)


def _frequent_problem(topics: BagTopics, samples: Sequence[BagSample]) -> str:
    reasons = Counter(sample.problem for sample in samples if sample.problem)
    reason = reasons.most_common(1)[0][0] if reasons else 'no image could be read'
    others = f' (of {topics.image}; other cameras: {", ".join(topics.cameras)})'
    return reason + others if topics.cameras else reason


def check_scorable(paths: Sequence[Path], options: ReplayOptions) -> None:
    """
    Raise BagError if none of some bags has an image that could be scored.

    Only what a few images show; bags that cannot be read are left to the replay.
    """
    _check(paths, options, 'scored', why_not_scored)


def check_metric(
    paths: Sequence[Path], options: ReplayOptions, load: Callable[[], DepthModel]
) -> None:
    """
    Raise BagError if no image of some bags could have metric depth, as check_scorable.

    Without sparse depth only a fixed scale or a metric model, which ``load`` returns, gives any.
    """
    method = options.pipeline.alignment.method
    if method == 'none':
        raise UsageError('alignment.method is none, which makes no metric depth; choose fused')
    if options.sources is not None:
        return  # not only the sparse depth that a look would find
    try:
        _check(paths, options, 'metric', why_not_fitted)
    except BagError:
        if method != 'fixed' and load().description.get('space') != 'metric':
            raise


def _check(
    paths: Sequence[Path],
    options: ReplayOptions,
    what: str,
    why: Callable[[BagTopics, Sequence[BagSample]], str],
) -> None:
    reasons: list[str] = []
    for path in paths:
        try:
            with BagReader(path) as reader:
                topics = reader.choose_topics(**options.topics)
                reason = why(topics, sample_bag(reader, topics, options))
        except BagError:
            return
        if not reason:
            return
        reasons.append(reason)
    if reasons:
        others = f' and {len(paths) - 1} other bags' if len(paths) > 1 else ''
        raise BagError(
            f'no image of {paths[0]}{others} could be {what}: {reasons[0]}; '
            f'`python -m marigold_ros inspect {paths[0]}` shows what is there'
        )


def inspect_bag(path: str | Path, options: ReplayOptions) -> dict[str, Any]:
    """
    Describe a bag; raises BagError if nothing can be read, or there are no images.

    Returns ``bag``, ``bytes``, ``seconds``; ``topics``: by role ``topic``, ``type``, ``count`` and
    ``hertz``, None without one; ``image``: ``width``, ``height``, ``encoding``; ``camera``:
    ``model``, ``fx``, ``horizontal_fov_deg`` (empty without intrinsics); ``lidar``: means of the
    ``points`` of a scan, of those ``in_view``, of the ``share`` of the image's squares with a
    point, of the ``rows`` between which they lie, and of ``dt_ms``, the time between image and
    scan; ``sources``: points of others that are set, in an image, or why none; ``transform``:
    whether the pose of the LiDAR is known, None where no image has a scan; ``other_cameras``:
    images that could have been chosen; ``other_topics`` with their types; ``images`` that were
    looked at, ``problems`` and how many of them each concerns; ``scorable``, and the ``reason`` if
    they are not.
    """
    path = Path(path)
    with BagReader(path) as reader:
        infos = reader.topics
        topics, sources = choose_sources(reader, options)
        samples = sample_bag(reader, topics, options)
        start_ns, end_ns = reader.span_ns
        lost = reader.lost
    seconds = (end_ns - start_ns) / 1e9
    further = {source_of_topic(topic, infos[topic].msgtype): topic for topic in topics.further}
    roles = {
        role: None
        if topic is None
        else {
            'topic': topic,
            'type': infos[topic].msgtype,
            'count': infos[topic].count,
            'hertz': (infos[topic].count - 1) / seconds if seconds > 0 else None,
        }
        for role, topic in {**topics.by_role, **further}.items()
    }
    usable = [sample for sample in samples if sample.item.frame is not None]
    reason = why_not_scored(topics, samples)
    problems = Counter(sample.problem for sample in samples if sample.problem)
    frames = [sample.item.usable for sample in usable]
    problems += image_problems([frame.rgb for frame in frames])
    is_posed = any(frame.T_cam_lidar is not None for frame in frames)
    has_scan = any(frame.scan_ns is not None for frame in frames)
    return {
        'bag': str(path),
        'bytes': sum(file.stat().st_size for file in bag_files(path)),
        'seconds': seconds,
        'topics': roles,
        'image': _image_facts(usable[0].item) if usable else {},
        'camera': _camera_facts(frames[0]) if frames else {},
        'lidar': _lidar_facts(usable),
        'sources': _source_facts(usable, options, sources),
        'transform': is_posed if is_posed or has_scan else None,
        'other_cameras': list(topics.cameras),
        'other_topics': listing({n: i for n, i in infos.items() if n not in topics.named}),
        'images': len(samples),
        'problems': {**({lost: len(samples)} if lost else {}), **problems},
        'scorable': not reason,
        'reason': reason,
    }


def _source_facts(
    samples: Sequence[BagSample], options: ReplayOptions, sources: SourcesOfBag | None
) -> dict[str, str]:
    """Return the points in view of each source beside the LiDAR, or why there are none."""
    if sources is None:
        return {}
    found: dict[str, str] = {}
    for item in (sample.item for sample in samples):
        frame = sources.seen(item)
        for one in (one for one in frame.inputs if one is not item.usable.lidar):
            points, why = _points_in_view(replace(frame, inputs=(one,)), options)
            if one.ground is not None:
                found[one.source] = 'its pose is known; the prediction shows where it is in view'
            elif points is None:
                found.setdefault(one.source, why)
            else:
                found[one.source] = f'{len(points)} points in view'
    return found


def image_problems(images: Sequence[np.ndarray]) -> Counter[str]:
    """Count the images that show nothing, or all where none differs from the others."""
    sampled = [sample_pixels(rgb) for rgb in images]
    found = Counter(filter(None, map(why_blind, sampled)))
    several = len(images) > _IMAGES_A_PLACE  # of more than one place of the bag
    if several and not found and all(np.array_equal(one, sampled[0]) for one in sampled):
        found['all of them are equal: has the camera stopped?'] = len(images)
    return found


def _image_facts(item: BagFrame) -> dict[str, Any]:
    height, width = item.usable.rgb.shape[:2]
    message = item.image_message
    return {
        'width': width,
        'height': height,
        'encoding': getattr(message, 'encoding', None) or getattr(message, 'format', ''),
    }


def _camera_facts(frame: Frame) -> dict[str, Any]:
    if frame.camera is None:
        return {}
    fx = float(frame.camera.K[0, 0])
    return {
        'model': frame.camera.distortion_model,
        'fx': fx,
        'horizontal_fov_deg': math.degrees(2 * math.atan(frame.rgb.shape[1] / 2 / fx)),
    }


def _lidar_facts(samples: Sequence[BagSample]) -> dict[str, Any]:
    """Return the means over the images that have points in view; empty without any."""
    seen = [(s.item, s.points) for s in samples if s.points is not None]
    facts = []
    for item, points in seen:
        height, width = item.usable.rgb.shape[:2]
        squares = np.unique(points.v // _SQUARE * width + points.u // _SQUARE)
        scan, stamp = item.usable.points_lidar, item.scan_stamp_ns
        facts.append(
            {
                'points': len(points) if scan is None else len(scan),
                'in_view': len(points),
                'share': len(squares) / (math.ceil(height / _SQUARE) * math.ceil(width / _SQUARE)),
                'first_row': int(points.v.min()),
                'last_row': int(points.v.max()),
                'dt_ms': math.nan if stamp is None else abs(stamp - item.stamp_ns) / 1e6,
            }
        )
    if not facts:
        return {}
    means = {name: float(np.mean([fact[name] for fact in facts])) for name in facts[0]}
    rows = [round(means.pop('first_row')), round(means.pop('last_row'))]
    return {**means, 'rows': rows}
