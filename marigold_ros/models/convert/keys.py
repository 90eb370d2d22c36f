# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The names of a released file's tensors, each used exactly once or named as unused."""

from collections.abc import Mapping, Sequence
import re

from marigold_ros.errors import CheckpointError
from marigold_ros.models.convert.pickles import Released
from marigold_ros.models.weights import require_finite, require_same
import torch
from torch import nn

Rules = Sequence[tuple[str, str | None]]


def read_rules(
    names: Mapping[tuple[str, str], str], outer: Sequence[str] = ()
) -> list[tuple[str, str | None]]:
    """
    Return the rules of tables of names.

    A line of a table has a name there and one here, or ``-`` for tensors that are not used; its
    key has what stands in front of both. ``#`` is a number and ``*`` the rest, in this order on
    both sides. Each of ``outer`` may stand in front of all names there.
    """
    start = ''.join(f'(?:{re.escape(part)})?' for part in outer)
    parts, rules = {'#': r'(\d+)', '*': '(.*)'}, []
    for (there, here), table in names.items():
        for line in table.split('\n'):
            old, _, new = line.strip().partition(' ')
            if not old:
                continue
            pattern = ''.join(parts.get(one, re.escape(one)) for one in there + old)
            first, *others = re.split(r'[#*]', here + new.strip())
            named = first + ''.join(rf'\{place}{one}' for place, one in enumerate(others, 1))
            rules.append((start + pattern, None if new.strip() == '-' else named))
    return rules


def rename(
    released: Released, rules: Rules, parts: Mapping[str, str] | None = None
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """
    Return the tensors by the names of rules, and the old names of those that are not used.

    A rule is a pattern of whole names and its replacement, None for tensors that are not used;
    the first that matches holds. ``parts`` of new names are replaced by others. Raises
    CheckpointError for a name without a rule, or two tensors of one name.
    """
    patterns = [(re.compile(pattern), new) for pattern, new in rules]
    found: dict[str, torch.Tensor] = {}
    unused, unknown = [], []
    for name, value in released.tensors.items():
        matches = ((pattern.fullmatch(name), new) for pattern, new in patterns)
        match, new = next((one for one in matches if one[0]), (None, None))
        if match is None:
            unknown.append(name)
        elif new is None:
            unused.append(name)
        else:
            key = match.expand(new)
            for old, other in (parts or {}).items():
                key = key.replace(old, other)
            if key in found:
                raise CheckpointError(f'{released.file} has {name[:100]} twice; fetch it again')
            found[key] = value
    if unknown:
        raise CheckpointError(
            f'{released.file} has {len(unknown)} tensors that are none of this family (first: '
            f'{unknown[0][:100]}); choose the family that it was released for'
        )
    return found, unused


def require_fit(
    released: Released, tensors: Mapping[str, torch.Tensor], network: nn.Module
) -> None:
    """Raise CheckpointError if tensors are not those of a network, which may be on meta."""
    own = network.state_dict()
    misshapen = [
        (name,)
        for name, one in own.items()
        if name in tensors and tensors[name].shape != one.shape
    ]
    require_same(released.file, own.keys() - tensors, tensors.keys() - own, misshapen)
    require_finite(tensors, released.file)
