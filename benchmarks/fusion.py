# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Score metric depth from points, image and map beside interpolation of the points, and time it.

  python benchmarks/fusion.py --scenes 8 --ablate   on rooms and streets, also without parts
  python benchmarks/fusion.py --data DIR            on */image.* with */depth_mm.png
  python benchmarks/fusion.py --cost                nothing but its time
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
import math
import os
import sys
from typing import Any

import cv2
import fusion_cases
from fusion_cases import (
    ABLATED_MAPS,
    ABLATIONS,
    CLAIMS,
    depth_maps,
    FusionScene,
    NO_MAP,
)
from fusion_cost import FRAMES, stage_ms
from fusion_drawings import density_curves, panels
from marigold_ros.commands.terminal.options import add_option, image_size, integer
from marigold_ros.commands.terminal.output import grid, step_bar
from marigold_ros.geometry.fusion.mixing import FusionModel
from marigold_ros.models import load_model
from marigold_ros.models.fusion.load import fusion_of
import numpy as np
from scenes import (
    image_beside,
    stored_depths,
    synthetic_scenes,
)
from script import Benchmark
from simulated_predictions import sample_points

_SCENES = 16
# Below the seeds of training, beside those that selected a network.
_FIRST_SEED = 700_000
_LEAST_DEPTH = 0.1  # m, below it stored depth counts as unknown
_TIMED = 40
_DRAWN_POINTS = ('4 rows', '16 rows', '64 rows', 'depth camera')

Cases = Mapping[tuple[str, str], Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('--data', metavar='DIR', help='stored scenes (default: synthetic ones)')
    parser.add_argument('--scenes', type=integer(1), metavar='N', help='synthetic (default: 16)')
    parser.add_argument('--seed', type=int, default=0, help='of scenes (default: 0)')
    add_option(parser, '--size', image_size('HxW'), 'HxW', 'of synthetic scenes', (480, 640))
    parser.add_argument(
        '--fusion',
        default='auto',
        metavar='PATH',
        help='the network, as alignment.fusion: auto (embedded), none, or a folder',
    )
    parser.add_argument(
        '--model', default='unet', metavar='NAME', help='makes a map of each image (default: unet)'
    )
    parser.add_argument('--ablate', action='store_true', help='also without parts of it')
    parser.add_argument('--cost', action='store_true', help='nothing but its time')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Score fused depth on scenes with known truth, and time it."""
    network = fusion_network(args)
    found: dict[str, Any] = {'network': args.fusion}
    if not args.cost:
        found |= _scores(args, network)
    return {**found, 'load': os.getloadavg()[0], 'cost_ms': _cost(args, network)}


def table(results: Mapping[str, Any]) -> str:
    """Return the results as text for a terminal."""
    lines: list[str] = []
    if 'cases' in results:
        cases: Cases = {(case['points'], case['map']): case for case in results['cases']}
        height, width = results['size']
        lines += [
            f'{results["scenes"]} {results["source"]} scenes of {width}x{height}, fusion network: '
            f'{results["network"]}',
            'ratios are to linear interpolation of depth between the points; below 1 is better',
        ]
        for title, rows in _tables(cases):
            lines += ['', title, *grid(rows)]
        lines.append('')
    lines += [
        'map fit and fusion, milliseconds, median (95 %), '
        f'{results["machine"]["processor"]}, {results["machine"]["cores"]} cores, load '
        f'{results["load"]:.1f}',
        *grid(_cost_rows(results['cost_ms'])),
    ]
    return '\n'.join(lines)


def drawings(args: argparse.Namespace, results: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw a scene at several densities without a map, and the error over the number of points."""
    if args.cost:
        return {}
    network, scene = fusion_network(args), next(_scenes(args))
    rows = []
    for pattern in (item for item in fusion_cases.CONDITIONS if item.name in _DRAWN_POINTS):
        sparse = sample_points(np.random.default_rng(0), scene.depth, pattern)
        rows.append(panels(scene, sparse, depth_maps(scene, sparse, network), pattern.name))
    curves = density_curves([case for case in results['cases'] if case['map'] == NO_MAP])
    images = {'fusion.png': np.vstack(rows), 'fusion_density.png': curves}
    return {
        name: cv2.imencode('.png', image[..., ::-1])[1].tobytes() for name, image in images.items()
    }


def fusion_network(args: argparse.Namespace) -> FusionModel | None:
    if args.fusion == 'none':  # without importing torch
        return None

    return fusion_of(None, args.fusion)


def _scenes(args: argparse.Namespace) -> Iterator[FusionScene]:
    if args.data:
        for path, depth in stored_depths(args.data):
            image = image_beside(path, depth.shape)
            yield FusionScene(image, np.where(depth > _LEAST_DEPTH, depth, np.float32(0)))
        return
    first = _FIRST_SEED + args.seed
    for image, depth in synthetic_scenes(args.scenes or _SCENES, first, args.size[::-1]):
        yield FusionScene(image, depth)


def _scores(args: argparse.Namespace, network: FusionModel | None) -> dict[str, Any]:
    count = args.scenes or _SCENES
    with step_bar(0 if args.data else count, 'rendering') as bar:
        scenes = []
        for scene in _scenes(args):
            scenes.append(scene)
            bar.update()
    conditions = fusion_cases.CONDITIONS
    steps = len(scenes) * len(conditions) * len(fusion_cases.MAPS)
    with step_bar(steps, 'points and maps') as bar:
        return {
            'scenes': len(scenes),
            'source': 'stored' if args.data else 'synthetic',
            'size': list(scenes[0].depth.shape),
            'cases': fusion_cases.measure(
                scenes,
                network,
                conditions,
                bar.update,
                args.ablate,
                load_model(args.model).predict,
            ),
        }


def _cost(args: argparse.Namespace, network: FusionModel | None) -> list[dict[str, Any]]:
    found = []
    for height, width, points in FRAMES:
        scene = FusionScene(*next(synthetic_scenes(1, _FIRST_SEED, (width, height))))
        stages = stage_ms(scene, points, network, args.runs or _TIMED)
        found.append({'height': height, 'width': width, 'points': points, 'stages': stages})
    return found


def _tables(cases: Cases) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the title and rows of each table."""
    plain = [case for (_, kind), case in cases.items() if kind == NO_MAP]
    first = fusion_cases.MODEL if any(k == fusion_cases.MODEL for _, k in cases) else NO_MAP
    shown = [case for (_, kind), case in cases.items() if kind == first]
    yield (
        f'map: {first}; AbsRel, ratios to the best interpolation, and of AbsRel to linear',
        _plain_rows(shown),
    )
    yield f'map: {first}; share within one sigma', _part_rows(shown, 'coverage')
    yield f'map: {first}; thin objects placed too far', _thin_rows(shown)
    if first == fusion_cases.MODEL:
        yield 'claimed over true error (claimed)', _claim_rows(shown)
    yield 'without a map: AbsRel, and ratios of AbsRel', _plain_rows(plain)
    yield 'without a map: ratios of MAE and RMSE', _metres_rows(plain)
    kinds = list(dict.fromkeys(kind for _, kind in cases))
    yield 'with maps: ratio of AbsRel to linear, fused (and local)', _map_rows(cases, kinds)
    yield 'without a map: ratio of AbsRel by metres of true depth', _part_rows(plain, 'ratio')
    yield 'without a map: share within one sigma', _part_rows(plain, 'coverage')
    for kind in ABLATED_MAPS:
        ablated = [case for (_, name), case in cases.items() if name == kind]
        if any('without image' in case['methods'] for case in ablated):
            yield f'ratio of AbsRel without parts, map: {kind}', _ablation_rows(ablated)


def _plain_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    names = ('closed form', 'disparity', 'nearest', 'morphological')
    rows: list[tuple[str, ...]] = [
        ('points', 'linear', 'fused', 'of best', 'RMSE', 'worst', *names, 'fused - linear, 95 %')
    ]
    for case in cases:
        methods, difference = case['methods'], case['difference']['abs_rel']
        low, high = difference['interval']
        interval = f'{low:+.4f} to {high:+.4f}' if math.isfinite(low) else '-'
        rows.append(
            (
                case['points'],
                f'{methods["linear"]["abs_rel"]:.4f}',
                f'{methods["fused"]["abs_rel"]:.4f}',
                f'{case["of_best"]["abs_rel"]:.3f} {case["best"]}',
                f'{case["of_best"]["rmse"]:.3f}',
                f'{case["worst_abs_rel"]:.2f}',
                *(f'{methods[name]["ratio"]["abs_rel"]:.3f}' for name in names),
                interval,
            )
        )
    return rows


def _metres_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    names, metrics = ('fused', 'closed form', 'disparity', 'nearest'), ('mae', 'rmse')
    heads = (f'{name} {metric.upper()}' for name in names for metric in metrics)
    rows: list[tuple[str, ...]] = [('points', *heads)]
    for case in cases:
        ratios = (case['methods'][name]['ratio'] for name in names)
        rows.append((case['points'], *(f'{r[metric]:.3f}' for r in ratios for metric in metrics)))
    return rows


def _map_rows(cases: Cases, maps: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [('points', *maps)]
    for points in dict.fromkeys(name for name, _ in cases):
        cells = []
        for kind in maps:
            methods = cases[points, kind]['methods']
            local = f' ({methods["local"]["ratio"]["abs_rel"]:.3f})' if 'local' in methods else ''
            cells.append(f'{methods["fused"]["ratio"]["abs_rel"]:.3f}{local}')
        rows.append((points, *cells))
    return rows


def _part_rows(cases: Sequence[Mapping[str, Any]], key: str) -> list[tuple[str, ...]]:
    """Tabulate a figure over all pixels, by range, near edges, in the points' hull and outside."""
    ranges = [f'{part["from"]:.0f}-{part["to"]:.0f} m' for part in cases[0]['by_range']]
    places = ('at_edges', 'among_points', 'beyond_points')
    heads = (name.replace('_', ' ') for name in places)
    rows: list[tuple[str, ...]] = [('points', 'all', *ranges, *heads)]
    for case in cases:
        every = (
            case['coverage'] if key == 'coverage' else case['methods']['fused']['ratio']['abs_rel']
        )
        parts = (*case['by_range'], *(case[name] for name in places))
        cells = (every, *(part[key] for part in parts))
        rows.append((case['points'], *(_figure(cell) for cell in cells)))
    return rows


def _thin_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [('points', 'fused', 'linear')]
    for case in cases:
        rows.append((case['points'], *(_figure(share) for share in case['thin_too_far'].values())))
    return rows


def _claim_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [('points', *CLAIMS)]
    for case in cases:
        known = (case['claims'].get(name) for name in CLAIMS)
        cells = (f'{c["ratio"]:.2f} ({c["claimed"]:.3f})' if c else '-' for c in known)
        rows.append((case['points'], *cells))
    return rows


def _ablation_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    titles = ('fused', 'without network', *ABLATIONS)
    rows: list[tuple[str, ...]] = [('points', *titles)]
    for case in cases:
        methods = case['methods']
        shown = (methods['closed form' if name == 'without network' else name] for name in titles)
        rows.append((case['points'], *(f'{errors["ratio"]["abs_rel"]:.3f}' for errors in shown)))
    return rows


def _cost_rows(costs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    heads = (f'{cost["width"]}x{cost["height"]}, {cost["points"]} points' for cost in costs)
    rows: list[tuple[str, ...]] = [('stage', *heads)]
    for stage in costs[0]['stages']:
        times = (cost['stages'][stage] for cost in costs)
        rows.append((stage, *(f'{ms["p50"]:.1f} ({ms["p95"]:.1f})' for ms in times)))
    return rows


def _figure(value: float) -> str:
    return f'{value:.3f}' if math.isfinite(value) else '-'


BENCHMARK = Benchmark(
    'fusion', __doc__, 'timed frames (default: 40)', add_arguments, measure, table, drawings
)


if __name__ == '__main__':
    sys.exit(BENCHMARK.run())
