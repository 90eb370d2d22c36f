# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score the masks of flying pixels and sky on synthetic drives, where the truth is known.

  python benchmarks/cloud.py [--model MODEL] [--size HxW]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
import sys
from typing import Any

from cloud_masks import measure_masks, Scene
from cpu_time import one_thread
from marigold_ros.commands.terminal.options import (
    add_model_options,
    add_option,
    image_size,
    model_settings,
)
from marigold_ros.commands.terminal.output import grid, step_bar
from marigold_ros.frame import Frame
from marigold_ros.models import load_model
from marigold_ros.pipeline import FramePipeline
from marigold_ros.synthetic.drive.drive import Drive, simulate_drive
import numpy as np
from script import Benchmark

DRIVES = (('street', (11, 12, 13, 14)), ('room', (11, 12)))
_FRAMES, _RATE = 3, 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model_options(parser)
    add_option(parser, '--size', image_size('HxW'), 'HxW', 'of the image', (480, 640))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Score the masks of flying pixels and sky on synthetic drives, and time them."""
    config = model_settings(args)
    with one_thread():
        model = load_model(config.model, config.device, config.dtype)
        scenes = _scenes(args.size, args.runs or _FRAMES)
        return measure_masks(scenes, lambda: FramePipeline(model).process, config.model)


def table(results: Mapping[str, Any]) -> str:
    """Return the results as text for a terminal."""
    keys = ('flying', 'flying_left', 'removed', 'good_lost')
    rows = [('depth', 'flying', 'remaining', 'removed', 'good lost')]
    for name, shares in results['flying_pixels'].items():
        rows.append((name, *(f'{100 * shares[key]:.2f} %' for key in keys)))
    sky, cost = results['sky'], results['cost_ms']
    return '\n'.join(
        [
            f'{results["pictures"]} images; flying and remaining: per good point',
            *grid(rows),
            f'sky: {100 * sky["found"]:.1f} % of it found, {100 * sky["wrong"]:.3f} % of all '
            f'other pixels mistaken for it (rooms: {100 * sky["wrong_in_rooms"]:.3f} %)',
            'CPU time of one thread: '
            + ', '.join(f'{name} {ms:.1f} ms' for name, ms in cost.items()),
        ]
    )


def _scenes(size: tuple[int, int], frames: int) -> Iterator[tuple[str, Iterator[Scene]]]:
    """Yield the kind of each drive, with its frames and their true depth."""

    def seen(drive: Drive) -> Iterator[Scene]:
        for item in drive.frames:
            points = np.stack([item.points[axis] for axis in 'xyz'], axis=-1)
            T_cam_lidar = drive.mounting.T_cam_lidar
            yield Frame(item.rgb, drive.camera, points, T_cam_lidar, item.stamp_ns), item.depth
            bar.update()

    height, width = size
    seeds = [(kind, seed) for kind, seeds in DRIVES for seed in seeds]
    with step_bar(len(seeds) * frames, 'images') as bar:
        for kind, seed in seeds:
            yield kind, seen(simulate_drive(frames, _RATE, seed, width, height, kind))


BENCHMARK = Benchmark(
    'cloud', __doc__, 'images per drive (default: 3)', add_arguments, measure, table
)


if __name__ == '__main__':
    sys.exit(BENCHMARK.run())
