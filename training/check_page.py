# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The page of figures of training/gpu_check.sh, as Markdown.

    python training/check_page.py runs/gpu_check
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import Any

Rows = list[tuple[str, str]]


def main() -> int:
    """Print the page of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='of gpu_check.sh')
    try:
        print(page_of(parser.parse_args().folder))
    except OSError as error:
        print(
            f'check_page: {error.filename} cannot be read ({error.strerror}); give the folder of '
            'a finished training/gpu_check.sh',
            file=sys.stderr,
        )
        return 1
    return 0


def page_of(folder: Path) -> str:
    """Return the page of a finished check."""
    engine = _read(folder / 'engine.json')
    steps = [_read(folder / f'step_{name}.json') for name in ('float32', 'bf16')]
    machine = engine['machine']
    device = steps[0]['device']
    name = f'{machine["cores"]} cores {machine["processor"]}'
    name = name if device == 'cpu' else f'{device}, {name}'
    rows = [
        ('torch, load at the start', f'{_torch(engine)}, {engine["device"]["load_average"]:.1f}'),
        *engine_rows(engine),
        *frame_rows(_read(folder / 'frame.json')),
        *(row for step in steps for row in step_rows(step)),
        *training_rows(folder),
    ]
    return '\n'.join([f'| | {name} |', '|---|---|', *(f'| {a} | {b} |' for a, b in rows)])


def engine_rows(engine: dict[str, Any]) -> Rows:
    """Return the time of a frame, and of the variants."""
    own, against, work = engine['own'], engine['against'], engine['work']
    height, width = work['processing_size']
    rows = [
        (
            f'engine, {engine["model"]["name"]} at {height}x{width}, {engine["model"]["dtype"]}',
            f'{own["frame_ms"]["p50"]:.3g} ms, {own["peak_memory_bytes"] / 1e9:.1f} GB, '
            f'{own["tflop_per_s"]:.3g} TFLOP/s ({own["share_of_peak"]:.0%} of a product)',
        ),
        (
            'against diffusers in float32',
            f'{against["ratio"]:.2f} times as fast, largest difference '
            f'{against["difference_exact"]["max"]:.1g}',
        ),
    ]
    for item in engine['variants']:
        text = f'{item["ratio"]:.2f} times plain float32, largest difference '
        text += f'{item["difference"]["max"]:.1g}, ready after {item["ready_s"]:.0f} s'
        rows.append((f'variant {item["variant"]}', text))
    return rows


def frame_rows(budget: dict[str, Any]) -> Rows:
    """Return the time of whole frames, from message to message."""
    return [
        (
            f'frame of the node, {budget["model"]["name"]}, {frame["name"]}',
            f'{frame["wall_ms"]["p50"]:.1f} ms ({frame["wall_ms"]["p95"]:.1f} in 95 %), '
            f'after the model {frame["after_model_ms"]:.1f} ms',
        )
        for frame in budget['frames']
    ]


def step_rows(step: dict[str, Any]) -> Rows:
    """Return time and memory of a step of training."""
    size = 'x'.join(str(side) for side in step['size'])
    label = (
        f'{step["recipe"]}, {step["networks"]}, {step["precision"]}, '
        f'{step["accumulation"]} x {step["batch_size"]} images of {size}'
    )
    text = f'{step["step_s"]:.3g} s a step, {step["images_per_s"]:.3g} images/s, '
    return [(label, text + f'{step["peak_gb"]:.1f} GB')]


def training_rows(folder: Path) -> Rows:
    """Return how far the training came."""
    train = _read(folder / 'train.json')
    log = [json.loads(line) for line in (folder / 'run' / 'log.jsonl').read_text().splitlines()]
    steps = [line for line in log if 'loss' in line]
    stages: dict[str, list[dict[str, Any]]] = {}
    for line in steps:
        stages.setdefault(line['stage'], []).append(line)
    rendered = (folder / 'render.seconds').read_text().strip()
    rows = [
        (f'rendering for {Path(train["recipe"]).name}', f'{rendered} s'),
        ('training', f'{train["seconds"]} s, of which at most {60 * train["minutes"]:g} s steps'),
    ]
    for name, lines in stages.items():
        first, last = lines[0], lines[-1]
        took = last['time'] - first['time']
        rate = (last['step'] - first['step']) / took if took > 0 else 0.0
        text = f'{last["step"]} steps, {rate:.3g} steps/s, loss {first["loss"]:.3g} to '
        waited = sum(line['waiting_for_data'] for line in lines) / len(lines)
        rows.append((f'stage {name}', text + f'{last["loss"]:.3g}, {waited:.0%} waiting for data'))
    metrics = folder / 'run' / 'metrics.json'
    for name, row in (_read(metrics) if metrics.is_file() else {}).items():
        rows.append((name, ', '.join(f'{key} {value:.3f}' for key, value in row.items())))
    return rows


def _torch(engine: dict[str, Any]) -> str:
    return str(engine['device'].get('torch', engine['versions'].get('torch')))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding='utf-8'))


if __name__ == '__main__':
    raise SystemExit(main())
