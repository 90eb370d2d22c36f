# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One frame under each of several runs, from the images of their reports, on one scale."""

import json
import math
from pathlib import Path
from typing import Any

from marigold_ros.errors import InputError, number
from marigold_ros.evaluation.report.drawing import depth_ticks
from marigold_ros.evaluation.report.frames import inline, ramp, SCALES
from marigold_ros.evaluation.report.html_page import escape
from marigold_ros.evaluation.results.shared_frames import SharedFrames
from marigold_ros.image_sets.decode import decode_image_file
import numpy as np

_KNOWN = {'truth': 'true depth', 'lidar': 'LiDAR points in view'}


def images_section(shared: SharedFrames, protocol: str) -> str:
    """
    Show the frame in which the runs' AbsRel of a protocol differs most.

    Only frames count whose depth the reports of all runs drew on the same scale; without one a
    sentence says so. Raises InputError for damaged images.
    """
    scales = [_scales(run.folder) for run in shared.runs.values()]
    frames = list(zip(*shared.rows.values(), strict=True))
    errors = np.stack([shared.column(name, f'{protocol}_abs_rel') for name in shared.runs])
    differ = np.nan_to_num(np.ptp(errors, axis=0), nan=-1.0)
    for place in np.argsort(-differ, kind='stable'):
        numbers = [int(str(row.get('index', '')) or -1) for row in frames[place]]
        stems = [f'frame_{number:04d}' for number in numbers]
        found = [scale.get(stem) for scale, stem in zip(scales, stems, strict=True)]
        if found[0] and all(scale == found[0] for scale in found):
            break
    else:
        return (
            '<p class="note">No frame is shown: the reports of all runs must have drawn it on one '
            'scale, as those of the same images and points do.</p>'
        )
    folders = [run.folder / 'pictures' for run in shared.runs.values()]
    rgb = _read(folders[0] / f'{stems[0]}_input.png')
    figures = [_figure('image', rgb)]
    for kind, text in _KNOWN.items():
        path = folders[0] / f'{stems[0]}_{kind}.png'
        if path.is_file():
            figures.append(_figure(text, _read(path)[: len(rgb)]))
    runs = zip(shared.runs, folders, stems, errors[:, place], strict=True)
    for name, folder, stem, error in runs:
        path = folder / f'{stem}_depth.png'
        path = path if path.is_file() else folder / f'{stem}_fitted.png'
        score = f', AbsRel {number(error, 3)}' if np.isfinite(error) else ''
        # The legend below each image is that of the page.
        figures.append(_figure(f'{name}{score}', _read(path)[: len(rgb)]))
    where = f'Frame {numbers[0]} of {shared.bags[place]}'
    most = 'Of the frames that all reports show, the runs differ most in this one. '
    scale = ramp('depth', 'depth in metres', depth_ticks(*found[0]))
    return (
        '<section id="one-frame"><h2>One frame under each run</h2><div class="panel">'
        f'<h3>{escape(where)}</h3><div class="layers">{"".join(figures)}</div>'
        f'<div class="ramps">{scale}</div><p class="note">{most * bool(differ[place] > 0)}'
        'All depths are drawn on this scale; black is without depth.</p></div></section>'
    )


def _scales(folder: Path) -> dict[str, Any]:
    """Return the ends of the colour scale, metres, of the images of a run by frame."""
    try:
        found = json.loads((folder / 'pictures' / SCALES).read_text(encoding='utf-8'))
        if not all(0 < low < high < math.inf for low, high in found.values()):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f'{folder}: {SCALES} is damaged; run evaluate again') from error
    return found


def _read(path: Path) -> np.ndarray:
    try:
        return decode_image_file(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}; run evaluate again') from error


def _figure(text: str, rgb: np.ndarray) -> str:
    size = f'width="{rgb.shape[1]}" height="{rgb.shape[0]}"'
    caption = escape(text)
    return (
        f'<figure><img alt="{caption}" {size} src="{inline(rgb)}">'
        f'<figcaption>{caption}</figcaption></figure>'
    )
