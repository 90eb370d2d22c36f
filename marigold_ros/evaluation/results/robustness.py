# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What corrupted images cost: AbsRel against strength, by corruption and protocol."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

from marigold_ros.evaluation.corruptions import STRENGTHS


def robustness(
    clean: Mapping[str, Any], corrupted: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[str, Any]:
    """
    Put the figures of corrupted runs beside those of the clean one.

    Parameters
    ----------
    clean : mapping
        ``protocols`` of the clean run.
    corrupted : mapping of (kind, strength) to mapping
        ``protocols`` of each corrupted run; of a kind, strengths may be missing.

    Returns
    -------
    dict
        ``strengths`` (0 is clean), and ``corruptions``: by kind and protocol the lists ``abs_rel``
        (macro; NaN where nothing was scored) and ``n_frames``, one number a strength.

    """
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(kind for kind, _ in corrupted):
        runs = [clean, *(corrupted.get((kind, strength), {}) for strength in STRENGTHS)]
        found[kind] = {
            protocol: {
                'abs_rel': [_macro(run, protocol) for run in runs],
                'n_frames': [run.get(protocol, {}).get('n_frames', 0) for run in runs],
            }
            for protocol in clean
        }
    return {'strengths': [0, *STRENGTHS], 'corruptions': found}


def table(results: Mapping[str, Any]) -> list[str]:
    """Give the lines of the printed table: the first protocol, and the model by itself."""
    strengths = results['strengths']
    lines = [f'{"AbsRel at strength":24}' + ''.join(f'{strength:9d}' for strength in strengths)]
    for kind, protocols in results['corruptions'].items():
        for number, (protocol, curve) in enumerate(protocols.items()):
            if number == 0 or protocol == 'oracle':
                figures = ''.join(f'{x:9.3f}' for x in curve['abs_rel'])
                lines.append(f'{f"{kind} ({protocol})":24}{figures}')
    return lines


def _macro(protocols: Mapping[str, Any], protocol: str) -> float:
    return float(protocols[protocol]['macro']['abs_rel']) if protocol in protocols else math.nan
