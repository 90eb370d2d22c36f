# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How the threads of the libraries below wait; to be said before numpy and torch are imported."""

from __future__ import annotations

from collections.abc import MutableMapping
import os


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Keep idle threads from spinning, unless the user has decided otherwise.

    Beside another busy process, on two cores, PyTorch's OpenMP threads that wait actively made a
    model 15 times slower, and OpenBLAS, whose threads always spin, the metric fit 20 times (19 ms
    became 390 ms). The fit's matrices are small: one thread serves them as well.
    """
    environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    environment.setdefault('OPENBLAS_NUM_THREADS', '1')
