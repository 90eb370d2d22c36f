# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Time a model stage by stage: latency, memory, arithmetic, and the reference beside it.

  python -m marigold_ros benchmark                      the embedded checkpoint
  python -m marigold_ros benchmark --against diffusers  and the reference, in turns
  python -m marigold_ros benchmark --variants all       runtime variants against the plain model
  python -m marigold_ros benchmark --arch sd2           the published shape, random weights
  python -m marigold_ros benchmark alignment            the metric fit on simulated predictions,
                                                        beside plain methods; no model runs
  python -m marigold_ros benchmark fusion               fused depth beside interpolation of the
                                                        points, for maps good and useless; its time
  python -m marigold_ros benchmark cloud                flying pixels and sky on synthetic drives
  python -m marigold_ros benchmark evaluate             cost of evaluate without the model
The figures depend on what else the machine does: the load is printed with them.
"""

import argparse
from importlib import import_module

from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_setting_option,
    at_least,
    image_size,
    make_folder,
    RuntimeSettings,
)
from marigold_ros.commands.terminal.output import note

# Modules of `benchmarks` by subject. Each has measure(args), table(results), the name FILE of its
# JSON file and drawings(args, results), further files by name.
SUBJECTS = {
    'model': 'model',
    'alignment': 'alignment',
    'fusion': 'fusion',
    'cloud': 'cloud',
    'evaluate': 'evaluation',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'subject',
        nargs='?',
        default='model',
        choices=tuple(SUBJECTS),
        help='what to measure (default: model); alignment uses --data, --runs, --json, --out, '
        'fusion --data, --scenes, --seed, --size, --fusion, --ablate, --cost, --runs, --json, '
        '--out, cloud --model, --size, --runs, --json, --out, evaluate --data, --runs, --json, '
        '--out',
    )
    parser.add_argument(
        '--data',
        metavar='DIR',
        help='for alignment and fusion: true depth as */depth_mm.png, for fusion beside */image.* '
        '(default: synthetic scenes); for evaluate: a bag (default: a synthetic drive)',
    )
    parser.add_argument(
        '--scenes',
        type=at_least(1),
        metavar='N',
        help='for fusion: synthetic scenes (default: 16)',
    )
    parser.add_argument(
        '--fusion',
        default='auto',
        metavar='PATH',
        help='for fusion: the network, as alignment.fusion: auto (embedded), none, or a folder',
    )
    parser.add_argument(
        '--ablate', action='store_true', help='for fusion: also without parts of it'
    )
    parser.add_argument('--cost', action='store_true', help='for fusion: nothing but its time')
    add_model_options(parser)
    parser.add_argument(
        '--arch',
        choices=('sd2',),
        help='random weights of this shape in place of --model; --vae tiny: a small autoencoder',
    )
    parser.add_argument('--against', choices=('diffusers',), help='the reference to compare with')
    parser.add_argument(
        '--size',
        type=image_size('HxW'),
        default=(480, 640),
        metavar='HxW',
        help='of the image (default: 480x640)',
    )
    parser.add_argument(
        '--resolution', type=int, metavar='N', help="processing resolution (checkpoint's)"
    )
    parser.add_argument('--steps', type=int, metavar='N', help="denoising steps (checkpoint's)")
    parser.add_argument('--members', type=int, metavar='E', help="ensemble size (checkpoint's)")
    parser.add_argument('--seed', type=int, default=0, help='of the noise, of scenes (default: 0)')
    parser.add_argument(
        '--runs',
        type=at_least(1),
        default=0,
        metavar='N',
        help='frames (default: as many as fit in 15 s); for alignment: seeds (default: 10); for '
        'cloud: images per drive (default: 3); for evaluate: replays of the bag (default: 2); for '
        'fusion: timed frames (default: 40)',
    )
    parser.add_argument(
        '--rounds', type=at_least(1), default=3, metavar='N', help='of a comparison (default: 3)'
    )
    parser.add_argument(
        '--variants',
        '--levers',  # the former name
        nargs='+',
        metavar='VARIANT',
        help='runtime variants to compare with the plain float32 model: all, or names as '
        'bfloat16+channels_last of channels_last, compile, openvino, onnxruntime, bfloat16, '
        'float16',
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write the figures to DIR as JSON, and charts: benchmark.json and benchmark.svg '
        '(alignment: alignment.json, alignment.png; fusion: fusion.json, fusion.png; cloud: '
        'cloud.json)',
    )
    add_setting_option(parser, RuntimeSettings)


def run(args: argparse.Namespace) -> int:
    """Measure, print, draw; return the exit code."""
    from marigold_ros.evaluation.results.results import machine, to_json

    folder = make_folder(args.out) if args.out else None
    subject = import_module(f'marigold_ros.commands.benchmarks.{SUBJECTS[args.subject]}')
    results = {'schema': 1, 'machine': machine(), **subject.measure(args)}
    text = to_json(results)
    print(text if args.json else subject.table(results))
    if folder is not None:
        files = {subject.FILE: f'{text}\n'.encode(), **subject.drawings(args, results)}
        for name, content in files.items():
            (folder / name).write_bytes(content)
            note(str(folder / name))
    return 0
