# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the benchmarks of this folder share as scripts: printing, JSON, files of results."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import sys
from typing import Any

from marigold_ros.commands.terminal.help_text import CommandParser, WrappedHelp
from marigold_ros.commands.terminal.options import integer, make_folder
from marigold_ros.commands.terminal.output import note
from marigold_ros.errors import MarigoldError
from marigold_ros.evaluation.results.results import machine, to_json
from marigold_ros.threads import settle_threads


def _no_drawings(args: argparse.Namespace, results: Mapping[str, Any]) -> dict[str, bytes]:
    return {}


@dataclass(frozen=True)
class Benchmark:
    """
    A benchmark as a script.

    Parameters
    ----------
    name, description : str
        Of the script; ``name.json`` is its file of results.
    add_arguments : callable
        Declares options beside --runs, --json and --out.
    measure, table, drawings : callable
        ``measure(args)`` returns the figures, ``table(results)`` their text for a terminal,
        ``drawings(args, results)`` further files by name.

    """

    name: str
    description: str
    runs: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace], dict[str, Any]]
    table: Callable[[Mapping[str, Any]], str]
    drawings: Callable[[argparse.Namespace, Mapping[str, Any]], dict[str, bytes]] = _no_drawings

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Measure, print and write; return the exit code."""
        settle_threads()
        parser = CommandParser(
            prog=f'python benchmarks/{self.name}.py',
            description=self.description,
            formatter_class=WrappedHelp,
            allow_abbrev=False,
        )
        parser.add_argument('--runs', type=integer(1), default=0, metavar='N', help=self.runs)
        parser.add_argument('--json', action='store_true', help='print the figures as JSON')
        parser.add_argument('--out', metavar='DIR', help='write figures and images to DIR')
        self.add_arguments(parser)
        args = parser.parse_args(arguments)
        try:
            folder = make_folder(args.out) if args.out else None
            results = {'schema': 1, 'machine': machine(), **self.measure(args)}
            text = to_json(results)
            print(text if args.json else self.table(results))
            if folder is not None:
                files = {f'{self.name}.json': f'{text}\n'.encode(), **self.drawings(args, results)}
                for name, content in files.items():
                    (folder / name).write_bytes(content)
                    note(str(folder / name))
        except MarigoldError as error:
            print(f'error: {error}', file=sys.stderr)
            return 1
        return 0
