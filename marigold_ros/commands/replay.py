# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Plays bags through the pipeline, frame by frame and without ROS, and scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.bags.reader import BagFrame, BagReader, frames
from marigold_ros.commands.bag_part import BagJob, BagPart, ReplayOptions
from marigold_ros.commands.bag_plan import look_ahead, spoilt_jobs
from marigold_ros.commands.crew import Crew, processes
from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.evaluation.corruptions import (
    corrupt,
    depth_of_relative,
    depth_of_truth,
    is_dense,
)
from marigold_ros.evaluation.report import write_all
from marigold_ros.evaluation.results import assemble, describe, describe_bag
from marigold_ros.evaluation.robustness import robustness
from marigold_ros.evaluation.scoring import Scorer
from marigold_ros.frame import Frame
from marigold_ros.pipeline import FramePipeline
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.commands.picture_sets import PictureChoice

Progress = Callable[[int, int], None]


def evaluate_bag(
    bags: str | Path | Sequence[str | Path],
    model: Any = None,
    config: PipelineConfig | None = None,
    lidar: LidarConfig | None = None,
    out: str | Path | None = None,
    *,
    topics: Mapping[str, str | None] | None = None,
    T_cam_lidar: np.ndarray | None = None,
    fit_every: int = 8,
    held_out: str = 'rings',
    stamps: str = 'header',
    corruptions: Sequence[str] = (),
    pictures: PictureChoice | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
    crew: Crew | None = None,
) -> dict[str, Any]:
    """
    Run the pipeline over every picture of one or several bags and score it.

    Parameters
    ----------
    bags : path or sequence of paths
        Bags of one camera; they are streamed, the pipeline reset between them.
    model : object or None
        As ``load_model`` returns it; None where a ``crew`` has its own.
    config, lidar : PipelineConfig, LidarConfig or None
        Settings; None is the defaults.
    out : path or None
        Folder for results.json, per_frame.csv, report.html and pictures; None writes nothing.
    topics : mapping or None
        Names for ``image``, ``camera_info``, ``lidar`` and ``truth``; what is not given is found.
    T_cam_lidar : (4, 4) float or None
        Extrinsics; None takes them from the bag's /tf_static.
    fit_every, held_out : int, {'rings', 'azimuth'}
        Every n-th scan line, or block of azimuth, is for the fit of protocol ``heldout``.
    stamps : {'header', 'log'}
        Whether header stamps pair pictures and scans, or the times of recording.
    corruptions : sequence of str
        Kinds of corruption: every bag is replayed again at each of their strengths.
    pictures : PictureChoice or None
        Which pictures of folders or tars to take, in place of bags.
    limit : int or None
        Stop after that many pictures in all.
    progress : callable or None
        Called with the pictures done and their expected number.
    crew : callable or None
        Who else does the work, such as `marigold_ros.commands.crew.processes`; None does it here.

    Returns
    -------
    dict
        What results.json holds.

    Raises
    ------
    BagError
        If a bag is missing, unreadable or damaged, lacks pictures or a named topic, or no picture
        can be used. What could be scored of the bags is written to ``out`` before.

    """
    paths = [Path(bag) for bag in ([bags] if isinstance(bags, (str, Path)) else bags)]
    config, lidar, given = config or PipelineConfig(), lidar or LidarConfig(), dict(topics or {})
    split = fit_every, held_out
    options = ReplayOptions(config, lidar, given, T_cam_lidar, *split, stamps, pictures)
    plan = look_ahead(paths, given, limit, pictures)
    jobs = [*plan.jobs, *spoilt_jobs(plan.jobs, corruptions)]
    expected = plan.pictures * len(jobs) // max(len(plan.jobs), 1)
    tell = None if progress is None else partial(_tell, progress, expected)
    crew = crew or processes(replay, lambda: model, tell=tell)
    runs: dict[tuple[str, int] | None, BagPart] = {}
    with crew(options, jobs) as parts:
        for job, part in zip(jobs, parts, strict=True):
            empty = BagPart(Scorer(config.alignment, None, *split))
            runs.setdefault(job.corruption, empty).add(part)
            if part.failed and out is None:
                break
    total = runs.pop(None)
    total.failed = {**plan.failed, **total.failed}
    failure = total.failure(paths, out)
    if failure is not None and (out is None or not total.scorer.rows):
        raise failure
    for text in total.failed.values():
        total.warn(text)
    results = _results(total, options, limit)
    if runs:
        spoilt = {key: run.scorer.results()['protocols'] for key, run in runs.items() if key}
        results['robustness'] = robustness(results['protocols'], spoilt)
    if out is not None:
        title = f'Depth on {", ".join(p.resolve().name for p in paths)}'
        write_all(out, results, total.scorer, title, _intro(results))
    if failure is not None:
        raise failure
    return results


def _tell(progress: Progress, expected: int, done: int) -> None:
    progress(done, expected)


def replay(
    model: Any,
    options: ReplayOptions,
    job: BagJob,
    tell: Callable[[int], None] | None = None,
) -> BagPart:
    """Score one bag, as far as it can be read; ``tell`` is told the pictures done."""
    run = _Run(model, options, job.corruption)
    try:
        run.play(job, tell)
    except BagError as error:  # what was read before the damage is worth its score
        run.part.failed[str(job.path)] = str(error)
    if job.corruption:
        run.part.scorer.forget_samples()
    return run.part


@contextmanager
def _open_input(
    path: Path, options: ReplayOptions
) -> Iterator[tuple[dict[str, Any], dict[str, str | None], Iterator[BagFrame]]]:
    """Open a bag, or a folder of pictures: what it is, what is read of it, and its frames."""
    if options.pictures is not None:
        from marigold_ros.commands.picture_sets import PictureSet

        pictures = PictureSet(path, options.pictures)
        yield pictures.describe(), pictures.by_role, pictures.frames()
        return
    with BagReader(path) as reader:
        chosen = reader.choose_topics(**options.topics)
        stream = frames(reader, chosen, options.lidar, options.T_cam_lidar, options.stamps)
        yield describe_bag(path), chosen.by_role, stream


class _Run:
    """The replay of one bag."""

    def __init__(
        self, model: Any, options: ReplayOptions, corruption: tuple[str, int] | None = None
    ) -> None:
        self._options, self._corruption = options, corruption
        config = options.config
        self._pipeline = FramePipeline(model, config)
        # A pipeline of its own: fits to few lines must not be held over into the published depth.
        self._heldout = FramePipeline(model, config)
        split = options.fit_every, options.held_out
        self._scorer = Scorer(config.alignment, self._heldout.finish, *split)
        self.part = BagPart(self._scorer, checkpoint=dict(model.description))

    def play(self, job: BagJob, tell: Callable[[int], None] | None) -> None:
        """Run the bag up to its end, its damage (BagError) or the job's limit."""
        start = perf_counter()
        stamps: list[int] = []
        try:
            self._play(job, tell, stamps)
        finally:
            self.part.wall_s = perf_counter() - start
            self.part.calibration = self._pipeline.calibration
            if len(stamps) > 1:
                length_ns = (max(stamps) - min(stamps)) * len(stamps) / (len(stamps) - 1)
                self.part.recorded_s = length_ns / 1e9

    def _play(self, job: BagJob, tell: Callable[[int], None] | None, stamps: list[int]) -> None:
        part = self.part
        with _open_input(job.path, self._options) as (facts, part.topics, stream):
            part.bags.append(facts)
            for item in stream:
                part.read += 1
                stamps.append(item.stamp_ns)
                self._process(item)
                if tell:
                    tell(part.read)
                if part.read == job.limit:
                    break

    def _process(self, item: BagFrame) -> None:
        if self._options.pictures is not None:  # they are no sequence
            self._pipeline.reset()
            self._heldout.reset()
        if item.warning:
            self.part.warn(item.warning)
        if item.frame is None:
            self._reject(item.error or InputError('the picture cannot be read'))
            return
        try:
            frame = self._spoilt(item)
            prediction = self._pipeline.predict(frame)
            result = self._pipeline.finish(frame, prediction)
        except (InputError, CalibrationError) as error:
            self._reject(error)
            return
        self._scorer.add(
            frame,
            prediction,
            result.metric,
            truth=item.truth,
            ring=item.ring,
            alignment=result.alignment,
            scan_stamp_ns=item.scan_stamp_ns,
            timings_ms=result.timings_ms,
        )

    def _spoilt(self, item: BagFrame) -> Frame:
        """Give the frame with its picture as the corruption makes it."""
        assert item.frame is not None
        if self._corruption is None:
            return item.frame
        kind, strength = self._corruption
        depth, rgb = None, item.frame.rgb
        if kind == 'fog' and item.truth is not None and is_dense(item.truth):
            depth = depth_of_truth(item.truth)
        elif kind == 'fog':
            clean = self._pipeline.model.predict(rgb, **self._options.config.prediction)
            depth = depth_of_relative(clean.relative, clean.space)
        rng = np.random.default_rng((self.part.read, *kind.encode()))
        return replace(item.frame, rgb=corrupt(rgb, kind, strength, rng, depth))

    def _reject(self, error: Exception) -> None:
        cause = error.cause if isinstance(error, InputError) else 'calibration'
        self.part.reject(cause, str(error))


def _results(total: BagPart, options: ReplayOptions, limit: int | None) -> dict[str, Any]:
    """Put what was accumulated into the shape of results.json."""
    provenance = describe(
        (),
        total.topics,
        total.checkpoint,
        options.config,
        options.lidar,
        mode='offline replay, every picture, unlimited wait for the scan',
        limit=limit,
        stamps=options.stamps,
        extrinsics='/tf_static of the bag' if options.T_cam_lidar is None else 'given',
        warnings=total.warnings,
    )
    provenance['bags'] = total.bags
    results = assemble(
        total.scorer,
        read=total.read,
        dropped=0,
        rejected=total.rejected,
        rate=total.rate,
        provenance=provenance,
    )
    found = total.calibration
    results['calibration'] = {'text': found.text, **asdict(found)}
    return results


def _intro(results: Mapping[str, Any]) -> str:
    checkpoint = results['provenance']['checkpoint'].get('name', 'model')
    text = f'Checkpoint {checkpoint}, replayed offline.'
    rate = results['rate']
    if rate:
        text += f' It took {1 / rate:.2f} s of work, scoring included, for a second of recording.'
    return text
