# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""An animated WebP of a drive: image, LiDAR, depth and error side by side (OpenCV only)."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

_PANEL_WIDTH_PX = 360
_QUALITY = 70
_MARGIN_PX = 4
_CAPTION_PX = 24


def write_animation(
    path: Path, frames: Iterable[Mapping[str, np.ndarray]], seconds: float
) -> bool:
    """
    Write an animated WebP of drawn frames, the panels of each in two columns, or in a row.

    Parameters
    ----------
    path : Path
        The file, ``*.webp``.
    frames : iterable of mapping of str to (H, W, 3) uint8
        RGB panels under their captions, all of one size, the same captions in every frame.
    seconds : float
        Time between two frames.

    Returns
    -------
    bool
        False, and no file, where there are no frames or OpenCV is older than 4.11.

    """
    drawn = [_grid(panels) for panels in frames]
    if not drawn or not hasattr(cv2, 'imwriteanimation'):
        return False
    animation = cv2.Animation()
    animation.frames = drawn
    animation.durations = [round(1e3 * seconds)] * len(drawn)
    return bool(cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]))


def _grid(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Arrange captioned panels in two columns, or in a row if that left a place empty; BGR."""
    cells = [_captioned(panel, caption) for caption, panel in panels.items()]
    height, width = (side + _MARGIN_PX for side in cells[0].shape[:2])
    columns = len(cells) if len(cells) % 2 else 2
    canvas = np.full((len(cells) // columns * height, columns * width, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * height, number % columns * width
        canvas[top : top + len(cell), left : left + cell.shape[1]] = cell
    return canvas[:-_MARGIN_PX, :-_MARGIN_PX]


def _captioned(panel: np.ndarray, caption: str) -> np.ndarray:
    """Scale a panel and write its caption into a dark strip at the top, BGR."""
    size = (_PANEL_WIDTH_PX, round(_PANEL_WIDTH_PX * panel.shape[0] / panel.shape[1]))
    cell = cv2.cvtColor(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    cell[:_CAPTION_PX] = cell[:_CAPTION_PX] // 3  # dark behind white letters
    white = (255, 255, 255)
    cv2.putText(cell, caption, (8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)
    return cell
