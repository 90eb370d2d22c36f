# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The model card: a checkpoint's training, data, licence, figures, and how to open it."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from marigold_ros.errors import InputError
from marigold_training.data.mixture import Part
from marigold_training.families.registry import TrainedFamily
from marigold_training.run.run_state import STATE
from marigold_training.run.stages import Stage

METRICS = 'metrics.json'  # in the run's folder: {data: {metric: number}}
STARTS = {
    'small': 'trained from scratch, with few channels',
    'checkpoint': 'fine-tuned from the checkpoint `{start}`',
    'stable_diffusion': 'fine-tuned from `{start}`',
}
SPACES = {'depth': 'depth', 'log': 'log depth', 'disparity': 'disparity', 'metric': 'metres'}
OWN_LICENCE = 'Apache-2.0, as the code'
THEIR_LICENCE = 'derived from `{start}`; the licence of those weights applies to these'


def model_card(
    recipe: Mapping[str, Any],
    family: TrainedFamily,
    stages: list[Stage],
    parts: Sequence[Part],
    metrics: Path,
    note: str = '',
) -> str:
    """
    Return the model card of a run, in Markdown, with the figures of the file ``metrics``.

    ``stages`` are those that were trained; ``note`` of :func:`training_note` follows them.
    """
    facts, init = recipe['facts'], recipe['init']
    start = _public_name(str(init.get('path', '')))
    licence = OWN_LICENCE if init['kind'] == 'small' else THEIR_LICENCE
    return CARD.format(
        name=recipe['name'],
        start=STARTS[init['kind']].format(start=start),
        space=SPACES[facts['space']],
        values=_values(facts['space']),
        kind=family.kind(facts),
        deviation=_deviation(stages) + _kept(recipe.get('keep_of_start', 0.0)),
        stages='\n'.join(_row(stage) for stage in stages) + note,
        data='\n'.join(_data(parts)),
        metrics=metrics_table(metrics),
        licence=licence.format(start=start),
        usage=family.usage(facts),
    )


def training_note(stopped: str, weights: str) -> str:
    """Return paragraphs on where training ended before its recipe, and on weights not the last."""
    note = (
        f'\n\nTraining was stopped at {stopped}, before the end of its recipe.' if stopped else ''
    )
    return note + (f'\n\nThe weights are those of {weights}.' if weights else '')


def _public_name(path: str) -> str:
    """Reduce a local path to the folder's name; hub ids stay whole."""
    local = Path(path).expanduser()
    return local.name if local.exists() or local.is_absolute() else path


def _values(space: str) -> str:
    return 'in metres' if space == 'metric' else f'in [0, 1], affine in {SPACES[space]}'


def _deviation(stages: list[Stage]) -> str:
    together = [s.name for s in stages if set(s.trains) == {'autoencoder', 'unet'}]
    if not together:
        return ''
    return (
        '\nUnlike in Marigold, encoder and decoder were trained together with the U-Net '
        f'({", ".join(together)}): the\nencoder handles only images and the decoder only depth.\n'
    )


def _kept(share: float) -> str:
    return f'\nThe weights are blended with {share:.0%} of the initial ones.\n' if share else ''


def _row(stage: Stage) -> str:
    batch = f'{stage.batch_size}'
    if stage.accumulation > 1:
        batch += f' x {stage.accumulation}'
    cells = stage.name, stage.objective, ' + '.join(stage.trains), str(stage.steps), batch
    return f'| {" | ".join(cells)} |'


def _data(parts: Sequence[Part]) -> list[str]:
    """Name, images and share of the batches of each source."""
    total = sum(part.weight for part in parts)
    return [
        f'- {part.source.name}: {len(part.source)} images, {part.weight / total:.0%} of the '
        'batches'
        for part in parts
    ]


def metrics_table(path: Path) -> str:
    """
    Return the figures of a ``metrics.json`` as a Markdown table.

    It is empty without the file, and if the run beside it has been trained further since.
    """
    state = path.with_name(STATE)
    changed = [one.stat().st_mtime_ns for one in (path, state) if one.is_file()]
    if not path.is_file() or changed[0] < changed[-1]:
        return ''
    try:
        measured = json.loads(path.read_text(encoding='utf-8'))
        names = list(dict.fromkeys(name for row in measured.values() for name in row))
        rows = [
            [what, *(f'{row[name]:.4f}' if name in row else '' for name in names)]
            for what, row in measured.items()
        ]
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f'{path} holds no figures ({error}); it must be {{data: {{metric: number}}}}: score '
            'again or remove it'
        ) from error
    table = [['measured on', *names], ['---'] * (len(names) + 1), *rows]
    return '\n' + '\n'.join(f'| {" | ".join(row)} |' for row in table) + '\n'


CARD = """# {name}

A {kind}. It was {start}, and predicts {space}.
{deviation}
Not for safety-critical use; check it on your own images first.

| stage | objective | trains | steps | batch |
|---|---|---|---|---|
{stages}

Data:

{data}
{metrics}
Weights: {licence}. Data keep their own licences.

`folder` is the path of this folder, `rgb` an image (H, W, 3) uint8:

```python
from marigold_ros.models import load_model
model = load_model(folder)                        # or the name of an embedded checkpoint
prediction = model.predict(rgb)                   # relative (H, W) {values}
```
{usage}"""
