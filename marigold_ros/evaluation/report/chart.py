# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A line chart as inline SVG, legible on light and dark pages and with any colour vision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
import math

# Three of the Okabe-Ito colours that stand out from white and from black; dashes tell them apart
# too.
_STROKES = (('#0072B2', ''), ('#D55E00', '7 4'), ('#009E73', '2 3'))
_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 34, 36


def line_chart(
    curves: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    ticks: Sequence[str] | None = None,
) -> str:
    """
    Draw up to three curves over their index; NaN leaves a gap.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        By name.
    x_label, y_label : str
        Of the axes.
    ticks : sequence of str or None
        What to write below each index; None writes the first, the middle and the last index.

    Returns
    -------
    str
        An ``<svg>`` element, empty if there is no finite value.

    """
    finite = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    if not finite:
        return ''
    top = max(finite) * 1.05 or 1.0
    count = max(len(curve) for curve in curves.values())
    step = _nice_step(top / 4)
    parts = []
    for tick in range(int(top / step) + 1):
        y = _y(tick * step, top)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="currentColor" stroke-opacity=".2"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:g}</text>'
        )
    below = {index: str(index) for index in sorted({0, (count - 1) // 2, count - 1})}
    for index, text in below.items() if ticks is None else enumerate(ticks):
        parts.append(
            f'<text x="{_x(index, count):.1f}" y="{_HEIGHT - 18}" text-anchor="middle">'
            f'{escape(text)}</text>'
        )
    for place, ((name, curve), (colour, dash)) in enumerate(
        zip(curves.items(), _STROKES, strict=False)
    ):
        pattern = f' stroke-dasharray="{dash}"' if dash else ''
        stroke = f'stroke="{colour}" stroke-width="2.5"{pattern} fill="none"'
        parts += [f'<path d="{path}" {stroke}/>' for path in _paths(curve, count, top)]
        x = _LEFT + 200 * place
        parts.append(
            f'<path d="M{x} 14h34" {stroke}/><text x="{x + 40}" y="18">{escape(name)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} by '
        f'{escape(x_label)}" font-size="13" fill="currentColor">{"".join(parts)}'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="13" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 13 {_HEIGHT / 2})">{escape(y_label)}</text></svg>'
    )


def _paths(curve: Sequence[float], count: int, top: float) -> list[str]:
    """Path data of each unbroken stretch; a lone point becomes a dash of 4 px."""
    paths: list[str] = []
    stretch: list[str] = []
    for index, value in enumerate([*curve, math.nan]):
        if math.isfinite(value):
            stretch.append(f'{_x(index, count):.1f} {_y(value, top):.1f}')
        elif stretch:
            paths.append('M' + 'L'.join(stretch) + ('h4' if len(stretch) == 1 else ''))
            stretch = []
    return paths


def _x(index: int, count: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * index / max(count - 1, 1)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top


def _nice_step(raw: float) -> float:
    """Give the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
