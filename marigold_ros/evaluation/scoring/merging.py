# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Add up what several runs accumulated, so that bags can be scored independently.

Values are merged by their structure: numbers and arrays are sums, lists grow, mappings and objects
are merged item by item; text, tuples, flags and frozen configurations stay. A class that adds up
otherwise has a method ``merge``. A new accumulator therefore needs no code here.
"""

from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np


def merged(mine: Any, other: Any) -> Any:
    """
    Add another run's value to a value of the same kind; containers and objects are changed.

    Raises
    ------
    TypeError
        If the two are of different kinds.

    """
    if mine is None or other is None:
        return other if mine is None else mine
    if type(mine) is not type(other):
        raise TypeError(f'{type(mine).__name__} and {type(other).__name__} cannot be added up')
    if hasattr(mine, 'merge'):
        mine.merge(other)
    elif isinstance(mine, (int, float, np.number, np.ndarray, list)) and type(mine) is not bool:
        return mine + other
    elif isinstance(mine, Mapping):
        for key, value in other.items():
            mine[key] = merged(mine.get(key), value)  # type: ignore[index]
    elif not isinstance(mine, (bool, str, tuple)) and not is_dataclass(mine):
        merge_attributes(mine, other)
    return mine


def merge_attributes(mine: Any, other: Any, except_for: Collection[str] = ()) -> None:
    """Add up the attributes of two objects, in place."""
    for name, value in vars(other).items():
        if name not in except_for:
            setattr(mine, name, merged(getattr(mine, name, None), value))
