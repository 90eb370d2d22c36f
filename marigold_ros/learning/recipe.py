# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A recipe read from YAML and carried out in a folder: render, train, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.data import Bucket, PictureCache
from marigold_ros.learning.loop import read_stages, Trainer
from marigold_ros.learning.networks import (
    export_checkpoint,
    marigold_scheduler,
    small_autoencoder,
    small_unet,
    TEXT_SHAPE,
    usual_size,
)
from marigold_ros.learning.objectives import Chain
from marigold_ros.models.marigold.weights import write_sums
import torch
import yaml

KEYS = ('name', 'seed', 'buckets', 'stages', 'facts')
# Seeds of training pictures start here; held-out scenes use seeds below 1 000 000.
FIRST_TRAINING_SEED = 1_000_000
SEEDS_PER_BUCKET = 1_000_000


class Run:
    """
    One training run.

    Parameters
    ----------
    recipe : Path
        YAML file with name, seed, buckets, stages and facts.
    folder : Path
        Of the run.
    cache : Path
        Of the rendered pictures.
    device : str
        Where the networks run.

    """

    def __init__(self, recipe: Path, folder: Path, cache: Path, device: str = 'cpu') -> None:
        self.recipe = read_recipe(recipe)
        self.folder, self.device = folder, device
        self.stages = read_stages(self.recipe['stages'])
        self.caches = [
            PictureCache(cache, Bucket(**entry), FIRST_TRAINING_SEED + i * SEEDS_PER_BUCKET)
            for i, entry in enumerate(self.recipe['buckets'])
        ]
        torch.manual_seed(self.recipe['seed'])
        self.chain = Chain(
            small_autoencoder(), small_unet(), marigold_scheduler(), torch.zeros(TEXT_SHAPE)
        )

    def render(self, workers: int) -> None:
        """Render the pictures that the cache lacks."""
        for cache in self.caches:
            cache.fill(workers)

    def trainer(self) -> Trainer:
        """Make the trainer, at the run's last checkpoint."""
        seed = self.recipe['seed']
        return Trainer(self.chain, self.stages, self.caches, self.folder, seed, self.device)

    def train(self, minutes: float | None = None) -> bool:
        """Train to the end or for a time; True when the recipe is done."""
        return self.trainer().run(minutes)

    def export(self) -> Path:
        """Write the averaged weights of the last checkpoint as a folder that the node opens."""
        trainer = self.trainer()
        trainer.averaged()
        target = self.folder / self.recipe['name']
        export_checkpoint(
            target,
            self.chain.autoencoder,
            self.chain.unet,
            self.recipe['facts'],
            self._card(trainer),
        )
        write_sums(target)
        return target

    def _card(self, trainer: Trainer) -> str:
        stages = '\n'.join(
            f'| {s.name} | {s.objective} | {s.steps} | {s.batch_size} |' for s in self.stages
        )
        pictures = sum(bucket['count'] for bucket in self.recipe['buckets'])
        height, width = usual_size(self.recipe['facts']['default_processing_pixels'])
        return CARD.format(
            name=self.recipe['name'],
            pictures=pictures,
            stages=stages,
            height=height,
            width=width,
        )


def read_recipe(path: Path) -> dict[str, Any]:
    """Read and check a recipe's top level."""
    if not path.is_file():
        raise ConfigurationError(f'no recipe {path}; see training/recipes')
    recipe = yaml.safe_load(path.read_text())
    if not isinstance(recipe, dict) or set(recipe) != set(KEYS):
        given = sorted(recipe) if isinstance(recipe, dict) else type(recipe).__name__
        raise ConfigurationError(
            f'{path.name} has {given}; a recipe has the keys {", ".join(KEYS)}'
        )
    return recipe


CARD = """# {name}

A small Marigold: the same architecture (an autoencoder, a U-Net on its latents, one DDIM step)
with few channels, trained from nothing on {pictures} ray-cast pictures of rooms and streets. It
answers in log depth, in one step from zeros. Unlike Marigold, encoder and decoder were trained on
after the latent stage, together with the U-Net under the pixel loss.

It is meant for demonstrations, tests and machines without a GPU, not for safety.

| stage | objective | steps | batch |
|---|---|---|---|
{stages}

Weights: Apache-2.0, as the code that made them. Data: drawn by `marigold_ros.synthetic`, no
recordings.

```python
from marigold_ros.models import load_model
model = load_model('{name}')                      # or the path of this folder
prediction = model.predict(rgb)                   # relative (H, W) in [0, 1], affine in log depth
```

With diffusers:

```python
import torch
from diffusers import MarigoldDepthPipeline
from safetensors.torch import load_file
pipe = MarigoldDepthPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
embedding = load_file(folder + '/empty_text_embedding.safetensors')['empty_text_embedding']
pipe.empty_text_embedding = embedding
latents = torch.zeros(1, pipe.vae.config.latent_channels, {height} // 8, {width} // 8)
picture = torch.from_numpy(rgb).permute(2, 0, 1)  # 4:3; with latents it has to be (3, H, W)
depth = pipe(picture, latents=latents, processing_resolution={width})
```
"""
