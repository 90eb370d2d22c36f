# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compare two results of `evaluate` (or `demo`) on the same bags, frame by frame.

Frames are paired by bag and stamp; each difference (B minus A, mean over the frames scored in
both) comes with its 95 % interval from a paired block bootstrap, because neighbouring frames are
not independent. Results of other bags, topics, held-out scan lines or depth ranges are refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from marigold_ros.evaluation.results.comparison import EvaluationRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    for side in ('a', 'b'):
        parser.add_argument(
            side, metavar=side.upper(), help='folder with results.json and per_frame.csv'
        )
    parser.add_argument('--page', metavar='FILE', help='write an HTML page with curves as well')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')


def run(args: argparse.Namespace) -> int:
    """Compare and print; return the exit code."""
    from marigold_ros.evaluation.results.comparison import compare_runs, read_run
    from marigold_ros.evaluation.results.results import to_json

    a, b = read_run(args.a), read_run(args.b)
    try:
        found = compare_runs(a, b)
    except InputError as error:
        raise InputError(f'{args.a} and {args.b} cannot be compared: {error}', 'shape') from None
    if args.page:
        _write_page(args, (a, b), found)
    sides = {'a': _describe(args.a, a), 'b': _describe(args.b, b)}
    print(to_json({'schema': 1, **sides, **found}) if args.json else _text(sides, found))
    return 0


def _write_page(
    args: argparse.Namespace, runs: tuple[EvaluationRun, EvaluationRun], found: dict[str, Any]
) -> None:
    from marigold_ros.evaluation.report.comparison_page import comparison_page

    names = Path(args.a).resolve().name, Path(args.b).resolve().name
    try:
        Path(args.page).write_text(
            comparison_page(found, names, runs), encoding='utf-8', errors='backslashreplace'
        )
    except OSError as error:
        raise ConfigurationError(
            f'--page {args.page} cannot be written ({error.strerror}); give a file in an '
            'existing folder'
        ) from error


def _describe(folder: str, run: EvaluationRun) -> dict[str, Any]:
    found = run.results['provenance'].get('checkpoint', {})
    name = Path(folder).resolve().name
    return {'folder': name, 'checkpoint': found.get('name'), 'sha256': found.get('sha256')}


def _text(sides: dict[str, Any], found: dict[str, Any]) -> str:
    lines = [
        f'{name.upper()}: {side["folder"]} (checkpoint {side["checkpoint"]})'
        for name, side in sides.items()
    ]
    frames = found['frames']
    lines.append(
        f'{frames["paired"]} frames paired; only in A: {frames["only_a"]}, '
        f'only in B: {frames["only_b"]}'
    )
    for protocol, scores in found['protocols'].items():
        lines.append(_line(protocol, 'A', 'B', 'B - A [95 %]', ''))
        lines += [_figures(name, values) for name, values in scores['metrics'].items()]
        if scores['only_a'] or scores['only_b']:
            lines.append(
                f'  not counted: {scores["only_a"]} frames scored in A only, '
                f'{scores["only_b"]} in B only'
            )
    if found['latency']:
        lines.append(_line('time', 'A', 'B', 'B - A [95 %]', ''))
        lines.append(_figures('ms per frame', found['latency']))
    return '\n'.join(lines)


def _figures(name: str, values: dict[str, Any]) -> str:
    low, high = values['interval']
    difference = f'{values["difference"]:+.3g} [{low:+.3g}, {high:+.3g}]'
    a, b = f'{values["a"]:.4g}', f'{values["b"]:.4g}'
    return _line(f'  {name}', a, b, difference, values['verdict'])


def _line(name: str, a: str, b: str, difference: str, verdict: str) -> str:
    return f'{name:14}{a:>9}{b:>9}  {difference:34}{verdict}'.rstrip()
