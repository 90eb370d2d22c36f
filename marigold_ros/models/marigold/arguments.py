# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Checks of what a model is called with."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from marigold_ros.errors import ConfigurationError, InputError
import numpy as np

STEPS_LIMIT, SEED_LIMIT = 50, 2**63 - 1


def check_range(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no whole number between two; raises ConfigurationError."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ConfigurationError(f'{name} is {value!r}; choose a whole number in [{low}, {high}]')


def check_image(rgb: np.ndarray) -> None:
    """Refuse what is no (H, W, 3) uint8; raises InputError."""
    shape, dtype = np.shape(rgb), getattr(rgb, 'dtype', None)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise InputError(
            f'rgb has shape {shape} and dtype {dtype}; an image is (H, W, 3) uint8', cause='shape'
        )
