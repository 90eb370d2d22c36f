# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The last answer of a network, for inputs that come again.

A frame with points is predicted several times, and its points enter late in the networks.
"""

from collections.abc import Callable
from typing import Any

import torch


class LastAnswer:
    """Calls a function, unless its arguments equal those of the last call: then as that one."""

    def __init__(self) -> None:
        self._given: tuple[Any, ...] | None = None
        self._answer: Any = None

    def __call__(self, function: Callable[..., Any], *given: Any) -> Any:
        """Return the function's answer to tensors, which nobody changes, and other values."""
        if self._given is None or not all(map(_equal, self._given, given)):
            self._given, self._answer = None, function(*given)
            self._given = given
        return self._answer


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)
