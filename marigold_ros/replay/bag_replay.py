# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Replay one bag, or one folder of images, through the pipeline of each model, and score it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from time import perf_counter
from typing import Any

from marigold_ros.bags.frames import BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import PointsConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.evaluation.corruptions import (
    corrupt,
    depth_of_relative,
    depth_of_truth,
    is_dense,
)
from marigold_ros.evaluation.results.results import describe_bag
from marigold_ros.evaluation.scoring.scorer import Finish, Scorer
from marigold_ros.frame import Frame, FrameResult, Prediction
from marigold_ros.geometry.stream import StreamState
from marigold_ros.image_sets.image_set import ImageSet
from marigold_ros.models.protocol import DepthModel
from marigold_ros.pairing import LEAP_NS
from marigold_ros.pipeline import FramePipeline
from marigold_ros.processes import Stopped
from marigold_ros.replay.bag_part import BagPart, count_warnings, read_part
from marigold_ros.replay.executor import Progress
from marigold_ros.replay.recording import Recording
from marigold_ros.replay.replay_plan import BagJob, ReplayOptions
from marigold_ros.replay.rerun_file import RerunFile
from marigold_ros.replay.sources import choose_sources, replayed_frames, SourcesOfBag
from marigold_ros.replay.stored_values import write_values
from marigold_ros.threads import prefetched
import numpy as np

KEEP_EVERY_S = 30.0  # seconds between writings of what a begun bag has so far
# Images with nothing beside them; later ones are scored beside the next. They are timed, but for
# the first of a run, which waits for what is compiled or read on its way.
TIMED = 60
# Columns of a row of the evaluated model that are added for each compared model.
_SHARED = (
    *('heldout_abs_rel', 'truth_abs_rel', 'oracle_abs_rel', 'raw_abs_rel'),
    *('heldout_global_abs_rel', 'truth_global_abs_rel', 'total_ms'),
)


@dataclass(frozen=True)
class Models:
    """The evaluated model, and the compared models by name."""

    main: Any
    compared: Mapping[str, Any] = field(default_factory=dict)


def empty_scorer(
    options: ReplayOptions, baselines: bool = True, finish: Finish | None = None
) -> Scorer:
    """Return a scorer without frames; see `Scorer`."""
    return Scorer(
        options.pipeline.alignment,
        finish,
        options.fit_every,
        options.held_out,
        oracle=options.oracle,
        baselines=baselines,
    )


class ModelScorer:
    """Scores one model, and ``baselines``, the same for all models, on the frames of one bag."""

    def __init__(self, model: DepthModel, options: ReplayOptions, baselines: bool = True) -> None:
        self.pipeline = FramePipeline(model, options.pipeline)
        # A pipeline of its own: fits to few lines must not be held over into the published depth.
        self._heldout = FramePipeline(model, options.pipeline)
        self.scorer = empty_scorer(options, baselines, self._heldout.finish)
        self.checkpoint = self.pipeline.checkpoint  # without its network the run stops here

    def reset(self) -> None:
        """Forget the frames so far, as between images that are no sequence."""
        self.pipeline.reset()
        self._heldout.reset()

    @property
    def streams(self) -> list[StreamState]:
        """What the frames so far leave to the next, in each of the pipelines."""
        return [self.pipeline.state, self._heldout.state]

    def go_on(self, scorer: Scorer, streams: Sequence[StreamState]) -> None:
        """Go on after the frames that a ``scorer`` has, with the :attr:`streams` they left."""
        self.scorer = scorer
        scorer.go_on(self._heldout.finish)
        self.pipeline.state, self._heldout.state = streams

    def score(
        self,
        item: BagFrame,
        prediction: Prediction,
        result: FrameResult,
        compared: Mapping[str, Prediction] | None = None,
    ) -> dict[str, Any]:
        """
        Score a frame's result; return the scores.

        ``compared`` are predictions of other models, by name, for the report. Raises InputError or
        CalibrationError if the frame is unusable; it is not scored then.
        """
        start = perf_counter()
        row = self.scorer.add(item, prediction, result, compared)
        if result.timings_ms:
            self.scorer.time('score', 1e3 * (perf_counter() - start))
        return row


def replay(
    models: Models, options: ReplayOptions, job: BagJob, progress: Progress | None = None
) -> BagPart:
    """Score the readable part of one bag; ``progress`` is called with the images done."""
    from marigold_ros.models.runtime.usage import PeakMemory
    import torch

    run = _Run(models, options, job)
    memory = PeakMemory(getattr(models.main, 'device', torch.device('cpu')))
    try:
        run.replay(progress)
    except BagError as error:  # the part before the damage is scored
        run.part.failed[str(job.path)] = str(error)
    run.part.peak_bytes = memory.read()
    if job.corruption:
        for scorer in (run.part.scorer, *run.part.compared.values()):
            scorer.forget_report_frames()
    return run.part


def lost_part(options: ReplayOptions, job: BagJob, text: str) -> BagPart:
    """Return the empty part of a bag whose worker was lost."""
    return BagPart(empty_scorer(options), failed={str(job.path): text})


@dataclass(frozen=True)
class _Input:
    """A bag or folder: its description, its topics, its frames and their recordings if any."""

    facts: dict[str, Any]
    by_role: dict[str, str | None]
    stream: Iterator[BagFrame]
    sources: SourcesOfBag | None = None
    recording: Recording | None = None
    rerun: RerunFile | None = None


@contextmanager
def _open_input(job: BagJob, options: ReplayOptions) -> Iterator[_Input]:
    points = options.record or PointsConfig()
    with ExitStack() as stack:
        rerun = recording = sources = None
        if job.rerun is not None:
            rerun = stack.enter_context(RerunFile(job.rerun, points))
        if options.images is not None:
            images = ImageSet(job.path, options.images)
            facts, by_role, frames = images.describe(), images.by_role, images.frames()
        else:
            with BagReader(job.path) as reader:
                topics, sources = choose_sources(reader, options)
                facts = {**describe_bag(job.path), 'images': reader.topics[topics.image].count}
            by_role, frames = topics.by_role, replayed_frames(job.path, topics, options)
            if job.recording is not None:
                opened = Recording(job.recording, job.path, topics, points, options.excerpt)
                recording = stack.enter_context(opened)
        stream = stack.enter_context(closing(prefetched(frames)))
        yield _Input(facts, by_role, stream, sources, recording, rerun)


@dataclass(frozen=True)
class _Finished:
    """
    A frame that awaits its scores: what the models made of it.

    ``frame`` is what the pipelines saw; ``reasons`` say why other models have no prediction;
    ``read_ms`` is None if the frame is not timed.
    """

    item: BagFrame
    frame: Frame
    prediction: Prediction
    result: FrameResult
    others: Mapping[str, Prediction]
    reasons: dict[str, str]
    read_ms: float | None

    def timed(self, result: FrameResult) -> FrameResult:
        """Return a result of the frame, without times if something ran beside."""
        return result if self.read_ms is not None else replace(result, timings_ms={})


@dataclass(frozen=True)
class _Scoring:
    """An image, the n-th read; its result and, once known, its scores, unless it was rejected."""

    item: BagFrame
    number: int
    finished: _Finished | None = None
    row: Future[dict[str, Any]] | None = None


class _Run:
    """The replay of one bag by the evaluated model and the compared ones."""

    def __init__(self, models: Models, options: ReplayOptions, job: BagJob) -> None:
        self._options, self._job = options, job
        # Baselines do not see the image, so corruption does not change them.
        self._main = ModelScorer(models.main, options, baselines=job.corruption is None)
        self._compared = {
            name: ModelScorer(model, options, baselines=False)
            for name, model in models.compared.items()
        }
        self.part = BagPart(
            self._main.scorer,
            checkpoint=self._main.checkpoint,
            compared={name: other.scorer for name, other in self._compared.items()},
            compared_checkpoints={name: o.checkpoint for name, o in self._compared.items()},
        )
        self._all = [self._main, *self._compared.values()]
        self._scoring: _Scoring | None = None

    def replay(self, progress: Progress | None) -> None:
        """
        Replay the bag up to its end, its damage (BagError) or the job's limit.

        A Stopped that ``progress`` raises passes; what is scored by then is in the job's file.
        """
        self._go_on()
        self._began = perf_counter() - self.part.wall_s
        try:
            self._replay(progress)
        except Stopped:
            self._scored()
            self._keep()
            raise
        finally:
            self._measure()

    def _measure(self) -> None:
        """Note what is known once there are no more images."""
        part, steps_ns = self.part, np.diff(self.part.stamps_ns)
        part.wall_s = perf_counter() - self._began
        part.calibration = self._main.pipeline.calibration
        if len(steps_ns):  # without jumps of the clock
            kept = (steps_ns >= 0) & (steps_ns <= LEAP_NS + np.median(steps_ns))
            step_s = steps_ns[kept].sum() / max(kept.sum(), 1) / 1e9
            part.recorded_s = float(step_s * len(part.stamps_ns))

    def _go_on(self) -> None:
        """Take over what a stopped replay of this bag kept."""
        begun = None if self._job.begun is None else read_part(self._job.begun)
        if begun is None or not begun.streams:
            return
        begun.check_checkpoint(self.part)
        self.part = replace(begun, streams=[])
        scorers = self.part.scorer, *self.part.compared.values()
        for one, scorer, streams in zip(self._all, scorers, begun.streams, strict=True):
            one.go_on(scorer, streams)

    def _keep(self) -> None:
        """Keep what is scored so far."""
        if self._job.begun is None:
            return
        self._measure()
        options = self._options
        # A recording is written in one go, and a latent of the last frame is the model's own.
        whole = options.record or options.rerun or options.pipeline.engine.warm_start
        streams = [] if whole else [one.streams for one in self._all]
        write_values(self._job.begun, replace(self.part, streams=streams))

    def _replay(self, progress: Progress | None) -> None:
        part, kept_at = self.part, perf_counter()
        with (
            _open_input(self._job, self._options) as bag,
            ThreadPoolExecutor(1, 'score') as thread,
        ):
            part.bags, part.topics = [bag.facts], bag.by_role
            if bag.sources is not None and not bag.sources.has_lidar:
                for scorer in self._all:
                    scorer.scorer.score_whole_scans()
            try:
                first, start = part.read + 1, perf_counter()
                for item in islice(bag.stream, part.read, self._options.limit):
                    part.read += 1
                    part.stamps_ns.append(item.stamp_ns)
                    beside = part.read > TIMED and self._may_score_beside
                    timed = not beside and part.read > first
                    read_ms = 1e3 * (perf_counter() - start) if timed else None
                    finished = self._finish(item, read_ms, bag.sources)
                    last = self._scored()
                    row = None if finished is None else thread.submit(self._score, finished)
                    self._scoring = _Scoring(item, part.read, finished, row)
                    self._report(last, bag, progress)
                    is_due = perf_counter() - kept_at > KEEP_EVERY_S
                    if is_due or not beside:
                        self._report(self._scored(), bag, progress)
                    if is_due:
                        self._keep()
                        kept_at = perf_counter()
                    start = perf_counter()
            except BagError:  # what was read before counts
                self._report(self._scored(), bag, progress)
                raise
            self._report(self._scored(), bag, progress)

    def _finish(
        self, item: BagFrame, read_ms: float | None, sources: SourcesOfBag | None
    ) -> _Finished | None:
        """Predict an image by all models and align it by the evaluated one; None if rejected."""
        if self._options.images is not None:  # they are no sequence
            for scorer in self._all:
                scorer.reset()
        count_warnings(self.part.warnings, item, self.part.image_health)
        try:
            item = self._corrupted(item)
            frame = item.usable if sources is None else sources.seen(item)
            prediction = self._main.pipeline.predict(frame)
            others, reasons = self._predict_compared(frame)
            if sources is not None and sources.has_lidar:
                item = replace(item, frame=frame)  # what scan lines that are held out miss
            result = self._main.pipeline.finish(frame, prediction)
        except (InputError, CalibrationError) as error:
            self.part.reject(error.cause, str(error))
            return None
        return _Finished(item, frame, prediction, result, others, reasons, read_ms)

    @property
    def _may_score_beside(self) -> bool:
        """Whether scoring an image leaves alone what the next one needs."""
        free = all(one.pipeline.finishes_without_model for one in self._all)
        return free and self._options.images is None

    def _score(self, finished: _Finished) -> dict[str, Any]:
        """Score an image by all models; errors as of `ModelScorer.score`."""
        item, prediction, others = finished.item, finished.prediction, finished.others
        row = self._main.score(item, prediction, finished.timed(finished.result), others)
        if finished.read_ms is not None:
            self._main.scorer.time('read', finished.read_ms)
        reasons = dict(finished.reasons)
        for name, other_prediction in others.items():
            other = self._compared[name]
            try:
                result = other.pipeline.finish(finished.frame, other_prediction)
                found = other.score(item, other_prediction, finished.timed(result))
            except (InputError, CalibrationError) as error:
                reasons[name] = str(error)
                continue
            row.update({f'{name}:{key}': found[key] for key in _SHARED if key in found})
        row.update({f'{name}:reason': text for name, text in reasons.items()})
        return row

    def _scored(self) -> _Scoring | None:
        """Return the last image, once it is scored or rejected; None if it was returned before."""
        scoring, self._scoring = self._scoring, None
        if scoring is None or scoring.row is None:
            return scoring
        try:
            scoring.row.result()
        except (InputError, CalibrationError) as error:
            self.part.reject(error.cause, str(error))
            return replace(scoring, finished=None, row=None)
        return scoring

    def _report(self, scored: _Scoring | None, bag: _Input, progress: Progress | None) -> None:
        """Record an image that is scored, and say so; `Stopped` of ``progress`` passes."""
        if scored is None:
            return
        result = None if scored.finished is None else scored.finished.result
        if bag.recording is not None:
            seen = None if scored.finished is None else scored.finished.frame
            bag.recording.add(replace(scored.item, frame=seen), result)
        if bag.rerun is not None and result is not None and scored.row is not None:
            bag.rerun.add(result, scored.row.result())
        if progress:
            progress(scored.number)

    def _predict_compared(self, frame: Frame) -> tuple[dict[str, Prediction], dict[str, str]]:
        """Return the predictions of the compared models, and why others have none."""
        found, reasons = {}, {}
        for name, other in self._compared.items():
            try:
                found[name] = other.pipeline.predict(frame)
            except (InputError, CalibrationError) as error:
                reasons[name] = str(error)
        return found, reasons

    def _corrupted(self, item: BagFrame) -> BagFrame:
        """Return the frame with its image corrupted as the job says."""
        if self._job.corruption is None:
            return item
        kind, strength = self._job.corruption
        depth, rgb = None, item.usable.rgb
        if kind == 'fog' and item.truth is not None and is_dense(item.truth):
            depth = depth_of_truth(item.truth)
        elif kind == 'fog':
            pipeline = self._main.pipeline
            clean = pipeline.model.predict(rgb, **pipeline.config.prediction)
            depth = depth_of_relative(clean.relative, clean.space)
        rng = np.random.default_rng((self.part.read, *kind.encode()))
        corrupted = corrupt(rgb, kind, strength, rng, depth)
        return replace(item, frame=replace(item.usable, rgb=corrupted))
