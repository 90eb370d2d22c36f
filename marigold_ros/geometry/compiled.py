# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Functions that Numba compiles: loops over points and cells, which NumPy does in many small steps.

They run without the interpreter's lock, so that two threads share the work of a frame. Each is
compiled at its first call, once on a machine, and kept in ``__pycache__`` or the user's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, TypeVar

from numba import njit

Function = TypeVar('Function', bound=Callable)
# Lets sums run in vectors; NaN and infinity stay what they are.
_ANY_ORDER = {'reassoc', 'contract', 'nsz'}


def compiled(any_order: bool = False) -> Callable[[Function], Function]:
    """
    Return a decorator that compiles a function of arrays and numbers.

    ``any_order`` lets sums be taken in any order: the answer is exact to rounding.
    """
    settings: Any = {'nogil': True, 'fastmath': _ANY_ORDER if any_order else False}

    def compile_it(function: Function) -> Function:
        try:
            return cast(Function, njit(cache=True, **settings)(function))
        except RuntimeError:  # neither folder can be written
            return cast(Function, njit(**settings)(function))

    return compile_it
