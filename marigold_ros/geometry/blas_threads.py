# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One BLAS thread for the matrices of a frame, whatever the process has set.

Threads of OpenBLAS wait for each other by spinning, which beside busy processes takes 20 times as
long as the work. The number is a property of the process, so it is lowered for the time of a call
only. threadpoolctl would do it too, but has no rosdep key.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import ctypes
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

# Wheels bundle one OpenBLAS for NumPy and another for SciPy; distributions share one. A symbol is
# looked up in the libraries that the module is linked with.
_LINKED = ('numpy.linalg._umath_linalg', 'scipy.linalg._fblas')
_SYMBOLS = tuple(
    f'{prefix}openblas_{{}}_num_threads{suffix}'
    for prefix in ('', 'scipy_')
    for suffix in ('', '64_')
)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Limit OpenBLAS to the calling thread inside; also a decorator.

    May be nested and used by several threads at once: the first to enter lowers the number, the
    last to leave restores it, except where it was changed in between. Other BLAS libraries keep
    their threads.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()


@dataclass(frozen=True)
class _OpenBlas:
    """The number of threads of one OpenBLAS library."""

    get: Callable[[], int]
    set: Callable[[int], None]


@dataclass
class _Limit:
    """Who is inside, and what to restore after them."""

    lock: Lock = field(default_factory=Lock)
    inside: int = 0
    lowered: list[tuple[_OpenBlas, int]] = field(default_factory=list)

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside > 1:
                return
            for library in _libraries():
                threads = library.get()
                if threads > 1:
                    library.set(1)
                    self.lowered.append((library, threads))

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside:
                return
            for library, threads in self.lowered:
                if library.get() == 1:
                    library.set(threads)
            self.lowered.clear()


_LIMIT = _Limit()


@cache
def _libraries() -> tuple[_OpenBlas, ...]:
    """Find the OpenBLAS libraries of NumPy and SciPy; none where they use another BLAS."""
    found = []
    for name in _LINKED:
        try:
            linked = ctypes.CDLL(_extension_file(name))
        except (ImportError, OSError):
            continue
        for symbol in _SYMBOLS:
            if hasattr(linked, symbol.format('set')):
                getter, setter = (linked[symbol.format(verb)] for verb in ('get', 'set'))
                found.append(_OpenBlas(getter, setter))
                break
    return tuple(found)


def _extension_file(name: str) -> str:
    """Return the file of an extension module; importing scipy.linalg would take 0.2 seconds."""
    package, *folders, _ = name.split('.')
    found = find_spec(package)
    places = found.submodule_search_locations if found else None
    inner = PathFinder.find_spec(name, [str(Path(p, *folders)) for p in places or ()])
    if inner is None or inner.origin is None:
        raise ImportError(f'{name} is not installed')
    return inner.origin
