# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Evaluate bags: replay each without ROS, add up the scores, write the results."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from marigold_ros.errors import DamagedBagError, MOST_KINDS
from marigold_ros.evaluation.report.report import write_all
from marigold_ros.evaluation.results.results import (
    assemble,
    bag_labels,
    describe,
    describe_checkpoint,
    is_dataset,
    robustness,
)
from marigold_ros.evaluation.results.verdict import judge
from marigold_ros.models.locate import is_embedded
from marigold_ros.models.protocol import DepthModel
from marigold_ros.processes import Stopped
from marigold_ros.replay.bag_part import BagPart
from marigold_ros.replay.bag_replay import empty_scorer, lost_part, Models, replay
from marigold_ros.replay.executor import BagWorker, Executor, in_processes
from marigold_ros.replay.recording import check_recording
from marigold_ros.replay.replay_plan import BagJob, plan_replay, ReplayOptions, ReplayPlan
from marigold_ros.settings import as_values
import numpy as np


def evaluate_bag(
    bags: str | Path | Sequence[str | Path],
    model: DepthModel | None = None,
    options: ReplayOptions | None = None,
    out: str | Path | None = None,
    *,
    against: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """
    Run the pipeline over every image of one or several bags and score it.

    Parameters
    ----------
    bags : path or sequence of paths
        Bags of one camera; they are streamed, the pipeline is reset between them.
    model : object
        As ``load_model`` returns it.
    options : ReplayOptions or None
        How bags are replayed and scored; None is the defaults.
    out : path or None
        Folder for results.json, per_frame.csv, report.html, images and recordings (``recording``,
        or ``recording_0`` and on for several bags); None writes nothing.
    against : mapping of str to object, or None
        Compared models by name, scored on the same frames and points.
    progress : callable or None
        Called with the images done and their expected number.

    Returns
    -------
    dict
        The content of results.json.

    Raises
    ------
    BagError
        If a bag is missing, unreadable or damaged, lacks images or a named topic, or no image
        can be used.
    DamagedBagError
        If a bag is damaged, and its readable part was scored and written to ``out``.

    """
    options = options or ReplayOptions()
    plan = plan_replay([bags] if isinstance(bags, (str, Path)) else bags, options)
    report = None if progress is None else lambda done: progress(done, plan.images)
    models = Models(model, against or {})
    worker = BagWorker(replay, lost_part, lambda: models, options, progress=report)
    return evaluate_plan(plan, worker, out)


def evaluate_plan(
    plan: ReplayPlan,
    worker: BagWorker,
    out: str | Path | None = None,
    executor: Executor = in_processes,
) -> dict[str, Any]:
    """
    Score the jobs of a plan; returns and raises as :func:`evaluate_bag`.

    ``plan`` is as `plan_replay` returned it for the options of the ``worker``, which has the task
    `replay`; an ``executor`` of `marigold_ros.replay.executor` does the work. Of work that was
    stopped, what the worker's store keeps is the result, and ``provenance.stopped`` has the images
    ``read`` and ``expected``. Raises Stopped where that was before anything was scored and kept.
    """
    options: ReplayOptions = worker.options
    jobs = [_with_files(job, options, out, plan.paths) for job in plan.jobs]
    runs: dict[tuple[str, int] | None, BagPart]  # by kind and strength of a corruption
    runs = defaultdict(lambda: BagPart(empty_scorer(options)))
    remaining = iter(jobs)
    stopped = False
    try:
        with executor(worker, jobs) as parts:
            for part in parts:
                runs[next(remaining).corruption].add(part)
                if part.failed and out is None:
                    break
    except Stopped:
        stopped = True
        for job in remaining:
            kept = worker.store and worker.store.scored(job)
            if kept:
                runs[job.corruption].add(kept)
        if not runs[None].scorer.rows:
            raise
    total = runs[None]
    total.failed = {**plan.failed, **total.failed}
    failure = total.failure(plan.paths, out)
    if failure is not None and (out is None or not total.scorer.rows):
        if worker.store:
            worker.store.clear()  # there is nothing to go on with
        raise failure
    total.warnings |= dict.fromkeys(list(total.failed.values())[:MOST_KINDS], 1)
    total.warnings = {plan.named(text): n for text, n in total.warnings.items()}
    results = _results(total, options if out is not None else replace(options, record=None))
    if stopped:
        read = sum(run.read for run in runs.values())
        results['provenance']['stopped'] = {'read': read, 'expected': plan.images}
    else:
        _add_robustness(results, {key: run for key, run in runs.items() if key is not None})
    embedded = is_embedded(total.checkpoint.get('name', ''))
    results['verdict'] = judge(results, options.usable_error, embedded)
    if options.requirements:
        results['requirements'] = [item.outcome(results) for item in options.requirements]
    if out is not None:
        title = f'Depth on {", ".join(p.resolve().name for p in plan.paths)}'
        write_all(out, results, total.scorer, title, _intro(results))
    if failure is not None:
        raise DamagedBagError(str(failure), results)
    return results


def _with_files(
    job: BagJob, options: ReplayOptions, out: str | Path | None, bags: Sequence[Path]
) -> BagJob:
    """Add the paths of recording and file for rerun to a job, unless images are corrupted."""
    if job.corruption is not None:
        return job
    number = '' if len(bags) == 1 else f'_{job.number}'
    if options.record is not None and out is not None:
        recording = Path(out).resolve() / f'recording{number}'
        check_recording(recording, bags)
        job = replace(job, recording=recording)
    if options.rerun is not None:
        rerun = options.rerun.resolve()
        job = replace(job, rerun=rerun.with_stem(f'{rerun.stem}{number}'))
    return job


def _results(total: BagPart, options: ReplayOptions) -> dict[str, Any]:
    """Arrange the sums as the content of results.json."""
    T = options.T_cam_lidar
    of_bags = options.images is None
    provenance = describe(
        total.bags,
        total.topics,
        total.checkpoint,
        options.pipeline,
        options.lidar,
        options.source_settings,
        mode='offline replay, every image, unlimited wait for the scan'
        if of_bags
        else 'images with depth, each alone',
        limit=options.limit,
        excerpt=asdict(options.excerpt),
        stamps=options.stamps,
        extrinsics='transforms of the bag' if T is None else np.asarray(T).tolist(),
        recorded=None if options.record is None else as_values(options.record),
        warnings=total.warnings,
    )
    results = assemble(
        total.scorer,
        read=total.read,
        dropped=0,
        rejected=total.rejected,
        rate=total.rate if of_bags else None,
        provenance=provenance,
    )
    if total.compared:
        results['models'] = {
            name: {
                **scorer.results(),
                'checkpoint': describe_checkpoint(total.compared_checkpoints[name]),
            }
            for name, scorer in total.compared.items()
        }
    took = results['latency_ms'].get('total', {}).get('mean')
    results['fps'] = 1e3 / took if took else None
    results['memory'] = {'peak_mb': total.peak_bytes / 1e6}
    facts = asdict(total.calibration)
    facts['n_pictures'] = facts.pop('n_images')  # as results.json names them
    bag = bag_labels(total.bags)[total.calibrated]
    results['calibration'] = {'text': total.calibration.text, 'bag': bag, **facts}
    return results


def _add_robustness(results: dict[str, Any], runs: Mapping[tuple[str, int], BagPart]) -> None:
    """Add to each model's results how its errors grow on corrupted images."""
    if not runs:
        return
    corrupted = {key: run.scorer.results()['protocols'] for key, run in runs.items()}
    results['robustness'] = robustness(results['protocols'], corrupted)
    for name, figures in results.get('models', {}).items():
        corrupted = {key: run.compared[name].results()['protocols'] for key, run in runs.items()}
        figures['robustness'] = robustness(figures['protocols'], corrupted)


def _intro(results: Mapping[str, Any]) -> str:
    checkpoint = results['provenance']['checkpoint'].get('name', 'model')
    if is_dataset(results):
        return f'Checkpoint {checkpoint}, each image alone.'
    text = f'Checkpoint {checkpoint}, replayed offline.'
    if rate := results['rate']:
        text += f' A second of recording took {1 / rate:.2f} s of work, scoring included.'
    return text
