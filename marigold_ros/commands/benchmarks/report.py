# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The benchmark's figures as a table, a file and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from marigold_ros.evaluation.report.charts import Chart

# Names of stages where the engine's own word says too little.
NAMES = {
    'start': 'start noise',
    'denoise': 'U-Net, all steps',
    'unet_step': 'U-Net per step',
    'merge': 'ensemble',
    'postprocess': 'postprocess, download',
}


def table(results: Mapping[str, Any]) -> str:
    """Put the results into lines for a terminal."""
    own, work, model = results['own'], results['work'], results['model']
    machine, device = results['machine'], results['device']
    name = machine['processor'] if device['name'] == 'cpu' else device['name']
    load = device['load_average']
    lines = [
        f'{model["name"]}: {model["parameters"] / 1e6:.1f} M parameters, {model["dtype"]}, '
        f'{model["autoencoder"]}',
        f'{name}, {device["threads"]} threads, torch {device["torch"]}, load average '
        f'{"unknown" if load is None else format(load, ".1f")}',
        f'image {work["height"]}x{work["width"]}, networks '
        f'{"x".join(map(str, work["processing_size"]))}, {work["steps"]} steps, '
        f'{work["members"]} members, {own["runs"]} runs',
        '',
        *grid(_stage_rows(own)),
        '',
        f'{own["fps"]:.2f} frames a second; loaded in {own["load_s"]:.1f} s, '
        f'first frame {own["first_ms"]:.0f} ms',
        f'peak memory {own["peak_memory_bytes"] / 1e9:.2f} GB'
        + (' (of the whole process)' if own['peak_memory_is_of_the_whole_process'] else ''),
        f'{own["tflop"]["frame"]:.3f} TFLOP a frame, {own["tflop_per_s"]:.3f} TFLOP/s: '
        f'{100 * own["share_of_peak"]:.0f} % of the measured matmul peak '
        f'({own["matmul_peak_tflop_per_s"]:.3f})',
    ]
    if 'against' in results:
        lines += ['', *_against(results['against'])]
    if 'variants' in results:
        lines += ['', *_variants(results['variants'])]
    return '\n'.join(lines)


def write_files(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """Write benchmark.json and benchmark.svg."""
    from marigold_ros.evaluation.report.charts import svg_document
    from marigold_ros.evaluation.results.results import to_json

    files = [folder / 'benchmark.json', folder / 'benchmark.svg']
    files[0].write_text(to_json(results) + '\n', encoding='utf-8')
    files[1].write_text(svg_document(charts(results)), encoding='utf-8')
    return files


def charts(results: Mapping[str, Any]) -> list[Chart]:
    """Draw the stages, and what they were compared with."""
    from marigold_ros.evaluation.report.charts import Bar, bar_chart

    own, model, work = results['own'], results['model'], results['work']
    stages = [
        Bar(NAMES.get(name, name), value['p50'], f'{value["p50"]:.1f} ms', value['p95'])
        for name, value in {**own['stages_ms'], 'frame': own['frame_ms']}.items()
    ]
    drawn = [
        bar_chart(
            f'{model["name"]}, {model["dtype"]}, {work["height"]}x{work["width"]}, '
            f'{work["steps"]} steps, {work["members"]} members: p50, light to p95',
            stages,
        )
    ]
    if 'against' in results:
        against = results['against']
        sides = [
            Bar(f'{side} {i + 1}', value, f'{value:.1f} ms')
            for i, pair in enumerate(zip(against['ours_ms'], against['reference_ms'], strict=True))
            for side, value in zip(('ours', 'diffusers'), pair, strict=True)
        ]
        drawn.append(bar_chart(f'against diffusers: {against["ratio"]:.2f} times as fast', sides))
    if 'variants' in results:
        bars = [
            Bar(row['variant'], row['ratio'], f'{row["ratio"]:.2f}') for row in results['variants']
        ]
        drawn.append(bar_chart('variants: times as fast as plain float32', bars))
    return drawn


def _stage_rows(own: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [('stage', 'p50 ms', 'p95', 'p99', 'share')]
    frame = own['frame_ms']['p50']
    for name, value in {**own['stages_ms'], 'frame': own['frame_ms']}.items():
        share = '' if name == 'unet_step' else f'{100 * value["p50"] / frame:.0f} %'
        cells = (f'{value[cut]:.2f}' for cut in ('p50', 'p95', 'p99'))
        rows.append((NAMES.get(name, name), *cells, share))
    return rows


def _against(against: Mapping[str, Any]) -> list[str]:
    rounds = zip(against['ours_ms'], against['reference_ms'], against['ratios'], strict=True)
    rows: list[tuple[str, ...]] = [('round', 'ours ms', 'diffusers ms', 'ratio')]
    rows += [(str(i), f'{a:.1f}', f'{b:.1f}', f'{r:.2f}') for i, (a, b, r) in enumerate(rounds, 1)]
    exact, usual = against['difference_exact'], against['difference_default']
    return [
        *grid(rows),
        f'{against["ratio"]:.2f} times as fast as diffusers in {against["reference_dtype"]} '
        '(median of the rounds)',
        f'difference of the answers: max {exact["max"]:.2g}, mean {exact["mean"]:.2g} with '
        f'reference_exact; max {usual["max"]:.2g}, mean {usual["mean"]:.2g} with our last step '
        'and merge',
    ]


def _variants(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells: list[tuple[str, ...]] = [
        ('variant', 'ms', 'plain ms', 'ratio', 'max diff', 'mean diff', 'ready in s')
    ]
    for row in rows:
        apart = row['difference']
        cells.append(
            (
                row['variant'],
                f'{median(row["variant_ms"]):.1f}',
                f'{median(row["plain_ms"]):.1f}',
                f'{row["ratio"]:.2f}',
                f'{apart["max"]:.2g}',
                f'{apart["mean"]:.2g}',
                f'{row["ready_s"]:.1f}',
            )
        )
    return grid(cells)


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: words left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
