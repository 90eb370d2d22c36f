# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The verdict as the first section of the report."""

from collections.abc import Mapping
from html import escape
from typing import Any

# A sign and words beside the colour, which not everybody distinguishes.
_GRADES = {
    'green': ('✓', 'Good: usable, and better than the best baseline'),
    'amber': ('≈', 'Mixed: usable in part, or not better than the best baseline throughout'),
    'red': ('✕', 'Poor: not usable, or worse than the best baseline'),
    'unknown': ('?', 'Too few scored frames to tell'),
}
_TITLES = {
    'range': 'Usable range',
    'baselines': 'Against the best baseline',
    'speed': 'Speed',
    'weakest': 'Weakest',
    'model': 'Model',
}


def verdict_section(verdict: Mapping[str, Any] | None) -> str:
    """Return the section of the verdict of a run; empty without one."""
    if not verdict:
        return ''
    grade = verdict['grade'] if verdict['grade'] in _GRADES else 'unknown'
    sign, title = _GRADES[grade]
    rows = ''.join(
        f'<dt>{escape(_TITLES.get(name, name))}</dt><dd>{escape(text)}</dd>'
        for name, text in verdict['text'].items()
    )
    return (
        f'<section class="verdict {grade}"><h2><span aria-hidden="true">{sign}</span> '
        f'{escape(title)}</h2><dl>{rows}</dl></section>'
    )
