# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The model card: what a checkpoint was trained on and how, its licence, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.learning.data.mixture import Part
from marigold_ros.learning.networks.export import usual_size
from marigold_ros.learning.run.stages import Stage

METRICS = 'metrics.json'  # of the run's folder: {what it was measured on: {metric: number}}
STARTS = {
    'small': 'trained from nothing, with few channels',
    'checkpoint': 'trained on from the checkpoint `{start}`',
    'stable_diffusion': 'trained from the weights of `{start}`',
}
SPACES = {'depth': 'depth', 'log': 'log depth', 'disparity': 'disparity'}
OWN_LICENCE = 'Apache-2.0, as the code that made them'
THEIR_LICENCE = 'derived from `{start}`; the licence of those weights applies to these'


def model_card(
    recipe: Mapping[str, Any], stages: list[Stage], parts: Sequence[Part], folder: Path
) -> str:
    """
    Write the card of a run.

    Parameters
    ----------
    recipe : mapping
        With name, init and facts.
    stages : list of Stage
        In order.
    parts : sequence of Part
        The sources and their weights.
    folder : Path
        Of the run; figures of a ``metrics.json`` there go on the card.

    Returns
    -------
    str
        Markdown.

    """
    facts, init = recipe['facts'], recipe['init']
    start = _last_part(str(init.get('path', '')))
    licence = OWN_LICENCE if init['kind'] == 'small' else THEIR_LICENCE
    height, width = usual_size(facts)
    opened = DIFFUSERS_ZEROS if facts.get('noise') == 'zeros' else DIFFUSERS_NOISE
    return CARD.format(
        name=recipe['name'],
        start=STARTS[init['kind']].format(start=start),
        space=SPACES[facts['space']],
        way=_way(facts),
        deviation=_deviation(stages) + _kept(recipe.get('keep_of_start', 0.0)),
        stages='\n'.join(_row(stage) for stage in stages),
        data='\n'.join(_data(parts)),
        metrics=metrics_table(folder / METRICS),
        licence=licence.format(start=start),
        diffusers=opened.format(
            height=height, width=width, steps=facts.get('default_denoising_steps', 1)
        ),
    )


def _last_part(path: str) -> str:
    """Name of a folder without where it was, which is nobody's business; hub ids stay whole."""
    local = Path(path).expanduser()
    return local.name if local.exists() or local.is_absolute() else path


def _way(facts: Mapping[str, Any]) -> str:
    steps = facts.get('default_denoising_steps', 1)
    number = 'one step' if steps == 1 else f'{steps} steps'
    return f'{number} from {"zeros" if facts.get("noise") == "zeros" else "Gaussian noise"}'


def _deviation(stages: list[Stage]) -> str:
    together = [s.name for s in stages if set(s.trains) == {'autoencoder', 'unet'}]
    if not together:
        return ''
    return (
        '\nUnlike Marigold, encoder and decoder were trained on together with the U-Net '
        f'({", ".join(together)}): at\ninference the encoder sees only images and the decoder '
        'writes only depth.\n'
    )


def _kept(share: float) -> str:
    return f'\nOf the weights it was trained on from, {share:.0%} are kept.\n' if share else ''


def _row(stage: Stage) -> str:
    batch = f'{stage.batch_size}'
    if stage.accumulation > 1:
        batch += f' x {stage.accumulation}'
    cells = stage.name, stage.objective, ' + '.join(stage.trains), str(stage.steps), batch
    return f'| {" | ".join(cells)} |'


def _data(parts: Sequence[Part]) -> list[str]:
    """One line for each source: name, images, share of the batches."""
    total = sum(part.weight for part in parts)
    return [
        f'- {part.source.name}: {len(part.source)} images, {part.weight / total:.0%} of the '
        'batches'
        for part in parts
    ]


def metrics_table(path: Path) -> str:
    """Table of what was measured, in Markdown, or nothing."""
    if not path.is_file():
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
            f'{path} holds no figures ({error}); it must be {{what: {{metric: number}}}}: measure '
            'again or remove it'
        ) from error
    table = [['measured on', *names], ['---'] * (len(names) + 1), *rows]
    return '\n' + '\n'.join(f'| {" | ".join(row)} |' for row in table) + '\n'


CARD = """# {name}

A Marigold (an autoencoder, a U-Net on its latents, DDIM steps), {start}.
It answers in {space}, in {way}.
{deviation}
It is not meant for safety; check it on your own images first.

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
model = load_model(folder)                        # a name is enough where it is embedded
prediction = model.predict(rgb)                   # relative (H, W) in [0, 1], affine in {space}
```

With diffusers:

```python
import torch
from diffusers import MarigoldDepthPipeline
from safetensors.torch import load_file
pipe = MarigoldDepthPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
embedding = load_file(folder + '/empty_text_embedding.safetensors')['empty_text_embedding']
pipe.empty_text_embedding = embedding
{diffusers}
```
"""
DIFFUSERS_ZEROS = """channels = pipe.vae.config.latent_channels
latents = torch.zeros(1, channels, {height} // 8, {width} // 8)
image = torch.from_numpy(rgb).permute(2, 0, 1)  # 4:3; with latents it has to be (3, H, W)
depth = pipe(image, latents=latents, processing_resolution={width})"""
DIFFUSERS_NOISE = """generator = torch.Generator('cpu').manual_seed(0)
depth = pipe(rgb, num_inference_steps={steps}, generator=generator)"""
