# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The report: one HTML page that needs nothing beside it, and its pictures as single PNG files.

Pictures are inlined as JPEG, charts as SVG, and there is no script, so that the page can be mailed
and opened anywhere. A plotting library was rejected: one polyline does not repay its weight on a
robot.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
import math
from pathlib import Path
from typing import Any

import cv2
from marigold_ros.evaluation.pictures import (
    colourise_depth,
    colourise_relative,
    depth_scale,
    error_picture,
    overlay_points,
    with_depth_legend,
    with_error_legend,
)
from marigold_ros.evaluation.results import to_json, write_per_frame, write_results
from marigold_ros.evaluation.samples import Sample
from marigold_ros.evaluation.scoring import Scorer
from marigold_ros.evaluation.tables import (
    accuracy_table,
    error_chart,
    frames_sentence,
    latency_table,
)
import numpy as np

_INLINE_WIDTH_PX = 900
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; min-width: 14rem; }
tr.own td { background: var(--soft); font-weight: 600; }
figure { margin: 0; } figcaption, .note { font-size: .85rem; opacity: .8; }
img { width: 100%; height: auto; display: block; border-radius: 4px; }
.four { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem),
1fr)); } svg { width: 100%; height: auto; } pre { font-size: .75rem; overflow-x: auto; }
"""


def write_all(
    folder: str | Path, results: Mapping[str, Any], scorer: Scorer, title: str, intro: str = ''
) -> None:
    """Write results.json, per_frame.csv, report.html and pictures/ at the top of a folder."""
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
        Plain text above the table.

    Returns
    -------
    Path
        Of report.html.

    """
    folder = Path(folder)
    pictures = folder / 'pictures'
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob('frame_*.png'):
        old.unlink()  # of an earlier run into the same folder
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p>{escape(intro)}</p>' if intro else '',
        frames_sentence(results),
        accuracy_table(results),
        error_chart(results, rows),
        latency_table(results),
        _samples(samples, pictures),
        '<h2>Where the figures come from</h2><details><summary>Bags, checkpoint, options, '
        'versions, machine</summary>'
        f'<pre>{escape(to_json(results["provenance"]))}</pre></details>',
    ]
    html = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n'
        + '\n'.join(part for part in parts if part)
        + '\n</body></html>\n'
    )
    path = folder / 'report.html'
    path.write_text(html, encoding='utf-8', errors='backslashreplace')
    return path


def draw_sample(sample: Sample) -> dict[str, np.ndarray]:
    """
    Draw one frame.

    Returns
    -------
    dict of str to (h, w, 3) uint8
        ``input``, ``lidar``, ``depth`` and ``error`` in RGB; what there is no data for is left
        out.

    """
    panels = {'input': sample.rgb}
    low, high = depth_scale(sample.lidar.z if len(sample.lidar) else _values(sample.metric))
    if len(sample.lidar):
        points = sample.lidar
        overlay = overlay_points(sample.rgb, points.u, points.v, points.z, low, high)
        panels['lidar'] = with_depth_legend(overlay, low, high)
    if sample.metric is None:
        panels['relative'] = colourise_relative(
            sample.relative, near_is_low=sample.space != 'disparity'
        )
    else:
        panels['depth'] = with_depth_legend(colourise_depth(sample.metric, low, high), low, high)
    if len(sample.score):
        errors = error_picture(sample.rgb, sample.score.u, sample.score.v, sample.error)
        panels['error'] = with_error_legend(errors)
    return panels


def _values(metric: np.ndarray | None) -> np.ndarray:
    return np.zeros(0) if metric is None else metric


def _samples(samples: Sequence[tuple[str, Sample]], folder: Path) -> str:
    captions = {
        'input': 'picture',
        'lidar': 'LiDAR points in view, coloured by depth',
        'depth': 'metric depth',
        'relative': 'relative prediction (this frame has no metric depth)',
        'error': 'relative error at the scored pixels',
    }
    html = ['<h2>Frames</h2>'] if samples else []
    for meaning, sample in samples:
        heading = f'Frame {sample.index}' + (f' ({meaning})' if meaning else '')
        html.append(f'<h3>{heading}: {_sample_sentence(sample)}</h3><div class="four">')
        for name, picture in draw_sample(sample).items():
            path = folder / f'frame_{sample.index:04d}_{name}.png'
            _save(path, picture)
            html.append(
                f'<figure><img alt="{captions[name]}, frame {sample.index}" '
                f'src="{_inline(picture)}"><figcaption>{captions[name]}</figcaption></figure>'
            )
        html.append('</div>')
    return '\n'.join(html)


def _sample_sentence(sample: Sample) -> str:
    if not math.isfinite(sample.abs_rel):
        return 'not scored'
    text = f'AbsRel {sample.abs_rel:.3f}'
    if math.isfinite(sample.quadric_abs_rel):
        text += f', best quadric {sample.quadric_abs_rel:.3f}'
    return text


def _save(path: Path, rgb: np.ndarray) -> None:
    """Write an RGB picture; the encoder's own writer hides failures, Python's does not."""
    path.write_bytes(cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())


def _inline(rgb: np.ndarray) -> str:
    """Give an RGB picture as a data URI, at most 900 px wide."""
    if rgb.shape[1] > _INLINE_WIDTH_PX:
        height = round(rgb.shape[0] * _INLINE_WIDTH_PX / rgb.shape[1])
        rgb = cv2.resize(rgb, (_INLINE_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode('ascii')
