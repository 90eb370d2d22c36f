# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The frames of the report: image, LiDAR, depth and error, inlined as JPEG and as PNG files."""

import base64
from collections.abc import Mapping, Sequence
import json
import math
from pathlib import Path
import re

import cv2
from marigold_ros.evaluation.baselines import BASELINE_TEXT
from marigold_ros.evaluation.protocols.oracle import oracle_depth
from marigold_ros.evaluation.report import drawing
from marigold_ros.evaluation.report.html_page import escape
from marigold_ros.evaluation.scoring.report_frames import ReportFrame
from marigold_ros.frame import Prediction
from marigold_ros.whole_files import write_whole
import numpy as np

_INLINE_WIDTH_PX = 960
_INLINE_PIXELS = 420_000
# Noise does not compress; a page of 8 frames with 4 images each, and two of each compared model,
# stays below 10 MB nevertheless.
_INLINE_BYTES = 160_000
_QUALITIES = (85, 70, 55, 40, 25)
_CAPTIONS = {
    'image': 'image',
    'LiDAR': 'LiDAR points in view, coloured by depth',
    'depth': 'metric depth',
    'truth': 'true depth',
    'fitted': 'depth after the best scale and shift to the truth',
    'relative': 'relative prediction (this frame has no metric depth)',
    'error': 'relative error at the scored pixels',
}
_FILES = {'image': 'input', 'LiDAR': 'lidar'}
SCALES = 'depth_scales.json'  # metres at the ends of the colours of each frame with depth
_ORACLE = 'oracle: '  # before the names of compared models


def frame_panels(samples: Sequence[tuple[str, ReportFrame]], folder: Path) -> str:
    """Return the section of the frames, and write each image with its legend to the folder."""
    if not samples:
        return ''
    errors = [frame.abs_rel if math.isfinite(frame.abs_rel) else -1.0 for _, frame in samples]
    parts, worst, scales = [], errors.index(max(errors)), {}
    for number, (meaning, sample) in enumerate(samples):
        scale = drawing.depth_scale(_known_depth(sample))
        panels = _draw(sample, *scale)
        _save(sample.index, panels, folder, *scale)
        if sample.metric is not None:
            scales[f'frame_{sample.index:04d}'] = [round(end, 3) for end in scale]
        parts.append(_panel(meaning, sample, panels, scale, number == worst))
    write_whole(folder / SCALES, json.dumps(scales).encode())
    what = 'images' if samples[0][1].truth is not None else 'frames'
    return f'<section id="frames"><h2>Worst and best {what}</h2>{"".join(parts)}</section>'


def _known_depth(sample: ReportFrame) -> np.ndarray:
    """Return the depth that sets the colour scale: true, of LiDAR, published, else as scored."""
    if sample.truth is not None:
        return sample.truth
    if len(sample.lidar):
        return sample.lidar.z
    return sample.score.z if sample.metric is None else sample.metric


def _draw(sample: ReportFrame, low: float, high: float) -> dict[str, np.ndarray]:
    """Draw the panels of a frame by name, RGB; those without data are left out."""
    panels, points, score = {'image': sample.rgb}, sample.lidar, sample.score
    if len(points):
        panels['LiDAR'] = drawing.overlay_points(
            sample.rgb, points.u, points.v, points.z, low, high
        )
    if sample.truth is not None and sample.metric is not None:
        panels['truth'] = drawing.colourise_depth(sample.truth, low, high)
        panels['fitted'] = drawing.colourise_depth(sample.metric, low, high)
    elif sample.metric is None:
        panels['relative'] = drawing.colourise_relative(
            sample.relative, near_is_low=sample.space != 'disparity'
        )
    else:
        panels['depth'] = drawing.colourise_depth(sample.metric, low, high)
    if len(score):
        panels['error'] = drawing.error_image(sample.rgb, score.u, score.v, sample.error)
    known = points if len(points) else score
    if sample.compared and len(known):
        own = Prediction(sample.relative, space=sample.space)
        for name, found in {'this model': own, **sample.compared}.items():
            relative, seen = found.relative, found.relative[known.v, known.u]
            best = oracle_depth(relative, known.z, found.space, (low, high), seen)
            panels[f'{_ORACLE}{name}'] = drawing.colourise_depth(best, low, high)
    return panels


def _panel(
    meaning: str,
    sample: ReportFrame,
    panels: Mapping[str, np.ndarray],
    scale: tuple[float, float],
    is_first: bool,
) -> str:
    label = f'{sample.index}' + (f' · {meaning}' if meaning else '')
    figures = ''.join(
        f'<figure data-name="{escape(name)}"><img alt="{_caption(name)}, frame {sample.index}" '
        f'width="{panel.shape[1]}" height="{panel.shape[0]}" '
        f'src="{inline(panel)}"><figcaption>{_caption(name)}</figcaption></figure>'
        for name, panel in panels.items()
    )
    first = ' data-first' if is_first else ''
    what = 'Frame' if sample.truth is None else 'Image'
    return (
        f'<div class="panel frame" id="frame-{sample.index}" data-index="{sample.index}" '
        f'data-label="{escape(label)}"{first}>'
        f'<h3>{what} {escape(label)}: {_score_text(sample)}</h3>'
        f'<div class="layers">{figures}</div>{_legends(panels, *scale)}</div>'
    )


def _caption(name: str) -> str:
    fitted = f'map of {name.removeprefix(_ORACLE)}, best fit to all points'
    return escape(_CAPTIONS.get(name, fitted))


def _score_text(sample: ReportFrame) -> str:
    if not math.isfinite(sample.abs_rel):
        return 'not scored'
    text = f'AbsRel {sample.abs_rel:.3f}'
    if math.isfinite(sample.baseline_abs_rel):
        name = BASELINE_TEXT.get(sample.baseline, sample.baseline)
        text += f', best baseline {sample.baseline_abs_rel:.3f} ({name})'
    return text


def _legends(panels: Mapping[str, np.ndarray], low: float, high: float) -> str:
    legends = []
    if any(name in ('depth', 'LiDAR', 'truth') or name.startswith(_ORACLE) for name in panels):
        dense = 'depth' in panels or 'truth' in panels
        text = 'depth in metres; black is without depth' if dense else 'depth in metres'
        legends.append(('depth', text, drawing.depth_ticks(low, high)))
    if 'relative' in panels:
        legends.append(('depth', 'relative depth, without unit', {'near': 0.0, 'far': 1.0}))
    if 'error' in panels:
        legends.append(('error', 'relative error, share of the true depth', drawing.ERROR_TICKS))
    return '<div class="ramps">' + ''.join(ramp(*legend) for legend in legends) + '</div>'


def ramp(kind: str, name: str, ticks: Mapping[str, float]) -> str:
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


def _save(
    index: int, panels: Mapping[str, np.ndarray], folder: Path, low: float, high: float
) -> None:
    """Write PNG files; cv2.imwrite would hide failures."""
    for name, panel in panels.items():
        drawn = panel
        if name in ('LiDAR', 'depth', 'truth', 'fitted') or name.startswith(_ORACLE):
            drawn = drawing.with_depth_legend(panel, low, high)
        if name == 'relative':
            drawn = drawing.with_relative_legend(panel)
        if name == 'error':
            drawn = drawing.with_error_legend(panel)
        stem = _FILES.get(name) or re.sub(r'[^\w+.-]+', '_', name)
        path = folder / f'frame_{index:04d}_{stem}.png'
        write_whole(path, cv2.imencode('.png', drawn[..., ::-1])[1].tobytes())


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
