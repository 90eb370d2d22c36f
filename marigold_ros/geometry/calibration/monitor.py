# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What the images so far say of the LiDAR's angles and of its clock, and whether to say it.

The last images count that differ from each other: a robot that stands has seen one scene only,
however long it stands. Angles are said where four parts of these images agree on them, and a
delay where the angle follows the yaw rate. A scene can mislead by half a degree (points on the
near side of a step lie below its upper edge, maps are blurred), so small angles are not said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.fitted_depth import fitted_depth
from marigold_ros.geometry.calibration.evidence import agreement, PITCH_DEG, YAW_DEG
from marigold_ros.geometry.temporal.smoothing import CurrentFrame
import numpy as np

_IMAGES, _FEWEST = 120, 8
# Seconds between two looks: neighbouring images tell the same.
_PERIOD_NS = 150_000_000
# Mean change of a tiny grey image, of 255, from which on an image is another one.
_ANOTHER = 2.5
_LEAST_ANGLE, _LEAST_DELAY = 1.0, 0.03  # degrees, seconds
# Angles and delays must exceed so many of their standard errors.
_ERRORS = 4.0
_PARTS = 4
_DELAYS = np.arange(-0.2, 0.201, 0.02)
# Degrees a second: without turning left, right and not at all a delay cannot be seen.
_LEAST_TURNING = 4.0
_NAN = float('nan')


@dataclass(frozen=True)
class Calibration:
    """
    What is believed of the LiDAR's mounting; NaN where nothing is known.

    Parameters
    ----------
    yaw_deg, pitch_deg : float, degrees
        How far its points lie to the right of, and above, what the image shows.
    yaw_error_deg, pitch_error_deg : float, degrees
        Standard errors, from how far parts of the images agree; not what the scenes mislead.
    delay_s, delay_error_s : float, seconds
        How much the scans' stamps are too late, and its standard error.
    n_images : int
        Images that this comes from.

    """

    yaw_deg: float = _NAN
    pitch_deg: float = _NAN
    yaw_error_deg: float = _NAN
    pitch_error_deg: float = _NAN
    delay_s: float = _NAN
    delay_error_s: float = _NAN
    n_images: int = 0

    @property
    def text(self) -> str:
        """What is wrong, in words; empty where nothing is, or where that is not sure."""
        said = []
        for value, error, words in (
            (self.yaw_deg, self.yaw_error_deg, ('to the left of', 'to the right of')),
            (self.pitch_deg, self.pitch_error_deg, ('below', 'above')),
        ):
            if abs(value) >= max(_LEAST_ANGLE, _ERRORS * error):
                said.append(f'LiDAR looks {abs(value):.1f}° {words[value > 0]} the image')
        if abs(self.delay_s) >= max(_LEAST_DELAY, _ERRORS * self.delay_error_s):
            early = 'late' if self.delay_s > 0 else 'early'
            said.append(f'LiDAR is {abs(self.delay_s):.2f} s {early}')
        return '; '.join(said)


class CalibrationMonitor:
    """Collects evidence image by image."""

    def __init__(self) -> None:
        self._looks: deque[tuple[np.ndarray, float]] = deque(maxlen=_IMAGES)
        self._rng = np.random.default_rng(0)
        self._tiny: np.ndarray | None = None
        self._looked_ns: int | None = None
        self._count = 0
        self._before: CurrentFrame | None = None
        self.calibration = Calibration()

    def look(
        self,
        now: CurrentFrame,
        prediction: Prediction,
        sparse: SparseDepth | None,
        alignment: Alignment,
        config: AlignmentConfig,
    ) -> str:
        """
        Take one frame into account, if it tells anything new.

        Parameters
        ----------
        now : CurrentFrame
            Thumbnail, stamp, intrinsics and, if known, pose.
        prediction : Prediction
            The model's answer.
        sparse : SparseDepth or None
            The points of the fit.
        alignment : Alignment
            The fit; where there is none, the image alone counts.
        config : AlignmentConfig
            Depth limits.

        Returns
        -------
        str
            What is wrong with the calibration, in words, mostly nothing.

        """
        yaw_rate = _yaw_rate(self._before, now)
        self._before = now
        if sparse is None or now.K is None or not self._is_new(now):
            return self.calibration.text
        size = prediction.relative.shape
        log_depth = _log_depth(prediction, alignment, now.grey.shape, config)
        scores = agreement(now.grey, log_depth, sparse, now.K, size, self._rng)
        if scores is not None:
            self._looks.append((scores, yaw_rate))
            self._count += 1
            if self._count % 4 == 0 or self._count <= 2 * _FEWEST:
                self.calibration = judge(list(self._looks))
        return self.calibration.text

    def _is_new(self, now: CurrentFrame) -> bool:
        """Whether enough time and enough of the scene went by since the last look."""
        if self._looked_ns is not None and abs(now.stamp_ns - self._looked_ns) < _PERIOD_NS:
            return False
        tiny = cv2.resize(now.grey, (32, 24), interpolation=cv2.INTER_AREA)
        if self._tiny is not None and float(np.mean(np.abs(tiny - self._tiny))) < _ANOTHER:
            return False
        self._tiny, self._looked_ns = tiny, now.stamp_ns
        return True


def judge(looks: list[tuple[np.ndarray, float]]) -> Calibration:
    """
    Say what the agreements of many images tell together.

    Parameters
    ----------
    looks : list of ((21, 17) float, float)
        By yaw and pitch, from :func:`agreement`, and the yaw rate in rad/s, NaN unknown.

    Returns
    -------
    Calibration

    """
    if len(looks) < _FEWEST:
        return Calibration(n_images=len(looks))
    scores = np.stack([look[0] for look in looks])
    rates = np.rad2deg([look[1] for look in looks])
    yaw, pitch = _peak(scores.mean(axis=0))
    parts = np.array([_peak(part.mean(axis=0)) for part in np.array_split(scores, _PARTS)])
    errors = parts.std(axis=0, ddof=1) / np.sqrt(_PARTS)
    delay, delay_error = _NAN, _NAN
    turning = np.isfinite(rates)
    if turning.sum() >= 2 * _FEWEST and rates[turning].std() >= _LEAST_TURNING:
        profiles = scores[turning][:, :, int(np.abs(PITCH_DEG - pitch).argmin())]
        delay, angle = _shear(profiles, rates[turning])
        # Every fourth image, so that each part has seen all the turns.
        some = [_shear(profiles[k::_PARTS], rates[turning][k::_PARTS])[0] for k in range(_PARTS)]
        delay_error = float(np.std(some, ddof=1) / np.sqrt(_PARTS))
        yaw = angle if abs(delay) >= _ERRORS * delay_error else yaw
    yaw_error, pitch_error = (float(error) for error in errors)
    return Calibration(yaw, pitch, yaw_error, pitch_error, delay, delay_error, len(looks))


def _peak(scores: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch of the best agreement, in degrees."""
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return _top(scores[:, j], int(i), YAW_DEG), _top(scores[i], int(j), PITCH_DEG)


def _top(values: np.ndarray, place: int, axis: np.ndarray) -> float:
    """Place of a maximum on an axis, by the parabola through it and its neighbours."""
    if not 0 < place < len(values) - 1:
        return float(axis[place])
    left, top, right = (float(x) for x in values[place - 1 : place + 2])
    bend = left - 2.0 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float(axis[place] + shift * (axis[1] - axis[0]))


def _shear(profiles: np.ndarray, rates: np.ndarray) -> tuple[float, float]:
    """
    Delay in seconds and yaw in degrees that explain agreements by yaw at different yaw rates.

    While a scan that is stamped too late waits, a camera that turns right sees the world go left:
    the points lie to the right by the delay times the rate.
    """
    sums = np.zeros((len(_DELAYS), len(YAW_DEG)))
    for profile, rate in zip(profiles, rates, strict=True):
        wanted = YAW_DEG + rate * _DELAYS[:, None]
        sums += np.interp(wanted, YAW_DEG, profile, left=0.0, right=0.0)
    i, j = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return _top(sums[:, j], int(i), _DELAYS), _top(sums[i], int(j), YAW_DEG)


def _yaw_rate(before: CurrentFrame | None, now: CurrentFrame) -> float:
    """How fast the camera turns right, rad/s; NaN without two poses."""
    if before is None or before.T_world_camera is None or now.T_world_camera is None:
        return _NAN
    seconds = (now.stamp_ns - before.stamp_ns) / 1e9
    if not 0.0 < seconds < 1.0:
        return _NAN
    turn = before.T_world_camera[:3, :3].T @ now.T_world_camera[:3, :3]
    return float(np.arctan2(turn[0, 2], turn[2, 2]) / seconds)


def _log_depth(
    prediction: Prediction,
    alignment: Alignment,
    shape: tuple[int, ...],
    config: AlignmentConfig,
) -> np.ndarray | None:
    """Log depth of the global fit, at half the thumbnail's size; the field bends to the points."""
    if alignment.state != 'fitted' or not np.isfinite(alignment.scale):
        return None
    # Every few pixels: a mean over all of them would cost more than all the rest.
    height, width = (max(1, side // 2) for side in shape)
    small = cv2.resize(prediction.relative, (width, height), interpolation=cv2.INTER_NEAREST)
    small = np.asarray(small, np.float32)
    metres = fitted_depth(small, alignment.scale, alignment.shift, prediction.space, config)
    metres = cv2.patchNaNs(metres, config.min_depth)
    return np.asarray(cv2.log(np.clip(metres, config.min_depth, config.max_depth)))
