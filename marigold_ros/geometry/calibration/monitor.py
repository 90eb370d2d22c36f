# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Calibration monitor: errors of the LiDAR's mounting and clock, from the evidence of many images.

Only images that differ count. Errors are tried in pairs: yaw and pitch, roll and focal length,
shifts to the side and upwards. The pair that explains the images best is reported, where it does
so beyond doubt better than a right mounting and four parts of the images agree; a delay where the
yaw follows the yaw rate. A scene can mislead by half a degree (points on the near side of a step
lie below its upper edge, maps are blurred), so small errors are not reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, CurrentFrame, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import fitted_depth
from marigold_ros.geometry.calibration.edge_agreement import AGREEING_DEG
from marigold_ros.geometry.calibration.evidence import agreement, ERRORS, PITCH_DEG, YAW_DEG
from marigold_ros.point_kinds import PointKind
import numpy as np

_IMAGES, _FEWEST = 120, 8
# Time between two observations: neighbouring images are alike.
_PERIOD_NS = 150_000_000
# Mean change of a small thumbnail, of 255, from which on an image is a new observation.
_NEW_IMAGE = 2.5
# Least errors that are reported, and in what words.
_LEAST_ANGLE, _LEAST_DELAY = 1.0, 0.03  # degrees, seconds
LEAST = {'roll_deg': 2.5, 'focal_share': 0.05, 'right_m': 0.15, 'up_m': 0.15}
_WORDS = {
    'yaw_deg': ('{sensor} looks {}{:.1f}° to the {} of the image', 'right', 'left'),
    'pitch_deg': ('{sensor} looks {}{:.1f}° {} the image', 'above', 'below'),
    'roll_deg': ('{sensor} is rolled {}{:.1f}° to the {}', 'right', 'left'),
    'focal_share': ('focal lengths are {}{:.0%} too {}', 'long', 'short'),
    'right_m': ('{sensor} is placed {}{:.2f} m too far {}', 'right', 'left'),
    'up_m': ('{sensor} is placed {}{:.2f} m too {}', 'high', 'low'),
}
# Standard errors that they, and the gain in agreement, must exceed.
_CERTAIN = 4.0
# Least standard error of the pitch, as a share of the gap between scan lines: turned by less than
# a gap, points meet no row that their neighbours see, and a few edges between lines can mislead.
_OF_GAP = 1.0 / _CERTAIN
_LARGEST_GAP = 2.5  # degrees, beyond which lines show a yaw, a pitch and a shift to the side alone
_STRIPS = 32  # of an image, in which gaps are measured
_PARTS = 4
# Shares of its maximum by which agreement must fall within three steps: on both sides, and on one
# side of an error that is the last tried. Forests and other upright edges agree at many heights.
_STEPS, _FALL, _FALL_AT_END = 3, 0.09, 0.18
_DELAYS = np.arange(-0.2, 0.201, 0.02)
# Agreement by yaw and delay, as a share of that of each image at its own best yaw. By simulated
# drives it is above 0.9 where the delay is within the search, and below 0.8 from 0.5 s on.
_AGREEING = 0.8
_STILL = 0.5  # degrees: images that a delay moves by less show the mounting alone
# Degrees a second: without different yaw rates a delay cannot be observed.
_LEAST_TURNING = 4.0
_NAN = float('nan')

Observation = tuple[Mapping[str, np.ndarray], float]


@dataclass(frozen=True)
class Calibration:
    """
    Estimated errors of a sensor's mounting and clock; NaN where unknown.

    ``errors`` of the mounting, each with its standard error, have the names and signs of
    :data:`ERRORS`; standard errors, by the agreement of parts of the images, leave out the bias of
    the scenes, and are infinite where agreement has no clear maximum. ``cause`` is the pair that
    explains the images best, empty where it is no better than a right mounting.
    """

    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cause: str = ''
    delay_s: float = _NAN  # of the scans' stamps
    delay_error_s: float = _NAN
    n_images: int = 0  # images observed
    line_gap_deg: float = 0.0  # between the scan lines: a pitch below it is not seen
    edges_agree: bool = False  # with depth steps, which excludes a yaw above AGREEING_DEG
    sensor: str = 'LiDAR'  # in words
    delay_may_be_larger: bool = False  # at the end of the search, or the images do not agree on it

    def found(self, least_deg: float = _LEAST_ANGLE) -> list[str]:
        """Return what is wrong with the mounting; yaw and pitch of at least so many degrees."""
        clauses = []
        for name, axis in ERRORS.get(self.cause, {}).items():
            size, error = self.errors[name]
            if name == 'yaw_deg' and self.edges_agree and abs(size) > AGREEING_DEG:
                continue
            if name == 'pitch_deg':
                error = max(error, _OF_GAP * self.line_gap_deg)
            elif self.line_gap_deg > _LARGEST_GAP and name not in ('yaw_deg', 'right_m'):
                continue
            if abs(size) >= max(LEAST.get(name, least_deg), _CERTAIN * error):
                text, above, below = _WORDS[name]
                bound = 'at least ' if abs(size) >= axis[-1] else ''
                side = above if size > 0 else below
                clauses.append(text.format(bound, abs(size), side, sensor=self.sensor))
        return clauses

    @property
    def text(self) -> str:
        """Describe the errors that are significant; empty if there are none."""
        clauses = self.found()
        if abs(self.delay_s) >= max(_LEAST_DELAY, _CERTAIN * self.delay_error_s):
            beyond = 'at least ' if self.delay_may_be_larger else ''
            early = 'late' if self.delay_s > 0 else 'early'
            clauses.append(f'{self.sensor} is {beyond}{abs(self.delay_s):.2f} s {early}')
        return '; '.join(clauses)


@dataclass(frozen=True)
class CalibrationState:
    """
    State of the calibration monitor between two frames; immutable.

    Observations are agreement, as `agreement` returns it, and yaw rate of the last images that
    differed.
    """

    calibration: Calibration = Calibration()
    observations: tuple[Observation, ...] = ()
    count: int = 0  # observations so far
    small: np.ndarray | None = None  # (24, 32) float32, thumbnail of the last image that differed
    observed_ns: int = 0  # its stamp
    previous: CurrentFrame | None = None


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
    size = prediction.relative.shape
    log_depth = log_depth_of_fit(prediction, alignment, current.grey.shape, config)
    rng = np.random.default_rng(state.count)
    scores = agreement(current.grey, log_depth, sparse, current.K, size, rng)
    state = replace(state, small=small, observed_ns=current.stamp_ns)
    if scores is None:
        return state
    observations = (*state.observations, (scores, yaw_rate))[-_IMAGES:]
    state = replace(state, observations=observations, count=state.count + 1)
    if state.count % 4 and state.count > 2 * _FEWEST:
        return state
    gap = line_gap(sparse, current.K, size[1])
    sensor = 'depth camera' if sparse.kind is PointKind.DEPTH_CAMERA else Calibration.sensor
    found = replace(estimate_calibration(observations), line_gap_deg=gap, sensor=sensor)
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


def estimate_calibration(observations: Sequence[Observation]) -> Calibration:
    """
    Estimate errors of mounting and clock from many images.

    Each observation is an agreement by pairs of errors, and the yaw rate in rad/s or NaN.
    """
    if len(observations) < _FEWEST:
        return Calibration(n_images=len(observations))
    found = _mounting([scores for scores, _ in observations])
    return _with_delay(replace(found, n_images=len(observations)), observations)


def _mounting(agreements: Sequence[Mapping[str, np.ndarray]]) -> Calibration:
    """Estimate the errors of the mounting from the agreement of at least eight images."""
    scores = {pair: np.stack([agreed[pair] for agreed in agreements]) for pair in ERRORS}
    means = {pair: of_pair.mean(axis=0) for pair, of_pair in scores.items()}
    errors: dict[str, tuple[float, float]] = {}
    for pair, axes in ERRORS.items():
        parts = np.array_split(scores[pair], _PARTS)
        peaks = [_peak(part.mean(axis=0), pair) for part in parts]
        spread = np.std(peaks, axis=0, ddof=1) / np.sqrt(_PARTS)
        spread[~np.array(_is_clear(means[pair]))] = np.inf
        known = zip(_peak(means[pair], pair), spread.tolist(), strict=True)
        errors |= dict(zip(axes, known, strict=True))
    best = max(means, key=lambda pair: means[pair].max())
    place, right = int(means[best].argmax()), means[best].size // 2
    gain = scores[best].reshape(len(agreements), -1)[:, [place, right]] @ [1.0, -1.0]
    certain = gain.mean() >= _CERTAIN * gain.std(ddof=1) / np.sqrt(len(gain))
    return Calibration(errors, best if certain else '')


def _with_delay(found: Calibration, observations: Sequence[Observation]) -> Calibration:
    """Add the delay, and the mounting without it, if the camera has turned at different rates."""
    rates = np.rad2deg([rate for _, rate in observations])
    turning = np.isfinite(rates)
    if turning.sum() < 2 * _FEWEST or rates[turning].std() < _LEAST_TURNING:
        return found
    rates = rates[turning]
    pitch = int(np.abs(PITCH_DEG - found.errors['pitch_deg'][0]).argmin())
    seen = [scores for (scores, _), turns in zip(observations, turning, strict=True) if turns]
    profiles = np.stack([scores['turned'][:, pitch] for scores in seen])
    delay, yaw, agreed = _shear(profiles, rates)
    larger = abs(delay) > 0.99 * _DELAYS[-1] or agreed < _AGREEING * profiles.max(axis=1).sum()
    # Every fourth image, so that each part has seen all the turns.
    parts = [_shear(profiles[k::_PARTS], rates[k::_PARTS])[:2] for k in range(_PARTS)]
    error, yaw_error = (np.std(parts, axis=0, ddof=1) / np.sqrt(_PARTS)).tolist()
    found = replace(found, delay_s=delay, delay_error_s=error, delay_may_be_larger=bool(larger))
    if abs(delay) < _CERTAIN * error:
        return found
    still = [seen[i] for i in np.flatnonzero(np.abs(delay * rates) < _STILL)]
    if len(still) >= _FEWEST:
        mounting = _mounting(still)
        return replace(found, errors=mounting.errors, cause=mounting.cause)
    others = [pair for pair in ERRORS if pair != 'turned']
    if agreed < max(np.sum([scores[pair] for scores in seen], axis=0).max() for pair in others):
        return found  # another pair explains the images better, although a delay blurs it
    errors = {**found.errors, 'yaw_deg': (yaw, yaw_error)}
    return replace(found, errors=errors, cause='turned')


def _peak(scores: np.ndarray, pair: str) -> tuple[float, float]:
    """Return the errors of a pair where agreement is best."""
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)
    first, second = ERRORS[pair].values()
    return _top(scores[:, j], int(i), first), _top(scores[i], int(j), second)


def _is_clear(scores: np.ndarray) -> tuple[bool, bool]:
    """Return for each axis whether agreement falls beside its maximum, at the end on one side."""
    i, j = np.unravel_index(int(np.argmax(scores)), scores.shape)

    def falls(values: np.ndarray, place: int) -> bool:
        beside = [values[k] for k in (place - _STEPS, place + _STEPS) if 0 <= k < len(values)]
        share = _FALL if 0 < place < len(values) - 1 else _FALL_AT_END
        return bool(max(beside) <= (1.0 - share) * values[place])

    return falls(scores[:, j], int(i)), falls(scores[i], int(j))


def _top(values: np.ndarray, place: int, axis: np.ndarray) -> float:
    """Position of a maximum on an axis, by the parabola through it and its neighbours."""
    if not 0 < place < len(values) - 1:
        return float(axis[place])
    left, top, right = (float(x) for x in values[place - 1 : place + 2])
    bend = left - 2.0 * top + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float(axis[place] + shift * (axis[1] - axis[0]))


def _shear(profiles: np.ndarray, rates: np.ndarray) -> tuple[float, float, float]:
    """
    Fit delay in seconds and yaw in degrees to agreements by yaw at different yaw rates.

    The third is the sum of the agreements there.

    With scans stamped too late, points lie to the right of the image by delay times yaw rate.
    """
    sums = np.zeros((len(_DELAYS), len(YAW_DEG)))
    for profile, rate in zip(profiles, rates, strict=True):
        wanted = YAW_DEG + rate * _DELAYS[:, None]
        sums += np.interp(wanted, YAW_DEG, profile, left=0.0, right=0.0)
    i, j = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return _top(sums[:, j], int(i), _DELAYS), _top(sums[i], int(j), YAW_DEG), float(sums[i, j])


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
