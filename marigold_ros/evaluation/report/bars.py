# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A bar chart as an image, drawn with OpenCV: labels, bars, values beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np

# One of the Okabe-Ito colours, which any colour vision tells from grey (blue), and a light one for
# the part beyond it; RGB.
_BAR, _TAIL, _INK, _PAPER = (0, 114, 178), (153, 199, 224), (40, 40, 40), (255, 255, 255)
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_ROW, _PAD = 24, 12  # px
_WIDTH = 720


@dataclass(frozen=True)
class Bar:
    """One row: a value, up to where a lighter tail reaches (0: none), and the text beside it."""

    label: str
    value: float
    tail: float = 0.0
    text: str = ''


def bar_chart(title: str, bars: Sequence[Bar]) -> np.ndarray:
    """
    Draw bars from zero, the longest over the whole width.

    Parameters
    ----------
    title : str
        Above them; ASCII, as all texts.
    bars : sequence of Bar
        From the top; a value that is not finite gives a row without a bar.

    Returns
    -------
    (H, 720, 3) uint8
        RGB.

    """
    left = 2 * _PAD + max((_text_width(bar.label) for bar in bars), default=0)
    right = 2 * _PAD + max((_text_width(bar.text) for bar in bars), default=0)
    room = max(40, _WIDTH - left - right)
    finite = [x for bar in bars for x in (bar.value, bar.tail) if math.isfinite(x)]
    per_px = (max(finite, default=0.0) or 1.0) / room
    canvas = np.full((_ROW * (len(bars) + 1) + 2 * _PAD, _WIDTH, 3), _PAPER, np.uint8)
    _write(canvas, title, _PAD, _PAD + _ROW // 2)
    for row, bar in enumerate(bars, start=1):
        middle = _PAD + row * _ROW + _ROW // 2
        end = left
        for value, colour in ((bar.tail, _TAIL), (bar.value, _BAR)):
            if not math.isfinite(value) or value <= 0.0:
                continue
            x = left + max(1, round(value / per_px))
            cv2.rectangle(canvas, (left, middle - 7), (x, middle + 6), colour, cv2.FILLED)
            end = max(end, x)
        _write(canvas, bar.label, _PAD, middle)
        _write(canvas, bar.text, end + _PAD // 2, middle)
    return canvas


def _write(canvas: np.ndarray, text: str, x: int, middle: int) -> None:
    cv2.putText(canvas, text, (x, middle + 5), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0]
