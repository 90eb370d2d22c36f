# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Time a model stage by stage: latency, memory, arithmetic, and the reference beside it.

  python -m marigold_ros benchmark                      the embedded checkpoint
  python -m marigold_ros benchmark --against diffusers  and the reference, in turns
  python -m marigold_ros benchmark --variants all         what makes it faster, and what does not
  python -m marigold_ros benchmark --arch sd2           the published shape, random weights
  python -m marigold_ros benchmark alignment            the metric fit on predictions with planted
                                                        errors, beside plain methods; no model runs
  python -m marigold_ros benchmark cloud                flying pixels and sky on synthetic drives
  python -m marigold_ros benchmark evaluate             all of evaluate but the model, by frames/s
Figures hold for this machine as busy as it is now: the load is printed with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import sys
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.options import (
    add_model_options,
    add_setting_option,
    make_folder,
    model_settings,
    read_settings,
)
from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from marigold_ros.models.benchmarks.benchmark import Work
    from marigold_ros.models.marigold.checkpoint import Networks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'subject',
        nargs='?',
        default='model',
        choices=('model', 'alignment', 'cloud', 'evaluate'),
        help='what to measure (default: model); alignment heeds --data, --runs, --json, --out, '
        'cloud --model, --size, --runs, --json, --out, evaluate --data, --runs, --json, --out',
    )
    parser.add_argument(
        '--data',
        metavar='DIR',
        help='of alignment: true depth as */depth_mm.png there (default: synthetic scenes); of '
        'evaluate: a bag (default: a synthetic drive)',
    )
    add_model_options(parser)
    parser.add_argument(
        '--arch',
        choices=('sd2',),
        help='random weights of this shape in place of --model; --vae tiny: a small autoencoder',
    )
    parser.add_argument('--against', choices=('diffusers',), help='the reference to compare with')
    parser.add_argument(
        '--size',
        type=_size,
        default=(480, 640),
        metavar='HxW',
        help='of the image (default: 480x640)',
    )
    parser.add_argument(
        '--resolution', type=int, metavar='N', help="processing resolution (the checkpoint's)"
    )
    parser.add_argument('--steps', type=int, metavar='N', help="denoising steps (checkpoint's)")
    parser.add_argument('--members', type=int, metavar='E', help="ensemble size (checkpoint's)")
    parser.add_argument('--seed', type=int, default=0, help='of the noise (default: 0)')
    parser.add_argument(
        '--runs',
        type=_count,
        default=0,
        metavar='N',
        help='frames (default: what fits in 15 s); of alignment: seeds (default: 10); '
        'of cloud: images of a drive (default: 3); of evaluate: how often the bag is played '
        '(default: 2)',
    )
    parser.add_argument(
        '--rounds', type=_count, default=3, metavar='N', help='of a comparison (default: 3)'
    )
    parser.add_argument(
        '--variants',
        '--levers',  # the former name
        nargs='+',
        metavar='VARIANT',
        help='what to measure against the plain float32 model: all, or names as '
        'bfloat16+channels_last of channels_last, compile, openvino, bfloat16, float16',
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.add_argument(
        '--out', metavar='DIR', help='write benchmark.json and benchmark.svg there'
    )
    add_setting_option(parser, RuntimeConfig)


def run(args: argparse.Namespace) -> int:
    """Measure, print, draw."""
    folder = make_folder(args.out) if args.out else None
    if args.subject == 'alignment':
        from marigold_ros.commands.benchmarks.alignment import run as run_alignment

        return run_alignment(args, folder)
    if args.subject == 'cloud':
        from marigold_ros.commands.benchmarks.cloud import run as run_cloud

        return run_cloud(args, folder)
    if args.subject == 'evaluate':
        from marigold_ros.commands.benchmarks.evaluation import run as run_evaluate

        return run_evaluate(args, folder)
    from marigold_ros.commands.benchmarks.report import table, write_files
    from marigold_ros.evaluation.results.results import machine, to_json, versions
    from marigold_ros.models import use_threads
    from marigold_ros.models.benchmarks.benchmark import Benchmark, variants
    from marigold_ros.models.runtime.devices import choose_device

    config = model_settings(args)
    use_threads(config.torch_threads)
    runtime = read_settings(RuntimeConfig, args.settings)
    chosen = variants(args.variants or [], choose_device(config.device))
    benchmark = Benchmark(_source(args), _work(args), config.device, config.dtype, tell, runtime)
    results: dict[str, Any] = {
        'schema': 1,
        'machine': machine(),
        'versions': versions(),
        **benchmark.describe(),
        'own': benchmark.measure(args.runs, _progress),
    }
    if args.against:
        results['against'] = benchmark.against_reference(args.rounds, _progress)
    if chosen:
        results['variants'] = benchmark.measure_variants(chosen, args.rounds, _progress)
    print(to_json(results) if args.json else table(results))
    if folder is not None:
        for path in write_files(folder, results):
            tell(str(path))
    return 0


def tell(text: str) -> None:
    """Say on stderr what is going on: stdout is for the figures."""
    print(text, file=sys.stderr, flush=True)


def _progress(total: int, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=None, leave=False)


def _source(args: argparse.Namespace) -> Callable[[], Networks]:
    """Give a function that loads the chosen networks, each time with the same weights."""
    if args.arch:
        from marigold_ros.models.benchmarks.random_networks import random_networks

        if args.vae not in ('', 'tiny'):
            raise ConfigurationError(
                f"--vae is '{args.vae}'; with --arch it is tiny, or leave it out"
            )
        kind = args.vae or 'kl'
        return lambda: random_networks(args.arch, kind)
    from marigold_ros.models.locate import find_autoencoder, find_folder
    from marigold_ros.models.marigold.checkpoint import load_networks

    folder = find_folder(args.model)
    vae = find_autoencoder(args.vae) if args.vae else None
    return lambda: load_networks(folder, vae)


def _work(args: argparse.Namespace) -> Work:
    from marigold_ros.models.benchmarks.benchmark import Work

    height, width = args.size
    return Work(height, width, args.steps, args.members, args.resolution, args.seed)


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.partition('x')
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form HxW, as 480x640")
    return int(height), int(width)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1")
    return int(text)
