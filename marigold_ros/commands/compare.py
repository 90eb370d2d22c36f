# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compare results of `evaluate` (or `demo`) on the same frames: what differs, and a leaderboard.

Frames are paired by bag and stamp. Runs are ordered by AbsRel; each difference from the best run
is a mean over the frames that all have, with the 95 % interval of the paired differences.
Neighbouring frames are not taken for independent. Baselines that saw the same points stand among
the runs. What was scored differently is left out with a sentence, or refused if nothing remains.
"""

import argparse
from collections.abc import Mapping
import os
from pathlib import Path
from typing import Any

from marigold_ros.commands.terminal.options import check_file
from marigold_ros.commands.terminal.output import grid, note, page
from marigold_ros.errors import counted, number, shown, UsageError
from marigold_ros.whole_files import write_whole

_MOST_LETTERS = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='folder with results.json and per_frame.csv, or that results.json; two or more',
    )
    parser.add_argument('--page', metavar='FILE', help='write an HTML page with curves as well')
    parser.add_argument('--csv', metavar='FILE', help='write all figures as CSV as well')
    parser.add_argument('--latex', metavar='FILE', help='write the leaderboards as LaTeX as well')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')


def run(args: argparse.Namespace) -> int:
    """Compare and print; return the exit code."""
    if len(args.runs) < 2:
        raise UsageError(f'{args.runs[0]} is one run; give two or more')
    given = {name: getattr(args, name) for name in ('page', 'csv', 'latex')}
    files = {n: check_file(f'--{n}', path) for n, path in given.items() if path is not None}
    from marigold_ros.evaluation.report.comparison_page import comparison_page
    from marigold_ros.evaluation.results import shared_frames
    from marigold_ros.evaluation.results.comparison import compare_runs, name_runs
    from marigold_ros.evaluation.results.comparison_tables import csv_table, latex_table
    from marigold_ros.evaluation.results.results import to_json

    read = map(shared_frames.read_run, args.runs)
    runs = dict(zip(name_runs(args.runs), read, strict=True))
    _check_files(files, [run.folder for run in runs.values()])
    with shared_frames.reading_results(' or '.join(runs)):
        shared = shared_frames.share_frames(runs)
        found = compare_runs(shared)
    texts = {
        'page': lambda: comparison_page(found, shared),
        'csv': lambda: csv_table(found),
        'latex': lambda: latex_table(found),
    }
    for name, file in files.items():
        write_whole(file, texts[name]().encode(errors='backslashreplace'))
        note(f'written: {file}')
    print(to_json(found) if args.json else text_of(found))
    return 0


def _check_files(files: Mapping[str, Path], folders: list[Path]) -> None:
    """Refuse to write over files of the runs, and two outputs to one file."""
    from marigold_ros.evaluation.results.results import RESULT_FILES

    taken = {os.path.realpath(folder / name) for folder in folders for name in RESULT_FILES}
    for option, file in files.items():
        path = os.path.realpath(file)
        if path in taken:
            text = 'would replace a file of a run or of another option; give another file'
            raise UsageError(f'--{option} {file} {text}')
        taken.add(path)


def text_of(found: Mapping[str, Any]) -> str:
    """Return a comparison as text for a terminal."""
    names = list(found['runs'])
    lines = []
    if found['differences']:
        rows = [['differs in', *names]]
        for what, values in found['differences'].items():
            cells = ('-' if values[n] is None else shown(values[n], _MOST_LETTERS) for n in names)
            rows.append([what, *cells])
        lines += [*grid(rows), '']
    bags = ', '.join(found['bags'])
    lines.append(f'{counted(found["frames"], "frame")} of {bags} in all runs')
    lines += found['left_out']
    for protocol, board in found['protocols'].items():
        count = counted(board['n_frames'], 'frame')
        lines += ['', f'{protocol}, {count}', *_board(board['rows'])]
        if board['unscored']:
            counts = ', '.join(f'{name} {n}' for name, n in board['unscored'].items())
            lines.append(f'not counted, because these have no score there: {counts}')
        for part in board['bags']:
            lines += [f'{protocol}, {part["n_frames"]} frames of {part["bag"]}']
            lines += _board(part['rows'])
    legend = '= no difference from the best run shown (95 %); + better than the best run there'
    return page([*lines, '', legend])


def _board(rows: list[dict[str, Any]]) -> list[str]:
    from marigold_ros.evaluation.results.comparison import FIGURES
    from marigold_ros.evaluation.results.comparison_tables import SHOWN

    heads = ['  rank and name', *(FIGURES[metric].title for metric in SHOWN), 'AbsRel is']
    table = [heads]
    for row in rows:
        kind = 'baseline ' if row['kind'] == 'baseline' else ''
        name = f'  {row["rank"]}. {kind}{row["name"]}'
        figures = [_figure(row['metrics'].get(m), digits) for m, digits in SHOWN.items()]
        table.append([name, *figures, row['outcome']])
    return grid(table)


def _figure(values: dict[str, Any] | None, digits: int) -> str:
    """Return a mean with the sign of its difference from the best run."""
    from marigold_ros.evaluation.results.comparison_tables import sign_of

    if not values:
        return '- '
    return f'{number(values["mean"], digits)}{sign_of(values["outcome"]) or " "}'
