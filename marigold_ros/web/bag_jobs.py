# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Jobs on bags: a look at a few images first, then the replay and the report of ``evaluate``."""

from collections.abc import Mapping
from functools import partial
import json
from pathlib import Path
from typing import Any

from marigold_ros.errors import BagError, counted, number
from marigold_ros.evaluation.report.verdict_section import verdict_section
from marigold_ros.evaluation.results.results import RESULT_FILES
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.inspection import inspect_bag
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.web.jobs import Job
from marigold_ros.web.models import ModelStore


def score_bag(
    job: Job, path: Path, models: ModelStore, model: str, options: ReplayOptions
) -> None:
    """
    Replay a bag, score a model on it, and write the report.

    What could be read of a damaged bag is kept.
    """
    job.step('reading the bag')
    found = bag_words(inspect_bag(path, options))
    job.result['bag'] = {role: job.words(text) for role, text in found.items()}
    job.step(f'loading {model}')
    loaded = models.get(model)
    job.step('scoring images')  # the first of a machine waits for compilers
    out = job.folder / 'results'
    try:
        evaluate_bag(path, loaded, options, out, progress=partial(job.step, 'scoring images'))
    except BagError as error:
        if not (out / 'report.html').is_file():
            raise
        job.result['warning'] = job.words(error).replace(f' in {out}', '')
    results = json.loads((out / 'results.json').read_text(encoding='utf-8'))
    job.files.update({name: out / name for name in RESULT_FILES})
    job.result.update(_shown(results), downloads=list(RESULT_FILES))


def bag_words(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what a bag holds, in words by role."""
    found = {'length': f'{facts["seconds"]:.1f} s, {number(facts["bytes"] / 1e6, 0)} MB'}
    for role, topic in facts['topics'].items():
        if topic is not None:
            rate = f', {number(topic["hertz"], 1)} Hz' if topic['hertz'] else ''
            found[role.replace('_', ' ')] = f'{topic["topic"]}{rate}'
    lidar = facts['lidar']
    if lidar:
        count = f'{lidar["in_view"]:.0f} of {lidar["points"]:.0f}'
        found['points in view'] = f'{count}, in {lidar["share"]:.0%} of the image'
    problems = (
        f'{text} ({n} of {facts["images"]} images)' for text, n in facts['problems'].items()
    )
    if facts['problems']:
        found['problem'] = '; '.join(problems)
    return found


def _shown(results: Mapping[str, Any]) -> dict[str, Any]:
    frames = results['frames']
    count, metric = frames['processed'], frames['metric']
    depth = 'all' if metric == count else metric
    return {
        'verdict': verdict_section(results['verdict']),
        'facts': f'{counted(count, "image")} processed, {depth} with metric depth.',
    }
