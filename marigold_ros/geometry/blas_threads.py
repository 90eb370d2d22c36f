# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One BLAS thread for the matrices of a frame, whatever the process has set.

Threads of OpenBLAS wait for each other by spinning, which beside busy processes takes 20 times as
long as the work. The number is a property of the process, so it is lowered for the time of a call
only. threadpoolctl knows the libraries; its own limit is not for several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import LibController


@contextmanager
def one_blas_thread(of_scipy: bool = True) -> Iterator[None]:
    """
    Limit OpenBLAS to the calling thread inside; also a decorator.

    May be nested and used by several threads at once: the first to enter lowers a library's
    number, the last to leave restores it, except where it was changed in between. Other BLAS
    libraries keep their threads, as PyTorch may share them. Without ``of_scipy`` SciPy is not
    imported for it.
    """
    _LIMIT.enter(of_scipy)
    try:
        yield
    finally:
        _LIMIT.leave()


@dataclass
class _Limit:
    """Who is inside, and what to restore after them."""

    lock: Lock = field(default_factory=Lock)
    inside: int = 0
    lowered: list[tuple[LibController, int]] = field(default_factory=list)

    def enter(self, of_scipy: bool) -> None:
        with self.lock:
            self.inside += 1
            known = {library.filepath for library, _ in self.lowered}
            for library in _libraries(of_scipy):
                threads = library.get_num_threads()
                if threads > 1 and library.filepath not in known:
                    _set_threads(library, 1)
                    self.lowered.append((library, threads))

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside:
                return
            for library, threads in self.lowered:
                if library.get_num_threads() == 1:
                    _set_threads(library, threads)
            self.lowered.clear()


_LIMIT = _Limit()


def _set_threads(library: LibController, threads: int) -> None:
    # threadpoolctl 3.8 ignores every thread but the first that set a number, in silence.
    if hasattr(library, 'clear_controlling_thread'):
        library.clear_controlling_thread(force=True)
    library.set_num_threads(threads)


@cache
def _libraries(of_scipy: bool) -> tuple[LibController, ...]:
    """Return the OpenBLAS of NumPy and SciPy; wheels bundle one each, distributions share one."""
    if of_scipy:
        import scipy.linalg.lapack  # noqa: F401  Only libraries that are loaded are found.
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(internal_api='openblas').lib_controllers
    return tuple(found)
