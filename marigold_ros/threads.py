# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How threads of numerical libraries wait; called before numpy and torch are imported."""

from collections.abc import MutableMapping
import os


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Keep idle threads from spinning, unless the user has decided otherwise.

    Beside another busy process, spinning OpenMP threads slowed a model down 15 times, and those of
    OpenBLAS, which always spin, the metric fit 20 times. One thread serves its small matrices.
    """
    environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    environment.setdefault('OPENBLAS_NUM_THREADS', '1')
