# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure how fast images come, and how long a device waits for them.

    python training/measure_loading.py training/recipes/marigold_v1_1.yaml --data data --rate 59
    python training/measure_loading.py --rate 59 --workers 4

The first measures the sources of a recipe, the second images of 480x640 in each layout, made in
a temporary folder. Each source is also measured as latents from disk. CPU time of one process is
what counts: on a busy machine it stays about the same. --rate is how many images a second the
device takes: its FLOP/s over the FLOP of one image, see finetune.py --plan.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recipe', type=Path, nargs='?', help='measure its sources')
    parser.add_argument('--data', type=Path, default=Path('data'), help='(default: data)')
    parser.add_argument('--pictures', type=int, default=64, help='of each source (default: 64)')
    parser.add_argument('--workers', type=int, default=2, help='processes that load (default: 2)')
    parser.add_argument('--rate', type=float, default=59.0, help='images/s of the device')
    args = parser.parse_args()

    from loading_benchmark import as_table, measure, measure_layouts
    from marigold_ros.errors import MarigoldError

    try:
        if args.recipe:
            rows = measure(args.recipe, args.data, args.pictures)
        else:
            rows = measure_layouts(args.pictures)
    except MarigoldError as error:
        print(f'measure_loading: {error}', file=sys.stderr)
        return 1
    print(as_table(rows, args.workers, args.rate))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
