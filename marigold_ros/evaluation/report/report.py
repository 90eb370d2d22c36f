# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write the report: one HTML page that needs nothing beside it, and its images as PNG files.

Tables, bars and images are plain HTML; the page's script adds curves with a cursor, the slider
between images and the cloud to turn. A plotting library would be larger than all that it shows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marigold_ros.evaluation.report import tables
from marigold_ros.evaluation.report.charts import chart_figure, chart_specs
from marigold_ros.evaluation.report.cloud import cloud_data, cloud_section
from marigold_ros.evaluation.report.frames import frame_panels
from marigold_ros.evaluation.report.html_page import escape, make_page
from marigold_ros.evaluation.report.verdict_section import (
    requirements_section,
    verdict_section,
)
from marigold_ros.evaluation.results.results import (
    frames_text,
    is_dataset,
    write_per_frame,
    write_results,
)
from marigold_ros.evaluation.scoring.report_frames import ReportFrame
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.whole_files import write_whole

_NO_SCRIPT = (
    '<noscript><p class="warning">Curves, slider and cloud need JavaScript, which is off; the '
    'figures are in per_frame.csv and results.json beside this page.</p></noscript>'
)
_KEYS = (
    'Arrow keys move the cursor once a chart has the focus; Enter or a double click shows the '
    'nearest image above.'
)


def write_all(
    folder: str | Path, results: Mapping[str, Any], scorer: Scorer, title: str, intro: str = ''
) -> None:
    """Write results.json, per_frame.csv, report.html and pictures/ at the top of a folder."""
    write_results(folder, results)
    write_per_frame(folder, scorer.rows)
    write_report(folder, results, scorer.rows, scorer.report_frames, title, intro)


def write_report(
    folder: str | Path,
    results: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    samples: Sequence[tuple[str, ReportFrame]],
    title: str = 'Depth report',
    intro: str = '',
) -> Path:
    """
    Write report.html, whose path is returned, and ``pictures`` beside it.

    ``results`` and ``rows`` are the contents of results.json and per_frame.csv, ``samples`` frames
    to show with their meaning (worst, best, …), ``title`` and ``intro`` plain text at the top.
    """
    images = Path(folder, 'pictures')
    for old in filter(Path.is_file, images.glob('frame_*.png')):
        old.unlink()  # of an earlier run into the same folder
    charts = chart_specs(results, rows)
    cloud = cloud_data([sample for _, sample in samples])

    def curves(group: str) -> str:
        return ''.join(chart_figure(n, s) for n, s in charts.items() if s['group'] == group)

    over_time, time = curves('time'), 'By image' if is_dataset(results) else 'Over time'
    ranges = curves('range') + _panels(tables.region_table(results))
    stability = _panels(*tables.stability_tables(results))
    accuracy = tables.accuracy_bars(results), tables.accuracy_table(results)
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p class="lead">{escape(intro)}</p>' if intro else '',
        verdict_section(results.get('verdict')),
        requirements_section(results.get('requirements', ())),
        f'<p class="lead">{escape(frames_text(results).capitalize())}.</p>',
        tables.warnings_list(results),
        _NO_SCRIPT,
        tables.headline(results),
        frame_panels(samples, images),
        cloud_section(cloud),
        _section('Accuracy', _panels(*accuracy, tables.bag_table(results, rows))),
        _section(time, _pair(over_time) + f'<p class="note keys">{_KEYS}</p>' * bool(over_time)),
        _section('By distance and place', _pair(ranges)),
        _section('Calibration of sigma', _pair(curves('sigma'))),
        _section('Corrupted images', _pair(curves('robustness'))),
        _section('Temporal stability and surfaces', _pair(stability)),
        _section('Milliseconds per image', _panels(tables.latency_table(results))),
        _section('Provenance', _panels(tables.provenance_tables(results))),
    ]
    body = '\n'.join(part for part in parts if part)
    html = make_page(title, body, {'charts': charts, 'cloud': cloud})
    path = Path(folder, 'report.html')
    write_whole(path, html.encode(errors='backslashreplace'))
    return path


def _section(title: str, content: str) -> str:
    """Return content under a heading; nothing where it is empty."""
    return f'<section><h2>{escape(title)}</h2>{content}</section>' if content else ''


def _panels(*contents: str) -> str:
    return ''.join(f'<div class="panel">{content}</div>' for content in contents if content)


def _pair(content: str) -> str:
    """Put panels beside each other where there is room."""
    return f'<div class="pair">{content}</div>' if content else ''
