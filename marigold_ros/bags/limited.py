# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Look at a file of a stranger in a child process with limits of memory, time and disk first.

Parsers of containers, type definitions and rare image formats have faults of their own, which no
list of checks exhausts. What a child could do within its limits, this process can do too.
"""

from importlib import import_module
from itertools import islice
import os
from pathlib import Path
import resource
import signal
from stat import S_ISDIR, S_ISREG
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import MarigoldError

MEMORY = 1_000_000_000  # bytes beyond those of a child that has done nothing
SECONDS = 6.0  # of a processor
WAITING = 3.0  # times as long on a busy machine
BYTES_PER_SECOND = 25_000_000  # of a file, for which there is more time
UNPACKED = 20  # times the size of a file that may lie on the disk
DISK = 256_000_000  # bytes that may always lie there
MOST_FILES = 10_000  # of a folder
_REFUSED, _NO_MEMORY, _NO_DISK = 3, 4, 5  # exit codes


class LimitError(MarigoldError):
    """A file that needs more memory, time or disk than a look at it may take."""


def look(function: str, path: Path) -> str:
    """
    Return the text of a function of a path, as 'module:function', from a child with limits.

    Nothing is called for a file, or a folder of unchanged files, that was looked at before.
    Raises MarigoldError with the sentence of a known error that the function raised, and
    LimitError with the limit that it hit, or with how it died.
    """
    key, _ = _state(function, path)
    if key not in _SEEN:
        _SEEN[key] = run_limited(function, path)
    return _SEEN[key]


def run_limited(function: str, path: Path, *more: str, start_s: float = 0.0) -> str:
    """
    Return the text of a function of a path and ``more``, as :func:`look`, which runs it once.

    ``start_s``, of a processor, is what its imports may take beside what the file does.
    """
    size = _state(function, path)[1]
    seconds = start_s + allowed_seconds(size)
    longest = WAITING * seconds
    with TemporaryDirectory(prefix='marigold_look.') as scratch:
        own = [function, str(size), str(int(seconds)), os.path.abspath(path), *more]
        command = [sys.executable, '-m', __name__, *own]
        paths = os.pathsep.join(one for one in sys.path if one)
        environment = {**os.environ, 'PYTHONPATH': paths, 'TMPDIR': scratch}
        try:
            child = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                start_new_session=True,  # Ctrl-C is for this process
                timeout=longest,
            )
        except subprocess.TimeoutExpired:
            raise _too_much(f'more than {longest:.0f} s', size) from None
    text = child.stdout.decode(errors='replace')
    if child.returncode == _REFUSED:
        raise MarigoldError(text)
    if child.returncode == -signal.SIGXCPU:
        raise _too_much(f'more than {seconds:.0f} s of a processor', size)
    if child.returncode == _NO_MEMORY:
        raise _too_much(f'more than {MEMORY / 1e9:g} GB of memory', size)
    if child.returncode == _NO_DISK:
        raise _too_much(f'more than {disk_bytes(size) / 1e6:.0f} MB of disk', size)
    if child.returncode:
        raise LimitError(
            f'a look at it ended with exit code {child.returncode}; the file is damaged, or made '
            'to do harm'
        )
    return text


_SEEN: dict[tuple[Any, ...], str] = {}


def remember(function: str, path: Path, text: str) -> str:
    """Note the text of a function for a path that needs no look, or none again; returns it."""
    _SEEN[_state(function, path)[0]] = text
    return text


def _state(function: str, path: Path) -> tuple[tuple[Any, ...], int]:
    """Return what identifies the state of a file or folder, and its bytes."""
    try:
        files = sorted(islice(path.iterdir(), MOST_FILES + 1)) if path.is_dir() else [path]
        states = [file.stat() for file in files if file.exists()]
    except OSError as error:
        raise MarigoldError(f'{path} cannot be read ({error.strerror})') from error
    if len(files) > MOST_FILES:
        raise MarigoldError(
            f'{path} holds more than {MOST_FILES} files; give the folder of one bag'
        )
    if not all(S_ISREG(state.st_mode) or S_ISDIR(state.st_mode) for state in states):
        raise MarigoldError(f'{path} is or holds a pipe, socket or device; give files')
    key = function, os.path.abspath(path), *((s.st_ino, s.st_size, s.st_mtime_ns) for s in states)
    return key, sum(s.st_size for s in states)


def allowed_seconds(size: int) -> float:
    """Return how many seconds of a processor opening a file of a size may take."""
    return SECONDS + size / BYTES_PER_SECOND


def disk_bytes(size: int) -> int:
    """Return how many bytes a file of a size may unpack to on the disk."""
    return max(DISK, UNPACKED * size)


def _too_much(what: str, size: int) -> LimitError:
    return LimitError(
        f'opening its {size / 1e6:.1f} MB takes {what}, the limit for a file of that size; it is '
        'damaged, or made to do harm'
    )


def _child(function: str, size: str, seconds: str, path: str, *more: str) -> int:
    """Call the function within the limits; returns the exit code."""
    module, _, name = function.partition(':')
    call = getattr(import_module(module), name)
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
    memory = pages * resource.getpagesize() + MEMORY + int(size)  # it may be mapped
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds)),
        (resource.RLIMIT_FSIZE, disk_bytes(int(size))),
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(kind)[1]  # which may not be raised
        most = value + 1 if most == resource.RLIM_INFINITY else min(value + 1, most)
        resource.setrlimit(kind, (min(value, most), most))
    # Ends what waits for a pipe when nobody waits for it any more.
    signal.alarm(int(WAITING * int(seconds)) + 1)
    try:
        sys.stdout.write(call(Path(path), *more) or '')
    except MarigoldError as error:
        sys.stdout.write(str(error))
        return _REFUSED
    except PermissionError as error:
        sys.stdout.write(f'{error.filename or path} cannot be read ({error.strerror})')
        return _REFUSED
    except MemoryError:
        return _NO_MEMORY
    except OSError as error:
        if error.errno != 27:
            raise
        return _NO_DISK
    return 0


if __name__ == '__main__':
    sys.exit(_child(*sys.argv[1:]))
