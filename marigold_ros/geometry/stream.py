# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A stream of frames: what each leaves to the next, the breaks that end it, and depth over time.

Where image and depth stood still depth is averaged with the previous one, and a frame without
points is fitted to the previous depth. With poses depth is carried along; without, a moving camera
keeps nothing. Previous depth is never counted as points of an ordinary fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, CurrentFrame, SparseDepth
from marigold_ros.geometry.calibration.edge_agreement import EdgeEvidence
from marigold_ros.geometry.calibration.monitor import CalibrationState
from marigold_ros.geometry.cloud.organised import unproject_depth
from marigold_ros.geometry.median import median
from marigold_ros.geometry.sigma.fused_sigma import SigmaHistory
from marigold_ros.kernels.compiled import compiled
from marigold_ros.pairing import is_clock_jump
from marigold_ros.reasons import Reason
import numpy as np

# Limits within which a pixel stands still: chosen on static images of three drives with noise of
# camera, LiDAR and model, docs/alignment.md.
# Grey levels of 255 between two thumbnails; noise of a camera at dusk averages to about 3 there.
_SAME_GREY = 6.0
_LONGEST_SIDE = 320
_PIXEL, _WINDOW = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)
# Sky and walls look the same wherever the camera goes: edges must stand still as well. Half of
# them is doubt (a passing lorry), four in five is a camera that stands.
_EDGE = 12.0
_EDGES_LOW, _EDGES_HIGH = 0.5, 0.8
# Relative change of depth above which the scene has changed, and in sigma where it is stated.
_SAME_DEPTH, _SAME_SIGMA = 0.15, 5.0
# Median change of depth where the image stood still, above which the fits contradict each other.
_SAME_SCALE = 0.1
# A map that has gained nothing in so many frames in a row is judged again in one of so many.
_JUDGED = 4
_SAME_POSE = 1e-6  # metres and radians, below the noise of odometry at work
# Points of the previous depth in place of a missing scan.
_POINTS = 2000
# Pixels over which the change of held depth is averaged: edges move.
_CHANGE = (9, 9)
# Relative error of remembered depth that 68 % stay below where the image has changed since: what
# has come there may be at any distance. As of depth beyond the range of a sensor.
_CHANGED = np.float32(0.45)


@dataclass(frozen=True)
class PreviousFrame:
    """The last frame with metric depth."""

    metric: np.ndarray  # (H, W) float32, metres; NaN invalid
    grey: np.ndarray  # (h, w) float32, from :func:`thumbnail`
    stamp_ns: int  # of the fit: the frame's own, or that of the fit it held
    K: np.ndarray | None = None  # (3, 3), pixels
    T_world_camera: np.ndarray | None = None  # (4, 4), pose of the camera in a fixed frame
    sigma: np.ndarray | None = None  # (H, W) float32, metres; of held depth without its age


@dataclass(frozen=True)
class StreamState:
    """
    Everything that the frames so far leave to the next one.

    Breaks of the stream do not change the mounting, so evidence on the calibration outlives them.
    """

    stamp_ns: int | None = None
    shape: tuple[int, ...] | None = None  # image size (H, W), and whether the image was warped
    fit: Alignment | None = None  # without arrays per pixel or point
    fit_stamp_ns: int = 0  # of its frame
    idle: int = 0  # frames in a row whose map gained nothing
    map_refusal: Reason | None = None  # what the last of them said of it
    on_ground: bool = False  # whether its metres rest on the plane of the ground alone
    weights: np.ndarray | None = None  # (n,), of an average's members
    previous: PreviousFrame | None = None  # last frame with metric depth
    sigma: SigmaHistory = SigmaHistory()
    calibration: CalibrationState = field(default_factory=CalibrationState)
    edges: EdgeEvidence = EdgeEvidence()

    def held_fit(self, stamp_ns: int) -> Alignment | None:
        """Return the last fit with its age at a stamp; None where stamps stand still."""
        if self.fit is None or stamp_ns == self.fit_stamp_ns:
            return None
        return replace(self.fit, age_ns=abs(stamp_ns - self.fit_stamp_ns))

    def without_fits(self) -> StreamState:
        """Forget fits, metric depth and errors."""
        calibration, edges = self.calibration, self.edges
        return StreamState(self.stamp_ns, self.shape, calibration=calibration, edges=edges)

    @property
    def is_map_idle(self) -> bool:
        """Whether the next frame goes without its map, which would be found to gain nothing."""
        return self.idle > _JUDGED and self.idle % _JUDGED != 0

    def after(self, current: CurrentFrame, fit: Alignment, alignment: Alignment) -> StreamState:
        """Return the state after a frame: its affine fit, and the alignment it ended with."""
        state = self
        if alignment.state == 'fitted':
            share = (alignment.shares or {}).get('map', 1.0)
            refusal = alignment.map_refusal if fit.state == 'fitted' and share == 0.0 else None
            idle = self.idle + 1 if refusal else 0
            state = replace(state, idle=idle, map_refusal=refusal)
        if alignment.state == 'fitted' and fit.state == 'fitted' and fit.metric is not None:
            kept = replace(fit, metric=None, inlier=None, held_out=None)
            state = replace(state, fit=kept, fit_stamp_ns=current.stamp_ns)
        if alignment.metric is not None:
            measured_ns = current.stamp_ns - alignment.age_ns
            place = (current.K, current.T_world_camera)
            depth = alignment.metric
            for shared in (depth, alignment.sigma):
                if shared is not None:  # what a caller wrote into it would reach later frames
                    shared.setflags(write=False)
            previous = PreviousFrame(depth, current.grey, measured_ns, *place, alignment.sigma)
            state = replace(state, previous=previous)
        return state


def is_break(
    state: StreamState,
    stamp_ns: int,
    shape: tuple[int, ...],
    current: CurrentFrame | None,
    cut: float,
) -> bool:
    """
    Return whether a frame of such a ``shape`` does not continue the stream that left ``state``.

    That is a jump of the clock (back, as when a bag starts again), another size, or a scene cut.
    It shows in the thumbnail of ``current``, once that is known; ``cut`` is the mean difference (0
    to 1) above which temporal state is reset.
    """
    if is_clock_jump(state.stamp_ns, stamp_ns) or shape != state.shape:
        return True
    if current is None or state.previous is None:
        return False
    return is_scene_cut(state.previous.grey, current.grey, cut)


def is_scene_cut(previous: np.ndarray, current: np.ndarray, limit: float) -> bool:
    """Return whether the mean difference of two thumbnails is above a share of the range."""
    both = (previous, current)
    few = [cv2.resize(grey, (32, 24), interpolation=cv2.INTER_AREA) for grey in both]
    return float(np.mean(np.abs(few[0] - few[1]))) > 255.0 * limit


def smooth(
    metric: np.ndarray,
    previous: PreviousFrame,
    current: CurrentFrame,
    config: AlignmentConfig,
    sigma: np.ndarray | None = None,
) -> np.ndarray:
    """
    Average depth (H, W) with the previous one where image and depth stood still.

    A change beyond its ``sigma`` (H, W), metres, is motion that a plain surface does not show.
    ``config.smoothing`` is the weight of the previous depth; it fades to 0 at the age
    ``hold_limit``. The result is NaN exactly where ``metric`` is.
    """
    age_s = abs(current.stamp_ns - previous.stamp_ns) / 1e9
    if config.hold_limit <= 0.0:
        return metric
    share = config.smoothing * (1.0 - age_s / config.hold_limit)
    if share <= 0.0:
        return metric
    carried, grey = _carried(metric, previous, current)
    has_poses = _has_poses(previous, current)
    standing = _standing(grey, current.grey, has_poses, float(has_poses))
    if not standing.any():
        return metric
    step = max(1, max(metric.shape) // _LONGEST_SIDE)
    standing = cv2.resize(standing, metric.shape[::-1], interpolation=cv2.INTER_LINEAR)
    few = np.s_[::step, ::step]
    with np.errstate(invalid='ignore', divide='ignore'):
        some = (carried[few] / metric[few])[standing[few] > 0.5] - np.float32(1.0)
    some = some[np.isfinite(some)]
    if len(some) == 0 or abs(median(some)) > _SAME_SCALE:
        return metric
    sigma = metric if sigma is None else sigma  # so large that it bounds nothing
    now, before, error = (
        np.ascontiguousarray(part, np.float32).ravel() for part in (metric, carried, sigma)
    )
    return _averaged(now, before, error, standing.ravel(), np.float32(share)).reshape(metric.shape)


@compiled()
def _averaged(
    metric: np.ndarray,
    carried: np.ndarray,
    sigma: np.ndarray,
    standing: np.ndarray,
    share: np.float32,
) -> np.ndarray:
    """Average depth (n,) with what is carried over, by how far it stood still and agrees."""
    averaged, one = np.empty_like(metric), np.float32(1.0)
    least, largest, sigmas = np.float32(1e-6), np.float32(_SAME_DEPTH), np.float32(_SAME_SIGMA)
    for i in range(len(metric)):
        bound = sigmas * sigma[i] / metric[i] + least
        bound = bound if bound < largest else largest  # where NaN, too
        change = carried[i] / metric[i] - one
        change = change if change < bound else bound  # NaN becomes a bound: weight 0
        change = change if change > -bound else -bound
        close = change / bound
        agrees = one - close * close
        averaged[i] = metric[i] * (one + standing[i] * share * agrees * agrees * change)
    return averaged


def carry_over(
    alignment: Alignment,
    previous: PreviousFrame | None,
    current: CurrentFrame,
    config: AlignmentConfig,
    refit: Callable[[SparseDepth], Alignment],
) -> Alignment:
    """
    Smooth a fitted frame over time, or fit one without points to the previous depth.

    ``refit`` fits this frame to points. Where enough of the image stood still, a held alignment
    becomes that fit, with its own state, reason and age; so does one that is not metric, if the
    method needs no earlier fit (``fused``). Otherwise it stays as it is.
    """
    if previous is None or config.method == 'fixed':
        return alignment
    if alignment.state == 'fitted':
        if alignment.metric is None:
            return alignment
        depth, sigma = alignment.metric, alignment.sigma
        return replace(alignment, metric=smooth(depth, previous, current, config, sigma))
    held = _remembered(alignment, previous, current, config, refit)
    stated = _with_sigma_of(previous, held, current)
    return stated if held is alignment else _unsure_of_changes(previous, stated, current)


def _remembered(
    alignment: Alignment,
    previous: PreviousFrame,
    current: CurrentFrame,
    config: AlignmentConfig,
    refit: Callable[[SparseDepth], Alignment],
) -> Alignment:
    """Fit a frame without points to the previous depth, as far as `carry_over` does."""
    age_ns = abs(current.stamp_ns - previous.stamp_ns)
    remembered = config.method == 'fused' and 0 < age_ns <= config.hold_limit * 1e9
    if config.smoothing <= 0.0 or not (alignment.state == 'held' or remembered):
        return alignment
    points = remembered_points(previous, current)
    if len(points) < config.min_points:
        return alignment
    fit = refit(points)
    if fit.state != 'fitted':
        return alignment
    names = ['n_points', 'refusal', 'hold_refusal', 'space']
    if config.method == 'fused':
        # Points led, not the earlier fit: the depth is as old as the previous one.
        aged: dict[str, Any] = {'age_ns': age_ns, 'led_by': 'memory', 'shares': {'memory': 1.0}}
    else:
        names, aged = [*names, 'spread_log', 'age_ns'], {}
    kept = {name: getattr(alignment, name) for name in names} | aged
    return replace(
        fit, state='held', inlier=None, held_out=None, n_inliers=0, rms=float('nan'), **kept
    )


def _with_sigma_of(previous: PreviousFrame, held: Alignment, current: CurrentFrame) -> Alignment:
    """
    State sigma of held depth: that of the previous depth, and what changed since.

    A map is held by a fit to few places, and says nothing of its error elsewhere; the previous
    depth had its own everywhere.
    """
    if held.state != 'held' or held.metric is None or previous.sigma is None:
        return held
    carried, sigma = previous.metric, previous.sigma
    if _has_poses(previous, current):
        x, y, depth = _previous_places(held.metric, previous, current)
        ratio = (held.metric / depth).astype(np.float32)
        carried, sigma = (_looked_up(image, x, y) * ratio for image in (carried, sigma))
    change = cv2.blur(np.nan_to_num(np.abs(held.metric - carried)), _CHANGE)
    sigma = np.hypot(change, sigma)
    # Beside the previous image the fit's own error is known at least.
    of_fit = held.metric * np.float32(held.spread_log) if held.sigma is None else held.sigma
    sigma = np.where(np.isfinite(sigma), sigma, of_fit)
    return replace(held, sigma=sigma)


def _unsure_of_changes(
    previous: PreviousFrame, held: Alignment, current: CurrentFrame
) -> Alignment:
    """Widen sigma of remembered depth where the image has changed: an obstacle may be there."""
    if held.metric is None or held.sigma is None:
        return held
    _, grey = _carried(held.metric, previous, current)
    changed = np.float32(1.0) - _alike(grey, current.grey, _has_poses(previous, current))
    whole = cv2.resize(changed, held.metric.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return replace(held, sigma=np.maximum(held.sigma, _CHANGED * whole * held.metric))


def remembered_points(previous: PreviousFrame, current: CurrentFrame) -> SparseDepth:
    """Return previous depth as points of the current image, where it looks the same."""
    height, width = previous.metric.shape
    step = max(1, round(np.sqrt(height * width / _POINTS)))
    v, u = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    u, v = u.ravel(), v.ravel()
    z = previous.metric[v, u]
    x, y, depth = u.astype(np.float64), v.astype(np.float64), z.astype(np.float64)
    motion = 0.0
    if _has_poses(previous, current):
        poses = np.asarray(previous.T_world_camera), np.asarray(current.T_world_camera)
        motion = float(np.abs(poses[0] - poses[1]).max())
        ones = np.ones_like(depth)
        rays = np.stack([x, y, ones]).T @ np.linalg.inv(np.asarray(previous.K)).T
        x, y, depth = _project(rays * depth[:, None], previous, current)
    with np.errstate(invalid='ignore'):
        inside = np.isfinite(depth) & (depth > 0) & (x > -0.5) & (y > -0.5)
        inside &= (x < width - 0.5) & (y < height - 0.5)
    u, v = u[inside], v[inside]
    x, y = np.rint(x[inside]).astype(np.int64), np.rint(y[inside]).astype(np.int64)
    shape = (height, width)
    change = np.abs(_grey_at(previous.grey, u, v, shape) - _grey_at(current.grey, x, y, shape))
    same = change < _SAME_GREY
    # Poses that stay the same may be of odometry that hangs, or of a frame of the vehicle's own.
    if motion < _SAME_POSE:
        standing = _standing(previous.grey, current.grey)
        same &= _grey_at(standing, x, y, shape) > 0.5
    return SparseDepth(x[same], y[same], depth[inside][same].astype(np.float32))


def _grey_at(grey: np.ndarray, u: np.ndarray, v: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Thumbnail value at pixels of the image."""
    return grey[v * grey.shape[0] // shape[0], u * grey.shape[1] // shape[1]]


def _standing(
    before: np.ndarray, current: np.ndarray, carried: bool = False, blank: float = 1.0
) -> np.ndarray:
    """
    Confidence in [0, 1] that a pixel of the thumbnail shows what it showed before.

    It is at most ``blank`` without edges, which would show whether the camera moved.
    """
    seen, standing = np.isfinite(before), _alike(before, current, carried)
    edges = seen & (cv2.morphologyEx(current, cv2.MORPH_GRADIENT, _PIXEL) > _EDGE)
    if not edges.any():
        return standing * np.float32(blank)
    still = float(standing[edges].mean())
    return standing * np.float32(
        np.clip((still - _EDGES_LOW) / (_EDGES_HIGH - _EDGES_LOW), 0.0, 1.0)
    )


def _alike(before: np.ndarray, current: np.ndarray, carried: bool) -> np.ndarray:
    """Return how much each pixel of a thumbnail looks as before, in [0, 1]; 0 if it was unseen."""
    seen = np.isfinite(before)
    before = np.where(seen, before, current)
    if carried:
        # Noise of depth moves the looked-up pixel, which is no motion of the scene.
        low, high = cv2.erode(before, _PIXEL), cv2.dilate(before, _PIXEL)
        difference = np.maximum(np.maximum(current - high, low - current), 0.0)
    else:
        difference = cv2.dilate(np.abs(before - current), _WINDOW)
    return np.asarray(seen * np.clip(2.0 - difference / np.float32(_SAME_GREY), 0.0, 1.0))


def _has_poses(previous: PreviousFrame, current: CurrentFrame) -> bool:
    parts = (previous.K, previous.T_world_camera, current.K, current.T_world_camera)
    return all(part is not None for part in parts)


def _project(
    points: np.ndarray, origin: PreviousFrame | CurrentFrame, other: PreviousFrame | CurrentFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel coordinates and depth, in one frame's camera, of points (..., 3) of the other's."""
    T = np.linalg.solve(np.asarray(other.T_world_camera), np.asarray(origin.T_world_camera))
    K = np.asarray(other.K)
    T[0] += K[0, 1] / K[0, 0] * T[1]  # the skew, at no cost per pixel
    moved = points @ T[:3, :3].T + T[:3, 3]
    depth = moved[..., 2]
    with np.errstate(invalid='ignore', divide='ignore'):
        x = K[0, 0] * moved[..., 0] / depth + K[0, 2]
        y = K[1, 1] * moved[..., 1] / depth + K[1, 2]
    return x, y, np.where(depth > 0, depth, np.nan)


def _carried(
    metric: np.ndarray, previous: PreviousFrame, current: CurrentFrame
) -> tuple[np.ndarray, np.ndarray]:
    """
    Warp previous depth and thumbnail into the current camera.

    Each pixel is looked up at its previous place by its new depth, and depth found over depth
    expected carries over as a ratio: no holes arise, and hidden surfaces fail the ratio's test.
    """
    if not _has_poses(previous, current):
        return previous.metric, previous.grey
    x, y, depth = _previous_places(metric, previous, current)
    found = _looked_up(previous.metric, x, y)
    (height, width), (rows, columns) = metric.shape, previous.grey.shape
    step_x, step_y = columns / width, rows / height
    # Linear: in the middle of a pixel of the thumbnail, not in its corner.
    near = [cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR) for part in (x, y)]
    grey = _looked_up(  # in a frame, as the outermost pixels have no other neighbours
        cv2.copyMakeBorder(previous.grey, 1, 1, 1, 1, cv2.BORDER_REPLICATE),
        ((near[0] + 0.5) * step_x + 0.5).astype(np.float32),
        ((near[1] + 0.5) * step_y + 0.5).astype(np.float32),
    )
    return (metric * (found / depth)).astype(np.float32), grey


def _previous_places(
    metric: np.ndarray, previous: PreviousFrame, current: CurrentFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return column, row and depth in the previous camera of every pixel, (H, W) each."""
    points = unproject_depth(metric, np.asarray(current.K))
    x, y, depth = _project(points, current, previous)
    return x.astype(np.float32), y.astype(np.float32), depth


def _looked_up(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate an image at places; NaN outside."""
    nan = float('nan')
    found = cv2.remap(
        image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=nan
    )
    return np.asarray(found)
