# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The known errors: each message names the value, the rule and the remedy.

Known errors are what users can mend: commands print them as one line and exit with 1, or with 2
for wrong options; the node counts and reports them. Anything else keeps its traceback. They derive
from ``ValueError`` where a caller passed a wrong value.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
import json
import logging
import math
from pathlib import Path
import re
from typing import Any

_ROUNDING = 1e-12  # figures below are rounding errors, as the bias of a least-squares fit
MOST_KINDS = 20  # of warnings that are kept
ROS_REMEDY = (
    'source a ROS 2 distribution (source /opt/ros/<distribution>/setup.bash), or install the '
    'ROS 2 wheels: pip install -r requirements-ros.txt'
)


class MarigoldError(Exception):
    """
    Any known error of this package; its text may quote strangers, and is one line.

    ``listed`` are further lines, indented below it, each for one of several causes.
    """

    listed: tuple[str, ...] = ()
    cause = 'internal'  # slug under which a frame or scan is counted, as that of an InputError

    def __str__(self) -> str:
        text = shown(' '.join(super().__str__().split()))
        return '\n  '.join([text, *map(shown, self.listed)])


class ConfigurationError(MarigoldError, ValueError):
    """A setting or parameter outside its range, of a wrong type, or unknown."""

    cause = 'configuration'


class UsageError(ConfigurationError):
    """Options or settings of a command that are wrong before any file is read."""


class CheckpointError(MarigoldError):
    """A model folder that is missing, incomplete, damaged or in a refused format."""

    cause = 'checkpoint'


class CalibrationError(MarigoldError, ValueError):
    """Intrinsics, extrinsics or a transform that are missing or invalid."""

    cause = 'calibration'


class AlignmentError(MarigoldError, ValueError):
    """Contradicting arguments of the metric fit; a failed fit is a state instead."""

    cause = 'points'


class BagError(MarigoldError):
    """A bag that cannot be read or written, or lacks requested content."""


class WriteError(MarigoldError):
    """A result that cannot be written, as on a full disk."""


class DamagedBagError(BagError):
    """
    Damaged bags whose readable part was scored: ``results`` are the content of results.json.

    The message names the damage, and where the results are.
    """

    def __init__(self, message: str, results: dict[str, Any] | None = None) -> None:
        super().__init__(message)  # alone, as unpickling calls it; the results follow then
        self.results = results or {}


class InputError(MarigoldError, ValueError):
    """One bad frame, scan or image; counted by ``cause``, as in ``frames.rejected.<cause>``."""

    def __init__(self, message: str, cause: str = 'unreadable') -> None:
        super().__init__(message)
        self.cause = cause


def brief(error: Exception) -> str:
    """Return the reason of another library in one line of at most 200 characters."""
    return ' '.join(str(error).split())[:200] or type(error).__name__


def shown(text: object, most: int = 1000) -> str:
    """
    Return text that strangers may have written as one line that can be printed, logged or drawn.

    Control characters, line ends and those that change the direction of writing are escaped, and
    what is longer than ``most`` is cut in its middle: messages end with the remedy.
    """
    text = str(text)
    if len(text) > most:
        text = f'{text[: most * 2 // 3]} … {text[-(most // 3) :]}'
    return text if text.isprintable() else escape_controls(text)


def with_names(text: str, paths: Iterable[Path]) -> str:
    """Return a text with the names of files and folders in place of their paths."""
    spelled = {one for path in paths for one in (path, path.absolute(), path.resolve())}
    # Longest first: 'data/drive' has 'a/drive' in it. The path '.' has no name.
    for path in sorted(spelled, key=lambda path: -len(str(path))):
        text = text.replace(str(path), path.name) if path.name else text
    return text


def escape_controls(text: str, kept: str = '') -> str:
    """Return text whose control characters, those ``kept`` apart, are escaped as in JSON."""
    return ''.join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return '\\u007f' if character == '\x7f' else json.dumps(character)[1:-1]


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural but for 1."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def without_numbers(text: str) -> str:
    """Return a text without its numbers, but for those in names, to find texts of one kind."""
    return re.sub(r'(?<![\w/.])\d[\d.]*(?![\w/])', '', text)


def count_kind(counts: dict[str, int], text: str, count: int = 1, most: int = MOST_KINDS) -> None:
    """Count a text under the first that differs in numbers only, of the first ``most`` kinds."""
    kind = without_numbers(text)
    text = next((known for known in counts if without_numbers(known) == kind), text)
    if text in counts or len(counts) < most:
        counts[text] = counts.get(text, 0) + count


@lru_cache
def warn_once(text: str) -> None:
    """Log a warning, the first time in this process."""
    logging.getLogger(__name__).warning(text)


@contextmanager
def needing(what: str, remedy: str) -> Iterator[None]:
    """Turn the failed import of another package into a MarigoldError with the remedy."""
    try:
        yield
    except ImportError as error:
        if (error.name or '').startswith('marigold_ros'):
            raise
        raise MarigoldError(
            f'{what} needs {error.name}, and importing it failed ({error}): {remedy}'
        ) from error


def number(value: float | None, digits: int) -> str:
    """Format a figure with decimals, two digits where it would read as 0; a dash if unknown."""
    if value is None or not math.isfinite(value):
        return '–'
    value = 0.0 if abs(value) < _ROUNDING else value
    text = f'{value:.{digits}f}'
    return text if float(text) or not value else f'{value:.2g}'
