# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Writes depth into a copy of a bag: one bag of the command ``label``.

The copy appears once it is complete, so one that is there is finished: this is all that a killed
run needs to go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from marigold_ros.bags.frames import frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import PointsConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.bag_part import BagJob, ReplayOptions
from marigold_ros.replay.recording import Recording


@dataclass(frozen=True)
class LabelOptions:
    """How bags are read and what goes into their copies below ``folder``."""

    replay: ReplayOptions
    folder: Path
    points: PointsConfig
    outputs: tuple[str, ...] = ('depth',)

    def target(self, job: BagJob) -> Path:
        """Where the copy of a bag goes."""
        return self.folder / label_name(job.path)


@dataclass
class Labelled:
    """
    What was written into the copy of one bag.

    Parameters
    ----------
    bag, out : str
        The bag, and its copy.
    read, labelled : int
        Images that came, and those that have depth in metres.
    rejected, warnings : dict of str to int
        Unusable images by cause; what else is amiss, with its number of images.
    left_out : list of str
        Topics of types that the bag does not define.
    failed : str
        Why the bag could not be read, or not to its end.
    kept : bool
        Whether an earlier run wrote it.

    """

    bag: str
    out: str
    read: int = 0
    labelled: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failed: str = ''
    kept: bool = False

    def facts(self) -> dict[str, Any]:
        """Give all of it for JSON."""
        return asdict(self)

    def count(self, kind: str, text: str) -> None:
        """Count under ``rejected`` or ``warnings``."""
        counts = getattr(self, kind)
        counts[text] = counts.get(text, 0) + 1


def label_name(path: Path) -> str:
    """Name the copy of a bag: as the folder, or the file without its ending."""
    return path.resolve().name if path.is_dir() else path.resolve().stem


def label_bag(
    model: Any,
    options: LabelOptions,
    job: BagJob,
    tell: Callable[[int], None] | None = None,
) -> Labelled:
    """Write one bag's copy; up to its damage where it has one. See `executor.Work`."""
    target = options.target(job)
    done = Labelled(str(job.path), str(target))
    if target.exists():
        done.kept = True
        return done
    try:
        _label(model, options, job, done, tell)
    except BagError as error:
        done.failed = str(error)
    return done


def lost_bag(options: LabelOptions, job: BagJob, text: str) -> Labelled:
    """Make what stands for a bag that could not be worked on."""
    return Labelled(str(job.path), str(options.target(job)), failed=text)


def _label(
    model: Any,
    options: LabelOptions,
    job: BagJob,
    done: Labelled,
    tell: Callable[[int], None] | None,
) -> None:
    replay = options.replay
    pipeline = FramePipeline(model, replay.config)
    with BagReader(job.path) as reader:
        topics = reader.choose_topics(**replay.topics)
        recording = Recording(
            options.target(job), job.path, topics, options.points, options.outputs, everything=True
        )
        with recording:
            for item in frames(reader, topics, replay.lidar, replay.T_cam_lidar, replay.stamps):
                done.read += 1
                if item.warning:
                    done.count('warnings', item.warning)
                result = None
                try:
                    if item.frame is None:
                        raise item.error or InputError('the image cannot be read')
                    result = pipeline.process(item.frame)
                    done.labelled += result.metric is not None
                    if result.metric is None:
                        done.count('warnings', f'no metric depth: {result.alignment.reason}')
                except (InputError, CalibrationError) as error:
                    done.count('rejected', getattr(error, 'cause', 'calibration'))
                recording.add(item, result)
                if tell:
                    tell(done.read)
        done.left_out = sorted(recording.left_out)
