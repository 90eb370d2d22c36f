# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Score the cleaning of clouds: flying pixels removed, and good points lost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cpu_time import cpu_ms
import cv2
from marigold_ros.evaluation.metrics.surfaces import flying_and_good
from marigold_ros.frame import Frame, FrameResult, Prediction
from marigold_ros.geometry.cloud.flying_pixels import flying_pixels
from marigold_ros.geometry.cloud.normals import surface_normals
from marigold_ros.geometry.sky import sky_mask
import numpy as np

# Pixels over which true depth is blurred, and the metres that stand for the sky then.
_BLURS, _SKY_DEPTH = (4, 12), 120.0
# Pixels around a point in which true surfaces count, for a model whose edges are this wide.
_MODEL_REACH = 16
_COST_RUNS = 30

Scene = tuple[Frame, np.ndarray]  # with a camera; true depth (H, W), metres, +Inf is sky


@dataclass
class CleaningCounts:
    """Numbers of points, summed over images."""

    flying: int = 0
    removed: int = 0
    good: int = 0
    lost: int = 0

    def add(self, depth: np.ndarray, truth: np.ndarray, mask: np.ndarray, reach: int) -> None:
        """Count the points of ``depth`` that ``mask`` (H, W) removes; see `flying_and_good`."""
        flying, good = flying_and_good(depth, truth, reach)
        self.flying += int(flying.sum())
        self.removed += int((flying & mask).sum())
        self.good += int(good.sum())
        self.lost += int((good & mask).sum())

    def summary(self) -> dict[str, float]:
        """Return flying points per good one before and after, shares removed and lost."""
        good, kept = max(self.good, 1), max(self.good - self.lost, 1)
        return {
            'flying': self.flying / good,
            'flying_left': (self.flying - self.removed) / kept,
            'removed': self.removed / max(self.flying, 1),
            'good_lost': self.lost / good,
        }


def blurred(truth: np.ndarray, pixels: int, sky_depth: float) -> np.ndarray:
    """Return true depth with edges blurred and the sky at some depth, as networks predict it."""
    filled = np.where(np.isfinite(truth), truth, sky_depth).astype(np.float32)
    return cv2.blur(filled, (pixels,) * 2)


def measure_masks(
    drives: Iterable[tuple[str, Iterable[Scene]]],
    start: Callable[[], Callable[[Frame], FrameResult]],
    name: str,
) -> dict[str, Any]:
    """
    Score and time the masks of flying pixels and sky.

    Parameters
    ----------
    drives : iterable of (str, iterable of Scene)
        Drives with their kind, ``street`` or ``room``.
    start : callable
        Returns a function that processes the frames of one drive.
    name : str
        Name of the model, for its row of ``flying_pixels``.

    Returns
    -------
    dict
        ``pictures`` (their number), ``flying_pixels`` by depth, ``sky`` and ``cost_ms``.

    """
    names = (*(f'blurred over {pixels} px' for pixels in _BLURS), name)
    tallies = [CleaningCounts() for _ in names]
    # Pixels by kind of drive: sky, found, others, mistaken for sky.
    sky = {kind: np.zeros(4) for kind in ('street', 'room')}
    images = 0
    cost: dict[str, float] = {}
    for kind, scenes in drives:
        process = start()
        for frame, truth in scenes:
            result = process(frame)
            images += 1
            assert frame.camera is not None
            K, fitted = frame.camera.K, result.alignment.metric
            for tally, pixels in zip(tallies, _BLURS, strict=False):
                depth = blurred(truth, pixels, _SKY_DEPTH)
                tally.add(depth, truth, flying_pixels(depth, K), pixels // 2 + 2)
            if fitted is None or result.metric is None:
                continue
            tallies[-1].add(fitted, truth, flying_pixels(fitted, K), _MODEL_REACH)
            beyond, found = np.isinf(truth), np.isnan(result.metric) & np.isfinite(fitted)
            parts = (beyond, found & beyond, ~beyond, found & ~beyond)
            sky[kind] += [np.count_nonzero(part) for part in parts]
            cost = cost or _cost(result, fitted, K)
    total, rooms = sky['street'] + sky['room'], sky['room']
    return {
        'pictures': images,
        'flying_pixels': {n: tally.summary() for n, tally in zip(names, tallies, strict=True)},
        'sky': {
            'found': total[1] / max(total[0], 1),
            'wrong': total[3] / max(total[2], 1),
            'wrong_in_rooms': rooms[3] / max(rooms[2], 1),
        },
        'cost_ms': cost,
    }


def _cost(result: FrameResult, fitted: np.ndarray, K: np.ndarray) -> dict[str, float]:
    prediction = Prediction(result.relative, None, result.space)
    return {
        'flying pixels': cpu_ms(_COST_RUNS, flying_pixels, fitted, K),
        'sky': cpu_ms(_COST_RUNS, sky_mask, result.rgb, prediction, fitted, result.sparse),
        'normals': cpu_ms(_COST_RUNS, surface_normals, fitted, K),
    }
