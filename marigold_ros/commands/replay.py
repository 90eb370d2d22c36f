# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Plays bags through the pipeline, frame by frame and without ROS, and scores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from marigold_ros.bags.reader import BagFrame, BagReader, BagTopics, frames
from marigold_ros.commands.recording import Recording, recording_folder
from marigold_ros.config import LidarConfig, PipelineConfig, PointsConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.evaluation.report import write_all
from marigold_ros.evaluation.results import assemble, describe
from marigold_ros.evaluation.scoring import Scorer
from marigold_ros.frame import FrameResult
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import as_values
import numpy as np

_MOST_WARNINGS = 20
Progress = Callable[[int, int], None]
Recordings = Callable[[int, str | Path, BagTopics], AbstractContextManager[Recording | None]]


def evaluate_bag(
    bags: str | Path | Sequence[str | Path],
    model: Any,
    config: PipelineConfig | None = None,
    lidar: LidarConfig | None = None,
    out: str | Path | None = None,
    *,
    topics: Mapping[str, str | None] | None = None,
    T_cam_lidar: np.ndarray | None = None,
    fit_every: int = 8,
    held_out: str = 'rings',
    limit: int | None = None,
    progress: Progress | None = None,
    record: PointsConfig | None = None,
) -> dict[str, Any]:
    """
    Run the pipeline over every picture of one or several bags and score it.

    Parameters
    ----------
    bags : path or sequence of paths
        Bags of one camera; they are streamed, one after the other, the pipeline reset between
        them.
    model : object
        As ``load_model`` returns it.
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
    limit : int or None
        Stop after that many pictures in all.
    progress : callable or None
        Called with the pictures done and their expected number.
    record : PointsConfig or None
        The cloud of what is recorded to ``out``/recording (recording_0, recording_1 for several
        bags) as the node would publish it; None records nothing.

    Returns
    -------
    dict
        What results.json holds.

    Raises
    ------
    BagError
        If a bag is unreadable, lacks pictures or a named topic, or no picture can be used.

    """
    paths = [bags] if isinstance(bags, (str, Path)) else list(bags)
    config, lidar, given = config or PipelineConfig(), lidar or LidarConfig(), topics or {}
    chosen, expected = look_ahead(paths, given)
    run = _Run(model, config, lidar, (fit_every, held_out))
    if record is not None and out is not None:
        run.recordings = partial(_recording, Path(out), record, len(paths))
    damage = None
    for path in paths:
        try:
            run.play(path, given, T_cam_lidar, limit, progress, min(expected, limit or expected))
        except BagError as error:  # what was read before the damage is worth its score
            if out is None or not run.scorer.rows:
                raise
            damage = error
            run.warnings[str(error)] = 1
    if not run.scorer.rows:
        raise BagError(run.why_nothing(paths))
    provenance = describe(
        paths,
        chosen.by_role,
        model.description,
        config,
        lidar,
        mode='offline replay, every picture, unlimited wait for the scan',
        limit=limit,
        extrinsics='/tf_static of the bag' if T_cam_lidar is None else 'given',
        recorded=None if record is None else as_values(record),
        warnings=run.warnings,
    )
    results = run.results(provenance)
    if out is not None:
        title = f'Depth on {", ".join(Path(p).resolve().name for p in paths)}'
        write_all(out, results, run.scorer, title, _intro(results))
    if damage is not None:
        raise BagError(f'{damage}; the pictures before the damage are scored in {out}')
    return results


def look_ahead(
    paths: Sequence[str | Path], given: Mapping[str, str | None]
) -> tuple[BagTopics, int]:
    """
    Choose topics and count pictures of all bags, so that a bad one fails before the work.

    Raises
    ------
    BagError
        As :func:`evaluate_bag`.

    """
    if not paths:
        raise BagError('no bag was given; give at least one')
    expected = 0
    for path in paths:
        with BagReader(path) as reader:
            chosen = reader.choose_topics(**given)
            expected += reader.topics[chosen.image].count
    return chosen, expected


class _Run:
    """What one evaluation accumulates."""

    def __init__(
        self, model: Any, config: PipelineConfig, lidar: LidarConfig, split: tuple[int, str]
    ) -> None:
        self.config, self.lidar = config, lidar
        self._pipeline = FramePipeline(model, config)
        # A pipeline of its own: fits to few lines must not be held over into the published depth.
        self._heldout = FramePipeline(model, config)
        self.scorer = Scorer(config.alignment, self._heldout.finish, *split)
        self.recordings: Recordings = _no_recording
        self.read = 0
        self._bag = -1
        self.rejected: dict[str, int] = {}
        self.warnings: dict[str, int] = {}
        self.first_error = ''
        self._recorded_s = 0.0
        self._wall_s = 0.0

    def play(
        self,
        path: str | Path,
        topics: Mapping[str, str | None],
        T_cam_lidar: np.ndarray | None,
        limit: int | None,
        progress: Progress | None,
        expected: int,
    ) -> None:
        """Run one bag, up to the limit over all bags."""
        if limit is not None and self.read >= limit:
            return
        self._bag += 1
        self._pipeline.reset()
        self._heldout.reset()
        start, stamps = perf_counter(), []
        with BagReader(path) as reader, ExitStack() as stack:
            chosen = reader.choose_topics(**topics)
            recording = stack.enter_context(self.recordings(self._bag, path, chosen))
            for item in frames(reader, chosen, self.lidar, T_cam_lidar):
                if limit is not None and self.read >= limit:
                    break
                self.read += 1
                stamps.append(item.stamp_ns)
                result = self._process(item)
                if recording is not None:
                    recording.add(item, result)
                if progress:
                    progress(self.read, expected)
        self._wall_s += perf_counter() - start
        if len(stamps) > 1:
            self._recorded_s += (max(stamps) - min(stamps)) * len(stamps) / (len(stamps) - 1) / 1e9

    def _process(self, item: BagFrame) -> FrameResult | None:
        """Score one picture; gives what the pipeline made of it, None where it was rejected."""
        if item.warning and (item.warning in self.warnings or len(self.warnings) < _MOST_WARNINGS):
            self.warnings[item.warning] = self.warnings.get(item.warning, 0) + 1
        if item.frame is None:
            self._reject(item.error or InputError('the picture cannot be read'))
            return None
        try:
            prediction = self._pipeline.predict(item.frame)
            result = self._pipeline.finish(item.frame, prediction)
        except (InputError, CalibrationError) as error:
            self._reject(error)
            return None
        row = self.scorer.add(
            item.frame,
            prediction,
            result.metric,
            truth=item.truth,
            ring=item.ring,
            alignment=result.alignment,
            scan_stamp_ns=item.scan_stamp_ns,
            timings_ms=result.timings_ms,
        )
        row['bag'] = self._bag  # which of provenance.bags
        return result

    def _reject(self, error: Exception) -> None:
        cause = error.cause if isinstance(error, InputError) else 'calibration'
        self.rejected[cause] = self.rejected.get(cause, 0) + 1
        self.first_error = self.first_error or str(error)

    def why_nothing(self, paths: Sequence[str | Path]) -> str:
        """Say why no picture could be used."""
        causes = ', '.join(f'{n} {cause}' for cause, n in self.rejected.items()) or 'none came'
        first = f' (first: {self.first_error})' if self.first_error else ''
        names = ', '.join(Path(p).resolve().name for p in paths)
        return (
            f'no picture of {names} could be used: {causes}{first}; '
            'check the image topic with --image'
        )

    def results(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        rate = self._recorded_s / self._wall_s if self._recorded_s > 0 else None
        results = assemble(
            self.scorer,
            read=self.read,
            dropped=0,
            rejected=self.rejected,
            rate=rate,
            provenance=provenance,
        )
        found = self._pipeline.calibration
        results['calibration'] = {'text': found.text, **asdict(found)}
        return results


def _recording(
    out: Path, points: PointsConfig, count: int, number: int, path: str | Path, topics: BagTopics
) -> AbstractContextManager[Recording | None]:
    return Recording(recording_folder(out, number, count), path, topics, points)


def _no_recording(*bag: object) -> AbstractContextManager[None]:
    return nullcontext()


def _intro(results: Mapping[str, Any]) -> str:
    checkpoint = results['provenance']['checkpoint'].get('name', 'model')
    text = f'Checkpoint {checkpoint}, replayed offline.'
    rate = results['rate']
    if rate:
        text += f' It took {1 / rate:.2f} s of work, scoring included, for a second of recording.'
    return text
