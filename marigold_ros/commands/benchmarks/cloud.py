# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""``benchmark cloud``: flying pixels and sky on synthetic drives, where the truth is known."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.benchmarks.report import grid
from marigold_ros.commands.options import model_settings

if TYPE_CHECKING:
    from marigold_ros.frame import FrameResult
    import numpy as np

_DRIVES = (('street', (11, 12, 13, 14)), ('room', (11, 12)))
_FRAMES, _RATE = 3, 1.0
# Pixels over which true depth is blurred, and the metres that stand for the sky then.
_BLURS, _SKY_DEPTH = (4, 12), 120.0
# Pixels around a point in which true surfaces count, for a model whose edges are this wide.
_MODEL_REACH = 16
_COST_RUNS = 30


def run(args: argparse.Namespace, folder: Path | None) -> int:
    """Measure and print."""
    from marigold_ros.evaluation.benchmarks.cpu_time import one_thread
    from marigold_ros.evaluation.results.results import machine, to_json

    with one_thread():
        results = {'schema': 1, 'machine': machine(), **_measure(args)}
    print(to_json(results) if args.json else table(results))
    if folder is not None:
        (folder / 'cloud.json').write_text(to_json(results) + '\n', encoding='utf-8')
    return 0


def table(results: Mapping[str, Any]) -> str:
    """Put the results into lines for a terminal."""
    keys = ('flying', 'flying_left', 'removed', 'good_lost')
    rows = [('depth', 'flying', 'left', 'removed', 'good lost')]
    for name, told in results['flying_pixels'].items():
        rows.append((name, *(f'{100 * told[key]:.2f} %' for key in keys)))
    sky, cost = results['sky'], results['cost_ms']
    return '\n'.join(
        [
            f'{results["pictures"]} images; flying and left: per good point',
            *grid(rows),
            f'sky: {100 * sky["found"]:.1f} % of it found, {100 * sky["wrong"]:.3f} % of all '
            f'other pixels taken for it (rooms: {100 * sky["wrong_in_rooms"]:.3f} %)',
            'CPU time of one thread: '
            + ', '.join(f'{name} {ms:.1f} ms' for name, ms in cost.items()),
        ]
    )


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    from marigold_ros.evaluation.benchmarks.cloud import blurred, CleaningCounts
    from marigold_ros.geometry.cloud.flying_pixels import flying_pixels
    from marigold_ros.models import load_model
    from marigold_ros.pipeline import FramePipeline
    import numpy as np

    config = model_settings(args)
    model = load_model(config.model, config.device, config.dtype)
    tallies = [CleaningCounts() for _ in (*_BLURS, config.model)]
    # Pixels by kind of scene: sky, found, others, taken for sky.
    sky = {kind: np.zeros(4) for kind, _ in _DRIVES}
    images = 0
    cost: dict[str, float] = {}
    for kind, frames in _drives(args.size, args.runs or _FRAMES):
        pipeline = FramePipeline(model)
        for frame, truth in frames:
            result = pipeline.process(frame)
            images += 1
            K, fitted = frame.camera.K, result.alignment.metric
            for tally, pixels in zip(tallies, _BLURS, strict=False):
                depth = blurred(truth, pixels, _SKY_DEPTH)
                tally.add(depth, truth, flying_pixels(depth, K), pixels // 2 + 2)
            if fitted is None or result.metric is None:
                continue
            tallies[-1].add(fitted, truth, flying_pixels(fitted, K), _MODEL_REACH)
            beyond, found = np.isinf(truth), np.isnan(result.metric) & np.isfinite(fitted)
            parts = (beyond, found & beyond, ~beyond, found & ~beyond)
            sky[kind] += [np.count_nonzero(part) for part in parts]
            cost = cost or _cost(result, K)
    names = [*(f'blurred over {pixels} px' for pixels in _BLURS), config.model]
    total, rooms = sky['street'] + sky['room'], sky['room']
    return {
        'pictures': images,
        'flying_pixels': {n: tally.summary() for n, tally in zip(names, tallies, strict=True)},
        'sky': {
            'found': total[1] / max(total[0], 1),
            'wrong': total[3] / max(total[2], 1),
            'wrong_in_rooms': rooms[3] / max(rooms[2], 1),
        },
        'cost_ms': cost,
    }


def _cost(result: FrameResult, K: np.ndarray) -> dict[str, float]:
    from marigold_ros.evaluation.benchmarks.cpu_time import cpu_ms
    from marigold_ros.frame import Prediction
    from marigold_ros.geometry.cloud.flying_pixels import flying_pixels
    from marigold_ros.geometry.cloud.normals import surface_normals
    from marigold_ros.geometry.sky import sky_mask

    prediction, fitted = Prediction(result.relative, None, result.space), result.alignment.metric
    return {
        'flying pixels': cpu_ms(_COST_RUNS, flying_pixels, fitted, K),
        'sky': cpu_ms(_COST_RUNS, sky_mask, result.rgb, prediction, fitted, result.sparse),
        'normals': cpu_ms(_COST_RUNS, surface_normals, fitted, K),
    }


def _drives(size: tuple[int, int], frames: int) -> Iterator[tuple[str, Iterator[Any]]]:
    """Kind of scene, and its frames with their true depth."""
    from marigold_ros.frame import Frame
    from marigold_ros.synthetic.drive.drive import Drive, simulate_drive
    import numpy as np
    from tqdm import tqdm

    def seen(drive: Drive) -> Iterator[tuple[Frame, np.ndarray]]:
        for item in drive.frames:
            points = np.stack([item.points[axis] for axis in 'xyz'], axis=-1)
            T_cam_lidar = drive.mounting.T_cam_lidar
            yield Frame(item.rgb, drive.camera, points, T_cam_lidar, item.stamp_ns), item.depth
            bar.update()

    height, width = size
    seeds = [(kind, seed) for kind, seeds in _DRIVES for seed in seeds]
    with tqdm(total=len(seeds) * frames, desc='pictures', disable=None, leave=False) as bar:
        for kind, seed in seeds:
            yield kind, seen(simulate_drive(frames, _RATE, seed, width, height, kind))
