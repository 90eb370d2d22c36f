# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score a checkpoint on held-out synthetic scenes, beside the best plane and quadric.

    python training/score.py --model tiny --scenes 200
    python training/score.py --model runs/tiny/tiny --scenes 200 --json

Every method sees the whole truth for its fit: the model's scale and shift, the surfaces'
coefficients. All of them minimise the mean relative error. The seeds are never used in training.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def main() -> int:
    """Draw the scenes, predict, fit, average."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='tiny', help='name or folder of the checkpoint')
    parser.add_argument('--scenes', type=int, default=200, help='number of held-out scenes')
    parser.add_argument('--pictures', help='write a contact sheet of the first scenes to this PNG')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    args = parser.parse_args()

    from marigold_ros.errors import MarigoldError
    from marigold_ros.learning.score import contact_sheet, score_scenes
    from marigold_ros.models import load_model

    try:
        model = load_model(args.model)
        table = score_scenes(model, args.scenes)
        if args.pictures:
            contact_sheet(model, args.pictures)
    except MarigoldError as error:
        print(f'score: {error}', file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(table, indent=2))
        return 0
    print(f'{args.scenes} held-out scenes   AbsRel   delta1')
    for name, row in table.items():
        print(f'{name:24s} {row["abs_rel"]:.4f}   {row["delta1"]:.4f}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
