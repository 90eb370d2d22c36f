# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The frames of the report: image, LiDAR, depth and error, inlined as JPEG and as PNG files."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
import math
from pathlib import Path

import cv2
from marigold_ros.evaluation.report.drawing import (
    colourise_depth,
    colourise_relative,
    depth_scale,
    depth_ticks,
    error_image,
    error_ticks,
    overlay_points,
    with_depth_legend,
    with_error_legend,
)
from marigold_ros.evaluation.scoring.report_frames import ReportFrame
import numpy as np

_INLINE_WIDTH_PX = 960
_INLINE_PIXELS = 420_000
# Noise does not compress; a page of 8 frames with 4 images each stays below 10 MB nevertheless.
_INLINE_BYTES = 160_000
_QUALITIES = (85, 70, 55, 40, 25)
_CAPTIONS = {
    'image': 'image',
    'LiDAR': 'LiDAR points in view, coloured by depth',
    'depth': 'metric depth',
    'relative': 'relative prediction (this frame has no metric depth)',
    'error': 'relative error at the scored pixels',
}
_FILES = {'image': 'input', 'LiDAR': 'lidar'}


def draw_sample(sample: ReportFrame) -> dict[str, np.ndarray]:
    """
    Draw one frame.

    Returns
    -------
    dict of str to (H, W, 3) uint8
        ``image``, ``LiDAR``, ``depth`` or ``relative``, and ``error`` in RGB; those without data
        are left out.

    """
    panels = {'image': sample.rgb}
    low, high = scale_of(sample)
    if len(sample.lidar):
        points = sample.lidar
        panels['LiDAR'] = overlay_points(sample.rgb, points.u, points.v, points.z, low, high)
    if sample.metric is None:
        panels['relative'] = colourise_relative(
            sample.relative, near_is_low=sample.space != 'disparity'
        )
    else:
        panels['depth'] = colourise_depth(sample.metric, low, high)
    if len(sample.score):
        panels['error'] = error_image(sample.rgb, sample.score.u, sample.score.v, sample.error)
    return panels


def scale_of(sample: ReportFrame) -> tuple[float, float]:
    """Return the ends of the colour scale of a frame's depth, metres."""
    if len(sample.lidar):
        return depth_scale(sample.lidar.z)
    return depth_scale(np.zeros(0) if sample.metric is None else sample.metric)


def frame_panels(samples: Sequence[tuple[str, ReportFrame]], folder: Path) -> str:
    """Return the section of the frames, and write each image with its legend to the folder."""
    if not samples:
        return ''
    worst = max(samples, key=lambda item: _known(item[1].abs_rel))[1]
    parts = []
    for meaning, sample in samples:
        panels = draw_sample(sample)
        _save(sample, panels, folder)
        parts.append(_panel(meaning, sample, panels, sample is worst))
    return f'<section id="frames"><h2>Worst and best frames</h2>{"".join(parts)}</section>'


def _known(error: float) -> float:
    return error if math.isfinite(error) else -1.0


def _panel(
    meaning: str, sample: ReportFrame, panels: Mapping[str, np.ndarray], is_first: bool
) -> str:
    label = f'{sample.index}' + (f' · {meaning}' if meaning else '')
    figures = ''.join(
        f'<figure data-name="{name}"><img alt="{escape(_CAPTIONS[name])}, frame {sample.index}" '
        f'width="{panel.shape[1]}" height="{panel.shape[0]}" '
        f'src="{inline(panel)}"><figcaption>{escape(_CAPTIONS[name])}</figcaption></figure>'
        for name, panel in panels.items()
    )
    first = ' data-first' if is_first else ''
    return (
        f'<div class="panel frame" id="frame-{sample.index}" data-index="{sample.index}" '
        f'data-label="{escape(label)}"{first}>'
        f'<h3>Frame {escape(label)}: {_score_text(sample)}</h3>'
        f'<div class="layers">{figures}</div>{_legends(sample, panels)}</div>'
    )


def _score_text(sample: ReportFrame) -> str:
    if not math.isfinite(sample.abs_rel):
        return 'not scored'
    text = f'AbsRel {sample.abs_rel:.3f}'
    if math.isfinite(sample.quadric_abs_rel):
        text += f', best quadric {sample.quadric_abs_rel:.3f}'
    return text


def _legends(sample: ReportFrame, panels: Mapping[str, np.ndarray]) -> str:
    legends = []
    if 'depth' in panels or 'LiDAR' in panels:
        legends.append(('depth', 'depth', depth_ticks(*scale_of(sample))))
    if 'relative' in panels:
        legends.append(('depth', 'relative', {'near': 0.0, 'far': 1.0}))
    if 'error' in panels:
        legends.append(('error', 'relative error', error_ticks()))
    return '<div class="ramps">' + ''.join(_ramp(*legend) for legend in legends) + '</div>'


def _ramp(kind: str, name: str, ticks: Mapping[str, float]) -> str:
    """Return a colour scale; labels that would overlap the last one are left out."""
    texts, end = [], -1.0
    for label, place in ticks.items():
        if place - end < 0.1:
            continue
        end = place
        anchor = 'start' if place < 0.05 else 'end' if place > 0.95 else 'middle'
        texts.append(
            f'<text x="{100 * place:.1f}%" y="12" text-anchor="{anchor}">{escape(label)}</text>'
        )
    return (
        f'<div>{escape(name)}<span class="ramp {kind}"></span>'
        f'<svg aria-hidden="true">{"".join(texts)}</svg></div>'
    )


def _save(sample: ReportFrame, panels: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write PNG files; cv2.imwrite hides failures, Path.write_bytes raises."""
    low, high = scale_of(sample)
    for name, panel in panels.items():
        drawn = panel
        if name in ('LiDAR', 'depth'):
            drawn = with_depth_legend(panel, low, high)
        if name == 'error':
            drawn = with_error_legend(panel)
        path = folder / f'frame_{sample.index:04d}_{_FILES.get(name, name)}.png'
        path.write_bytes(cv2.imencode('.png', drawn[..., ::-1])[1].tobytes())


def inline(rgb: np.ndarray) -> str:
    """Encode an RGB image as a data URI of a JPEG, reduced to a size that a page can carry."""
    height, width = rgb.shape[:2]
    factor = min(1.0, _INLINE_WIDTH_PX / width, math.sqrt(_INLINE_PIXELS / (width * height)))
    if factor < 1.0:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    for quality in _QUALITIES:
        _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(data) <= _INLINE_BYTES:
            break
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode('ascii')
