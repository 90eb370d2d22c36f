# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Distillation of a checkpoint's autoencoder into a small one that takes a fraction of the time.

The student is an AutoencoderTiny: convolutions of one width without normalisation, which costs
most of the time at full size. It learns the teacher's scaled latents (``scaling_factor`` 1), which
the U-Net expects; its encoder sees colour images only and its decoder depth only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from statistics import median
from typing import Any

from diffusers import AutoencoderTiny
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.locate import find_folder
from marigold_ros.models.marigold.checkpoint import read_facts
from marigold_ros.models.runtime.usage import milliseconds
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_ros.whole_files import write_whole
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import Batch, in_multiples, make_batch, make_example
from marigold_training.data.pairs import Pair
from marigold_training.data.targets import denormalise
from marigold_training.families.marigold import initial_networks
from marigold_training.networks.export import new_checkpoint, save_network, usual_size
from marigold_training.objectives.losses import masked_mean
from marigold_training.objectives.trained_networks import (
    decode,
    encode,
    latents_of,
    TrainedNetworks,
)
from marigold_training.recipe_keys import read_fields
from marigold_training.run.recipe import TrainingRun
import numpy as np
import torch

SCENES = 16  # held out, for the errors
ROUNDS = 9  # for the median times


@dataclass(frozen=True)
class Student:
    """A recipe's ``student``; the defaults are TAESD's, for an autoencoder of SD-2's size."""

    width: int = 64  # channels of every layer
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)  # at full size first
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)  # at full size last

    def build(self, levels: int, latent_channels: int, seed: int) -> AutoencoderTiny:
        """Build the student with random weights; raises ConfigurationError for invalid sizes."""
        for name in ('encoder_blocks', 'decoder_blocks'):
            if len(getattr(self, name)) != levels:
                raise ConfigurationError(
                    f'student.{name} is {list(getattr(self, name))}; the autoencoder of the '
                    f'checkpoint has {levels} sizes: give as many numbers'
                )
        if not all(x >= 1 for x in (self.width, *self.encoder_blocks, *self.decoder_blocks)):
            raise ConfigurationError(f'{self}; choose numbers of at least 1')
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoencoderTiny(
                encoder_block_out_channels=(self.width,) * levels,
                decoder_block_out_channels=(self.width,) * levels,
                num_encoder_blocks=tuple(self.encoder_blocks),
                num_decoder_blocks=tuple(self.decoder_blocks),
                latent_channels=latent_channels,
                scaling_factor=1.0,
            )


class Distillation(TrainingRun):
    """A run that trains a student; the recipe's ``init`` is the teacher's checkpoint."""

    def first_chain(self) -> TrainedNetworks:
        """Open the teacher."""
        return initial_networks(self.recipe, self.seed)

    def new_chain(self) -> TrainedNetworks:
        """Open the teacher and add a new student."""
        student = read_fields(Student, 'student', self.recipe.get('student', {}))
        self._check(student)
        chain = self.first_chain()
        config = chain.autoencoder.config
        levels = len(config.block_out_channels)
        chain.student = student.build(levels, config.latent_channels, self.seed)
        chain.predicted = self.recipe['facts']['noise']
        return chain

    def _check(self, student: Student) -> None:
        """Raise unless the recipe fits the checkpoint and trains the student only."""
        init = self.recipe['init']
        if not isinstance(init, Mapping) or init.get('kind') != 'checkpoint':
            raise ConfigurationError(
                f'init is {init}; a student needs {{kind: checkpoint, path: ...}}'
            )
        facts = read_facts(find_folder(str(init.get('path'))))
        for name in ('space', 'noise'):
            found, given = getattr(facts, name), self.recipe['facts'].get(name)
            if given != found:
                raise ConfigurationError(
                    f"facts.{name} of the recipe is '{given}' and {facts.name} has '{found}'; "
                    'use the latter'
                )
        for stage in self.stages:
            if stage.objective != 'distill' or stage.trains != ('student',):
                raise ConfigurationError(
                    f'stage {stage.name} has objective {stage.objective} and trains '
                    f'{", ".join(stage.trains)}; here every stage must have distill and train the '
                    'student'
                )
            if stage.gradient_checkpointing:
                # diffusers' checkpointed AutoencoderTiny does not rescale images to [0, 1].
                raise ConfigurationError(
                    f'stage {stage.name} has gradient_checkpointing, which AutoencoderTiny does '
                    'not support; leave it out, a student needs little memory'
                )

    def export(self, scored: bool = True, weights: str = '') -> Path:
        """
        Compare teacher and student, and export the student as a folder for ``load_model(vae=…)``.

        The figures go to ``metrics.json`` and on the card, whether ``scored`` or not.
        """
        chain, facts, self.weights = self.finished(weights), self.recipe['facts'], weights
        assert isinstance(chain, TrainedNetworks)
        measured = compare(chain, facts, self.accelerator.device)
        write_whole(self.metrics, json.dumps(measured, indent=2).encode())
        target = self.folder / self.recipe['name']
        card = CARD.format(
            name=self.recipe['name'],
            teacher=find_folder(str(self.recipe['init']['path'])).resolve().name,
            metrics=self.measured(),
            scenes=SCENES,
            size='x'.join(map(str, measured_size(facts))),
        )
        with new_checkpoint(target, card) as draft:
            save_network(chain.student, draft)
        return target


@torch.no_grad()
def compare(
    chain: TrainedNetworks,
    facts: Mapping[str, Any],
    device: torch.device,
    scenes: int = SCENES,
    rounds: int = ROUNDS,
) -> dict[str, dict[str, float]]:
    """
    Measure teacher and student side by side, at the checkpoint's usual size.

    Returns
    -------
    dict
        ``teacher`` and ``student`` to ``round_trip`` (AbsRel of the truth after the teacher's
        encoder and the own decoder, in metres), ``map_difference`` and ``latent_difference``
        (mean absolute, to the teacher's), ``answer_difference`` (of the one-step prediction),
        ``milliseconds`` (median of encoding an image and decoding a map) and ``speed`` (relative
        to the teacher).

    """
    networks = {'teacher': chain.autoencoder, 'student': chain.student}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in networks}
    for batch in held_out(measured_size(facts), chain.space, scenes):
        batch = batch.to(device)
        rgb_latent, depth_latent, _ = latents_of(chain, batch)
        taught = chain.decode(depth_latent).clamp(0.0, 1.0)
        for name, network in networks.items():
            relative = decode(network, depth_latent).clamp(0.0, 1.0)
            metres = denormalise(relative, batch.depth, batch.valid, chain.space)
            error = torch.where(batch.valid, (metres / batch.depth - 1.0).abs(), 0.0)
            answers = [_predict(chain, x, batch.rgb) for x in (network, chain.autoencoder)]
            row = {
                'round_trip': masked_mean(error, batch.valid),
                'map_difference': (relative - taught).abs().mean(),
                'latent_difference': (encode(network, batch.rgb) - rgb_latent).abs().mean(),
                'answer_difference': (answers[0] - answers[1]).abs().mean(),
            }
            rows[name].append({key: value.item() for key, value in row.items()})
    times = _times(networks, batch.rgb, depth_latent, device, rounds)
    return {
        name: {
            **{key: float(np.mean([row[key] for row in rows[name]])) for key in rows[name][0]},
            'milliseconds': times[name],
            'speed': times['teacher'] / times[name],
        }
        for name in networks
    }


def _predict(chain: TrainedNetworks, autoencoder: Any, rgb: torch.Tensor) -> torch.Tensor:
    """Relative prediction of the checkpoint in one step with an autoencoder."""
    rgb_latent = encode(autoencoder, rgb)
    start = None
    if chain.predicted != 'zeros':
        noise = torch.randn(rgb_latent.shape, generator=torch.Generator().manual_seed(0))
        start = noise.to(rgb_latent)
    return decode(autoencoder, chain.one_step(rgb_latent, start)).clamp(0.0, 1.0)


def _times(
    networks: Mapping[str, Any],
    rgb: torch.Tensor,
    latent: torch.Tensor,
    device: torch.device,
    rounds: int,
) -> dict[str, float]:
    """Median ms of encoding and decoding by each, in turns, so that both meet the same load."""

    def job(network: Any) -> Callable[[], Any]:
        return lambda: (encode(network, rgb), decode(network, latent))

    taken: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, network in networks.items():
            spent = milliseconds(job(network), device)
            if number:  # the first is the warm-up
                taken[name].append(spent)
    return {name: median(values) for name, values in taken.items()}


def measured_size(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of a 4:3 image at the checkpoint's processing size."""
    return in_multiples(usual_size(facts))


def held_out(size: tuple[int, int], space: str, scenes: int) -> Iterator[Batch]:
    """Render held-out scenes, one per batch."""
    rng, plain = np.random.default_rng(0), Augmentation(flip=0.0)
    for seed in range(scenes):
        sample = make_sample(seed, width=size[1], height=size[0])
        pair = Pair(sample.rgb, sample.depth)
        yield make_batch([make_example(pair, size, space, plain, rng)], 'held out')


CARD = """# {name}

A small autoencoder (AutoencoderTiny), distilled from that of the Marigold checkpoint `{teacher}`
to replace it. It encodes images and decodes depth, nothing else.

```python
from marigold_ros.models import load_model
model = load_model('{teacher}', vae=folder)       # folder: the path of this one
```

With diffusers: `AutoencoderTiny.from_pretrained(folder)`, as `vae` of a MarigoldDepthPipeline.
{metrics}
Measured on {scenes} held-out rendered scenes at {size}, both in one run. `round_trip`: AbsRel of
the truth, in metres, after the teacher's encoder and either decoder. Differences are mean absolute
differences to the teacher's map (in [0, 1]), to its latent of the image (deviation about 1), and
to the checkpoint's prediction with its own autoencoder (in [0, 1]).
`milliseconds`: encoding an image and decoding a map.

Weights: derived from `{teacher}`; the licence of those weights applies to these.
"""
