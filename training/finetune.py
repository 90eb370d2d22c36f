# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Train a checkpoint from a recipe; run it again and it goes on from where it stopped.

    python training/finetune.py training/recipes/tiny.yaml --out runs/tiny
    python training/finetune.py training/recipes/tiny.yaml --out runs/tiny --minutes 30
    python training/finetune.py training/recipes/tiny.yaml --out runs/tiny --export-only
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import sys

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def main() -> int:
    """Read the recipe, render what is missing, train, export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recipe', type=Path, help='YAML file, see training/recipes')
    parser.add_argument('--out', type=Path, required=True, help='folder of the run')
    parser.add_argument(
        '--cache', type=Path, help='folder of rendered pictures (default OUT/cache)'
    )
    parser.add_argument('--minutes', type=float, help='stop with a checkpoint after this time')
    parser.add_argument('--workers', type=int, default=2, help='processes that render')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument(
        '--render-only', action='store_true', help='fill the picture cache and stop'
    )
    parser.add_argument(
        '--export-only', action='store_true', help='export the last checkpoint and stop'
    )
    args = parser.parse_args()

    from marigold_ros.errors import MarigoldError
    from marigold_ros.learning.recipe import Run

    try:
        run = Run(args.recipe, args.out, args.cache or args.out / 'cache', args.device)
        if not args.export_only:
            run.render(args.workers)
        if args.render_only:
            return 0
        if not args.export_only:
            run.train(args.minutes)
        print(run.export())
    except MarigoldError as error:
        print(f'finetune: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
