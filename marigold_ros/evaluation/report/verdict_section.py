# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The verdict as the first section of the report, and the outcome of requirements."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from marigold_ros.evaluation.report.html_page import escape, table

# A sign beside the colour, which not everybody distinguishes.
_SIGNS = {'green': '✓', 'amber': '≈', 'red': '✕', 'unknown': '?'}
_TITLES = {
    'training': 'Training data',
    'range': 'Usable range',
    'baselines': 'Against the best baseline',
    'best': 'Best baselines',
    'alone': 'The model alone',
    'sigma': 'Uncertainty',
    'fit': 'Scale and shift',
    'speed': 'Speed',
    'weakest': 'Weakest',
    'model': 'Model',
}


def verdict_section(verdict: Mapping[str, Any] | None) -> str:
    """Return the section of the verdict of a run; empty without one."""
    if not verdict:
        return ''
    grade = verdict['grade']
    titles = _TITLES | ({'range': 'Within the limit'} if verdict.get('fitted_to_truth') else {})
    rows = ''.join(
        f'<dt>{escape(titles.get(name, name))}</dt><dd>{_sentence(text)}</dd>'
        for name, text in verdict['text'].items()
    )
    return (
        f'<section class="verdict {grade}"><h2><span aria-hidden="true">{_SIGNS[grade]}</span> '
        f'{_sentence(verdict["title"])}</h2><dl>{rows}</dl></section>'
    )


def _sentence(text: str) -> str:
    """Escape a text for HTML: code between backticks, units in the line of their numbers."""
    unbroken = re.sub(r'(?<=\d) (?=%|(m|ms|Hz|MB)\b)', '&nbsp;', escape(text))
    return re.sub(r'`([^`]+)`', r'<code>\1</code>', unbroken)


def requirements_section(requirements: Sequence[Mapping[str, Any]]) -> str:
    """Return the section of the requirements with their outcome; empty without any."""
    if not requirements:
        return ''
    rows = []
    for item in requirements:
        value = item['value']
        measured = 'not measured' if value is None else f'{value:.4g}'
        sign, words, kind = ('✓', 'met', 'met') if item['met'] else ('✕', 'not met', 'missed')
        rows.append(
            f'<tr><th scope="row">{escape(item["text"])}</th><td>{measured}</td>'
            f'<td class="{kind}"><span aria-hidden="true">{sign}</span> {words}</td></tr>'
        )
    shown = table(('required', 'measured', 'outcome'), rows, 'requirements')
    return f'<section><h2>Requirements</h2><div class="panel">{shown}</div></section>'
