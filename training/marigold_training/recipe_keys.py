# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Keys of recipes: an unknown one is refused with the nearest known name."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from inspect import signature
from typing import Any, TypeVar

from marigold_ros.errors import ConfigurationError
from marigold_ros.settings import nearest_name

Values = TypeVar('Values')


def check_keys(where: str, keys: Iterable[Any], known: Collection[str]) -> None:
    """Raise ConfigurationError for a key of the entry ``where`` that is not known."""
    for key in keys:
        if key not in known:
            raise ConfigurationError(f"{where} has '{key}'; {nearest_name(str(key), [*known])}")


def check_arguments(where: str, values: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Raise ConfigurationError unless a function takes these values by their keys."""
    parameters = signature(function).parameters
    own = {name: item for name, item in parameters.items() if item.kind is not item.VAR_KEYWORD}
    if own == parameters:  # else it hands on what it does not know
        check_keys(where, values, own)
    for name, parameter in own.items():
        if parameter.default is parameter.empty and name not in values:
            raise ConfigurationError(f'{where} lacks {name}; known are {", ".join(parameters)}')


def check_mapping(where: str, value: Any) -> Mapping[str, Any]:
    """Return the entry ``where``; raises ConfigurationError unless it has keys with values."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f'{where} is {value!r}; give keys with values')
    return value


def check_entries(where: str, value: Any) -> None:
    """Raise ConfigurationError unless the entry ``where`` is a list of such entries."""
    if not isinstance(value, list):
        raise ConfigurationError(f'{where} is {value!r}; give a list, each of its entries after -')
    for entry in value:
        check_mapping(f'an entry of {where}', entry)


def read_fields(kind: type[Values], where: str, entry: Mapping[str, Any]) -> Values:
    """Build a dataclass from the entry ``where``; raises ConfigurationError for another key."""
    check_keys(where, check_mapping(where, entry), [item.name for item in fields(kind)])  # type: ignore[arg-type]
    return kind(**entry)


def check_validation(entry: Any, generators: Collection[str], others: Collection[str]) -> None:
    """Raise ConfigurationError unless ``validation`` has known keys and numbers of scenes."""
    keys = [*generators, *others]
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f'validation is {entry!r}; give keys of {", ".join(keys)}')
    check_keys('validation', entry, keys)
    for key in generators:
        count = entry.get(key, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ConfigurationError(
                f'validation.{key} is {count!r}; give a number of scenes, or 0 for none'
            )
