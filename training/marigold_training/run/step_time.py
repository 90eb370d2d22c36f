# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Seconds of a training step on this machine: the training loop itself, on random images."""

from collections.abc import Mapping
from dataclasses import replace
import math
from pathlib import Path
from tempfile import TemporaryDirectory
import time
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import CheckpointError
from marigold_ros.models.benchmarks.random_networks import random_networks
from marigold_training.data.mixture import Batch
from marigold_training.families.registry import trained_family
from marigold_training.objectives.trained_networks import (
    TrainedModel,
    TrainedModule,
    TrainedNetworks,
)
from marigold_training.run.loop import Trainer
from marigold_training.run.recipe import network_of
from marigold_training.run.stages import Stage
import torch


def time_steps(
    chain: TrainedModule,
    stage: Stage,
    size: tuple[int, int],
    accelerator: Accelerator,
    steps: int,
    limit_s: float = math.inf,
) -> list[float]:
    """
    Train for a few steps, which change the networks; return the seconds of each.

    The first step, which prepares kernels, is not timed unless it took ``limit_s``, after which
    one is enough. Batches have images of ``size`` (H, W) and are made before the clock runs.
    """
    generator = torch.Generator().manual_seed(0)
    shape = stage.batch_size, 1, *size
    relative = torch.rand(shape, generator=generator)
    batch = Batch(
        rgb=torch.rand(shape[0], 3, *size, generator=generator) * 2.0 - 1.0,
        relative=relative,
        valid=torch.ones(shape, dtype=torch.bool),
        sky=torch.zeros(shape, dtype=torch.bool),
        depth=1.0 + 9.0 * relative,
        source='random',
        rows=tuple(range(stage.batch_size)),
    )
    began: list[float] = []

    class Repeated(torch.utils.data.Dataset):
        """The same batch, and when it was asked for."""

        def __getitem__(self, number: int) -> Batch:
            if number % stage.accumulation == 0:
                if accelerator.device.type == 'cuda':
                    torch.cuda.synchronize()
                began.append(time.perf_counter())
            return batch

    def enough() -> bool:
        late = len(began) > 1 and began[-1] - began[0] > limit_s
        return late or len(began) > steps + 1

    # More steps than are timed, or the stage would end.
    name = f'timing {stage.name}'
    tried = replace(stage, name=name, steps=steps + 3, backup_every=0, latent_cache=False)
    with TemporaryDirectory() as folder:
        trainer = Trainer(chain, [tried], [Repeated()], Path(folder), accelerator)
        trainer.save = lambda: None  # type: ignore[method-assign]  # 14 GB in full size
        trainer.run(stop=enough)
    times = [later - sooner for sooner, later in zip(began, began[1:], strict=False)]
    return times[1:] or times


def networks_to_time(recipe: Mapping[str, Any]) -> TrainedModel:
    """Return the networks of a recipe's ``init``; random ones of Stable Diffusion 2 without it."""
    network = network_of(recipe)
    try:
        return trained_family(network).initialise(recipe, 0)
    except CheckpointError:
        if network != 'marigold':
            raise
        return stable_diffusion(recipe)


def stable_diffusion(recipe: Mapping[str, Any]) -> TrainedNetworks:
    """Return networks in the shape of Stable Diffusion 2 with random weights."""
    parts = random_networks()
    noise = recipe.get('noise', 'gaussian'), recipe.get('noise_strength', 0.9)
    networks = parts.autoencoder, parts.unet, parts.scheduler, parts.text
    return TrainedNetworks(*networks, recipe['facts']['space'], *noise)
