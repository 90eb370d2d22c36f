# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score metric fits of simulated predictions beside plain methods of fitting; no model runs.

  python benchmarks/alignment.py              on synthetic scenes
  python benchmarks/alignment.py --data DIR   on true depth as */depth_mm.png
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import sys
from typing import Any

import alignment_cases
from alignment_cases import jobs, log_fields, measure_align_ms, METHODS
from cpu_time import one_thread
import cv2
from marigold_ros.commands.terminal.output import grid, step_bar
import numpy as np
from scenes import stored_depths, synthetic_scenes
from script import Benchmark
from simulated_predictions import ERROR_KINDS, PATTERNS

_SCENES = 4
_SIZE = (320, 240)
_SEEDS, _DRAW_SEEDS = 10, 2
# Log ratio at the ends of the image's colours.
_LIMIT = 0.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        '--data', metavar='DIR', help='true depth as */depth_mm.png (default: synthetic scenes)'
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Score all methods on simulated predictions, and time ours."""
    with one_thread():
        depths = _depths(args)
        seeds, draws = args.runs or _SEEDS, min(args.runs or _SEEDS, _DRAW_SEEDS)
        total = len(depths) * sum(1 for _ in jobs(seeds, draws))
        with step_bar(total, 'simulated predictions') as bar:
            return {
                'scenes': len(depths),
                'source': 'data' if args.data else 'synthetic',
                'seeds': seeds,
                **alignment_cases.measure(depths, seeds, draws, bar.update),
                'cost_ms': measure_align_ms(depths[0]),
            }


def table(results: Mapping[str, Any]) -> str:
    """Return the results as text for a terminal."""
    lines = [
        f'{results["scenes"]} {results["source"]} scenes, {results["seeds"]} seeds; mean relative '
        'error, and ratios of local to the five nearest points (5nn) and to Tukey'
    ]
    for name in ('patterns', 'draws'):
        lines += ['', *grid(_rows(results[name]))]
    lines += ['', 'align at 640x480 with 2000 points, CPU time of one thread:']
    lines += [f'  {name}: {ms:.2f} ms' for name, ms in results['cost_ms'].items()]
    return '\n'.join(lines)


def drawings(args: argparse.Namespace, results: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the ideal correction and ours as a PNG file, a row for each kind of prediction."""
    depth, rows = _depths(args)[0], []
    for kind in ERROR_KINDS:
        with one_thread():
            both = [log_fields(depth, kind, pattern) for pattern in PATTERNS]
        panels = [(f'{kind}: ideal', both[0][0])]
        panels += [(p.name, ours) for p, (_, ours) in zip(PATTERNS, both, strict=True)]
        drawn = []
        for title, field in panels:
            level = np.nan_to_num(np.clip(field / _LIMIT, -1, 1)) * 127 + 128
            colours = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_TWILIGHT_SHIFTED)
            colours = cv2.resize(colours, _SIZE, interpolation=cv2.INTER_AREA)
            strip = np.full((26, _SIZE[0], 3), 255, np.uint8)
            cv2.putText(strip, title, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1)
            drawn.append(np.vstack([strip, colours]))
        rows.append(np.hstack(drawn))
    return {'alignment.png': cv2.imencode('.png', np.vstack(rows))[1].tobytes()}


def _rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ('errors', 'points', *METHODS, 'to 5nn', 'at edges', 'to Tukey', 'refused')
    ]
    for case in cases:
        errors = case['abs_rel']
        figures = (f'{errors[name]:.4f}' if name in errors else '-' for name in METHODS)
        ratios = (f'{case[key]:.2f}' for key in ('ratio', 'ratio_at_edges', 'ratio_to_tukey'))
        rows.append((case['kind'], case['pattern'], *figures, *ratios, str(case['refused'])))
    return rows


def _depths(args: argparse.Namespace) -> list[np.ndarray]:
    """Return true depth of */depth_mm.png or of synthetic scenes, in metres, 0 where unknown."""
    if args.data:
        return [depth for _, depth in stored_depths(args.data)]
    return [depth for _, depth in synthetic_scenes(_SCENES, 0, _SIZE)]


BENCHMARK = Benchmark(
    'alignment', __doc__, 'seeds (default: 10)', add_arguments, measure, table, drawings
)


if __name__ == '__main__':
    sys.exit(BENCHMARK.run())
