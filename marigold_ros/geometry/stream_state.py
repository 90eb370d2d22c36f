# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The state that a frame leaves to the next one of its stream, and the breaks that end it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from marigold_ros.frame import Alignment
from marigold_ros.geometry.alignment.uncertainty import ErrorCounts
from marigold_ros.geometry.calibration.monitor import CalibrationState
from marigold_ros.geometry.fusion.sigma_scale import SigmaScale
from marigold_ros.geometry.temporal.smoothing import CurrentFrame, is_scene_cut, PreviousFrame
from marigold_ros.pairing import is_clock_jump
import numpy as np


@dataclass(frozen=True)
class StreamState:
    """
    Everything that the frames so far leave to the next one.

    Breaks of the stream do not change the mounting, so evidence on the calibration outlives them.
    """

    stamp_ns: int | None = None
    shape: tuple[int, int] | None = None  # image size (H, W) of the last frame
    fit: Alignment | None = None  # without arrays per pixel or point
    fit_stamp_ns: int = 0  # of its frame
    weights: np.ndarray | None = None  # (n,), of an average's members
    previous: PreviousFrame | None = None  # last frame with metric depth
    errors: ErrorCounts | None = None  # of the fits so far, for sigma
    sigma_scale: SigmaScale | None = None  # of fused depth
    calibration: CalibrationState = field(default_factory=CalibrationState)

    def held_fit(self, stamp_ns: int) -> Alignment | None:
        """Return the last fit with its age at a stamp."""
        if self.fit is None:
            return None
        return replace(self.fit, age_ns=abs(stamp_ns - self.fit_stamp_ns))

    def without_fits(self) -> StreamState:
        """Forget fits, metric depth and errors."""
        return replace(self, fit=None, weights=None, previous=None, errors=None, sigma_scale=None)

    def after(
        self,
        current: CurrentFrame,
        fit: Alignment,
        alignment: Alignment,
        errors: ErrorCounts | None,
        sigma_scale: SigmaScale | None,
        calibration: CalibrationState,
    ) -> StreamState:
        """Return the state after a frame: its affine fit, and the alignment it ended with."""
        state = replace(self, errors=errors, sigma_scale=sigma_scale, calibration=calibration)
        if alignment.state == 'fitted' and fit.state == 'fitted':
            kept = replace(fit, metric=None, inlier=None, held_out=None)
            state = replace(state, fit=kept, fit_stamp_ns=current.stamp_ns)
        if alignment.metric is not None:
            measured_ns = current.stamp_ns - alignment.age_ns
            place = (current.K, current.T_world_camera)
            previous = PreviousFrame(alignment.metric, current.grey, measured_ns, *place)
            state = replace(state, previous=previous)
        return state


def find_break(
    state: StreamState,
    stamp_ns: int,
    shape: tuple[int, int],
    current: CurrentFrame | None,
    cut: float,
) -> str:
    """
    Find why a frame of (H, W) ``shape`` does not continue the stream that left ``state``.

    Scene cuts show in the thumbnail of ``current``, once it is known; ``cut`` is the mean
    difference (0 to 1) above which temporal state is reset. Returns ``clock jump`` (back, as when
    a bag starts again), ``size``, ``scene cut``, or an empty string.
    """
    if is_clock_jump(state.stamp_ns, stamp_ns):
        return 'clock jump'
    if shape != state.shape:
        return 'size'
    if current is None or state.previous is None:
        return ''
    return 'scene cut' if is_scene_cut(state.previous.grey, current.grey, cut) else ''
