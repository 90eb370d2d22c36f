# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""``benchmark alignment``: tables, JSON and an image of simulated predictions put into metres."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.benchmarks.report import grid
from marigold_ros.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_SCENES = 4
_SIZE = (320, 240)
_SEEDS, _DRAW_SEEDS = 10, 2
# Log ratio at the ends of the image's colours.
_LIMIT = 0.4


def run(args: argparse.Namespace, folder: Path | None) -> int:
    """Measure, print, draw."""
    import cv2
    from marigold_ros.evaluation.benchmarks.alignment import jobs, measure, measure_cost
    from marigold_ros.evaluation.benchmarks.cpu_time import one_thread
    from marigold_ros.evaluation.results.results import machine, to_json
    from tqdm import tqdm

    with one_thread():
        depths = _recorded(Path(args.data)) if args.data else _synthetic()
        seeds, draws = args.runs or _SEEDS, min(args.runs or _SEEDS, _DRAW_SEEDS)
        total = len(depths) * sum(1 for _ in jobs(seeds, draws))
        with tqdm(total=total, desc='simulated predictions', disable=None, leave=False) as bar:
            results: dict[str, Any] = {
                'schema': 1,
                'machine': machine(),
                'scenes': len(depths),
                'source': 'data' if args.data else 'synthetic',
                'seeds': seeds,
                **measure(depths, seeds, draws, bar.update),
                'cost_ms': measure_cost(depths[0]),
            }
        print(to_json(results) if args.json else table(results))
        if folder is not None:
            text = to_json(results) + '\n'
            (folder / 'alignment.json').write_text(text, encoding='utf-8')
            drawn = image(depths[0])
            (folder / 'alignment.png').write_bytes(cv2.imencode('.png', drawn)[1].tobytes())
    return 0


def table(results: Mapping[str, Any]) -> str:
    """Put the results into lines for a terminal."""
    lines = [
        f'{results["scenes"]} {results["source"]} scenes, {results["seeds"]} seeds; mean relative '
        'error, and ratios of local to the five nearest points (5nn) and to Tukey'
    ]
    for name in ('patterns', 'draws'):
        lines += ['', *grid(_rows(results[name]))]
    lines += ['', 'align at 640x480 with 2000 points, CPU time of one thread:']
    lines += [f'  {name}: {ms:.2f} ms' for name, ms in results['cost_ms'].items()]
    return '\n'.join(lines)


def image(depth: np.ndarray) -> np.ndarray:
    """Draw the wanted correction and ours, a row for each kind: (h, w, 3) uint8 BGR."""
    import cv2
    from marigold_ros.evaluation.benchmarks.alignment import log_fields
    from marigold_ros.evaluation.benchmarks.simulated_predictions import ERROR_KINDS, PATTERNS
    import numpy as np

    rows = []
    for kind in ERROR_KINDS:
        both = [log_fields(depth, kind, pattern) for pattern in PATTERNS]
        panels = [(f'{kind}: wanted', both[0][0])]
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
    return np.vstack(rows)


def _rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    from marigold_ros.evaluation.benchmarks.alignment import METHODS

    rows: list[tuple[str, ...]] = [
        ('errors', 'points', *METHODS, 'to 5nn', 'at edges', 'to Tukey', 'refused')
    ]
    for case in cases:
        told = case['abs_rel']
        figures = (f'{told[name]:.4f}' if name in told else '-' for name in METHODS)
        ratios = (f'{case[key]:.2f}' for key in ('ratio', 'ratio_at_edges', 'ratio_to_tukey'))
        rows.append((case['kind'], case['pattern'], *figures, *ratios, str(case['refused'])))
    return rows


def _recorded(folder: Path) -> list[np.ndarray]:
    """Depth images ``depth_mm.png`` in the folders of a folder, in metres."""
    import cv2
    import numpy as np

    paths = sorted(folder.glob('*/depth_mm.png'))
    if not paths:
        raise InputError(
            f'{folder} has no */depth_mm.png (16 bit, millimetres, 0 unknown); name a folder that '
            'has, or leave --data out for synthetic scenes',
            cause='empty',
        )
    found = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint16 or image.ndim != 2:
            raise InputError(f'{path} is no 16 bit grey image; write depth in millimetres so')
        found.append(image.astype(np.float32) / 1000)
    return found


def _synthetic() -> list[np.ndarray]:
    """Depth of drawn rooms and streets, up to 80 m; 0 beyond."""
    from marigold_ros.synthetic.scenes.scene import make_sample
    import numpy as np

    kinds = ('room', 'street') * (_SCENES // 2)
    depths = (make_sample(seed, *_SIZE, kind=kind).depth for seed, kind in enumerate(kinds))
    return [np.where(depth < 80, depth, 0).astype(np.float32) for depth in depths]
