# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Look through a data set before the first step, and name every broken file at once.

What was found whole is noted in a stamp, so that the next start only compares sizes and times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from marigold_ros.errors import InputError
from marigold_ros.learning.data.storage import write_whole
from marigold_ros.learning.parallel import never, run_jobs, Stop
import numpy as np
from tqdm import tqdm

NAMED = 20  # broken files in one message
USUAL_FACTOR = 10.0  # a median this far outside the data set's range is of another unit


class Checked(Protocol):
    """A source that can be looked through."""

    name: str
    stamps: Path
    problems: Sequence[str]

    def __len__(self) -> int:
        """Return how many pairs there are."""

    def check(self, index: int) -> list[str]:
        """Say in words all that is wrong with a pair."""

    def fingerprint(self) -> str:
        """Return what changes when a file or the way it is read changes."""


def verify(source: Checked, workers: int = 1, stop: Stop = never, progress: bool = True) -> None:
    """
    Read every pair once, unless a stamp says that it was done.

    Parameters
    ----------
    source : Checked
    workers : int
        Processes that read.
    stop : function without arguments
        Once it is true, reading ends with Stopped.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    InputError
        Naming the first 20 broken files with their reasons and the number of all.

    """
    stamp = source.stamps / f'{source.fingerprint()[:24]}.txt'
    if stamp.exists():
        return
    problems = list(source.problems)
    with run_jobs(source.check, range(len(source)), workers, stop) as answers:
        for found in tqdm(
            answers, total=len(source), desc=f'verify {source.name}', disable=not progress
        ):
            problems += found
    refuse(problems, source.name)
    write_whole(stamp, f'{source.name}: {len(source)} pairs are whole\n'.encode())


def refuse(problems: Sequence[str], name: str) -> None:
    """Raise InputError where there are problems, in words."""
    if not problems:
        return
    more = f'\n  and {len(problems) - NAMED} more' if len(problems) > NAMED else ''
    raise InputError(
        f'{name}: {len(problems)} problems; mend the files or take them off the list:\n  '
        + '\n  '.join(problems[:NAMED])
        + more
    )


def implausible(
    metres: np.ndarray, usual: tuple[float, float], sky_above: float | None = None
) -> str:
    """
    Say what is wrong with a depth map as a whole, nothing where it is well.

    Parameters
    ----------
    metres : (H, W) float
        As stored: 0 or not finite is unknown.
    usual : (near, far), metres
        The data set's usual range.
    sky_above : float or None, metres
        From here on it is sky.

    """
    if np.isnan(metres).all():
        return 'is NaN everywhere; depth is metres where it is known'
    known = np.isfinite(metres) & (metres > 0)
    if sky_above is not None:
        known &= metres < sky_above
    if not known.any():
        return 'has no depth: all of it is zero, not finite or sky'
    near, far = usual
    median = float(np.median(metres[known]))
    limits = f'the usual range is {near:g} to {far:g} m; check the unit'
    if not near / USUAL_FACTOR <= median <= far * USUAL_FACTOR:
        return f'has a median of {median:.4g} m, beyond ten times the usual: {limits}'
    if not (known & (metres < far)).any():
        return f'has no depth within range, its median is {median:.4g} m: {limits}'
    return ''
