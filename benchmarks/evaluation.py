# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measure the CPU time of ``evaluate`` without the model, part by part.

  python benchmarks/evaluation.py [--data BAG]
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
import sys
import tempfile
from typing import Any

from evaluation_cost import measure_cost
from marigold_ros.commands.terminal.output import note
from marigold_ros.synthetic.drive.drive import write_drive
from script import Benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('--data', metavar='BAG', help='a bag (default: a synthetic drive)')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Take the CPU time of evaluate on a bag."""
    with _bag(args.data) as bag:
        return measure_cost(bag, args.runs or 2)


@contextmanager
def _bag(given: str | None) -> Iterator[Path]:
    """Yield the given bag, or a synthetic drive that is removed afterwards."""
    if given:
        yield Path(given)
        return

    with tempfile.TemporaryDirectory() as folder:
        note('rendering a drive of 10 images')
        yield write_drive(Path(folder) / 'drive', 10, width=1242, height=375, lidar_beams=64)


def table(results: Mapping[str, Any]) -> str:
    """Return the results as text for a terminal."""
    height, width = results['picture']
    lines = [
        f'{results["frames"]} images of {width}x{height}, {results["points"]:.0f} points; CPU '
        f'time of one thread ({results["machine"]["processor"]})',
        f'opening the bag, up to the first frame: {results["opening_ms"]:.0f} ms, once',
        f'{"":34}{"ms per frame":>14}{"frames/s per core":>19}',
    ]
    for name, ms in results['cpu_ms'].items():
        lines.append(f'{name:34}{ms:14.1f}{results["frames_per_s"][name]:19.0f}')
    return '\n'.join(lines)


BENCHMARK = Benchmark(
    'evaluation', __doc__, 'replays of the bag (default: 2)', add_arguments, measure, table
)


if __name__ == '__main__':
    sys.exit(BENCHMARK.run())
