# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Options of ``evaluate`` that choose what is scored: images in place of bags, corrupted ones."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.corruption_kinds import CORRUPTIONS

if TYPE_CHECKING:
    from marigold_ros.replay.image_sets import ImageChoice

# Those of `marigold_ros.evaluation.protocols.oracle`, which would load numpy for --help.
ORACLES = (
    'own',
    'marigold-kitti',
    'marigold-kitti-garg',
    'marigold-nyu',
    'marigold-scannet',
    'marigold-eth3d',
    'marigold-diode',
)
# As marigold_ros.replay.image_sets has them; a test holds the two together.
DATASETS = ('folder', 'nyu', 'kitti', 'eth3d', 'scannet', 'diode')


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Declare what else than bags as they are can be scored: images, corrupted ones."""
    parser.add_argument(
        '--dataset',
        choices=DATASETS,
        help='BAG is a folder or tar of images with depth: of a benchmark, or any (folder)',
    )
    parser.add_argument('--split', default='', metavar='FILE', help='list of its files')
    parser.add_argument(
        '--images', default='*/image.*', metavar='PATTERN', help='without a list: its images'
    )
    parser.add_argument(
        '--depths', default='*/depth_mm.png', metavar='PATTERN', help='and their depth'
    )
    parser.add_argument(
        '--depth-scale',
        type=float,
        default=1000.0,
        metavar='N',
        help='of --dataset folder: whole numbers per metre (default: 1000)',
    )

    parser.add_argument(
        '--corrupt',
        type=corruptions,
        default=(),
        metavar='KINDS',
        help='score with corrupted images as well, at 5 strengths each: all, or some of '
        f'{",".join(CORRUPTIONS)}',
    )


def chosen_images(args: argparse.Namespace) -> ImageChoice | None:
    """Read which images are to be taken in place of bags; None for bags."""
    if args.dataset is None:
        if args.split:
            raise ConfigurationError('--split is a list of images; say of which --dataset')
        return None
    from marigold_ros.replay.image_sets import ImageChoice

    if not args.depth_scale > 0:
        raise ConfigurationError(
            f'--depth-scale is {args.depth_scale}; give numbers per metre, such as 1000 for mm'
        )
    patterns = args.images, args.depths
    return ImageChoice(args.dataset, args.split, *patterns, args.depth_scale)


def corruptions(text: str) -> tuple[str, ...]:
    """Read kinds of corruption with commas between."""
    kinds = CORRUPTIONS if text == 'all' else tuple(dict.fromkeys(text.split(',')))
    unknown = sorted(set(kinds) - set(CORRUPTIONS))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"'{unknown[0]}' is no corruption; give all, or some of {','.join(CORRUPTIONS)}"
        )
    return kinds


def published_oracle(dataset: str | None) -> str:
    """Give the rule of the oracle that publications follow on a data set."""
    rule = f'marigold-{dataset}'
    return rule if rule in ORACLES else ORACLES[0]
