# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Functions that Numba compiles: loops over points and cells, which NumPy does in many small steps.

They run without the interpreter's lock, so that two threads share the work of a frame. Each is
compiled at its first call, once on a machine, and kept in ``__pycache__`` or the user's cache.
Numba is imported then, too, which brings SciPy and takes 0.2 s that other commands need not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, update_wrapper
import logging
from threading import RLock
from typing import Any, cast, TypeVar

from marigold_ros.errors import brief, warn_once

Function = TypeVar('Function', bound=Callable)
# Lets sums run in vectors; NaN and infinity stay what they are.
_ANY_ORDER = {'reassoc', 'contract', 'nsz'}
_NOT_KEPT = (
    'compiled functions cannot be kept ({}): each start takes half a minute longer; set '
    'NUMBA_CACHE_DIR to a writable folder with space'
)
_turn = RLock()
log = logging.getLogger(__name__)


def compiled(any_order: bool = False) -> Callable[[Function], Function]:
    """
    Return a decorator that compiles a function of arrays and numbers.

    ``any_order`` lets sums be taken in any order: the answer is exact to rounding. Compiled
    functions may call others of their module only: what is kept of them outlives changes of other
    files. A loop over arrays in parallel, each indexed by the loop's variable alone, runs in
    vectors; an index that might be negative does not.
    """
    settings = {
        'nogil': True,
        'error_model': 'numpy',
        'fastmath': _ANY_ORDER if any_order else False,
    }

    def decorate(function: Function) -> Function:
        return cast(Function, _Compiled(function, settings))

    return decorate


class _Compiled:
    """A function that is compiled when it is first called."""

    def __init__(self, function: Callable, settings: dict[str, Any]) -> None:
        self._function, self._settings = function, settings
        self._dispatcher: Any = None
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        if self._dispatcher is None:
            with _turn:
                # Numba looks up what a function calls by its name in the module.
                names = self._function.__globals__
                for name, value in list(names.items()):
                    if isinstance(value, _Compiled):
                        names[name] = value.dispatcher()
                self.dispatcher()
        return self._dispatcher(*arguments)

    def dispatcher(self) -> Any:
        """Return Numba's function."""
        if self._dispatcher is None:
            from numba import njit

            try:
                self._dispatcher = njit(cache=True, **self._settings)(self._function)
                if hasattr(self._dispatcher, '_cache'):  # not with NUMBA_DISABLE_JIT
                    _keep_where_possible(self._dispatcher._cache)
            except RuntimeError:
                warn_once(_NOT_KEPT.format('neither in __pycache__ nor in ~/.cache'))
                self._dispatcher = njit(**self._settings)(self._function)
        return self._dispatcher


@lru_cache
def _log_compilation() -> None:
    log.info('compiling functions for this machine, once: depth waits up to half a minute')


def _keep_where_possible(cache: Any) -> None:
    """Compile anew where Numba's files are damaged, as by a power cut, or the disk is full."""
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            kept = load(*arguments)
        except Exception as error:  # half a pickle raises anything
            warn_once(f'{cache.cache_path} is damaged ({brief(error)}): compiling anew')
            with suppress(OSError):
                cache.flush()
            return None
        if kept is None:
            _log_compilation()
        return kept

    def save_overload(*arguments: Any) -> None:
        try:
            save(*arguments)
        except Exception as error:  # it reads the index, too
            warn_once(_NOT_KEPT.format(getattr(error, 'strerror', None) or brief(error)))

    cache.load_overload, cache.save_overload = load_overload, save_overload
