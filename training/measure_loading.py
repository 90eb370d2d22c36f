# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure how fast training data load, and how long a device waits for them.

    python training/measure_loading.py training/recipes/marigold_v1_1.yaml --data data --rate 59
    python training/measure_loading.py --rate 59 --workers 4

The first measures the sources of a recipe, the second images of 480x640 in each layout, made in
a temporary folder; each source also as latents from disk. The measure is the CPU time of one
process, which hardly depends on the machine's load. --rate is the number of images a second that
the device trains on: its FLOP/s over the FLOP of one image, see finetune.py --plan.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import sys
import tarfile
from tempfile import TemporaryDirectory
import time
from typing import Any

import cv2
from marigold_ros.commands.terminal.options import integer, positive_number
from marigold_ros.errors import ConfigurationError, MarigoldError
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import BatchRule, Mixture, Part
from marigold_training.data.pairs import PairSource
from marigold_training.data.sources import open_source
from marigold_training.data.synthetic_pairs import SyntheticPairs
from marigold_training.data.targets import OWN_TARGETS, TargetRule
from marigold_training.recipe_keys import read_fields
from marigold_training.run.latent_cache import LatentBlocks
from marigold_training.run.recipe import read_recipe
import numpy as np

SIZE = (480, 640)
MADE = 8  # images, read repeatedly
CHANNELS, FACTOR = 4, 8  # of Stable Diffusion's latents
BATCH = 2


@dataclass(frozen=True)
class Loading:
    """CPU seconds that one process needs to load an image of a source."""

    name: str
    seconds: float

    def waiting(self, workers: int, rate: float) -> float:
        """Return the share of time that a device of ``rate`` images a second waits for data."""
        return max(0.0, 1.0 - workers / (self.seconds * rate))


def measure_recipe(recipe: Path, data: Path, images: int) -> list[Loading]:
    """Measure the sources of a recipe at their full size."""
    entries = read_recipe(recipe)
    if 'facts' not in entries:
        raise ConfigurationError(f'{recipe} is of the fusion network; give one of a depth model')
    how = read_fields(Augmentation, 'augment', entries.get('augment', {}))
    rule = read_fields(TargetRule, 'targets', entries.get('targets', {}))
    space = entries['facts']['space']
    return measure_sources(entries['sources'], data, how, space, images, rule)


def measure_layouts(images: int) -> list[Loading]:
    """Measure rendered images of 480x640 in each layout, augmented as in the recipes."""
    how = Augmentation(colour=0.3, lens=0.3)
    with TemporaryDirectory() as folder:
        data = Path(folder)
        return measure_sources(make_layouts(data), data, how, 'depth', images)


def measure_sources(
    entries: Sequence[Mapping[str, Any]],
    data: Path,
    how: Augmentation,
    space: str,
    images: int,
    targets: TargetRule = OWN_TARGETS,
) -> list[Loading]:
    """
    Measure sources, each also as latents from disk.

    Parameters
    ----------
    entries, data
        A recipe's ``sources``, and the base of their folders.
    how : Augmentation
        Of images; latents are read as they are.
    space : str
        Of the relative values.
    images : int
        Number read of each source, after a warm-up.
    targets : TargetRule
        How depth becomes a target.

    Returns
    -------
    list of Loading

    """
    rows = []
    for entry in entries:
        source, (height, width) = open_source(entry, data), entry['size']
        part = Part(source, 1.0, (height, width))
        mixture = Mixture([part], BatchRule(BATCH), space, how, targets)
        label = f'{source.name}, {height}x{width}'
        rows.append(Loading(label, _timed(mixture.__getitem__, images // BATCH) / BATCH))
        with TemporaryDirectory(dir=data) as folder:
            rows.append(Loading(f'{label}, latents', _latents(part, Path(folder), images)))
    return rows


def _latents(part: Part, folder: Path, images: int) -> float:
    """CPU seconds to read an image's latents, from blocks of zeros."""
    blocks = LatentBlocks(part, folder, [], 2, CHANNELS, FACTOR)
    held = blocks.members(0)
    blocks.write(0, np.zeros(len(held), blocks.record))

    def read(number: int) -> tuple[np.ndarray, ...]:
        found = blocks.read(held[7 * number % len(held)], mirrored=bool(number % 2))
        return tuple(array.astype(np.float32) for array in found)

    return _timed(read, images)


def _timed(read: Callable[[int], object], count: int) -> float:
    """Mean CPU seconds of a call, after as many to warm the file cache."""
    for number in range(count):
        read(number)
    began = time.process_time()
    for number in range(count):
        read(number)
    return (time.process_time() - began) / max(1, count)


def make_layouts(data: Path) -> list[dict[str, Any]]:
    """Render images into a folder, a tar in Hypersim's layout, and the synthetic cache."""
    height, width = SIZE
    rendered: PairSource = SyntheticPairs(data, height, width, MADE, scene='room')
    for index in range(MADE):
        pair = rendered.read(index)
        millimetres = np.nan_to_num(1000.0 * pair.depth, posinf=0.0).clip(0, 65535)
        bgr = cv2.cvtColor(pair.rgb, cv2.COLOR_RGB2BGR)
        scene = data / 'mine' / f'{index:03d}'
        scene.mkdir(parents=True)
        cv2.imwrite(str(scene / 'image.png'), bgr)
        cv2.imwrite(str(scene / 'depth_mm.png'), np.rint(millimetres).astype(np.uint16))
    with tarfile.open(data / 'hypersim.tar', 'w') as archive:
        for index in range(MADE):
            for old, new in (('image', 'rgb'), ('depth_mm', 'depth_plane')):
                name = f'ai_001_001/{new}_cam_00_fr{index:04d}.png'
                archive.add(data / 'mine' / f'{index:03d}' / f'{old}.png', name)
    size = list(SIZE)
    return [
        {
            'kind': 'folder',
            'folder': 'mine',
            'size': size,
            'images': '*/image.png',
            'depths': '*/depth_mm.png',
        },
        {'kind': 'hypersim', 'folder': 'hypersim.tar', 'size': size},
        {
            'kind': 'synthetic',
            'height': height,
            'width': width,
            'count': MADE,
            'scene': 'room',
            'size': size,
        },
    ]


def loading_table(rows: Sequence[Loading], workers: int, rate: float) -> str:
    """Format the figures as a Markdown table."""
    lines = [
        f'| source | ms of CPU an image | images/s a worker | waiting at {rate:g}/s, '
        f'{workers} workers |',
        '|---|---|---|---|',
    ]
    lines += [
        f'| {row.name} | {1e3 * row.seconds:.2f} | {1 / row.seconds:.0f} | '
        f'{row.waiting(workers, rate):.0%} |'
        for row in rows
    ]
    return '\n'.join(lines)


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('recipe', type=Path, nargs='?', help='measure its sources')
    parser.add_argument('--data', type=Path, default=Path('data'), help='(default: data)')
    text = 'of each source (default: 64)'
    parser.add_argument('--pictures', type=integer(BATCH), default=64, help=text)
    text = 'processes that load (default: 2)'
    parser.add_argument('--workers', type=integer(0), default=2, help=text)
    parser.add_argument(
        '--rate', type=positive_number, default=59.0, help='images/s of the device'
    )
    args = parser.parse_args()

    try:
        if args.recipe:
            rows = measure_recipe(args.recipe, args.data, args.pictures)
        else:
            rows = measure_layouts(args.pictures)
    except MarigoldError as error:
        print(f'measure_loading: {error}', file=sys.stderr)
        return 1
    print(loading_table(rows, args.workers, args.rate))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
