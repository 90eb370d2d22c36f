# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure time and memory of a recipe's first stage on this machine, without its data and weights.

    python training/measure_step.py training/recipes/marigold_v1_0.yaml --precision float32
    python training/measure_step.py training/recipes/e2e.yaml --networks small --scale 0.2

The networks have random weights; images and depth are random numbers, prepared before the clock
runs. The largest image size of the recipe is measured, in the training loop itself; under torchrun
or accelerate launch each process takes the recipe's batch.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import resource
from statistics import median
from tempfile import TemporaryDirectory
import time
from typing import Any

from marigold_ros.threads import settle_threads

settle_threads()


def main() -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recipe', type=Path, help='of a Marigold, see training/recipes')
    parser.add_argument('--precision', choices=('float32', 'bf16', 'fp16'), default='float32')
    parser.add_argument('--networks', choices=('sd2', 'small'), default='sd2')
    parser.add_argument('--scale', type=float, default=1.0, help='of the image sides')
    parser.add_argument('--accumulation', type=int, help="default: the recipe's")
    parser.add_argument('--steps', type=int, default=3, help='timed, after one that is not')
    args = parser.parse_args()

    from marigold_training.run.recipe import PRECISIONS, read_recipe
    from marigold_training.run.stages import read_stages

    recipe = read_recipe(args.recipe)
    stage = read_stages(recipe['stages'], recipe.get('common', {}))[0]
    sizes = [[side * args.scale for side in entry['size']] for entry in recipe['sources']]
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    size = (8 * round(height / 8), 8 * round(width / 8))
    networks = new_networks(args.networks, recipe)
    accumulation = args.accumulation or stage.accumulation
    found = measure(networks, stage, size, PRECISIONS[args.precision], accumulation, args.steps)
    about = {'recipe': args.recipe.name, 'networks': args.networks, 'precision': args.precision}
    if int(os.environ.get('RANK', 0)) == 0:
        print(json.dumps({**about, **found}, indent=2))
    return 0


def new_networks(kind: str, recipe: dict[str, Any]) -> Any:
    """Build networks with random weights, in the shape of Stable Diffusion 2 or small."""
    from marigold_ros.models.benchmarks.random_networks import random_networks
    from marigold_training.networks.initialise import initialise
    from marigold_training.objectives.trained_networks import TrainedNetworks

    noise = recipe.get('noise', 'gaussian'), float(recipe.get('noise_strength', 0.9))
    if kind == 'small':
        return initialise({'kind': 'small'}, 0, recipe['facts']['space'], *noise)
    parts = random_networks('sd2')
    networks = parts.autoencoder, parts.unet, parts.scheduler, parts.text
    return TrainedNetworks(*networks, recipe['facts']['space'], *noise)


def measure(
    networks: Any,
    stage: Any,
    size: tuple[int, int],
    precision: str,
    accumulation: int,
    steps: int,
) -> dict[str, Any]:
    """
    Run the training loop for a few steps.

    Returns
    -------
    dict
        ``step_s`` (median) and ``images_per_s``, ``peak_gb`` of the device (of the process on a
        CPU), and what was measured.

    """
    from dataclasses import replace

    from marigold_training.data.mixture import Batch
    from marigold_training.run.accelerator import new_accelerator
    from marigold_training.run.loop import Trainer
    import torch

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

    class Endless(torch.utils.data.Dataset):
        """The same batch, and when it was asked for."""

        def __getitem__(self, number: int) -> Batch:
            if number % accumulation == 0:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                began.append(time.perf_counter())
            return batch

    # Longer than what is measured, so that the loop does not come to its end and save.
    longer = replace(stage, steps=10_000, accumulation=accumulation, backup_every=0)
    accelerator = new_accelerator(precision, cpu=not torch.cuda.is_available())
    with TemporaryDirectory() as folder:
        trainer = Trainer(networks, [longer], [Endless()], Path(folder), accelerator)
        trainer._save = lambda: None  # type: ignore[method-assign]  # 14 GB in full size
        trainer.run(stop=lambda: len(began) > steps + 1)
    times = [later - sooner for sooner, later in zip(began, began[1:], strict=False)][1:]
    on_gpu = torch.cuda.is_available()
    peak = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {
        'device': torch.cuda.get_device_name() if on_gpu else 'cpu',
        'size': list(size),
        'batch_size': stage.batch_size,
        'accumulation': accumulation,
        'steps': len(times),
        'step_s': median(times),
        'images_per_s': stage.batch_size * accumulation / median(times),
        'peak_gb': peak / 1e9,
    }


if __name__ == '__main__':
    raise SystemExit(main())
