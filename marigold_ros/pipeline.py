# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One camera frame from picture to metric depth: the only place that knows the order of the steps.

The node and the offline evaluation both call it. It comes in two halves because a scan often
arrives after its picture: the node runs :meth:`FramePipeline.predict` first, decides the pairing
as late as possible, and then runs :meth:`FramePipeline.finish`. The model is passed in: no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Alignment, Camera, Frame, FrameResult, Prediction, SparseDepth
from marigold_ros.geometry.alignment import align
from marigold_ros.geometry.camera import (
    is_rectified,
    rectified,
    rectified_valid,
    rectify_image,
    rectify_sparse,
)
from marigold_ros.geometry.spaces import slope
from marigold_ros.geometry.sparse_depth import project_lidar
import numpy as np

# A stamp that goes back further means that a bag was started again, not that messages overtook.
_CLOCK_JUMP_NS = 1_000_000_000


class FramePipeline:
    """
    Turns frames into depth and remembers the last fit.

    Parameters
    ----------
    model : object
        Has ``predict(rgb, denoising_steps, ensemble_size, processing_resolution, seed, options)``
        and, if frames leave something to the next, ``reset()``.
    config : PipelineConfig or None
        Settings; may be swapped between frames by assigning :attr:`config`.

    """

    def __init__(self, model: Any, config: PipelineConfig | None = None) -> None:
        self.model = model
        self._config = PipelineConfig() if config is None else config
        self._fit: Alignment | None = None
        self.reset()

    @property
    def config(self) -> PipelineConfig:
        """Settings of the next frame."""
        return self._config

    @config.setter
    def config(self, config: PipelineConfig) -> None:
        # A fit made under other rules is not held.
        if config.alignment != self._config.alignment:
            self._fit = None
        self._config = config

    def reset(self) -> None:
        """Forget the frames so far, as after a jump of the clock."""
        self._forget()
        self._fit_stamp_ns = 0
        self._stamp_ns: int | None = None
        self._shape: tuple[int, int] | None = None
        self._pending: tuple[Prediction, np.ndarray, dict[str, float]] | None = None

    def process(self, frame: Frame) -> FrameResult:
        """Run both halves: see :meth:`predict` and :meth:`finish`."""
        return self.finish(frame, self.predict(frame))

    def predict(self, frame: Frame) -> Prediction:
        """
        Rectify the picture if need be and run the model on it.

        Parameters
        ----------
        frame : Frame
            Picture and camera; the points are not looked at.

        Returns
        -------
        Prediction
            For the rectified picture, at its size.

        Raises
        ------
        CalibrationError
            If the camera's distortion is not known.
        InputError
            If the model answers in another size.

        """
        timings: dict[str, float] = {}
        self._watch_stream(frame)
        with _timed(timings, 'predict'):
            rgb = _rectified_rgb(frame)
            prediction = self.model.predict(rgb, **self.config.prediction)
        _check_size(prediction, rgb)
        self._pending = (prediction, rgb, timings)
        return prediction

    def finish(self, frame: Frame, prediction: Prediction) -> FrameResult:
        """
        Put a prediction into metres with the points of its frame.

        Parameters
        ----------
        frame : Frame
            The frame that was predicted, now with whatever sparse depth there is.
        prediction : Prediction
            What :meth:`predict` gave for it.

        Returns
        -------
        FrameResult
            ``alignment.state`` says whether it is metric; if not, ``alignment.reason`` says why.

        Raises
        ------
        CalibrationError
            If the camera's distortion is not known.
        InputError
            If the prediction is of another size than the picture, or the points are not (N, 3).

        """
        rgb, timings = self._claim(frame, prediction)
        config = self.config.alignment
        self._watch_stream(frame)
        with _timed(timings, 'project'):
            sparse, no_points = _sparse_depth(frame, config)
        with _timed(timings, 'align'):
            previous = self._previous(frame.stamp_ns)
            alignment = align(prediction, sparse, config, previous, no_points)
            alignment = _without_border(alignment, frame.camera)
        with _timed(timings, 'sigma'):
            sigma = _sigma(prediction, alignment)
        if alignment.state == 'fitted':
            self._fit = replace(alignment, metric=None, inlier=None)
            self._fit_stamp_ns = frame.stamp_ns
        timings['total'] = sum(timings.values())
        return FrameResult(
            relative=prediction.relative,
            space=prediction.space,
            alignment=alignment,
            metric=alignment.metric,
            sigma=sigma,
            spread=prediction.spread,
            camera=None if frame.camera is None else rectified(frame.camera),
            rgb=rgb,
            sparse=sparse,
            stamp_ns=frame.stamp_ns,
            timings_ms=timings,
            counts=_counts(prediction, alignment, frame.camera, config),
        )

    def _claim(self, frame: Frame, prediction: Prediction) -> tuple[np.ndarray, dict[str, float]]:
        """Take over picture and timing of the first half, if this is its prediction."""
        if self._pending is not None and self._pending[0] is prediction:
            _, rgb, timings = self._pending
            self._pending = None
            return rgb, dict(timings)
        rgb = _rectified_rgb(frame)
        _check_size(prediction, rgb)
        return rgb, {'predict': 0.0}

    def _watch_stream(self, frame: Frame) -> None:
        """Forget the frames so far after a jump of the clock or a change of picture size."""
        went_back = self._stamp_ns is not None and frame.stamp_ns < self._stamp_ns - _CLOCK_JUMP_NS
        shape = frame.rgb.shape[:2]
        if went_back or shape != self._shape:
            self._forget()
        self._stamp_ns, self._shape = frame.stamp_ns, shape

    def _forget(self) -> None:
        """Drop the last fit, and what the model keeps of the last frame."""
        self._fit = None
        if hasattr(self.model, 'reset'):
            self.model.reset()

    def _previous(self, stamp_ns: int) -> Alignment | None:
        """Return the last fit with its age as of this frame."""
        if self._fit is None:
            return None
        return replace(self._fit, age_ns=abs(stamp_ns - self._fit_stamp_ns))


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = perf_counter()
    yield
    timings[stage] = 1e3 * (perf_counter() - start)


def _rectified_rgb(frame: Frame) -> np.ndarray:
    if frame.camera is None:
        return frame.rgb
    return rectify_image(frame.rgb, frame.camera)


def _check_size(prediction: Prediction, rgb: np.ndarray) -> None:
    if prediction.relative.shape != rgb.shape[:2]:
        raise InputError(
            f'the prediction is {prediction.relative.shape}, the picture {rgb.shape[:2]}; a model '
            'answers at the size of its picture: hand over the prediction of this frame',
            cause='shape',
        )


def _sparse_depth(frame: Frame, config: AlignmentConfig) -> tuple[SparseDepth | None, str]:
    """Sparse depth in the rectified picture, or why there is none."""
    camera = frame.camera
    if frame.sparse is not None:
        if camera is None:
            return frame.sparse, ''
        return rectify_sparse(frame.sparse, camera), ''
    if frame.points_lidar is None:
        return None, 'no sparse depth came with this frame; check the LiDAR topic and lidar.max_dt'
    if camera is None:
        return (
            None,
            'no usable camera_info; points cannot be projected without it: publish or correct it',
        )
    if frame.T_cam_lidar is None:
        return None, (
            'no transform camera <- LiDAR is known; publish it on tf, or set '
            'extrinsics.translation and extrinsics.rotation_xyzw'
        )
    valid = None if is_rectified(camera) else rectified_valid(camera)
    try:
        sparse = project_lidar(
            frame.points_lidar, frame.T_cam_lidar, rectified(camera), config, valid
        )
    except CalibrationError as error:
        # The relative depth of this frame is still good; the reason reaches the diagnostics.
        return None, str(error)
    return sparse, ''


def _without_border(alignment: Alignment, camera: Camera | None) -> Alignment:
    """Invalidate the pixels that rectifying left without a source."""
    if alignment.metric is None or camera is None or is_rectified(camera):
        return alignment
    metric = np.where(rectified_valid(camera), alignment.metric, np.float32(np.nan))
    return replace(alignment, metric=metric)


def _sigma(prediction: Prediction, alignment: Alignment) -> np.ndarray | None:
    """Deviation of metric depth: relative error of the fit and the ensemble's, in quadrature."""
    metric = alignment.metric
    if metric is None:
        return None
    has_fit_error = np.isfinite(alignment.spread_log)
    if not has_fit_error and prediction.spread is None:
        return None
    fit_error = metric * np.float32(alignment.spread_log if has_fit_error else 0.0)
    if prediction.spread is None:
        return fit_error
    return np.hypot(fit_error, prediction.spread * slope(metric, alignment)).astype(np.float32)


def _counts(
    prediction: Prediction, alignment: Alignment, camera: Camera | None, config: AlignmentConfig
) -> dict[str, int]:
    """How many pixels are invalid, and how many of these too near; how many beyond the range."""
    metric = alignment.metric
    if metric is None:
        return {}
    invalid = np.isnan(metric)
    too_near = invalid & np.isfinite(prediction.relative)
    if camera is not None and not is_rectified(camera):
        too_near &= rectified_valid(camera)
    return {
        'invalid': int(np.count_nonzero(invalid)),
        'below_min_depth': int(np.count_nonzero(too_near)),
        'beyond_max_depth': int(np.count_nonzero(metric > config.max_depth)),
    }
