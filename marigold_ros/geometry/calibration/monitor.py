# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Calibration monitor: errors of the LiDAR's angles and clock, from the evidence of many images.

Only images that differ count. Angles are reported where four parts of the images agree, a delay
where the angle follows the yaw rate. A scene can mislead by half a degree (points on the near side
of a step lie below its upper edge, maps are blurred), so small angles are not reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, CurrentFrame, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import fitted_depth
from marigold_ros.geometry.calibration.edge_agreement import AGREEING_DEG
from marigold_ros.geometry.calibration.evidence import agreement, PITCH_DEG, YAW_DEG
import numpy as np

_IMAGES, _FEWEST = 120, 8
# Time between two observations: neighbouring images are alike.
_PERIOD_NS = 150_000_000
# Mean change of a small thumbnail, of 255, from which on an image is a new observation.
_NEW_IMAGE = 2.5
_LEAST_ANGLE, _LEAST_DELAY = 1.0, 0.03  # degrees, seconds
# Standard errors that angles and delays must exceed.
_ERRORS = 4.0
# Least standard error of the pitch, as a share of the gap between scan lines: turned by less than
# a gap, points meet no row that their neighbours see, and a few edges between lines can mislead.
_OF_GAP = 1.0 / _ERRORS
_STRIPS = 32  # of an image, in which gaps are measured
_PARTS = 4
_DELAYS = np.arange(-0.2, 0.201, 0.02)
_ENDS = YAW_DEG[-1], PITCH_DEG[-1]  # of the search: the angle may be larger
# Degrees a second: without different yaw rates a delay cannot be observed.
_LEAST_TURNING = 4.0
_NAN = float('nan')


@dataclass(frozen=True)
class Calibration:
    """
    Estimated errors of the LiDAR's mounting and clock; NaN where unknown.

    Angles are those by which its points lie to the right of, and above, the image; their standard
    errors, by the agreement of parts of the images, leave out the bias of the scenes.
    """

    yaw_deg: float = _NAN
    pitch_deg: float = _NAN
    yaw_error_deg: float = _NAN
    pitch_error_deg: float = _NAN
    delay_s: float = _NAN  # of the scans' stamps
    delay_error_s: float = _NAN
    n_images: int = 0  # images observed
    line_gap_deg: float = 0.0  # between the scan lines: a pitch below it is not seen
    edges_agree: bool = False  # with depth steps, which excludes a yaw above AGREEING_DEG

    def significant_angles(self, least_deg: float) -> list[tuple[float, float, str, str]]:
        """Return angles of at least so many degrees, their errors, where points lie, and move."""
        right = ('to the right of', 'right') if self.yaw_deg > 0 else ('to the left of', 'left')
        above = ('above', 'up') if self.pitch_deg > 0 else ('below', 'down')
        angles = (
            (abs(self.yaw_deg), self.yaw_error_deg, *right),
            (abs(self.pitch_deg), max(self.pitch_error_deg, _OF_GAP * self.line_gap_deg), *above),
        )
        return [angle for angle in angles if angle[0] >= max(least_deg, _ERRORS * angle[1])]

    @property
    def text(self) -> str:
        """Describe the errors that are significant; empty if there are none."""
        excluded = self.edges_agree and abs(self.yaw_deg) > AGREEING_DEG
        known = replace(self, yaw_deg=_NAN) if excluded else self
        found = [
            f'LiDAR looks {"at least " if angle in _ENDS else ""}{angle:.1f}° {place} the image'
            for angle, _, place, _ in known.significant_angles(_LEAST_ANGLE)
        ]
        if abs(self.delay_s) >= max(_LEAST_DELAY, _ERRORS * self.delay_error_s):
            beyond = 'at least ' if abs(self.delay_s) > 0.99 * _DELAYS[-1] else ''
            early = 'late' if self.delay_s > 0 else 'early'
            found.append(f'LiDAR is {beyond}{abs(self.delay_s):.2f} s {early}')
        return '; '.join(found)


@dataclass(frozen=True)
class CalibrationState:
    """
    State of the calibration monitor between two frames; immutable.

    Observations are agreement (21, 17) float32 and yaw rate of the last images that differed.
    """

    calibration: Calibration = Calibration()
    observations: tuple[tuple[np.ndarray, float], ...] = ()
    count: int = 0  # observations so far
    small: np.ndarray | None = None  # (24, 32) float32, thumbnail of the last image that differed
    observed_ns: int = 0  # its stamp
    previous: CurrentFrame | None = None
    random_state: Mapping[str, Any] | None = None  # of the generator that draws points


def update_calibration(
    state: CalibrationState,
    current: CurrentFrame,
    prediction: Prediction,
    sparse: SparseDepth | None,
    alignment: Alignment,
    config: AlignmentConfig,
) -> CalibrationState:
    """
    Add a frame to the evidence, if its image differs from the last one observed.

    ``sparse`` are the points of the fit ``alignment``; without a fit the image alone counts.
    """
    yaw_rate = _yaw_rate(state.previous, current)
    state = replace(state, previous=current)
    if sparse is None or current.K is None:
        return state
    if state.small is not None and abs(current.stamp_ns - state.observed_ns) < _PERIOD_NS:
        return state
    small = cv2.resize(current.grey, (32, 24), interpolation=cv2.INTER_AREA)
    if state.small is not None and float(np.mean(np.abs(small - state.small))) < _NEW_IMAGE:
        return state
    rng = np.random.default_rng(0)
    if state.random_state is not None:
        rng.bit_generator.state = state.random_state
    size = prediction.relative.shape
    log_depth = log_depth_of_fit(prediction, alignment, current.grey.shape, config)
    scores = agreement(current.grey, log_depth, sparse, current.K, size, rng)
    state = replace(
        state, small=small, observed_ns=current.stamp_ns, random_state=rng.bit_generator.state
    )
    if scores is None:
        return state
    observations = (*state.observations, (scores, yaw_rate))[-_IMAGES:]
    state = replace(state, observations=observations, count=state.count + 1)
    if state.count % 4 and state.count > 2 * _FEWEST:
        return state
    gap = line_gap(sparse, current.K, size[1])
    found = replace(estimate_calibration(observations), line_gap_deg=gap)
    return replace(state, calibration=found)


def line_gap(sparse: SparseDepth, K: np.ndarray, width: int) -> float:
    """
    Return the vertical gap between points in degrees, as it is at a random place between them.

    Measured in narrow strips of an image ``width`` columns wide, where a scan line has one height;
    0 for a single line.
    """
    elevation = np.rad2deg(np.arctan2(sparse.v - K[1, 2], K[1, 1]))
    strip = sparse.u * _STRIPS // width
    order = np.lexsort((elevation, strip))
    gaps = np.diff(elevation[order])[np.diff(strip[order]) == 0]
    return float(np.square(gaps).sum() / max(gaps.sum(), 1e-9))


def estimate_calibration(observations: Sequence[tuple[np.ndarray, float]]) -> Calibration:
    """
    Estimate angles and delay from many images.

    Each observation is an agreement by yaw and pitch (21, 17), and the yaw rate in rad/s or NaN.
    """
    if len(observations) < _FEWEST:
        return Calibration(n_images=len(observations))
    scores = np.stack([scores for scores, _ in observations])
    rates = np.rad2deg([rate for _, rate in observations])
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
    return Calibration(yaw, pitch, yaw_error, pitch_error, delay, delay_error, len(observations))


def _peak(scores: np.ndarray) -> tuple[float, float]:
    """Yaw and pitch of the best agreement, in degrees."""
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return _top(scores[:, j], int(i), YAW_DEG), _top(scores[i], int(j), PITCH_DEG)


def _top(values: np.ndarray, place: int, axis: np.ndarray) -> float:
    """Position of a maximum on an axis, by the parabola through it and its neighbours."""
    if not 0 < place < len(values) - 1:
        return float(axis[place])
    left, top, right = (float(x) for x in values[place - 1 : place + 2])
    bend = left - 2.0 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float(axis[place] + shift * (axis[1] - axis[0]))


def _shear(profiles: np.ndarray, rates: np.ndarray) -> tuple[float, float]:
    """
    Fit delay in seconds and yaw in degrees to agreements by yaw at different yaw rates.

    With scans stamped too late, points lie to the right of the image by delay times yaw rate.
    """
    sums = np.zeros((len(_DELAYS), len(YAW_DEG)))
    for profile, rate in zip(profiles, rates, strict=True):
        wanted = YAW_DEG + rate * _DELAYS[:, None]
        sums += np.interp(wanted, YAW_DEG, profile, left=0.0, right=0.0)
    i, j = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return _top(sums[:, j], int(i), _DELAYS), _top(sums[i], int(j), YAW_DEG)


def _yaw_rate(before: CurrentFrame | None, now: CurrentFrame) -> float:
    """Rate at which the camera turns right, rad/s; NaN without two poses."""
    if before is None or before.T_world_camera is None or now.T_world_camera is None:
        return _NAN
    seconds = (now.stamp_ns - before.stamp_ns) / 1e9
    if not 0.0 < seconds < 1.0:
        return _NAN
    turn = before.T_world_camera[:3, :3].T @ now.T_world_camera[:3, :3]
    return float(np.arctan2(turn[0, 2], turn[2, 2]) / seconds)


def log_depth_of_fit(
    prediction: Prediction, alignment: Alignment, shape: tuple[int, ...], config: AlignmentConfig
) -> np.ndarray | None:
    """Log depth of the affine fit at half the thumbnail's size; fields follow the points."""
    if alignment.state != 'fitted' or not np.isfinite(alignment.scale):
        return None
    # Subsampled: a mean over all pixels would cost more than all the rest.
    height, width = (max(1, side // 2) for side in shape)
    small = cv2.resize(prediction.relative, (width, height), interpolation=cv2.INTER_NEAREST)
    small = np.asarray(small, np.float32)
    metres = fitted_depth(small, alignment.scale, alignment.shift, prediction.space, config)
    metres = cv2.patchNaNs(metres, config.min_depth)
    return np.asarray(cv2.log(np.clip(metres, config.min_depth, config.max_depth)))
