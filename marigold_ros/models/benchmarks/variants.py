# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Names of what may make a model faster, joined by «+»: arithmetic and runtime settings.

Each is measured against the plain float32 model, so that what does not help is seen too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
import importlib.util
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.runtime.devices import DTYPES
import torch

SWITCHES = tuple(item.name for item in fields(RuntimeConfig) if item.type == 'bool')
# As diffusers would run them.
PLAIN = RuntimeConfig(channels_last=False)
NAMED: dict[str, dict[str, Any]] = {
    'compile': {'compile': 'auto'},
    'openvino': {'backend': 'openvino'},
}
ALL = 'all'


@dataclass(frozen=True)
class Variant:
    """One way to run a model, under its name."""

    name: str
    dtype: str
    runtime: RuntimeConfig


def variant(name: str) -> Variant:
    """
    Read a name such as ``bfloat16+channels_last`` or ``compile``.

    Raises
    ------
    ConfigurationError
        If a part of it is unknown.

    """
    dtype, runtime = 'float32', PLAIN
    for part in name.split('+'):
        if part in DTYPES:
            dtype = part
        elif part in SWITCHES:
            switched: dict[str, Any] = {part: True}
            runtime = replace(runtime, **switched)
        elif part in NAMED:
            runtime = replace(runtime, **NAMED[part])
        else:
            known = ', '.join((*SWITCHES, *NAMED, *DTYPES))
            raise ConfigurationError(
                f"variant '{name}' has '{part}'; join any of {known} by +, or say {ALL}"
            )
    return Variant(name, dtype, runtime)


def variants(names: list[str], device: torch.device) -> list[Variant]:
    """Read several names; ``all`` is each by itself, then what goes together on the device."""
    half = 'float16' if device.type == 'cuda' else 'bfloat16'
    together = f'{half}+{"+".join(SWITCHES)}'
    everything = [*SWITCHES, half, 'compile', together, f'{together}+compile']
    if device.type == 'cpu' and importlib.util.find_spec('openvino'):
        everything += ['openvino', f'{half}+openvino']
    chosen = [one for name in names for one in (everything if name == ALL else [name])]
    return [variant(name) for name in dict.fromkeys(chosen)]
