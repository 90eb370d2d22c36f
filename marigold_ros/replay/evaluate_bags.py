# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Plays bags through the pipeline, frame by frame and without ROS, and scores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.config import LidarConfig, PipelineConfig, PointsConfig
from marigold_ros.evaluation.report.report import write_all
from marigold_ros.evaluation.results.results import assemble, describe, robustness
from marigold_ros.replay.bag_part import BagPart, ReplayOptions
from marigold_ros.replay.bag_plan import corrupted_jobs, look_ahead, Plan
from marigold_ros.replay.bag_replay import replay
from marigold_ros.replay.executor import Executor, processes
from marigold_ros.replay.model_scorers import empty_scores, Models, rival_results
from marigold_ros.replay.recording import RecordTo
from marigold_ros.settings import as_values
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.replay.image_sets import ImageChoice

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
    corruptions: Sequence[str] = (),
    images: ImageChoice | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
    record: PointsConfig | None = None,
    executor: Executor | None = None,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """
    Run the pipeline over every image of one or several bags and score it.

    Parameters
    ----------
    bags : path or sequence of paths
        Bags of one camera; they are streamed, the pipeline reset between them.
    model : object or None
        As ``load_model`` returns it; None where a ``executor`` has its own.
    config, lidar : PipelineConfig, LidarConfig or None
        Settings; None is the defaults.
    out : path or None
        Folder for results.json, per_frame.csv, report.html and images; None writes nothing.
    topics : mapping or None
        Names for ``image``, ``camera_info``, ``lidar`` and ``truth``; what is not given is found.
    T_cam_lidar : (4, 4) float or None
        Extrinsics; None takes them from the bag's /tf_static.
    fit_every, held_out : int, {'rings', 'azimuth'}
        Every n-th scan line, or block of azimuth, is for the fit of protocol ``heldout``.
    stamps : {'header', 'log'}
        Whether header stamps pair images and scans, or the times of recording.
    oracle : str
        Rule of the protocol ``oracle``, see `marigold_ros.evaluation.protocols.oracle`.
    against : mapping of str to object, or None
        Other models, which are scored on the same frames and points.
    corruptions : sequence of str
        Kinds of corruption: every bag is replayed again at each of their strengths.
    images : ImageChoice or None
        Which images of folders or tars to take, in place of bags.
    limit : int or None
        Stop after that many images in all.
    progress : callable or None
        Called with the images done and their expected number.
    record : PointsConfig or None
        The cloud of what is recorded to ``out``/recording (recording_0 and on for several bags)
        as the node would publish it; None records nothing.
    executor : callable or None
        Who else does the work, such as `executor.processes`; None does it here.

    plan : Plan or None
        What `look_ahead` gave for these bags, topics and limit, if that was asked already.

    Returns
    -------
    dict
        What results.json holds.

    Raises
    ------
    BagError
        If a bag is missing, unreadable or damaged, lacks images or a named topic, or no image
        can be used. What could be scored of the bags is written to ``out`` before.

    """
    paths = [Path(bag) for bag in ([bags] if isinstance(bags, (str, Path)) else bags)]
    config, lidar, given = config or PipelineConfig(), lidar or LidarConfig(), dict(topics or {})
    split = fit_every, held_out
    options = ReplayOptions(config, lidar, given, T_cam_lidar, *split, stamps, oracle, images)
    if record is not None and out is not None:
        recordings = RecordTo(Path(out).resolve(), record, len(paths))
        recordings.check()
        options = replace(options, record=recordings)
    plan = plan or look_ahead(paths, given, limit, images)
    jobs = [*plan.jobs, *corrupted_jobs(plan.jobs, corruptions)]
    expected = plan.images * len(jobs) // max(len(plan.jobs), 1)
    tell = None if progress is None else partial(_tell, progress, expected)
    executor = executor or processes(replay, lambda: Models(model, against or {}), tell=tell)
    runs: dict[tuple[str, int] | None, BagPart] = {}
    with executor(options, jobs) as parts:
        for job, part in zip(jobs, parts, strict=True):
            runs.setdefault(job.corruption, BagPart(empty_scores(options))).add(part)
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
    _add_robustness(results, {key: run for key, run in runs.items() if key is not None})
    if out is not None:
        title = f'Depth on {", ".join(p.resolve().name for p in paths)}'
        write_all(out, results, total.scorer, title, _intro(results))
    if failure is not None:
        raise failure
    return results


def _tell(progress: Progress, expected: int, done: int) -> None:
    progress(done, expected)


def _results(total: BagPart, options: ReplayOptions, limit: int | None) -> dict[str, Any]:
    """Put what was accumulated into the shape of results.json."""
    T = options.T_cam_lidar
    provenance = describe(
        (),
        total.topics,
        total.checkpoint,
        options.config,
        options.lidar,
        mode='offline replay, every image, unlimited wait for the scan',
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


def _add_robustness(results: dict[str, Any], runs: Mapping[tuple[str, int], BagPart]) -> None:
    """Put what corrupted images cost beside the figures of each model."""
    if not runs:
        return
    corrupted = {key: run.scorer.results()['protocols'] for key, run in runs.items()}
    results['robustness'] = robustness(results['protocols'], corrupted)
    for name, figures in results.get('models', {}).items():
        corrupted = {key: run.rivals[name].results()['protocols'] for key, run in runs.items()}
        figures['robustness'] = robustness(figures['protocols'], corrupted)


def _intro(results: Mapping[str, Any]) -> str:
    checkpoint = results['provenance']['checkpoint'].get('name', 'model')
    text = f'Checkpoint {checkpoint}, replayed offline.'
    rate = results['rate']
    if rate:
        text += f' It took {1 / rate:.2f} s of work, scoring included, for a second of recording.'
    return text
