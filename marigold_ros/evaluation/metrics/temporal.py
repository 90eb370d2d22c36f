# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Flicker of depth where nothing moved, and drift of its scale, from frame to frame.

Flicker compares the depth of a frame with that of the one before, warped to the present camera: by
the poses of both where they are known, as the temporal alignment error of video models does, else
pixel by pixel for a camera at rest. A camera that moves without a pose has none. Only points whose
image stayed the same count, and the median excludes the rest of what moves.
"""

from collections.abc import Mapping
import math
from typing import Any

from marigold_ros.frame import Alignment, CurrentFrame, Frame
from marigold_ros.geometry.blind_image import sample_pixels, why_blind
from marigold_ros.geometry.camera.rectification import rectified, thumbnail
from marigold_ros.geometry.stream import PreviousFrame, remembered_points
import numpy as np

# Of 2000; fewer do not represent an image.
_FEWEST_POINTS = 100
# Frames farther apart, or of another bag, are not neighbours.
_LONGEST_GAP_NS = 1_000_000_000


class TemporalScores:
    """Accumulates changes between neighbouring frames."""

    def __init__(self) -> None:
        # The frame before, and what may drift.
        self._last: tuple[PreviousFrame, dict[str, float]] | None = None
        self._flicker: list[float] = []
        self._matched = {'pose': 0, 'pixel': 0}
        self._drift: dict[str, list[float]] = {'ratio': [], 'scale': [], 'shift': []}

    def add(
        self,
        frame: Frame,
        rgb: np.ndarray,
        metric: np.ndarray | None,
        alignment: Alignment,
        ratios: Mapping[str, float],
    ) -> dict[str, float]:
        """
        Compare a frame with the one before.

        Parameters
        ----------
        frame, rgb : Frame, (H, W, 3) uint8
            Stamp, camera and pose; the rectified image.
        metric, alignment : (H, W) float or None, metres, Alignment
            The published depth, None for a frame without neighbours, and its fit.
        ratios : mapping
            Median of predicted over true depth, by protocol; the first that both have counts.

        Returns
        -------
        dict
            ``flicker`` and ``drift_ratio``, ``drift_scale``, ``drift_shift``; NaN where unknown.

        """
        last, self._last = self._last, None
        values = dict.fromkeys(('flicker', *(f'drift_{name}' for name in self._drift)), math.nan)
        if metric is None:
            return values
        K = None if frame.camera is None else rectified(frame.camera).K
        now = CurrentFrame(thumbnail(rgb), frame.stamp_ns, K, frame.T_world_camera)
        metric = np.asarray(metric, np.float32)
        this = PreviousFrame(metric, now.grey, now.stamp_ns, now.K, now.T_world_camera)
        fit = {**ratios, 'scale': alignment.scale, 'shift': alignment.shift}
        self._last = (this, fit)
        if last is None or last[0].metric.shape != metric.shape:
            return values
        before, earlier = last
        if not 0 < now.stamp_ns - before.stamp_ns <= _LONGEST_GAP_NS:
            return values
        both = [name for name in ratios if name in earlier]
        changes = {
            'ratio': _log_change(earlier[both[0]], fit[both[0]]) if both else math.nan,
            'scale': _log_change(earlier['scale'], fit['scale']),
            'shift': abs(fit['shift'] - earlier['shift']),  # may be zero or negative
        }
        for name, change in changes.items():
            values[f'drift_{name}'] = change
            if math.isfinite(change):
                self._drift[name].append(change)
        posed = before.T_world_camera is not None and now.T_world_camera is not None
        # Images that show nothing look the same wherever the camera goes.
        if posed or not why_blind(sample_pixels(rgb)):
            values['flicker'] = self._add_flicker(before, now, metric, posed)
        return values

    def _add_flicker(
        self, before: PreviousFrame, now: CurrentFrame, metric: np.ndarray, posed: bool
    ) -> float:
        points = remembered_points(before, now)
        with np.errstate(invalid='ignore'):
            change = np.abs(metric[points.v, points.u] / points.z - 1.0)
        change = change[np.isfinite(change)]
        if len(change) < _FEWEST_POINTS:
            return math.nan
        self._matched['pose' if posed else 'pixel'] += 1
        self._flicker.append(float(np.median(change)))
        return self._flicker[-1]

    def summary(self) -> dict[str, Any]:
        """Return ``scale_drift`` and ``flicker`` of results.json; empty without any pair."""
        found: dict[str, Any] = {}
        if any(self._drift.values()):
            drift = {name: values or [math.nan] for name, values in self._drift.items()}
            median, p95 = np.quantile(drift['ratio'], (0.5, 0.95)).tolist()
            found['scale_drift'] = {
                **{name: float(np.mean(values)) for name, values in drift.items()},
                'median_ratio': median,
                'p95_ratio': p95,
                'pairs': max(map(len, self._drift.values())),
            }
        if self._flicker:
            median, p95 = np.quantile(self._flicker, (0.5, 0.95)).tolist()
            found['flicker'] = {
                'value': float(np.mean(self._flicker)),
                'median': median,
                'p95': p95,
                'pairs': len(self._flicker),
                'matched_by': dict(self._matched),
            }
        return found


def _log_change(before: float, now: float) -> float:
    """Return the absolute log ratio of two factors; NaN where one is unknown."""
    return abs(math.log(now / before)) if before > 0 and now > 0 else math.nan
