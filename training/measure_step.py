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
import math
import os
from pathlib import Path
from statistics import median
import sys
from typing import Any

from marigold_ros.commands.terminal.options import integer, positive_number
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
    parser.add_argument('--scale', type=positive_number, default=1.0, help='of the image sides')
    parser.add_argument('--accumulation', type=integer(1), help="default: the recipe's")
    parser.add_argument('--steps', type=integer(1), default=3, help='timed, after one that is not')
    args = parser.parse_args()

    from marigold_ros.errors import MarigoldError
    from marigold_training.data.mixture import in_multiples
    from marigold_training.run.recipe import PRECISIONS, read_recipe
    from marigold_training.run.stages import read_stages
    from marigold_training.run.step_time import networks_to_time, stable_diffusion

    try:
        recipe = read_recipe(args.recipe)
        stage = read_stages(recipe['stages'], recipe.get('common', {}))[0]
        sizes = [[side * args.scale for side in entry['size']] for entry in recipe['sources']]
        size = in_multiples(max(sizes, key=math.prod))
        small = {**recipe, 'init': {'kind': 'small'}}
        networks = stable_diffusion(recipe) if args.networks == 'sd2' else networks_to_time(small)
        accumulation = args.accumulation or stage.accumulation
        found = measure(
            networks, stage, size, PRECISIONS[args.precision], accumulation, args.steps
        )
    except MarigoldError as error:
        print(f'measure_step: {error}', file=sys.stderr)
        return 1
    about = {'recipe': args.recipe.name, 'networks': args.networks, 'precision': args.precision}
    if int(os.environ.get('RANK', 0)) == 0:
        print(json.dumps({**about, **found}, indent=2))
    return 0


def measure(
    networks: Any, stage: Any, size: tuple[int, int], precision: str, accumulation: int, steps: int
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

    from marigold_ros.models.runtime.usage import PeakMemory
    from marigold_training.run.accelerator import end, new_accelerator
    from marigold_training.run.step_time import time_steps
    import torch

    accelerator = new_accelerator(precision, cpu=not torch.cuda.is_available())
    memory = PeakMemory(accelerator.device)
    timed = replace(stage, accumulation=accumulation)
    times = time_steps(networks, timed, size, accelerator, steps)
    end(accelerator)
    on_gpu = torch.cuda.is_available()
    return {
        'device': torch.cuda.get_device_name() if on_gpu else 'cpu',
        'size': list(size),
        'batch_size': stage.batch_size,
        'accumulation': accumulation,
        'steps': len(times),
        'step_s': median(times),
        'images_per_s': stage.batch_size * accumulation / median(times),
        'peak_gb': memory.read() / 1e9,
    }


if __name__ == '__main__':
    raise SystemExit(main())
