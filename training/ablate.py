# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure the effect of ensemble size, denoising steps, initial noise and training noise.

    python training/ablate.py --model runs/diffusion/tiny-diffusion --scenes 100 --chart curves.svg
    python training/ablate.py --recipe training/recipes/tiny_diffusion.yaml --out runs/noise

The first changes one setting of a checkpoint at a time. The second trains the recipe briefly with
each kind of noise; the same command again resumes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
import sys

from marigold_ros.commands.terminal.options import integer
from marigold_ros.threads import settle_threads

settle_threads()


def main() -> int:
    """Measure, print, draw."""
    args = read_arguments()

    from marigold_ros.errors import MarigoldError
    from marigold_ros.evaluation.results.results import to_json
    from marigold_ros.models import load_model
    from marigold_ros.synthetic.scenes.scene import make_sample
    from marigold_ros.whole_files import write_whole
    from marigold_training.ablation import (
        ablate,
        ablate_noise,
        ablation_chart,
        ablation_table,
        train_noise_kinds,
    )
    from marigold_training.run.accelerator import new_accelerator
    from marigold_training.run.score import render_scenes
    from marigold_training.second_generator.generator import make_second_sample

    make = make_second_sample if args.second else make_sample
    rows = []
    try:
        pairs = list(render_scenes(make, args.second or args.scenes))
        if args.model:
            rows += ablate(load_model(args.model), pairs, args.members, args.steps)
        if args.recipe:
            accelerator = new_accelerator(args.precision)
            folders = train_noise_kinds(
                args.recipe, args.out, args.data, accelerator, args.train_steps, args.workers
            )
            models = {kind: load_model(str(folder)) for kind, folder in folders.items()}
            rows += ablate_noise(models, pairs)
        print(to_json([asdict(row) for row in rows]) if args.json else ablation_table(rows))
        if args.chart:
            write_whole(args.chart, ablation_chart(rows).encode())
    except (MarigoldError, FloatingPointError) as error:
        print(f'ablate: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', help='name or folder of a checkpoint that starts from noise')
    source = parser.add_mutually_exclusive_group()
    text = 'held-out scenes (default: 100)'
    source.add_argument('--scenes', type=integer(1), default=100, help=text)
    text = 'scenes of the second generator'
    source.add_argument('--second', type=integer(1), default=0, help=text)
    parser.add_argument(
        '--members', type=int, nargs='+', default=(1, 2, 4, 8, 16), help='(default: 1 2 4 8 16)'
    )
    parser.add_argument(
        '--steps', type=int, nargs='+', default=(1, 2, 4, 10, 25, 50), help='of denoising'
    )
    parser.add_argument('--recipe', type=Path, help='train it with each kind of noise')
    parser.add_argument('--out', type=Path, help='folder of those runs')
    parser.add_argument('--data', type=Path, default=Path('data'), help='(default: data)')
    parser.add_argument(
        '--train-steps',
        type=integer(1),
        default=1000,
        help='of each stage, at most (default: 1000)',
    )
    text = 'processes that load (default: 2)'
    parser.add_argument('--workers', type=integer(0), default=2, help=text)
    parser.add_argument('--precision', choices=('no', 'bf16', 'fp16'), default='bf16')
    parser.add_argument('--chart', type=Path, help='write the curves to this SVG')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    args = parser.parse_args()
    if not (args.model or args.recipe):
        parser.error('give --model, or --recipe with --out, or both')
    if args.recipe and not args.out:
        parser.error('--recipe needs --out, the folder of its runs')
    if args.out and not args.recipe:
        parser.error('--out is the folder of the runs of --recipe; give that too')
    return args


if __name__ == '__main__':
    raise SystemExit(main())
