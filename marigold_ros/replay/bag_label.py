# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write depth into a copy of a bag: one bag of the command ``label``.

A copy appears when it is complete, so a killed run resumes with the copies that are missing.
"""

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
import os
from pathlib import Path

from marigold_ros.bags.frames import BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.storage import bag_files
from marigold_ros.bags.topics import BagTopics
from marigold_ros.config import PointsConfig
from marigold_ros.errors import (
    BagError,
    CalibrationError,
    ConfigurationError,
    count_kind,
    InputError,
)
from marigold_ros.frame import Prediction
from marigold_ros.geometry.blind_image import ImageHealth
from marigold_ros.message_codec import to_rgb
from marigold_ros.models.protocol import DepthModel
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.bag_part import count_warnings
from marigold_ros.replay.executor import Progress
from marigold_ros.replay.recording import DAMAGE, is_same_bag, Recording, SOURCE
from marigold_ros.replay.replay_plan import BagJob, ReplayOptions
from marigold_ros.replay.sources import choose_sources, replayed_frames, SourcesOfBag
from marigold_ros.threads import prefetched


@dataclass(frozen=True)
class LabelOptions:
    """How bags are replayed and which outputs are written into their copies in ``folder``."""

    replay: ReplayOptions
    folder: Path
    points: PointsConfig
    outputs: tuple[str, ...] = ('depth',)

    def target(self, job: BagJob) -> Path:
        """Return the path of the copy of a bag."""
        return self.folder / label_name(job.path)


@dataclass
class Labelled:
    """The result of labelling one bag; ``asdict`` of it goes to the report of the command."""

    bag: str
    out: str
    read: int = 0  # images
    labelled: int = 0  # images with metric depth
    rejected: dict[str, int] = field(default_factory=dict)  # unusable images by cause
    warnings: dict[str, int] = field(default_factory=dict)  # images by warning
    left_out: list[str] = field(default_factory=list)  # topics of types that are not defined
    failed: str = ''  # why the bag could not be read, or not to its end
    kept: bool = False  # whether an earlier run wrote the copy


def label_name(path: Path) -> str:
    """Return the name of a bag's copy: that of the folder, or of the file without suffix."""
    # Path's is_dir raises for a name that is too long.
    return path.resolve().name if os.path.isdir(path) else path.stem


def copy_bytes(path: Path, options: LabelOptions) -> int:
    """Return about how large the copy of a bag gets, from its first image, bytes."""
    with BagReader(path) as reader:
        topic = reader.choose_topics(**options.replay.topics).image
        first = reader.first(topic)
        height, width = (0, 0) if first is None else to_rgb(first).shape[:2]
        images = reader.topics[topic].count
    points = options.points
    per_pixel = {
        'depth': 4.0,
        'uncertainty': 4.0,
        'points': (16 + 4 * points.sigma + 12 * points.normals) / points.stride**2,
    }
    added = images * height * width * sum(per_pixel[name] for name in options.outputs)
    return int(added) + sum(file.stat().st_size for file in bag_files(path))


def check_copies(options: LabelOptions, jobs: Sequence[BagJob]) -> None:
    """Raise ConfigurationError where the bag itself, or the copy of another, has a copy's name."""
    for job in jobs:
        target = options.target(job)
        if is_same_bag(target, job.path):
            raise ConfigurationError(
                f'the copy of {job.path} would take its place; give another --out'
            )
        if not target.exists():
            continue
        with BagReader(job.path) as bag, BagReader(target) as copy:
            source = copy.about.get(SOURCE, bag.contents)
            if source != bag.contents:
                raise ConfigurationError(
                    f'{target} is the copy of another bag than {job.path} ({source}, not '
                    f'{bag.contents}); give another --out'
                )


def label_bag(
    model: DepthModel, options: LabelOptions, job: BagJob, progress: Progress | None = None
) -> Labelled:
    """Write the copy of the readable part of one bag; a task of `executor.BagWorker`."""
    target = options.target(job)
    done = Labelled(str(job.path), str(target), kept=target.exists())
    if done.kept:
        with BagReader(job.path) as bag, BagReader(target) as copy:
            done.failed = copy.about.get(DAMAGE, bag.lost)
        return done
    try:
        _label(model, options, job, done, progress)
    except BagError as error:
        done.failed = str(error)
    return done


def lost_bag(options: LabelOptions, job: BagJob, text: str) -> Labelled:
    """Return the outcome of a bag whose worker was lost."""
    return Labelled(str(job.path), str(options.target(job)), failed=text)


def _label(
    model: DepthModel,
    options: LabelOptions,
    job: BagJob,
    done: Labelled,
    progress: Progress | None,
) -> None:
    replay = options.replay
    pipeline = FramePipeline(model, replay.pipeline)
    pipeline.load_fusion()
    with BagReader(job.path) as reader:
        topics, sources = choose_sources(reader, replay)
    recording = Recording(done.out, job.path, topics, options.points, outputs=options.outputs)
    frames = _predicted(pipeline, job.path, topics, replay, sources)
    if pipeline.finishes_without_model:
        frames = prefetched(frames)
    health = ImageHealth()
    with recording, closing(frames):
        for item, found in frames:
            done.read += 1
            count_warnings(done.warnings, item, health)
            result = None
            try:
                result = pipeline.finish(item.usable, found.result())
                done.labelled += result.metric is not None
                if result.metric is None:
                    count_kind(done.warnings, f'no metric depth: {result.alignment.reason}')
            except (InputError, CalibrationError) as error:
                count_kind(done.rejected, error.cause)
                count_kind(done.warnings, f'rejected: {error}')
            recording.add(item, result)
            if progress:
                progress(done.read)
    done.left_out, done.failed = sorted(recording.left_out), recording.damage


def _predicted(
    pipeline: FramePipeline,
    path: Path,
    topics: BagTopics,
    replay: ReplayOptions,
    sources: SourcesOfBag | None,
) -> Generator[tuple[BagFrame, Future[Prediction]], None, None]:
    """Read and predict the images of a bag; the future of an unusable one has its error."""
    for item in replayed_frames(path, topics, replay):
        found: Future[Prediction] = Future()
        try:
            if sources is not None:
                item = replace(item, frame=sources.seen(item))
            found.set_result(pipeline.predict(item.usable))
        except (InputError, CalibrationError) as error:
            found.set_exception(error)
        yield item, found
