# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Scores of depth: corruptions, baselines, metrics, protocols, scoring, results, report.

The facade is lazy, so that the names of corruptions cost no numpy.
"""

from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics

__all__ = ['depth_metrics']


def __getattr__(name: str) -> Any:
    if name in __all__:
        from marigold_ros.evaluation.metrics import depth_metrics as module

        return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
