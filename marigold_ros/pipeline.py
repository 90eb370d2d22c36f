# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One camera frame from image to metric depth: the only place that knows the order of the steps.

The node and the offline evaluation both call it. It comes in two halves because a scan often
arrives after its image: the node runs :meth:`FramePipeline.predict` first, decides the pairing
as late as possible, and then runs :meth:`FramePipeline.finish`. The model is passed in: no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

from marigold_ros.config import PipelineConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Alignment, Frame, FrameResult, Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align
from marigold_ros.geometry.alignment.point_guidance import align_guided
from marigold_ros.geometry.alignment.uncertainty import count_errors, ErrorCounts, sigma_map
from marigold_ros.geometry.calibration.monitor import Calibration, CalibrationMonitor
from marigold_ros.geometry.camera.frame_points import sparse_of_frame
from marigold_ros.geometry.camera.rectification import (
    rectified,
    rectify_image,
)
from marigold_ros.geometry.postprocess import (
    conservative,
    count_pixels,
    without_border,
    without_sky,
)
from marigold_ros.geometry.sky import sky_mask
from marigold_ros.geometry.temporal.smoothing import (
    CurrentFrame,
    hold_on,
    is_scene_cut,
    PreviousFrame,
    smooth,
    thumbnail,
)
import numpy as np

# A stamp that goes back further means that a bag was started again, not that messages overtook.
_CLOCK_JUMP_NS = 1_000_000_000


class FramePipeline:
    """
    Turns frames into depth and remembers the last fit, depth, and what fits got wrong so far.

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
        self._memory: PreviousFrame | None = None
        self._errors: ErrorCounts | None = None
        self.reset()

    @property
    def config(self) -> PipelineConfig:
        """Settings of the next frame."""
        return self._config

    @config.setter
    def config(self, config: PipelineConfig) -> None:
        # A fit made under other rules is not held.
        if config.alignment != self._config.alignment:
            self._forget_fits()
        self._config = config

    @property
    def calibration(self) -> Calibration:
        """What the frames since the last reset tell of the LiDAR's angles and clock."""
        return self._monitor.calibration

    def reset(self) -> None:
        """Forget the frames so far, as after a jump of the clock."""
        self._forget()
        self._monitor = CalibrationMonitor()
        self._fit_stamp_ns = 0
        self._stamp_ns: int | None = None
        self._shape: tuple[int, int] | None = None
        self._pending: tuple[Prediction, np.ndarray, dict[str, float]] | None = None

    def process(self, frame: Frame) -> FrameResult:
        """Run both halves: see :meth:`predict` and :meth:`finish`."""
        return self.finish(frame, self.predict(frame))

    def predict(self, frame: Frame) -> Prediction:
        """
        Rectify the image if need be and run the model on it.

        Parameters
        ----------
        frame : Frame
            Image and camera; the points are not looked at.

        Returns
        -------
        Prediction
            For the rectified image, at its size.

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
            If the prediction is of another size than the image, or the points are not (N, 3).

        """
        rgb, timings = self._claim(frame, prediction)
        config = self.config.alignment
        self._watch_stream(frame)
        with _timed(timings, 'project'):
            sparse, no_points = sparse_of_frame(frame, config)
        with _timed(timings, 'align'):
            now = self._watch_scene(frame, rgb)
            previous = self._previous(frame.stamp_ns)
            fit = align(prediction, sparse, config, previous, no_points)
            told, alignment = align_guided(self.model, rgb, prediction, sparse, fit, self.config)
            alignment = without_border(self._over_time(alignment, prediction, now), frame.camera)
        with _timed(timings, 'sigma'):
            self._errors = count_errors(self._errors, told, sparse, alignment, config)
            sigma = sigma_map(self._errors, told, alignment, config, sparse)
            metric = conservative(alignment.metric, sigma, config)
        with _timed(timings, 'sky'):
            sky = self._sky(rgb, prediction, alignment, sparse)
            metric = without_sky(metric, sky, self.config.sky)
            sigma = without_sky(sigma, sky, 'nan')
        with _timed(timings, 'calibration'):
            calibration = self._monitor.look(now, prediction, sparse, fit, config)
        if alignment.state == 'fitted':
            self._fit = replace(fit, metric=None, inlier=None, held_out=None)
            self._fit_stamp_ns = frame.stamp_ns
        if alignment.metric is not None:
            measured_ns = now.stamp_ns - alignment.age_ns
            place = (now.K, now.T_world_camera)
            self._memory = PreviousFrame(alignment.metric, now.grey, measured_ns, *place)
        timings['total'] = sum(timings.values())
        return FrameResult(
            relative=prediction.relative,
            space=prediction.space,
            alignment=alignment,
            metric=metric,
            sigma=sigma,
            spread=prediction.spread,
            camera=None if frame.camera is None else rectified(frame.camera),
            rgb=rgb,
            sparse=sparse,
            stamp_ns=frame.stamp_ns,
            timings_ms=timings,
            counts=count_pixels(prediction, metric, sky, frame.camera, config),
            calibration=calibration,
        )

    def _claim(self, frame: Frame, prediction: Prediction) -> tuple[np.ndarray, dict[str, float]]:
        """Take over image and timing of the first half, if this is its prediction."""
        if self._pending is not None and self._pending[0] is prediction:
            _, rgb, timings = self._pending
            self._pending = None
            return rgb, dict(timings)
        rgb = _rectified_rgb(frame)
        _check_size(prediction, rgb)
        return rgb, {'predict': 0.0}

    def _watch_stream(self, frame: Frame) -> None:
        """Forget the frames so far after a jump of the clock or a change of image size."""
        went_back = self._stamp_ns is not None and frame.stamp_ns < self._stamp_ns - _CLOCK_JUMP_NS
        shape = frame.rgb.shape[:2]
        if went_back or shape != self._shape:
            self._forget()
        self._stamp_ns, self._shape = frame.stamp_ns, shape

    def _forget(self) -> None:
        """Drop fits and depth so far, and what the model keeps of the last frame."""
        self._forget_fits()
        if hasattr(self.model, 'reset'):
            self.model.reset()

    def _forget_fits(self) -> None:
        self._fit = self._memory = self._errors = None

    def _watch_scene(self, frame: Frame, rgb: np.ndarray) -> CurrentFrame:
        """Describe the frame for the memory, and forget what was seen before a scene cut."""
        K = None if frame.camera is None else rectified(frame.camera).K
        now = CurrentFrame(thumbnail(rgb), frame.stamp_ns, K, frame.T_world_camera)
        limit = self.config.engine.scene_cut
        if self._memory is not None and is_scene_cut(self._memory.grey, now.grey, limit):
            self._forget_fits()
        return now

    def _over_time(
        self, alignment: Alignment, prediction: Prediction, now: CurrentFrame
    ) -> Alignment:
        """Take over what stood still since the last frame that had metres."""
        memory, config = self._memory, self.config.alignment
        if memory is None or config.method == 'fixed':
            return alignment
        if alignment.state == 'held':
            return hold_on(alignment, prediction, memory, now, config)
        if alignment.metric is None:
            return alignment
        return replace(alignment, metric=smooth(alignment.metric, memory, now, config))

    def _sky(
        self,
        rgb: np.ndarray,
        prediction: Prediction,
        alignment: Alignment,
        sparse: SparseDepth | None,
    ) -> np.ndarray | None:
        """Recognise the sky, if depth is to be left out there."""
        if alignment.metric is None or self.config.sky == 'fitted':
            return None
        return sky_mask(rgb, prediction, alignment.metric, sparse)

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
            f'the prediction is {prediction.relative.shape}, the image {rgb.shape[:2]}; a model '
            'answers at the size of its image: hand over the prediction of this frame',
            cause='shape',
        )
