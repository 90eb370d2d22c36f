# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Plays bags through the pipeline, frame by frame and without ROS, and scores them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.bags.reader import BagFrame, BagReader, BagTopics, frames
from marigold_ros.commands.bag_part import BagJob, BagPart, ReplayOptions
from marigold_ros.commands.bag_plan import look_ahead
from marigold_ros.commands.crew import Crew, processes
from marigold_ros.commands.players import empty_scores, Models, Players, rival_results
from marigold_ros.commands.recording import RecordTo
from marigold_ros.config import LidarConfig, PipelineConfig, PointsConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.evaluation.report import write_all
from marigold_ros.evaluation.results import assemble, describe, describe_bag
from marigold_ros.frame import FrameResult
from marigold_ros.settings import as_values
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.models.measuring import PeakMemory

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
    oracle: str = 'own',
    against: Mapping[str, Any] | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
    record: PointsConfig | None = None,
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
    oracle : str
        Rule of the protocol ``oracle``, see `marigold_ros.evaluation.oracle`.
    against : mapping of str to object, or None
        Other models, which are scored on the same frames and points.
    limit : int or None
        Stop after that many pictures in all.
    progress : callable or None
        Called with the pictures done and their expected number.
    record : PointsConfig or None
        The cloud of what is recorded to ``out``/recording (recording_0 and on for several bags)
        as the node would publish it; None records nothing.
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
    options = ReplayOptions(config, lidar, given, T_cam_lidar, *split, stamps, oracle)
    if record is not None and out is not None:
        recordings = RecordTo(Path(out), record, len(paths))
        recordings.check()
        options = replace(options, record=recordings)
    plan = look_ahead(paths, given, limit)
    tell = None if progress is None else partial(_tell, progress, plan.pictures)
    crew = crew or processes(replay, lambda: Models(model, against or {}), tell=tell)
    total = BagPart(empty_scores(options), failed=dict(plan.failed))
    with crew(options, plan.jobs) as parts:
        for part in parts:
            total.add(part)
            if part.failed and out is None:
                break
    failure = total.failure(paths, out)
    if failure is not None and (out is None or not total.scorer.rows):
        raise failure
    for text in total.failed.values():
        total.warn(text)
    results = _results(total, options, limit)
    if out is not None:
        title = f'Depth on {", ".join(p.resolve().name for p in paths)}'
        write_all(out, results, total.scorer, title, _intro(results))
    if failure is not None:
        raise failure
    return results


def _tell(progress: Progress, expected: int, done: int) -> None:
    progress(done, expected)


def replay(
    models: Models,
    options: ReplayOptions,
    job: BagJob,
    tell: Callable[[int], None] | None = None,
) -> BagPart:
    """Score one bag, as far as it can be read; ``tell`` is told the pictures done."""
    run = _Run(models, options)
    memory = _watch_memory(models.main)
    try:
        run.play(job, tell)
    except BagError as error:  # what was read before the damage is worth its score
        run.part.failed[str(job.path)] = str(error)
    run.part.peak_bytes = memory.read()
    return run.part


def _watch_memory(model: Any) -> PeakMemory:
    """Note the highest use of memory from now on, where the model is."""
    from marigold_ros.models.measuring import PeakMemory
    import torch

    return PeakMemory(getattr(model, 'device', torch.device('cpu')))


def _ahead(items: Generator[BagFrame, None, None]) -> Generator[BagFrame, None, None]:
    """
    Read and decode the next picture on another core while this one is worked on.

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

    def __init__(self, models: Models, options: ReplayOptions) -> None:
        self._options = options
        self._players = Players(models, options)
        self.part = self._players.part()

    def play(self, job: BagJob, tell: Callable[[int], None] | None) -> None:
        """Run the bag up to its end, its damage (BagError) or the job's limit."""
        self.part.bags.append(describe_bag(job.path))
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
        part, options = self.part, self._options
        with BagReader(job.path) as reader:
            chosen = reader.choose_topics(**options.topics)
        part.topics = chosen.by_role
        with ExitStack() as stack:
            recording = None
            if options.record is not None:
                recording = options.record.bag(job.number, job.path, chosen)
                stack.enter_context(recording)
            items = stack.enter_context(closing(_ahead(self._items(job, chosen))))
            start = perf_counter()
            for item in items:
                part.read += 1
                stamps.append(item.stamp_ns)
                result = self._process(item, 1e3 * (perf_counter() - start))
                if recording is not None:
                    recording.add(item, result)
                if tell:
                    tell(part.read)
                if part.read == job.limit:
                    break
                start = perf_counter()

    def _items(self, job: BagJob, chosen: BagTopics) -> Generator[BagFrame, None, None]:
        options = self._options
        with BagReader(job.path) as reader:
            lidar = options.lidar, options.T_cam_lidar, options.stamps
            yield from frames(reader, chosen, *lidar)

    def _process(self, item: BagFrame, read_ms: float) -> FrameResult | None:
        """Score one picture; gives what the pipeline made of it, None where it was rejected."""
        if item.warning:
            self.part.warn(item.warning)
        if item.frame is None:
            self._reject(item.error or InputError('the picture cannot be read'))
            return None
        try:
            return self._players.play(item, read_ms)
        except (InputError, CalibrationError) as error:
            self._reject(error)
            return None

    def _reject(self, error: Exception) -> None:
        cause = error.cause if isinstance(error, InputError) else 'calibration'
        self.part.reject(cause, str(error))


def _results(total: BagPart, options: ReplayOptions, limit: int | None) -> dict[str, Any]:
    """Put what was accumulated into the shape of results.json."""
    T = options.T_cam_lidar
    provenance = describe(
        (),
        total.topics,
        total.checkpoint,
        options.config,
        options.lidar,
        mode='offline replay, every picture, unlimited wait for the scan',
        limit=limit,
        stamps=options.stamps,
        extrinsics='/tf_static of the bag' if T is None else np.asarray(T).tolist(),
        recorded=None if options.record is None else as_values(options.record.points),
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
    if total.rivals:
        results['models'] = rival_results(total)
    took = results['latency_ms'].get('total', {}).get('mean')
    results['fps'] = 1e3 / took if took else None
    results['memory'] = {'peak_mb': total.peak_bytes / 1e6}
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
