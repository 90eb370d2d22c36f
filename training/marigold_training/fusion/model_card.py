# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The model card of a fusion network: its training, data, figures, and how to use it."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from marigold_training.fusion.example_cache import ExampleCache
from marigold_training.run.model_card import metrics_table
from marigold_training.run.run_log import NAME as LOG
from marigold_training.run.stages import Stage


def fusion_card(
    recipe: Mapping[str, Any],
    stages: Sequence[Stage],
    caches: Sequence[ExampleCache],
    metrics: Path,
    note: str = '',
) -> str:
    """Return the model card of a run, in Markdown; as `model_card` of a depth model's."""
    start = recipe.get('init', {}).get('path')
    figures = metrics_table(metrics)
    return CARD.format(
        name=recipe['name'],
        start=f'fine-tuned from `{Path(str(start)).name}`' if start else 'trained from scratch',
        stages='\n'.join(
            f'| {stage.name} | {stage.steps} | {stage.batch_size} |' for stage in stages
        )
        + note,
        data='\n'.join(f'- {cache.source.name}: {len(cache)} examples' for cache in caches),
        metrics=(figures + MEASURES if figures else '') + learning_curve(metrics.with_name(LOG)),
    )


def learning_curve(log: Path) -> str:
    """Return the quality by step that a log has, at most ten of them; empty without any."""
    text = log.read_text(encoding='utf-8') if log.is_file() else ''
    lines = text.splitlines()[: text.count('\n')]  # a full disk may have cut the last one off
    known = [row for row in map(json.loads, lines) if 'quality' in row]
    if not known:
        return ''
    chosen = sorted({round(i * (len(known) - 1) / 9) for i in range(10)})
    rows = '\n'.join(f'| {known[i]["step"]} | {known[i]["quality"]:.4f} |' for i in chosen)
    return CURVE.format(rows=rows)


CARD = """# {name}

A network that fuses sparse depth, an image and a fitted map into metric depth, {start}.
It gives each candidate a share (disparity of the points, interpolated, an edge-aware solution,
nearest point, bounds, the map), corrects their mixture in log depth and states the error
that it expects.

Not for safety-critical use; check it on your own recordings first.

| stage | steps | batch |
|---|---|---|
{stages}

Data, with LiDARs and maps simulated over dense depth, or scan lines held out:

{data}
{metrics}
Weights: Apache-2.0, as the code. Data keep their own licences.

Choose it with `alignment.fusion: FOLDER`, or copy it as `fusion/` into the folder of a model.
"""
CURVE = """
| step | mean of both ratios where weights are selected |
|---|---|
{rows}
"""
MEASURES = """
`abs_rel` and `rmse` are ratios to the points' disparity, interpolated: below 1 is better;
`worst` is `abs_rel` of the worst scene, `coverage` the share of errors within one sigma (nominal
0.68). These scenes come without a map.
"""
