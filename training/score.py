# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score a checkpoint on scenes that it was not trained on, or on your own images with depth.

    python training/score.py --scenes 200
    python training/score.py --second 60 --model runs/tiny/tiny
    python training/score.py --pairs data/mine --pictures mine.png
    python training/score.py --pairs data/mine --model prompt_depth_anything --points

--second renders scenes of another generator, for choosing between checkpoints. --pairs takes a
folder of folders with image.* and depth_mm.png each. --points compares a model that takes points
with itself without them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
import sys

from marigold_ros.threads import settle_threads

settle_threads()


def main() -> int:
    """Score, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model', default='tiny', help='name or folder of the checkpoint (default: tiny)'
    )
    parser.add_argument('--vae', help="autoencoder in place of the checkpoint's own")
    parser.add_argument('--scenes', type=int, default=0, help='held-out scenes (default: 200)')
    parser.add_argument('--second', type=int, default=0, help='scenes of the second generator')
    parser.add_argument('--pairs', type=Path, help='folder of folders with image and depth')
    parser.add_argument('--mean-map', action='store_true', help='score the mean map as well')
    parser.add_argument('--points', action='store_true', help='with points over without')
    parser.add_argument(
        '--pictures', type=Path, help='write a contact sheet of the first ten to this PNG'
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    args = parser.parse_args()
    if sum(map(bool, (args.pairs, args.scenes, args.second))) > 1:
        parser.error('--pairs, --scenes and --second exclude each other; give one of them')
    if min(args.scenes, args.second) < 0:
        parser.error('--scenes and --second are numbers of scenes; give 1 or more')
    if args.points and args.mean_map:
        parser.error('--points compares a model with itself alone; leave out --mean-map')

    from marigold_ros.errors import InputError, MarigoldError
    from marigold_ros.evaluation.results.results import to_json
    from marigold_ros.models import load_model
    from marigold_ros.synthetic.scenes.scene import make_sample
    from marigold_training.data.file_pairs import raise_problems
    from marigold_training.data.layouts import FolderPairs
    from marigold_training.prompted_score import score_prompted
    from marigold_training.run.score import (
        contact_sheet,
        is_scorable,
        MIN_KNOWN,
        read_pairs,
        render_scenes,
        score,
        training_mean_map,
    )
    from marigold_training.second_generator.generator import make_second_sample

    def pairs(source=None):
        if source is not None:
            return read_pairs(source)
        if args.second:
            return render_scenes(make_second_sample, args.second)
        return render_scenes(make_sample, args.scenes or 200)

    try:
        source = None
        if args.pairs:
            folder = args.pairs.resolve()
            source = FolderPairs(
                folder.parent, folder.name, images='*/image.*', depths='*/depth_mm.png'
            )
            raise_problems(source.problems, source.name)
            if not any(is_scorable(pair) for _, pair in read_pairs(source)):
                raise InputError(
                    f'none of {len(source)} images has known depth at {MIN_KNOWN} pixels, which a '
                    'score needs; give images with more points',
                    cause='empty',
                )
        model = load_model(args.model, vae=args.vae)
        if args.pictures:  # first: scoring takes longer, and would be lost
            contact_sheet(model, islice(pairs(source), 10), args.pictures)
        mean_map = training_mean_map() if args.mean_map else None
        total = args.second or args.scenes or 200 if source is None else len(source)
        if args.points:
            table = score_prompted(model, pairs(source))
        else:
            table = score(model, pairs(source), total, mean_map)
        heads = 'with without ratio' if args.points else 'AbsRel delta1 images'
        print(to_json(table) if args.json else text_of(table, heads.split()))
    except MarigoldError as error:
        print(f'score: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def text_of(table: Mapping[str, Mapping[str, float]], heads: list[str]) -> str:
    """Return figures as text for a terminal."""
    lines = [f'{"":28}' + ''.join(f'{head:>9}' for head in heads)]
    for name, row in table.items():
        lines.append(f'{name:28}' + ''.join(f'{value:9.4g}' for value in row.values()))
    return '\n'.join(lines)


if __name__ == '__main__':
    raise SystemExit(main())
