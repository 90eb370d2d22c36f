# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The parameter file config/depth.yaml and the table of docs/parameters.md; imports no ROS.

``python -m marigold_ros.node.interface.parameter_file`` prints the file, ``--table`` the table;
tests compare both with the shipped ones.
"""

from collections.abc import Iterator
import sys
import textwrap
from typing import Any

from marigold_ros.config import NodeConfig
from marigold_ros.settings import Parameter, parameters

HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
#
# All parameters of the node with their defaults, made from marigold_ros/config.py by
# `python -m marigold_ros.node.interface.parameter_file`. Copy it, keep the lines that you change.
# Numbers with a decimal point need it: ROS takes 80 for an integer and refuses it.
/**:
  ros__parameters:
"""


def allowed_values(parameter: Parameter) -> str:
    """Return the allowed values of a parameter in words; empty where its type is the only rule."""
    if parameter.choices:
        return f'one of {", ".join(parameter.choices)}'
    if parameter.low is None:
        return ''
    return f'{parameter.low:.10g} to {parameter.high:.10g}'


def parameter_file() -> str:
    """Return the text of the parameter file: each parameter below its meaning and range."""
    return HEADER + ''.join(f'{line}\n' for line in _lines())


def parameter_table() -> str:
    """Return the table of docs/parameters.md: name, default, meaning and range."""
    rows = ['| parameter | default | meaning |', '|---|---|---|']
    for parameter in parameters(NodeConfig):
        default = _yaml(parameter.unset if parameter.item else parameter.default)
        rows.append(f'| `{parameter.name}` | `{default}` | {_meaning(parameter)} |')
    return '\n'.join(rows) + '\n'


def _meaning(parameter: Parameter) -> str:
    fixed = 'fixed at start' if parameter.read_only else ''
    return '; '.join(filter(None, (parameter.text, allowed_values(parameter), fixed)))


def _lines() -> Iterator[str]:
    group = ''
    for parameter in parameters(NodeConfig):
        prefix, _, leaf = parameter.name.rpartition('.')
        if prefix != group:
            group = prefix
            if prefix:
                yield f'    {prefix}:'
        indent = '      ' if prefix else '    '
        yield from textwrap.wrap(
            _meaning(parameter), 99, initial_indent=f'{indent}# ', subsequent_indent=f'{indent}# '
        )
        yield f'{indent}{leaf}: {_yaml(parameter.unset if parameter.item else parameter.default)}'


def _yaml(value: Any) -> str:
    """Format a value so that ROS reads its type: quoted strings, floats with a point."""
    if isinstance(value, tuple):
        return f'[{", ".join(_yaml(item) for item in value)}]'
    if isinstance(value, bool):
        return str(value).lower()
    if value != value:
        return '.nan'
    return f"'{value}'" if isinstance(value, str) else repr(value)


if __name__ == '__main__':
    print(parameter_table() if '--table' in sys.argv else parameter_file(), end='')
