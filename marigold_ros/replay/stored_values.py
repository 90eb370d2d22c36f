# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Files of values: one JSON tree, and the arrays in it, in an npz archive.

Numbers and arrays come back to the bit, containers and objects with their types. Of objects only
the attributes are stored (those of ``__getstate__``, where a class has it), and only classes of
this package are read: no file can run code.
"""

from collections.abc import Callable
from enum import Enum
from importlib import import_module
import io
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from marigold_ros.whole_files import write_whole
import numpy as np

_PACKAGE = __name__.partition('.')[0]
_TREE = 'tree'
# Besides numbers, texts and lists the tree has mappings of one of these keys.
_ARRAY, _NUMBER, _TUPLE, _MAPPING = 'array', 'number', 'tuple', 'mapping'
_OBJECT, _MEMBER = 'object', 'member'
_FAILURES = (OSError, EOFError, BadZipFile, ImportError, LookupError, TypeError, ValueError)


def write_values(path: Path, value: Any) -> None:
    """
    Write a value; the file appears complete or not at all.

    Raises TypeError for a value that is neither a number, text, array or None, nor a container or
    an object of this package of such, and MarigoldError as `write_whole`.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_encoded(value, arrays)).encode()
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **{_TREE: np.frombuffer(tree, np.uint8)}, **arrays)
    write_whole(path, archive.getvalue())


def read_values(path: Path) -> Any:
    """Read what :func:`write_values` wrote; None where there is no such file, or no whole one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            tree = json.loads(archive[_TREE].tobytes())
            return _decoded(tree, archive.__getitem__)
    except _FAILURES:
        return None


def _encoded(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the JSON tree of a value, whose arrays are added to ``arrays``."""
    if isinstance(value, (np.ndarray, np.generic)):
        name = f'a{len(arrays)}'
        arrays[name] = np.asarray(value)
        if arrays[name].dtype.hasobject:
            raise TypeError('arrays of objects cannot be stored')
        return {_ARRAY if isinstance(value, np.ndarray) else _NUMBER: name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_encoded(item, arrays) for item in value]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, dict):
        pairs = [[_encoded(key, arrays), _encoded(item, arrays)] for key, item in value.items()]
        return {_MAPPING: pairs}
    place = [type(value).__module__, type(value).__qualname__]
    if place[0].partition('.')[0] != _PACKAGE or callable(value):
        raise TypeError(f'{".".join(place)} cannot be stored')
    if isinstance(value, Enum):
        return {_MEMBER: [*place, value.name]}
    state = value.__getstate__() if hasattr(value, '__getstate__') else vars(value)
    attributes = {name: _encoded(item, arrays) for name, item in (state or {}).items()}
    return {_OBJECT: place, 'attributes': attributes}


def _decoded(tree: Any, array: Callable[[str], np.ndarray]) -> Any:
    """Return the value of a tree, with arrays by name."""
    if isinstance(tree, list):
        return [_decoded(item, array) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = next(iter(tree))
    if kind == _OBJECT:
        found: Any = object.__new__(_class(*tree[_OBJECT]))
        attributes = tree['attributes'].items()
        vars(found).update({name: _decoded(item, array) for name, item in attributes})
        return found
    content = tree[kind]
    if kind == _MEMBER:
        module, name, member = content
        return getattr(_class(module, name), member)
    if kind == _ARRAY:
        return array(content)
    if kind == _NUMBER:
        return array(content)[()]
    if kind == _TUPLE:
        return tuple(_decoded(item, array) for item in content)
    if kind == _MAPPING:
        return {_decoded(key, array): _decoded(item, array) for key, item in content}
    raise ValueError(f'{kind} is no kind of value')


def _class(module: str, name: str) -> type:
    """Return a class of this package; raises ValueError for anything else."""
    if module.partition('.')[0] == _PACKAGE:
        found = getattr(import_module(module), name, None)
        if isinstance(found, type) and found.__module__ == module:
            return found
    raise ValueError(f'{module}.{name} is no class of {_PACKAGE}')
