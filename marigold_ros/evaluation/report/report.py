# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The report: one HTML page that needs nothing beside it, and its images as single PNG files.

Tables, bars and images are plain HTML; a script of the page's own adds curves with a cursor, the
slider between images and the cloud to turn around. A plotting library was rejected: it would be
larger than all that it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from marigold_ros.evaluation.report.chart_specs import chart_specs
from marigold_ros.evaluation.report.cloud import cloud_data
from marigold_ros.evaluation.report.frames import frame_panels
from marigold_ros.evaluation.report.headline import accuracy_bars, headline
from marigold_ros.evaluation.report.html_page import make_page
from marigold_ros.evaluation.report.tables import (
    accuracy_table,
    frames_sentence,
    latency_table,
    provenance_tables,
    region_table,
    steadiness_tables,
    warnings_list,
)
from marigold_ros.evaluation.results.results import write_per_frame, write_results
from marigold_ros.evaluation.scoring.samples import Sample
from marigold_ros.evaluation.scoring.scorer import Scorer

_NO_SCRIPT = (
    '<noscript><p class="warning">Curves, slider and cloud need JavaScript, which is off; the '
    'figures are in per_frame.csv and results.json beside this page.</p></noscript>'
)


def write_all(
    folder: str | Path, results: Mapping[str, Any], scorer: Scorer, title: str, intro: str = ''
) -> None:
    """Write results.json, per_frame.csv, report.html and images/ at the top of a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, results)
    write_per_frame(folder, scorer.rows)
    write_report(folder, results, scorer.rows, scorer.samples, title, intro)


def write_report(
    folder: str | Path,
    results: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    samples: Sequence[tuple[str, Sample]],
    title: str = 'Depth report',
    intro: str = '',
) -> Path:
    """
    Write report.html and the folder ``pictures`` beside it.

    Parameters
    ----------
    folder : path
        An existing folder.
    results : mapping
        What results.json holds.
    rows : sequence of mappings
        What per_frame.csv holds.
    samples : sequence of (str, Sample)
        Frames to show, each with what it stands for.
    title, intro : str
        Plain text at the top.

    Returns
    -------
    Path
        Of report.html.

    """
    folder = Path(folder)
    images = folder / 'pictures'
    images.mkdir(exist_ok=True)
    for old in images.glob('frame_*.png'):
        old.unlink()  # of an earlier run into the same folder
    charts = chart_specs(results, rows)
    cloud = cloud_data([sample for _, sample in samples])
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p class="lead">{escape(intro)}</p>' if intro else '',
        frames_sentence(results),
        warnings_list(results),
        _NO_SCRIPT,
        headline(results),
        _section('Accuracy', _panel(accuracy_bars(results)), _panel(accuracy_table(results))),
        _section(
            'Over time',
            *_charts(
                charts,
                'time',
                'Arrow keys move the cursor once a chart '
                'has the focus; Enter or a double click shows the nearest image below.',
            ),
        ),
        _section(
            'By distance and place', *_charts(charts, 'range', more=_panel(region_table(results)))
        ),
        _section('Is sigma honest?', *_charts(charts, 'sigma')),
        _section('Corrupted images', *_charts(charts, 'robustness')),
        frame_panels(samples, images),
        _cloud(cloud),
        _section('Steadiness and surfaces', _pair(map(_panel, steadiness_tables(results)))),
        _section('Milliseconds a frame', _panel(latency_table(results))),
        _section('Where the figures come from', _panel(provenance_tables(results))),
    ]
    body = '\n'.join(part for part in parts if part)
    html = make_page(title, body, {'charts': charts, 'cloud': cloud})
    path = folder / 'report.html'
    path.write_text(html, encoding='utf-8', errors='backslashreplace')
    return path


def _section(title: str, *panels: str) -> str:
    """Give a heading with its panels; nothing where all are empty."""
    filled = [panel for panel in panels if panel]
    return f'<section><h2>{escape(title)}</h2>{"".join(filled)}</section>' if filled else ''


def _panel(content: str) -> str:
    return f'<div class="panel">{content}</div>' if content else ''


def _charts(
    charts: Mapping[str, Mapping[str, Any]], group: str, note: str = '', more: str = ''
) -> list[str]:
    """Give the places of a group's charts, two beside each other where there is room."""
    figures = [
        f'<figure class="chart panel" data-chart="{escape(name)}">'
        f'<figcaption>{escape(spec["title"])}</figcaption></figure>'
        for name, spec in charts.items()
        if spec['group'] == group
    ]
    pair = _pair([*figures, more])
    note = f'<p class="note">{escape(note)}</p>' if note else ''
    return [pair + note] if pair else []


def _pair(panels: Iterable[str]) -> str:
    filled = ''.join(panels)
    return f'<div class="pair">{filled}</div>' if filled else ''


def _cloud(cloud: Mapping[str, Any] | None) -> str:
    if cloud is None:
        return ''
    keys = {'ArrowLeft': '←', 'ArrowRight': '→', 'ArrowUp': '↑', 'ArrowDown': '↓', '+': '+'}
    keys = {**keys, '-': '−', '0': 'reset'}
    names = {'ArrowLeft': 'turn left', 'ArrowRight': 'turn right', 'ArrowUp': 'from above'}
    names = {**names, 'ArrowDown': 'from below', '+': 'closer', '-': 'farther', '0': 'reset'}
    buttons = ''.join(
        f'<button type="button" data-key="{key}" aria-label="{names[key]}">{text}</button>'
        for key, text in keys.items()
    )
    return (
        f'<section><h2>Frame {cloud["index"]} as a cloud</h2><div class="panel cloud">'
        '<canvas tabindex="0" role="img" aria-label="Point cloud; arrow keys turn it, plus and '
        'minus zoom, 0 resets the view"></canvas><output></output>'
        f'<div class="choices">{buttons}</div><p class="note">Drag to turn, pinch or scroll to '
        'zoom (after a click), arrow keys and + − 0 on the keyboard. Without flying '
        f'pixels; one of {cloud["stride"]} rows and columns.</p></div></section>'
    )
