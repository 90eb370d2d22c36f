# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What a frame takes over from the one before: metric depth, where nothing moved.

A model normalises every image anew, so scale and shift have no memory: what is remembered is
metric depth. Where image and depth stood still the last depth is a second measurement of every
pixel, and the mean of both is taken; without points the new prediction is fitted to it. Adding it
to the points of an ordinary fit was rejected: two numbers and a smooth field cannot calm the
noise of single pixels, and points that were made up would be counted as evidence for the fit.
With a pose for both frames the last depth is carried along; without one, a moving camera keeps
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align
from marigold_ros.geometry.cloud.organised import unproject_depth
import numpy as np

# Grey levels of 255 between two thumbnails; noise of a camera at dusk averages to about 3 there.
_SAME_GREY = 6.0
_LONGEST_SIDE = 320
_PIXEL, _WINDOW = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)
# A sky or a wall looks the same wherever the camera goes: edges must stand still as well. Half
# of them is doubt (a passing lorry), four in five is a camera that stands.
_EDGE = 12.0
_EDGES_LOW, _EDGES_HIGH = 0.5, 0.8
# Relative change of depth from which on it is the scene and not noise.
_SAME_DEPTH = 0.15
# The same of the median over all that stood still: then the two fits contradict each other.
_SAME_SCALE = 0.1
# Points that stand in for a scan that is missing.
_POINTS = 2000


@dataclass(frozen=True)
class PreviousFrame:
    """
    The last frame that had metres.

    Parameters
    ----------
    metric : (H, W) float32, metres
        Its depth, NaN invalid.
    grey : (h, w) float32
        Its thumbnail, from :func:`thumbnail`.
    stamp_ns : int
        When its points were measured: its stamp, or that of the fit which it held.
    K : (3, 3) float or None, pixels
        Its intrinsics.
    T_world_camera : (4, 4) float or None
        Where its camera was, in a frame that stands.

    """

    metric: np.ndarray
    grey: np.ndarray
    stamp_ns: int
    K: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None


@dataclass(frozen=True)
class CurrentFrame:
    """Image, place and time of the frame at hand; fields as in :class:`PreviousFrame`."""

    grey: np.ndarray
    stamp_ns: int
    K: np.ndarray | None = None
    T_world_camera: np.ndarray | None = None


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    """Shrink an image to grey values, (h, w) float32 in [0, 255], longest side at most 320."""
    height, width = rgb.shape[:2]
    share = min(1.0, _LONGEST_SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def is_scene_cut(before: np.ndarray, now: np.ndarray, limit: float) -> bool:
    """Whether two thumbnails differ by more than a share of the range on average."""
    few = [cv2.resize(grey, (32, 24), interpolation=cv2.INTER_AREA) for grey in (before, now)]
    return float(np.mean(np.abs(few[0] - few[1]))) > 255.0 * limit


def smooth(
    metric: np.ndarray, memory: PreviousFrame, now: CurrentFrame, config: AlignmentConfig
) -> np.ndarray:
    """
    Mean of a frame's depth and the remembered one where image and depth stood still.

    Parameters
    ----------
    metric : (H, W) float32, metres
        As fitted to this frame's points.
    memory : Memory
        The frame before.
    now : CurrentFrame
        This frame.
    config : AlignmentConfig
        ``smoothing`` is the share of the old depth; it fades to nothing at ``hold_limit``, so
        what was held for long weighs little against new points.

    Returns
    -------
    (H, W) float32, metres
        NaN exactly where ``metric`` is.

    """
    age_s = abs(now.stamp_ns - memory.stamp_ns) / 1e9
    if config.hold_limit <= 0.0 or metric.shape != memory.metric.shape:
        return metric
    share = config.smoothing * max(0.0, 1.0 - age_s / config.hold_limit)
    if share <= 0.0:
        return metric
    carried, grey = _carried(metric, memory, now)
    standing = _standing(grey, now.grey, _has_poses(memory, now))
    if not standing.any():
        return metric
    with np.errstate(invalid='ignore', divide='ignore'):
        change = np.nan_to_num(carried / metric - 1.0, nan=np.inf)
    step = max(1, max(metric.shape) // _LONGEST_SIDE)
    standing = cv2.resize(standing, metric.shape[::-1], interpolation=cv2.INTER_LINEAR)
    some = change[::step, ::step][standing[::step, ::step] > 0.5]
    some = some[np.isfinite(some)]
    if len(some) == 0 or abs(float(np.median(some))) > _SAME_SCALE:
        return metric
    close = np.clip(1.0 - np.square(change / np.float32(_SAME_DEPTH)), 0.0, None)
    weight = np.float32(share) * standing * np.square(close)
    return np.asarray(metric * (1.0 + weight * np.where(weight > 0, change, 0.0)), np.float32)


def hold_on(
    held: Alignment,
    prediction: Prediction,
    memory: PreviousFrame,
    now: CurrentFrame,
    config: AlignmentConfig,
) -> Alignment:
    """
    Fit a frame without points to the remembered depth, where enough of the image stood still.

    Parameters
    ----------
    held : Alignment
        The last fit applied to this frame, as ``align`` returns it where points are missing.
    prediction : Prediction
        This frame's.
    memory, now, config
        As for :func:`smooth`.

    Returns
    -------
    Alignment
        State, reason and age of ``held``; its scale, shift, field and depth too where the image
        moved or the remembered depth does not fit.

    """
    if config.smoothing <= 0.0 or memory.metric.shape != prediction.relative.shape:
        return held
    points = remembered_points(memory, now)
    if len(points) < config.min_points:
        return held
    fit = align(prediction, points, config)
    if fit.state != 'fitted':
        return held
    return replace(
        held,
        scale=fit.scale,
        shift=fit.shift,
        field=fit.field,
        metric=fit.metric,
        condition=fit.condition,
    )


def remembered_points(memory: PreviousFrame, now: CurrentFrame) -> SparseDepth:
    """Give remembered depth at a grid of pixels that look the same now; empty if most moved."""
    height, width = memory.metric.shape
    step = max(1, round(np.sqrt(height * width / _POINTS)))
    v, u = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    u, v = u.ravel(), v.ravel()
    z = memory.metric[v, u]
    x, y, depth = u.astype(np.float64), v.astype(np.float64), z.astype(np.float64)
    if _has_poses(memory, now):
        assert memory.K is not None
        assert now.K is not None
        ones = np.ones_like(depth)
        rays = np.stack([x, y, ones]).T @ np.linalg.inv(memory.K).T
        x, y, depth = _project(rays * depth[:, None], _between(memory, now, back=False), now.K)
    with np.errstate(invalid='ignore'):
        inside = np.isfinite(depth) & (depth > 0) & (x > -0.5) & (y > -0.5)
        inside &= (x < width - 0.5) & (y < height - 0.5)
    u, v = u[inside], v[inside]
    x, y = np.rint(x[inside]).astype(np.int64), np.rint(y[inside]).astype(np.int64)
    # Grey values around where each point was and around where it is.
    shape = (height, width)
    change = np.abs(_grey_at(memory.grey, u, v, shape) - _grey_at(now.grey, x, y, shape))
    same = change < _SAME_GREY
    if not _has_poses(memory, now):
        standing = _standing(memory.grey, now.grey)
        same &= _grey_at(standing, x, y, shape) > 0.5
    return SparseDepth(x[same], y[same], depth[inside][same].astype(np.float32))


def _grey_at(grey: np.ndarray, u: np.ndarray, v: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Thumbnail value at pixels of the image."""
    return grey[v * grey.shape[0] // shape[0], u * grey.shape[1] // shape[1]]


def _standing(before: np.ndarray, now: np.ndarray, carried: bool = False) -> np.ndarray:
    """Belief in [0, 1] that a pixel of the thumbnail shows what it showed before."""
    seen = np.isfinite(before)
    before = np.where(seen, before, now)
    if carried:
        # Noise of depth moves what was looked up by a pixel; that is no motion of the scene.
        low, high = cv2.erode(before, _PIXEL), cv2.dilate(before, _PIXEL)
        difference = np.maximum(np.maximum(now - high, low - now), 0.0)
    else:
        difference = cv2.dilate(np.abs(before - now), _WINDOW)
    standing = seen * np.clip(2.0 - difference / np.float32(_SAME_GREY), 0.0, 1.0)
    edges = seen & (cv2.morphologyEx(now, cv2.MORPH_GRADIENT, _PIXEL) > _EDGE)
    if not edges.any():
        return standing
    still = float(standing[edges].mean())
    return standing * np.float32(
        np.clip((still - _EDGES_LOW) / (_EDGES_HIGH - _EDGES_LOW), 0.0, 1.0)
    )


def _has_poses(memory: PreviousFrame, now: CurrentFrame) -> bool:
    parts = (memory.K, memory.T_world_camera, now.K, now.T_world_camera)
    return all(part is not None for part in parts)


def _between(memory: PreviousFrame, now: CurrentFrame, back: bool) -> np.ndarray:
    """(4, 4) that takes points of the camera now to the one then (back), or the other way."""
    assert memory.T_world_camera is not None
    assert now.T_world_camera is not None
    start, end = (now, memory) if back else (memory, now)
    return np.linalg.solve(np.asarray(end.T_world_camera), np.asarray(start.T_world_camera))


def _project(
    points: np.ndarray, T: np.ndarray, K: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel coordinates and depth of points (..., 3) after a motion."""
    moved = points @ T[:3, :3].T + T[:3, 3]
    depth = moved[..., 2]
    with np.errstate(invalid='ignore', divide='ignore'):
        x = K[0, 0] * moved[..., 0] / depth + K[0, 2]
        y = K[1, 1] * moved[..., 1] / depth + K[1, 2]
    return x, y, np.where(depth > 0, depth, np.nan)


def _carried(
    metric: np.ndarray, memory: PreviousFrame, now: CurrentFrame
) -> tuple[np.ndarray, np.ndarray]:
    """
    Remembered depth and thumbnail as this frame's camera would see them.

    Each pixel is looked up where its new depth says it was: what is found there, over what should
    be there, carries over as a ratio. No holes arise, and what was hidden fails the ratio's test.
    """
    if not _has_poses(memory, now):
        return memory.metric, memory.grey
    assert memory.K is not None
    assert now.K is not None
    points = unproject_depth(metric, now.K)
    x, y, depth = _project(points, _between(memory, now, back=True), memory.K)
    x, y = x.astype(np.float32), y.astype(np.float32)
    found = _looked_up(memory.metric, x, y)
    (height, width), (rows, columns) = metric.shape, memory.grey.shape
    step_x, step_y = columns / width, rows / height
    near = [cv2.resize(part, (columns, rows), interpolation=cv2.INTER_NEAREST) for part in (x, y)]
    grey = _looked_up(
        memory.grey,
        ((near[0] + 0.5) * step_x - 0.5).astype(np.float32),
        ((near[1] + 0.5) * step_y - 0.5).astype(np.float32),
    )
    return (metric * (found / depth)).astype(np.float32), grey


def _looked_up(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolated values at places of an image; NaN outside."""
    nan = float('nan')
    found = cv2.remap(
        image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=nan
    )
    return np.asarray(found)
