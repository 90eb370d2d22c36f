# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Select the frames that a report shows, in one pass over a sequence of any length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
import math

from marigold_ros.frame import Prediction, SparseDepth
import numpy as np

SHOWN = 8
_WORST, _BEST, _EVEN = 3, 2, 4


@dataclass(frozen=True)
class ReportFrame:
    """A frame that the report may show."""

    index: int  # in the sequence
    rgb: np.ndarray  # (H, W, 3) uint8, rectified
    relative: np.ndarray  # (H, W), the prediction in its space
    space: str
    metric: np.ndarray | None  # (H, W) metres, as published
    lidar: SparseDepth  # all points in view; empty without a scan
    score: SparseDepth  # scored pixels with their truth
    error: np.ndarray  # (M,) relative error there, as scored; NaN without prediction
    abs_rel: float  # mean of ``error``
    baseline_abs_rel: float  # of the best baseline for this frame; NaN without one
    K: np.ndarray | None = None  # (3, 3) pixels, of the rectified image
    compared: Mapping[str, Prediction] = field(default_factory=dict)  # of other models, by name
    baseline: str = ''  # name of the best baseline
    # (H, W) metres, where ``metric`` is a prediction fitted to it and not published depth.
    truth: np.ndarray | None = None


def best_for_cloud(frames: Iterable[ReportFrame]) -> ReportFrame | None:
    """Choose, of the frames with metric depth and a camera, the one with the smallest error."""
    usable = [f for f in frames if f.metric is not None and f.K is not None and f.truth is None]
    return min(
        usable, key=lambda f: f.abs_rel if math.isfinite(f.abs_rel) else math.inf, default=None
    )


class FrameSelector:
    """Keeps the first frame, the worst, the best and some evenly spaced ones."""

    def __init__(self) -> None:
        self._stride = 1
        self._even: list[ReportFrame] = []
        self._best: list[ReportFrame] = []
        self._worst: list[ReportFrame] = []

    def add(self, frame: ReportFrame) -> None:
        """Offer a frame."""
        if frame.index % self._stride == 0:
            self._even.append(frame)
            if len(self._even) > 2 * _EVEN:
                self._even = self._even[::2]
                self._stride *= 2
        self._rank(frame)

    def _rank(self, frame: ReportFrame) -> None:
        if math.isfinite(frame.abs_rel):
            self._best = sorted([*self._best, frame], key=lambda f: f.abs_rel)[:_BEST]
            self._worst = sorted([*self._worst, frame], key=lambda f: -f.abs_rel)[:_WORST]

    def merge(self, other: FrameSelector, offset: int = 0) -> None:
        """Take over the frames of another selector, numbered from ``offset`` on."""
        for frame in {f.index: f for f in (*other._best, *other._worst)}.values():
            self._rank(replace(frame, index=frame.index + offset))
        self._even += [replace(frame, index=frame.index + offset) for frame in other._even]
        while len(self._even) > 2 * _EVEN:
            self._even = self._even[::2]

    def chosen(self) -> list[tuple[str, ReportFrame]]:
        """Return up to eight frames in order of time, each with its rank in words."""
        picked: dict[int, tuple[str, ReportFrame]] = {}
        if self._even:
            picked[self._even[0].index] = ('first', self._even[0])
        worst, best = _ranked('worst', self._worst), _ranked('best', self._best)
        for name, frame in (*worst[:1], *best[:1], *worst[1:], *best[1:]):
            before = picked.get(frame.index, ('', frame))[0]
            if ' ' in name and before:
                continue  # the second worst of few frames may be the best
            picked[frame.index] = (f'{before}, {name}' if before else name, frame)
        rest = [frame for frame in self._even if frame.index not in picked]
        free = min(SHOWN - len(picked), len(rest))
        for place in np.linspace(0, len(rest) - 1, free).round().astype(int) if free > 0 else ():
            picked[rest[place].index] = ('', rest[place])
        return [picked[index] for index in sorted(picked)]


def _ranked(name: str, frames: list[ReportFrame]) -> list[tuple[str, ReportFrame]]:
    """Name the frames worst, 2nd worst, 3rd worst."""
    return list(zip((name, f'2nd {name}', f'3rd {name}'), frames, strict=False))
