# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scores what a live node published: its recording beside the bag that was played to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import itertools
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.config import NodeConfig, PointsConfig

if TYPE_CHECKING:
    from marigold_ros.bags.reader import BagReader
    from marigold_ros.evaluation.scoring.scorer import Scorer
    from marigold_ros.frame import Alignment, Frame, FrameResult, Prediction
    from marigold_ros.live_run.source import Source
    import numpy as np

FIT_EVERY = 8
_NODE = '/marigold_depth'
_PARTS = {
    f'{_NODE}/relative/image': 'relative',
    f'{_NODE}/depth/image_rect': 'depth',
    f'{_NODE}/alignment': 'alignment',
}
# Outputs of one frame come together; this many younger frames mean that the rest was lost.
_PATIENCE_FRAMES = 3


@dataclass
class Outputs:
    """What the node said about one frame: messages by part."""

    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        if not {'relative', 'alignment'} <= self.parts.keys():
            return False
        return 'depth' in self.parts or self.values['state'] == 'none'

    @property
    def values(self) -> dict[str, str]:
        """The numbers of ``~/alignment``."""
        return {pair.key: pair.value for pair in self.parts['alignment'].status[0].values}


class Recording:
    """Outputs by the stamp of their image, read in the order of the recording."""

    def __init__(self, reader: BagReader) -> None:
        topics = [topic for topic in _PARTS if topic in reader.topics]
        self._messages: Iterator[tuple[str, Any, int]] = reader.messages(topics)
        self._frames: dict[int, Outputs] = {}

    def take(self, stamp_ns: int) -> Outputs | None:
        """Give the outputs of an image, None where some are missing; asked in order of time."""
        from marigold_ros.message_codec import header_ns

        while not self._is_settled(stamp_ns):
            following = next(self._messages, None)
            if following is None:
                break
            topic, message, _ = following
            self._frames.setdefault(header_ns(message), Outputs()).parts[_PARTS[topic]] = message
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
    """Scores, and warnings with their number of frames."""

    scorer: Scorer
    warnings: dict[str, int]


def score_recording(
    source: Source,
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
    source : Source
        The bag that was played; where it was thinned, the recorded depth itself is scored between
        the lines that the node saw, else a fit to every n-th line is made from the recorded
        relative images.
    recording : Path
        What the node published.
    config : NodeConfig
        What the node ran with.
    space : str
        Space of its relative images.
    round_trip_ms : mapping
        Milliseconds from image to last output, by stamp.
    progress : callable
        Told the number of images looked at.

    """
    from marigold_ros.bags.frames import frames
    from marigold_ros.bags.reader import BagReader
    from marigold_ros.evaluation.scoring.scorer import Scorer
    from marigold_ros.frame import Prediction
    from marigold_ros.message_codec import to_depth
    from marigold_ros.pipeline import FramePipeline

    published: list[FrameResult] = []

    def as_published(frame: Frame, prediction: Prediction) -> FrameResult:
        """Give what the node made of the lines that it saw, in place of another fit."""
        return published[-1]

    finish = as_published if source.thinned else FramePipeline(None, config.pipeline).finish
    scorer = Scorer(config.pipeline.alignment, finish, FIT_EVERY)
    scored = Scored(scorer, {})
    with BagReader(source.path) as bag, BagReader(recording) as recorded:
        outputs = Recording(recorded)
        stream = frames(bag, source.topics, config.lidar, source.T_cam_lidar)
        for number, item in enumerate(itertools.islice(stream, source.images), 1):
            progress(number)
            if item.warning:
                scored.warnings[item.warning] = scored.warnings.get(item.warning, 0) + 1
            found = outputs.take(item.stamp_ns)
            if item.frame is None or found is None:
                continue
            alignment = read_alignment(found.values, space)
            relative = _image(found.parts['relative'])
            depth = found.parts.get('depth')
            metric = None if depth is None else to_depth(depth)
            published[:] = [_result(item.frame, relative, metric, alignment, space)]
            scorer.add(
                item.frame,
                Prediction(relative, space=space),
                metric,
                truth=item.truth,
                ring=item.ring,
                alignment=alignment,
                scan_stamp_ns=_scan_stamp_ns(found.values['scan_stamp'], item.scan_stamp_ns),
                timings_ms={'round_trip': round_trip_ms[item.stamp_ns]}
                if item.stamp_ns in round_trip_ms
                else None,
            )
    return scored


def read_alignment(values: Mapping[str, str], space: str) -> Alignment:
    """Read an Alignment, without its images, from the numbers of ``~/alignment``."""
    from marigold_ros.frame import Alignment

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
    """Read the stamp of the scan that was used; the node's text is good to a microsecond."""
    if not seconds:
        return None
    whole, _, fraction = seconds.partition('.')
    stamp_ns = int(whole) * 1_000_000_000 + int(fraction.ljust(9, '0')[:9])
    if expected_ns is not None and abs(expected_ns - stamp_ns) < 1000:
        return expected_ns
    return stamp_ns


def _image(message: Any) -> np.ndarray:
    """Read a relative image, whose zeros are near and not invalid as in a depth image."""
    import numpy as np

    data = np.frombuffer(np.ascontiguousarray(message.data), np.dtype('<f4'))
    return data.reshape(message.height, message.width).copy()


def _result(
    frame: Frame,
    relative: np.ndarray,
    metric: np.ndarray | None,
    alignment: Alignment,
    space: str,
) -> FrameResult:
    from marigold_ros.frame import FrameResult

    return FrameResult(
        relative=relative,
        space=space,
        alignment=alignment,
        metric=metric,
        sigma=None,
        spread=None,
        camera=frame.camera,
        rgb=frame.rgb,
        sparse=None,
        stamp_ns=frame.stamp_ns,
        timings_ms={},
    )


def write_best_cloud(path: Path, scored: Scored) -> int:
    """Write the cloud of the sample with the smallest error; the number of points, 0 for none."""
    from marigold_ros.evaluation.scoring.report_frames import best_for_cloud

    best = best_for_cloud(shown for _, shown in scored.scorer.report_frames)
    if best is None:
        return 0
    assert best.metric is not None
    return write_cloud(path, best.metric, best.K, best.rgb, PointsConfig())


def write_cloud(
    path: Path, depth: np.ndarray, K: np.ndarray | None, rgb: np.ndarray, config: PointsConfig
) -> int:
    """Write depth as a coloured cloud, without what ~/points leaves out; the number of points."""
    from marigold_ros.evaluation.report.cloud import write_ply
    from marigold_ros.geometry.cloud.organised import depth_of_cloud, unproject_depth

    assert K is not None
    kept = depth_of_cloud(depth, depth, K, config)
    return write_ply(path, unproject_depth(kept, K), rgb)


def clear_old(folder: Path) -> None:
    """
    Remove what an earlier run left where this one writes.

    Raises
    ------
    BagError
        If ``recording`` is there and no bag, so somebody else's.

    """
    from marigold_ros.replay.recording import remove_recording

    remove_recording(folder / 'recording')
    names = ('report.html', 'results.json', 'per_frame.csv', 'cloud.ply', 'demo.webp')
    for old in (*(folder / 'pictures').glob('frame_*.png'), *(folder / n for n in names)):
        with suppress(FileNotFoundError):
            old.unlink()
