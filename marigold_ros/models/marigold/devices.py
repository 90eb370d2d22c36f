# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which device and which arithmetic: asked for by name, never silently replaced."""

from __future__ import annotations

from marigold_ros.errors import ConfigurationError
import torch

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def choose_device(name: str) -> torch.device:
    """Resolve ``auto``; a device that is asked for by name and missing is an error."""
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"device is '{name}'; choose auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == 'cpu':
        return device
    count = torch.cuda.device_count() if device.type == 'cuda' else 0
    if (device.index or 0) >= count:
        raise ConfigurationError(
            f"device is '{name}', and this machine offers torch {count} CUDA devices; choose auto "
            'or cpu, or install a torch build for your GPU'
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve ``auto``: float16 on a GPU, float32 on a CPU."""
    if name == 'auto':
        return torch.float16 if device.type == 'cuda' else torch.float32
    if name not in DTYPES:
        raise ConfigurationError(f"dtype is '{name}'; choose auto, {', '.join(DTYPES)}")
    return DTYPES[name]
