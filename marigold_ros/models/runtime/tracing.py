# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Tracing of modules by PyTorch, for whatever converts them."""

from collections.abc import Iterator
from contextlib import contextmanager
import threading
import warnings

import torch

# PyTorch's tracer keeps the module that it traces in a variable of the process.
_one_at_a_time = threading.Lock()


@contextmanager
def tracing() -> Iterator[None]:
    """Trace modules inside: one thread after the other, without gradients and warnings."""
    with _one_at_a_time, warnings.catch_warnings(), torch.no_grad():
        # Branches on shapes are meant to be fixed.
        warnings.simplefilter('ignore')
        yield
