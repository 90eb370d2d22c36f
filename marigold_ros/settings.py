# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Settings classes: frozen dataclasses whose fields carry meaning and range, checked on construction.

The lists themselves are in :mod:`marigold_ros.config`. Nothing here imports ROS or torch.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, Field, field, fields, is_dataclass
from functools import partial
import math
import sys
from typing import Any, get_args, get_origin, get_type_hints

from marigold_ros.errors import ConfigurationError


def setting(
    default: Any,
    text: str,
    within: tuple[float, float] | tuple[None, None] = (None, None),
    choices: tuple[str, ...] = (),
    read_only: bool = False,
    size: int = 1,
) -> Any:
    """Declare a field: its meaning, the range of a number (with both ends), the size of a list."""
    low, high = within
    metadata = {'text': text, 'low': low, 'high': high, 'choices': choices}
    return field(default=default, metadata={**metadata, 'read_only': read_only, 'size': size})


start_setting = partial(setting, read_only=True)  # a running node does not change it


def group(kind: type, flat: bool = False) -> Any:
    """Declare a dataclass field that holds another settings class; flat means without a prefix."""
    return field(default_factory=kind, metadata={'group': kind, 'flat': flat})


@dataclass(frozen=True)
class Parameter:
    """One leaf of a settings class under its full name."""

    name: str
    kind: type
    default: Any
    text: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    read_only: bool
    size: int

    @property
    def unset(self) -> tuple:
        """The list that means «unset» where an empty one has no type, as in ROS."""
        return (math.nan if self.item is float else '',) * self.size

    @property
    def item(self) -> type | None:
        """Type of the items of a list, float or str; None if the value is no list."""
        return _item(self.kind)


def _item(kind: Any) -> type | None:
    """Item type of a field declared as tuple[ITEM, ...]."""
    return get_args(kind)[0] if get_origin(kind) is tuple else None


class Settings:
    """Base of all settings classes: checks each value against its field on construction."""

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            name = f'{type(self).__name__}.{item.name}'
            if 'group' in item.metadata:
                kind = item.metadata['group']
                if not isinstance(value, kind):
                    raise ConfigurationError(f'{name} is {value!r}; give a {kind.__name__}')
                continue
            value = _checked(name, value, kinds[item.name], item.metadata)
            object.__setattr__(self, item.name, value)
        self.check()

    def check(self) -> None:
        """Check rules that tie several fields together; raises ConfigurationError."""


def _checked(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    """Return the value in its declared type, or raise ConfigurationError."""
    text = metadata['text']
    if item := _item(kind):
        return _checked_list(name, value, item, text)
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (kind is not bool and isinstance(value, bool)):
        raise ConfigurationError(
            f'{name} is {value!r}; give a value of type {kind.__name__} ({text})'
        )
    if metadata['choices'] and value not in metadata['choices']:
        raise ConfigurationError(
            f"{name} is '{value}'; choose one of {', '.join(metadata['choices'])} ({text})"
        )
    if kind not in (int, float):
        return value
    low, high = metadata['low'], metadata['high']
    if not low <= value <= high:
        raise ConfigurationError(f'{name} is {value}; choose a value in [{low}, {high}] ({text})')
    return kind(value)


def _checked_list(name: str, value: Any, item: type, text: str) -> tuple:
    """Return a list of numbers or words as a tuple, or raise ConfigurationError."""
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else None
    if item is str:
        if items is None or not all(isinstance(x, str) for x in items):
            raise ConfigurationError(f'{name} is {value!r}; give a list of words ({text})')
        return items
    if items is None or not all(
        isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= sys.float_info.max
        for x in items
    ):
        raise ConfigurationError(f'{name} is {value!r}; give finite numbers ({text})')
    return tuple(float(x) for x in items)


def check_below(name: str, value: float, other_name: str, other: float) -> None:
    """Check that one setting is below another; raises ConfigurationError."""
    if value >= other:
        raise ConfigurationError(
            f'{name} is {value:g} and {other_name} {other:g}; the first must be below the second'
        )


def parameters(kind: type, prefix: str = '') -> Iterator[Parameter]:
    """Iterate over the leaves of a settings class in order of declaration, with full names."""
    kinds = get_type_hints(kind)
    for item in fields(kind):
        if 'group' in item.metadata:
            yield from parameters(item.metadata['group'], _nested(prefix, item))
            continue
        yield Parameter(prefix + item.name, kinds[item.name], item.default, **item.metadata)


def build(kind: type, values: Mapping[str, Any]) -> Any:
    """
    Build a settings object from full names and values; the others keep their defaults.

    Raises ConfigurationError if a name is unknown (the nearest known one is named) or a value
    breaks its rule.
    """
    known = [parameter.name for parameter in parameters(kind)]
    for name in values:
        if name not in known:
            raise ConfigurationError(f"unknown setting '{name}'; {nearest_name(name, known)}")
    return _build(kind, values, '')


def _build(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    arguments = {}
    kinds = get_type_hints(kind)
    for item in fields(kind):
        name = prefix + item.name
        if 'group' in item.metadata:
            arguments[item.name] = _build(item.metadata['group'], values, _nested(prefix, item))
        elif name in values:
            # Checked here under the name that was given; the class knows its own name only.
            arguments[item.name] = _checked(name, values[name], kinds[item.name], item.metadata)
    return kind(**arguments)


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that a misspelt one is most like; None if it is like none."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), 1, likeness)), None)


def nearest_name(name: str, known: list[str]) -> str:
    """Return a hint at the known name nearest to a misspelt one."""
    near = nearest(name, known)
    return f"did you mean '{near}'?" if near else f'known are {", ".join(known)}'


def as_values(config: Any, prefix: str = '') -> dict[str, Any]:
    """Flatten a settings object to full names and values, the inverse of :func:`build`."""
    values: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            values.update(as_values(value, _nested(prefix, item)))
        else:
            values[prefix + item.name] = value
    return values


def flat(value: Any, name: str = '') -> list[tuple[str, Any]]:
    """Flatten a nested mapping to values under dotted names."""
    if not isinstance(value, Mapping):
        return [(name, value)]
    inner = ((f'{name}.{key}' if name else str(key), item) for key, item in value.items())
    return [pair for key, item in inner for pair in flat(item, key)]


def _nested(prefix: str, item: Field) -> str:
    return prefix if item.metadata['flat'] else f'{prefix}{item.name}.'
