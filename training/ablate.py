# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure the effect of ensemble size, denoising steps and initial noise, one changed at a time.

    python training/ablate.py --model runs/diffusion/tiny-diffusion --scenes 100
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import sys

from marigold_ros.commands.terminal.options import integer
from marigold_ros.threads import settle_threads

settle_threads()


def main() -> int:
    """Measure and print."""
    args = read_arguments()

    from marigold_ros.errors import MarigoldError
    from marigold_ros.evaluation.results.results import to_json
    from marigold_ros.models import load_model
    from marigold_ros.synthetic.scenes.scene import make_sample
    from marigold_training.ablation import ablate, ablation_table
    from marigold_training.run.score import render_scenes
    from marigold_training.second_generator.generator import make_second_sample

    make = make_second_sample if args.second else make_sample
    try:
        pairs = list(render_scenes(make, args.second or args.scenes))
        rows = ablate(load_model(args.model), pairs, args.members, args.steps)
        print(to_json([asdict(row) for row in rows]) if args.json else ablation_table(rows))
    except MarigoldError as error:
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
    parser.add_argument(
        '--model', required=True, help='name or folder of a checkpoint that starts from noise'
    )
    source = parser.add_mutually_exclusive_group()
    text = 'held-out scenes (default: 100)'
    source.add_argument('--scenes', type=integer(1), default=100, help=text)
    text = 'scenes of the second generator'
    source.add_argument('--second', type=integer(1), default=0, help=text)
    parser.add_argument(
        '--members', type=int, nargs='+', default=(1, 2, 4, 8, 16), help='(default: 1 2 4 8 16)'
    )
    text = 'of denoising (default: 1 2 4 10 25 50)'
    parser.add_argument('--steps', type=int, nargs='+', default=(1, 2, 4, 10, 25, 50), help=text)
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    return parser.parse_args()


if __name__ == '__main__':
    raise SystemExit(main())
