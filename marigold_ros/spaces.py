# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The spaces that a prediction may be affine in, and their conversion to and from metres.

The one rule for alignment, guidance and training: NumPy arrays and torch tensors both pass.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

SPACES = ('depth', 'log', 'disparity', 'metric')
# Depth in these is known up to scale and shift.
RELATIVE_SPACES = SPACES[:3]

Values = TypeVar('Values', bound=Any)  # a NumPy array or a torch tensor


def from_metres(depth: Values, space: str, log: Callable[[Any], Any] = np.log) -> Values:
    """Convert depth in metres, above 0, to a space; pass ``torch.log`` for tensors."""
    values: Any = depth
    if space == 'log':
        return log(values)
    return 1.0 / values if space == 'disparity' else values


def to_metres(
    values: Values, space: str, max_depth: float, exp: Callable[[Any], Any] = np.exp
) -> Values:
    """
    Convert values of a space, of any shape, to depth in metres; pass ``torch.exp`` for tensors.

    NaN stays NaN. ``max_depth`` is the depth of disparities at or below ``1 / max_depth``,
    negative ones included; the other spaces are not limited.
    """
    if space == 'log':
        with np.errstate(over='ignore'):
            return exp(values)
    return 1.0 / values.clip(min=1.0 / max_depth) if space == 'disparity' else values
