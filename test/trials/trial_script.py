# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command line that the trials share: options, progress bar, output and exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import sys
from typing import Any

from marigold_ros.commands.terminal.options import integer
from marigold_ros.errors import MarigoldError
from tqdm import tqdm


def run_script(
    description: str | None,
    option: tuple[str, Callable[[str], Any], Any, str],
    trial: Callable[[Any, int, Callable[[float], Any]], Any],
    table: Callable[[Any], list[str]],
    steps: Callable[[Any], int],
) -> int:
    """
    Run a trial, print its result and return the exit code: 0 if the result is ``clean``, else 1.

    ``option`` is (name, type, default, help) of the trial's length, ``trial(length, seed,
    progress)`` returns the result, ``table`` formats it, and ``steps`` converts the length into
    steps of the progress bar.
    """
    name, kind, default, text = option
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(name, dest='length', type=kind, default=default, metavar='N', help=text)
    parser.add_argument(
        '--seed', type=integer(0), default=0, metavar='N', help='of everything random'
    )
    parser.add_argument('--json', action='store_true', help='print the result as JSON')
    args = parser.parse_args()
    try:
        with tqdm(total=steps(args.length), desc=name.strip('-'), leave=None) as bar:
            result = trial(args.length, args.seed, bar.update)
    except MarigoldError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    figures = {**vars(result), 'clean': result.clean}
    print(json.dumps(figures, default=vars) if args.json else '\n'.join(table(result)))
    return 0 if result.clean else 1
