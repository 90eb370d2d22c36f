# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Ablation of a checkpoint: ensemble size, denoising steps, initial noise.

All settings share images and seeds, so that N members contain those of fewer. Spread and error are
compared by rank within an image, in the space of the prediction, where scale and shift do not
change ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import math
import time
from typing import Any

from marigold_ros.config import EngineConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_training.run.score import best_affine, known_depth, LabelledPair, MIN_KNOWN
import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

STARTS = ('gaussian', 'zeros')


@dataclass(frozen=True)
class Row:
    """Figures of one setting, means over images; ``spearman`` is NaN without spread."""

    group: str  # members | steps | start
    value: str
    abs_rel: float
    delta1: float
    spearman: float  # of spread against error
    milliseconds: float  # an image
    pictures: int  # a key of the JSON output


def measure(
    model: Any,
    pairs: Iterable[LabelledPair],
    steps: int | None = None,
    members: int | None = None,
    start: str = 'checkpoint',
) -> dict[str, Any]:
    """
    Score one setting on labelled pairs, the n-th with seed n.

    None of ``steps`` and ``members`` is the checkpoint's own; ``start`` is the initial noise:
    checkpoint, gaussian or zeros. Returns the figures of a :class:`Row`.
    """
    engine = EngineConfig(noise=start)
    rows = []
    for seed, (_, pair) in enumerate(pairs):
        truth, valid = known_depth(pair)
        if valid.sum() < MIN_KNOWN:
            continue
        began = time.perf_counter()
        answer = model.predict(pair.rgb, steps, members, seed=seed, engine=engine)
        spent = 1e3 * (time.perf_counter() - began)
        fitted = best_affine(answer.relative, truth, valid, answer.space)
        metrics = depth_metrics(fitted, truth, valid)
        agreement = math.nan
        if answer.spread is not None:
            agreement = rank_agreement(answer.spread, fitted, truth, valid, answer.space)
        rows.append((metrics['abs_rel'], metrics['delta1'], agreement, spent))
    if not rows:
        raise ConfigurationError('there is no image with known depth; give at least one scene')
    columns = np.array(rows).T
    agreements = columns[2][np.isfinite(columns[2])]
    return {
        'abs_rel': float(columns[0].mean()),
        'delta1': float(columns[1].mean()),
        'spearman': float(agreements.mean()) if len(agreements) else math.nan,
        'milliseconds': float(columns[3].mean()),
        'pictures': len(rows),
    }


def rank_agreement(
    spread: np.ndarray, fitted: np.ndarray, truth: np.ndarray, valid: np.ndarray, space: str
) -> float:
    """
    Return Spearman's correlation of spread and error at the valid pixels of an image.

    ``fitted`` and ``truth`` (H, W) are metres; the error is the absolute difference in ``space``.
    NaN if all members agree everywhere.
    """
    own = {'depth': np.positive, 'log': np.log, 'disparity': np.reciprocal}[space]
    error = np.abs(own(fitted[valid]) - own(truth[valid]))
    if np.ptp(spread[valid]) == 0.0 or np.ptp(error) == 0.0:
        return math.nan
    return float(spearmanr(spread[valid], error)[0])


def ablate(
    model: Any,
    pairs: Sequence[LabelledPair],
    members: Sequence[int],
    steps: Sequence[int],
) -> list[Row]:
    """
    Change one setting of a checkpoint at a time: members, steps, initial noise.

    Members start from noise, as from zeros all are the same.
    """
    settings: list[tuple[str, Any, dict[str, Any]]] = [
        *(('members', n, {'members': n, 'start': 'gaussian'}) for n in members),
        *(('steps', n, {'members': 1, 'steps': n}) for n in steps),
        *(('start', kind, {'members': 1, 'start': kind}) for kind in STARTS),
    ]
    return [
        Row(group, str(value), **measure(model, pairs, **arguments))
        for group, value, arguments in tqdm(settings, desc='ablate')
    ]


def ablation_table(rows: Sequence[Row]) -> str:
    """Format rows as text, with AbsRel's change against the first row of each group."""
    first: dict[str, float] = {}
    lines = [f'{"":30} AbsRel   change   delta1   Spearman   ms/image   images']
    for row in rows:
        change = row.abs_rel / first.setdefault(row.group, row.abs_rel) - 1.0
        spearman = f'{row.spearman:8.2f}' if math.isfinite(row.spearman) else ' ' * 8
        lines.append(
            f'{row.group + " " + row.value:30} {row.abs_rel:.4f}  {change:+7.1%}   '
            f'{row.delta1:.4f}   {spearman}   {row.milliseconds:10.1f}   {row.pictures:8d}'
        )
    return '\n'.join(lines)
