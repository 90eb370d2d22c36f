# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What commands print beside their results: aligned tables, notes and progress on stderr."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import sys
from typing import Any


def note(text: str) -> None:
    """Print a line on stderr; stdout is for the figures."""
    print(text, file=sys.stderr, flush=True)


def grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def step_bar(total: int, what: str) -> Any:
    """Return a bar on stderr that ``update()`` moves on and that vanishes at the end."""
    from tqdm import tqdm

    return tqdm(total=total, desc=what, disable=None, leave=False)


@contextmanager
def frame_bar(total: int, what: str | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal; yield a function of the frames done so far."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit='frame', disable=None) as bar:

        def move_to(done: int) -> None:
            bar.update(done - bar.n)

        yield move_to
