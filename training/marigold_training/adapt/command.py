# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adapt a model and the fusion network to the bags of a robot, whose LiDAR teaches them.

The images are divided into blocks of time: to train on, to stop on, and to judge. Of each network
the adapted one is installed if it is shown to be better on the judged block, else the base is
kept. Writes the folder DIR for --model, with both networks, a card, results.json and proof.html.
Unfinished work lies in DIR.work: the same command resumes it; at the end it can be deleted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from marigold_ros.commands.terminal.options import add_topic_options, number_type, positive_number
from marigold_ros.threads import usable_cores

SUMMARY = 'adapt a model and the fusion network to bags, and prove it'
# Copies of defaults of recipes.py, whose import would load torch for --help; a test holds them
# together.
HOLD_LINES, MINUTES = 4, 12.0
ROLES = ('image', 'camera_info', 'lidar')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('bags', nargs='+', metavar='BAG', help='folder or file of a bag')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the result')
    parser.add_argument(
        '--base',
        default='tiny',
        metavar='MODEL',
        help='model to start from, of any family that can be trained (default: tiny)',
    )
    add_topic_options(parser, *ROLES)
    for name, text in (
        (
            'train',
            'images to train on, by number over all bags (default: those before judged ones)',
        ),
        ('judge', 'images to judge on (default: the last 30 %%)'),
    ):
        parser.add_argument(f'--{name}', type=span, metavar='FIRST:END', help=text)
    parser.add_argument(
        '--minutes',
        type=positive_number,
        default=MINUTES,
        metavar='N',
        help='time to train; reading, drawing, validating and judging come beside it, together '
        f'often more (default: {MINUTES:g})',
    )
    parser.add_argument(
        '--hold-lines',
        type=number_type(int, lambda n: n == 0 or n >= 2, '0 or an integer of at least 2'),
        default=HOLD_LINES,
        metavar='N',
        help='never train on every N-th scan line, to find stripes; 0 trains on all '
        f'(default: {HOLD_LINES})',
    )
    parser.add_argument(
        '--teacher',
        metavar='MODEL',
        help='stronger model, as --model of predict, whose depth, fitted to the LiDAR, is learned '
        'between its points',
    )
    parser.add_argument(
        '--metric',
        action='store_true',
        help='make a model that is metric without LiDAR too, for this camera and mount',
    )
    parser.add_argument(
        '--device', choices=('auto', 'cpu'), default='auto', help='auto: a GPU if there is one'
    )


def span(text: str) -> tuple[int, int]:
    """Parse a block of images, as 0:14."""
    first, colon, end = text.partition(':')
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not of the form FIRST:END with FIRST < END, as 0:14"
        )
    return int(first), int(end)


def run(args: argparse.Namespace) -> int:
    """Adapt and print; return the exit code."""
    from marigold_ros.models.light_imports import import_networks
    from marigold_ros.processes import asked_to_stop

    import_networks()  # before what follows imports all of diffusers
    from marigold_training.adapt.adaptation import Adaptation, AdaptOptions, PAGE
    from marigold_training.run.accelerator import end, new_accelerator

    topics = {name: getattr(args, name) for name in (*ROLES, 'stamps')}
    options = AdaptOptions(
        bags=tuple(args.bags),
        base=args.base,
        out=Path(args.out),
        topics=topics,
        train=args.train,
        judge=args.judge,
        minutes=args.minutes,
        hold_lines=args.hold_lines,
        metric=args.metric,
        teacher=args.teacher,
    )
    accelerator = new_accelerator('bf16', args.device == 'cpu')
    adaptation = Adaptation(options, accelerator, usable_cores())
    with asked_to_stop() as stop:
        proof = adaptation.run(stop)
    end(accelerator)
    if proof is None and not accelerator.is_main_process:
        return 0
    if proof is None:
        print(f'stopped; the same command goes on from {adaptation.work}')
        return 130
    print('\n'.join(proof.reasons))
    print(f'{args.out}: use it as --model or model:=; see {Path(args.out) / PAGE}')
    return 0
