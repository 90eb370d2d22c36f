# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Score the outputs of a live node: its recording against the bag that was played to it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import itertools
from pathlib import Path
from typing import Any

from marigold_ros.bags.frames import frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import NodeConfig, PointsConfig
from marigold_ros.evaluation.report.cloud import write_ply
from marigold_ros.evaluation.scoring.report_frames import best_for_cloud
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.frame import Alignment, Frame, FrameResult, Prediction
from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth
from marigold_ros.live_run.source import PlayedBag
from marigold_ros.message_codec import header_ns, to_depth
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.recording import NODE, remove_recording
import numpy as np

FIT_EVERY = 8
_PARTS = {
    f'{NODE}/relative/image': 'relative',
    f'{NODE}/depth/image_rect': 'depth',
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
        return {pair.key: pair.value for pair in self.parts['alignment'].status[0].values}


class RecordedOutputs:
    """Published frames by the stamp of their image, read in the order of the recording."""

    def __init__(self, reader: BagReader) -> None:
        topics = [topic for topic in _PARTS if topic in reader.topics]
        self._messages: Iterator[tuple[str, Any, int]] = reader.messages(topics)
        self._frames: dict[int, RecordedFrame] = {}

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
        if stamp_ns in self._frames and self._frames[stamp_ns].complete:
            return True
        order = list(self._frames)
        place = order.index(stamp_ns) if stamp_ns in order else -1
        return len(order) - 1 - place > _PATIENCE_FRAMES


@dataclass(frozen=True)
class Scored:
    """Scores, and warnings with the number of frames that each concerns."""

    scorer: Scorer
    warnings: dict[str, int]


def score_recording(
    source: PlayedBag,
    recording: Path,
    config: NodeConfig,
    space: str,
    round_trip_ms: Mapping[int, float],
    progress: Callable[[int], None],
) -> Scored:
    """
    Score a recording.

    Parameters
    ----------
    source : PlayedBag
        The bag that was played. If it was thinned, the recorded depth is scored between the scan
        lines that the node received, else a fit of the recorded relative images to every n-th.
    recording : Path
        Bag of the node's outputs.
    config : NodeConfig
        Settings of the node.
    space : str
        Space of its relative images.
    round_trip_ms : mapping
        Milliseconds from image to last output, by stamp.
    progress : callable
        Receives the number of images processed so far.

    """
    published: list[FrameResult] = []

    def as_published(_frame: Frame, _prediction: Prediction) -> FrameResult:
        """Return what the node made of its scan lines, in place of another fit."""
        return published[-1]

    model: Any = None  # predictions are recorded
    finish = as_published if source.thinned else FramePipeline(model, config.pipeline).finish
    scorer = Scorer(config.pipeline.alignment, finish, FIT_EVERY)
    scored = Scored(scorer, {})
    with BagReader(source.path) as bag, BagReader(recording) as recorded:
        outputs = RecordedOutputs(recorded)
        stream = frames(bag, source.topics, config.lidar, source.T_cam_lidar)
        for number, item in enumerate(itertools.islice(stream, source.images), 1):
            progress(number)
            if item.warning:
                scored.warnings[item.warning] = scored.warnings.get(item.warning, 0) + 1
            found = outputs.take(item.stamp_ns)
            if item.frame is None or found is None:
                continue
            result = _result(item.frame, found, space)
            published[:] = [result]
            scorer.add(
                item.frame,
                Prediction(result.relative, space=space),
                result.metric,
                truth=item.truth,
                ring=item.ring,
                alignment=result.alignment,
                scan_stamp_ns=_scan_stamp_ns(found.values['scan_stamp'], item.scan_stamp_ns),
                timings_ms={'round_trip': round_trip_ms[item.stamp_ns]}
                if item.stamp_ns in round_trip_ms
                else None,
            )
    return scored


def read_alignment(values: Mapping[str, str], space: str) -> Alignment:
    """Parse an Alignment, without its images, from the values of ``~/alignment``."""
    return Alignment(
        state=values['state'],
        reason=values['reason'],
        scale=float(values['scale']),
        shift=float(values['shift']),
        space=space,
        n_points=int(values['points']),
        n_inliers=int(values['inliers']),
        rms=float(values['rms']),
        condition=float(values['condition']),
        age_ns=round(float(values['age']) * 1e9),
    )


def _scan_stamp_ns(seconds: str, expected_ns: int | None) -> int | None:
    """Parse the stamp of the scan in use; the node's text is good to a microsecond."""
    if not seconds:
        return None
    whole, _, fraction = seconds.partition('.')
    stamp_ns = int(whole) * 1_000_000_000 + int(fraction.ljust(9, '0')[:9])
    if expected_ns is not None and abs(expected_ns - stamp_ns) < 1000:
        return expected_ns
    return stamp_ns


def _result(frame: Frame, recorded: RecordedFrame, space: str) -> FrameResult:
    image, depth = recorded.parts['relative'], recorded.parts.get('depth')
    # Not to_depth: a zero of a relative image is near, not invalid.
    relative = np.frombuffer(np.ascontiguousarray(image.data), np.dtype('<f4'))
    return FrameResult(
        relative=relative.reshape(image.height, image.width).copy(),
        space=space,
        alignment=read_alignment(recorded.values, space),
        metric=None if depth is None else to_depth(depth),
        sigma=None,
        spread=None,
        camera=frame.camera,
        rgb=frame.rgb,
        sparse=None,
        stamp_ns=frame.stamp_ns,
        timings_ms={},
    )


def write_best_cloud(path: Path, scored: Scored) -> int:
    """Write the cloud of the frame with the smallest error; returns its number of points."""
    best = best_for_cloud(shown for _, shown in scored.scorer.report_frames)
    if best is None:
        return 0
    assert best.metric is not None
    return write_cloud(path, best.metric, best.K, best.rgb, PointsConfig())


def write_cloud(
    path: Path, depth: np.ndarray, K: np.ndarray | None, rgb: np.ndarray, config: PointsConfig
) -> int:
    """Write depth as a coloured cloud, filtered as ~/points; returns its number of points."""
    assert K is not None
    kept = depth_of_cloud(depth, depth, K, config)
    return write_ply(path, unproject_depth(kept, K), rgb)


def clear_old(folder: Path) -> None:
    """
    Remove the results of an earlier run from a folder.

    Raises
    ------
    BagError
        If ``recording`` exists and is not a bag, so somebody else's.

    """
    remove_recording(folder / 'recording')
    names = ('report.html', 'results.json', 'per_frame.csv', 'cloud.ply', 'demo.webp')
    for old in (*(folder / 'pictures').glob('frame_*.png'), *(folder / n for n in names)):
        with suppress(FileNotFoundError):
            old.unlink()
