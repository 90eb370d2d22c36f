# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Ablation of a checkpoint: ensemble size, denoising steps, initial noise, training noise.

Inference settings share one checkpoint, images and seeds, so that N members contain those of
fewer. Each kind of training noise needs a short training, from a common autoencoder. Spread and
error are compared by rank within an image, in the space of the prediction, where scale and shift
do not change ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
import math
from pathlib import Path
import shutil
import time
from typing import Any

from accelerate import Accelerator
from marigold_ros.config import EngineConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_training.held_out import GENERATORS
from marigold_training.objectives.noise import KINDS
from marigold_training.run.recipe import read_recipe, TrainingRun
from marigold_training.run.run_state import STATE
from marigold_training.run.score import best_affine, known_depth, LabelledPair, MIN_KNOWN
from marigold_training.run.stages import read_stages
import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm
import yaml

MEMBERS = (1, 2, 4, 8, 16)
STEPS = (1, 2, 4, 10, 25, 50)
STARTS = ('gaussian', 'zeros')
CHARTED = {'members': 'ensemble members', 'steps': 'denoising steps'}
_COLOUR = '#0072B2'  # of Okabe and Ito, legible on white and on black
_WIDTH, _HEIGHT = 720, 260  # px, of a chart
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 34, 36  # px, its margins


@dataclass(frozen=True)
class Row:
    """Figures of one setting, means over images; ``spearman`` is NaN without spread."""

    group: str  # members | steps | start | training noise
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
    members: Sequence[int] = MEMBERS,
    steps: Sequence[int] = STEPS,
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


def ablate_noise(models: Mapping[str, Any], pairs: Sequence[LabelledPair]) -> list[Row]:
    """Score models by their training noise, with default settings."""
    return [Row('training noise', kind, **measure(model, pairs)) for kind, model in models.items()]


def train_noise_kinds(
    recipe: Path, out: Path, data: Path, accelerator: Accelerator, most_steps: int, workers: int
) -> dict[str, Path]:
    """
    Train a recipe with each kind of noise from the same autoencoder; resumes.

    Stages have at most ``most_steps``. Returns the checkpoint's folder by kind of noise. Raises
    ConfigurationError if the recipe has no stage of objective ``latent``.
    """
    base = read_recipe(recipe)
    shared, folders = out / 'autoencoder.pt', {}
    for kind in KINDS:
        folder = out / kind
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / 'recipe.yaml'
        changed = with_noise(base, kind, most_steps)
        own.write_text(yaml.safe_dump(changed, sort_keys=False), encoding='utf-8')
        run = TrainingRun(own, folder, data, accelerator, workers, generators=GENERATORS)
        run.prepare_data(max(1, workers))
        if not shared.exists():
            _train_autoencoder(run)
            shutil.copyfile(folder / STATE, shared)
            run = TrainingRun(own, folder, data, accelerator, workers, generators=GENERATORS)
        elif not (folder / STATE).exists():
            shutil.copyfile(shared, folder / STATE)
        run.train()
        folders[kind] = run.export()
    return folders


def _train_autoencoder(run: TrainingRun) -> None:
    """Train up to the first stage after the autoencoder."""
    trainer = run.trainer()
    trainer.run(stop=lambda: run.stages[trainer.stage_index].objective != 'autoencoder')


def with_noise(recipe: Mapping[str, Any], kind: str, most_steps: int) -> dict[str, Any]:
    """Return a recipe with another noise and shorter stages, without validation."""
    stages = read_stages(recipe['stages'], recipe.get('common', {}))
    if not any(stage.objective == 'latent' for stage in stages):
        raise ConfigurationError(
            f'recipe {recipe["name"]} has no stage of objective latent, which alone uses noise'
        )
    shorter = []
    for entry, stage in zip(recipe['stages'], stages, strict=True):
        steps = min(stage.steps, most_steps)
        warmup = min(stage.warmup, max(1, steps // 10))
        shorter.append({**entry, 'steps': steps, 'warmup': warmup, 'validate_every': 0})
    return {**recipe, 'noise': kind, 'stages': shorter}


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


def ablation_chart(rows: Sequence[Row]) -> str:
    """Draw AbsRel over members and over steps as SVG, one chart above the other."""
    charts = []
    for group, label in CHARTED.items():
        own = [row for row in rows if row.group == group]
        values = [row.value for row in own]
        charts.append(line_chart([row.abs_rel for row in own], values, label, 'AbsRel'))
    return svg_document([chart for chart in charts if chart])


def svg_document(charts: Sequence[str]) -> str:
    """Return an SVG file with charts below one another, legible on light and dark pages."""
    placed = (
        f'<g transform="translate(0 {place * _HEIGHT})">{chart}</g>'
        for place, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {len(charts) * _HEIGHT}" '
        'color="#808080" fill="currentColor" font-family="sans-serif" font-size="13">'
        f'{"".join(placed)}</svg>\n'
    )


def line_chart(
    curve: Sequence[float], ticks: Sequence[str], x_label: str, y_label: str
) -> str | None:
    """Draw a curve over its index, a text below each; NaN leaves a gap, None without a value."""
    finite = [value for value in curve if math.isfinite(value)]
    if not finite:
        return None
    top = max(finite) * 1.05 or 1.0
    step = _nice_step(top / 4)
    parts = []
    for tick in range(int(top / step) + 1):
        y = _y(tick * step, top)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="currentColor" stroke-opacity=".2"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:g}</text>'
        )
    parts += [
        f'<text x="{_x(index, len(curve)):.1f}" y="{_HEIGHT - 18}" text-anchor="middle">'
        f'{escape(text)}</text>'
        for index, text in enumerate(ticks)
    ]
    stroke = f'stroke="{_COLOUR}" stroke-width="2.5" fill="none"'
    parts += [f'<path d="{path}" {stroke}/>' for path in _paths(curve, top)]
    parts.append(
        f'<path d="M{_LEFT} 14h34" {stroke}/>'
        f'<text x="{_LEFT + 40}" y="18">{escape(y_label)}</text>'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="13" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 13 {_HEIGHT / 2})">{escape(y_label)}</text>'
    )
    label = escape(f'{y_label} by {x_label}')
    return f'<g role="img" aria-label="{label}">{"".join(parts)}</g>'


def _paths(curve: Sequence[float], top: float) -> list[str]:
    """Return the path data of each unbroken stretch; a lone point becomes a dash of 4 px."""
    paths: list[str] = []
    stretch: list[str] = []
    for index, value in enumerate([*curve, math.nan]):
        if math.isfinite(value):
            stretch.append(f'{_x(index, len(curve)):.1f} {_y(value, top):.1f}')
        elif stretch:
            paths.append('M' + 'L'.join(stretch) + ('h4' if len(stretch) == 1 else ''))
            stretch = []
    return paths


def _x(index: int, count: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * index / max(count - 1, 1)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _nice_step(raw: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
