# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Plays one bag, or one folder of images, through the pipeline of each model, and scores it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.bags.frames import BagFrame, frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.evaluation.corruptions import (
    corrupt,
    depth_of_relative,
    depth_of_truth,
    is_dense,
)
from marigold_ros.evaluation.results.results import describe_bag
from marigold_ros.frame import FrameResult
from marigold_ros.replay.bag_part import BagJob, BagPart, ReplayOptions
from marigold_ros.replay.model_scorers import empty_scores, Models, Players
from marigold_ros.replay.recording import Recording
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.models.benchmarks.measuring import PeakMemory


def replay(
    models: Models,
    options: ReplayOptions,
    job: BagJob,
    tell: Callable[[int], None] | None = None,
) -> BagPart:
    """Score one bag, as far as it can be read; ``tell`` is told the images done."""
    run = _Run(models, options, job.corruption)
    memory = _watch_memory(models.main)
    try:
        run.play(job, tell)
    except BagError as error:  # what was read before the damage is worth its score
        run.part.failed[str(job.path)] = str(error)
    run.part.peak_bytes = memory.read()
    if job.corruption:
        for scorer in (run.part.scorer, *run.part.rivals.values()):
            scorer.forget_report_frames()
    return run.part


def lost_part(options: ReplayOptions, job: BagJob, text: str) -> BagPart:
    """Make what stands for a bag that could not be worked on."""
    return BagPart(empty_scores(options), failed={str(job.path): text})


def _watch_memory(model: Any) -> PeakMemory:
    """Note the highest use of memory from now on, where the model is."""
    from marigold_ros.models.benchmarks.measuring import PeakMemory
    import torch

    return PeakMemory(getattr(model, 'device', torch.device('cpu')))


@dataclass(frozen=True)
class _Input:
    """A bag or folder: what it is, what is read of it, its frames, and where outputs go if any."""

    facts: dict[str, Any]
    by_role: dict[str, str | None]
    stream: Iterator[BagFrame]
    recording: Recording | None = None


@contextmanager
def _open_input(job: BagJob, options: ReplayOptions) -> Iterator[_Input]:
    with ExitStack() as stack:
        if options.images is not None:
            from marigold_ros.replay.image_sets import ImageSet

            images = ImageSet(job.path, options.images)
            stream = stack.enter_context(closing(_ahead(images.frames())))
            yield _Input(images.describe(), images.by_role, stream)
            return
        with BagReader(job.path) as reader:
            chosen = reader.choose_topics(**options.topics)
        recording = None
        if options.record is not None and job.corruption is None:
            recording = options.record.bag(job.number, job.path, chosen)
            stack.enter_context(recording)
        stream = stack.enter_context(closing(_ahead(_frames(job.path, chosen, options))))
        yield _Input(describe_bag(job.path), chosen.by_role, stream, recording)


def _frames(
    path: Path, chosen: BagTopics, options: ReplayOptions
) -> Generator[BagFrame, None, None]:
    with BagReader(path) as reader:
        lidar = options.lidar, options.T_cam_lidar, options.stamps
        yield from frames(reader, chosen, *lidar)


def _ahead(items: Generator[BagFrame, None, None]) -> Generator[BagFrame, None, None]:
    """
    Read and decode the next image on another core while this one is worked on.

    The iterator lives in one thread from its beginning to its end, as SQLite asks for.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            coming = thread.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = thread.submit(next, items, None)
                yield item
        finally:
            thread.submit(items.close)


class _Run:
    """The replay of one bag."""

    def __init__(
        self, models: Models, options: ReplayOptions, corruption: tuple[str, int] | None = None
    ) -> None:
        self._options, self._corruption = options, corruption
        self._players = Players(models, options, corrupted=corruption is not None)
        self.part = self._players.part()

    def play(self, job: BagJob, tell: Callable[[int], None] | None) -> None:
        """Run the bag up to its end, its damage (BagError) or the job's limit."""
        start = perf_counter()
        stamps: list[int] = []
        try:
            self._play(job, tell, stamps)
        finally:
            self.part.wall_s = perf_counter() - start
            self.part.calibration = self._players.main.pipeline.calibration
            if len(stamps) > 1:
                length_ns = (max(stamps) - min(stamps)) * len(stamps) / (len(stamps) - 1)
                self.part.recorded_s = length_ns / 1e9

    def _play(self, job: BagJob, tell: Callable[[int], None] | None, stamps: list[int]) -> None:
        part = self.part
        with _open_input(job, self._options) as source:
            part.bags.append(source.facts)
            part.topics = source.by_role
            start = perf_counter()
            for item in source.stream:
                part.read += 1
                stamps.append(item.stamp_ns)
                result = self._process(item, 1e3 * (perf_counter() - start))
                if source.recording is not None:
                    source.recording.add(item, result)
                if tell:
                    tell(part.read)
                if part.read == job.limit:
                    break
                start = perf_counter()

    def _process(self, item: BagFrame, read_ms: float) -> FrameResult | None:
        """Score one image; gives what the pipeline made of it, None where it was rejected."""
        if self._options.images is not None:
            self._players.reset()  # they are no sequence
        if item.warning:
            self.part.warn(item.warning)
        if item.frame is None:
            self._reject(item.error or InputError('the image cannot be read'))
            return None
        try:
            return self._players.play(self._corrupted(item), read_ms)
        except (InputError, CalibrationError) as error:
            self._reject(error)
            return None

    def _corrupted(self, item: BagFrame) -> BagFrame:
        """Give the frame with its image as the corruption makes it."""
        if self._corruption is None or item.frame is None:
            return item
        kind, strength = self._corruption
        depth, rgb = None, item.frame.rgb
        if kind == 'fog' and item.truth is not None and is_dense(item.truth):
            depth = depth_of_truth(item.truth)
        elif kind == 'fog':
            clean = self._players.main.predict_image(rgb)
            depth = depth_of_relative(clean.relative, clean.space)
        rng = np.random.default_rng((self.part.read, *kind.encode()))
        corrupted = corrupt(rgb, kind, strength, rng, depth)
        return replace(item, frame=replace(item.frame, rgb=corrupted))

    def _reject(self, error: Exception) -> None:
        cause = error.cause if isinstance(error, InputError) else 'calibration'
        self.part.reject(cause, str(error))
