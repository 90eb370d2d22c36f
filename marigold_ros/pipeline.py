# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One camera frame from image to metric depth: the only place that knows the order of the steps.

Node and offline evaluation both call it. It comes in two halves because a scan often arrives after
its image: the node runs :meth:`FramePipeline.predict` first, decides the pairing as late as
possible, and then runs :meth:`FramePipeline.finish`. The model is passed in: no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from marigold_ros.config import PipelineConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Alignment, Frame, FrameResult, Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.alignment.member_weights import weigh_members
from marigold_ros.geometry.alignment.pitch_error import with_pitch_error
from marigold_ros.geometry.alignment.point_guidance import align_guided
from marigold_ros.geometry.alignment.range_limit import with_range_limit
from marigold_ros.geometry.alignment.uncertainty import count_errors, sigma_map
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.calibration.monitor import Calibration, update_calibration
from marigold_ros.geometry.camera.focal_length import at_focal_length
from marigold_ros.geometry.camera.rectification import rectified, rectify_image
from marigold_ros.geometry.fusion.fuse import align, fuse, gather_beside, judge_held
from marigold_ros.geometry.fusion.mixing import FusionModel
from marigold_ros.geometry.fusion.sigma_scale import score_sigma, with_scaled_sigma
from marigold_ros.geometry.postprocess import count_pixels, postprocess, without_border
from marigold_ros.geometry.sources import gather_sources
from marigold_ros.geometry.stream_state import find_break, StreamState
from marigold_ros.geometry.temporal.smoothing import carry_over, CurrentFrame, thumbnail
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.models.protocol import DepthModel


class FramePipeline:
    """
    Turns the frames of one camera into depth, each with the state that the last one left.

    Parameters
    ----------
    model : DepthModel
        Its ``reset`` may be missing if frames leave nothing to the next.
    config : PipelineConfig or None
        Settings; may be swapped between frames by assigning :attr:`config`.
    fusion : callable or None
        Fusion network, in place of the one that ``config.alignment.fusion`` names.

    """

    def __init__(
        self,
        model: DepthModel,
        config: PipelineConfig | None = None,
        fusion: FusionModel | None = None,
    ) -> None:
        self.model, self._given_fusion = model, fusion
        self._fusion: tuple[DepthModel, FusionModel | None] | None = None
        self._config = PipelineConfig() if config is None else config
        self._state = StreamState()
        self.reset()

    @property
    def config(self) -> PipelineConfig:
        """Settings of the next frame."""
        return self._config

    @config.setter
    def config(self, config: PipelineConfig) -> None:
        # A fit made under other rules is not held.
        if config.alignment != self._config.alignment:
            self._state = self._state.without_fits()
        self._config = config

    @property
    def state(self) -> StreamState:
        """What the frames so far leave to the next; may be assigned, to go on with a stream."""
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        self._state = state

    @property
    def calibration(self) -> Calibration:
        """Errors of the LiDAR's angles and clock, estimated since the last reset."""
        return self._state.calibration.calibration

    def load_fusion(self) -> FusionModel | None:
        """
        Return the fusion network; loaded by the first call, and again with another model.

        Raises CheckpointError if ``config.alignment.fusion`` names none.
        """
        if self.config.alignment.method != 'fused' or self._given_fusion is not None:
            return self._given_fusion
        if self._fusion is None or self._fusion[0] is not self.model:
            from marigold_ros.models.fusion.load import fusion_of

            self._fusion = self.model, fusion_of(self.model, self.config.alignment.fusion)
        return self._fusion[1]

    def reset(self) -> None:
        """Forget the frames so far, evidence on calibration included."""
        self._state = StreamState()
        self._pending: tuple[Prediction, np.ndarray, dict[str, float]] | None = None
        self._reset_model()

    def process(self, frame: Frame) -> FrameResult:
        """Run both halves: see :meth:`predict` and :meth:`finish`."""
        return self.finish(frame, self.predict(frame))

    def predict(self, frame: Frame) -> Prediction:
        """
        Rectify the image if need be and run the model on it.

        Parameters
        ----------
        frame : Frame
            Image and camera; points are not used.

        Returns
        -------
        Prediction
            For the rectified image, at its size.

        Raises
        ------
        CalibrationError
            If the camera's distortion model is unknown.
        InputError
            If the prediction has another size than the image.

        """
        timings: dict[str, float] = {}
        self._start_over_at_breaks(frame)
        with _timed(timings, 'predict'):
            rgb = _rectified_rgb(frame)
            prediction = self.model.predict(rgb, **self.config.prediction)
        known = getattr(self.model, 'focal_share', None)
        prediction = at_focal_length(prediction, known, frame.camera)
        _check_size(prediction, rgb)
        self._pending = (prediction, rgb, timings)
        return prediction

    @one_blas_thread()
    def finish(self, frame: Frame, prediction: Prediction) -> FrameResult:
        """
        Turn a prediction into metric depth with the points of its frame.

        Parameters
        ----------
        frame : Frame
            The frame that was predicted, now with whatever sparse depth there is.
        prediction : Prediction
            From :meth:`predict`.

        Returns
        -------
        FrameResult
            ``alignment.state`` states whether it is metric, and ``alignment.reason`` why not.

        Raises
        ------
        CalibrationError
            If the camera's distortion model is unknown.
        InputError
            If the prediction is of another size than the image, or the points are not (N, 3).

        """
        rgb, timings = self._claim(frame, prediction)
        config = self.config.alignment
        camera = None if frame.camera is None else rectified(frame.camera)
        K = None if camera is None else camera.K
        with _timed(timings, 'project'):
            gathered = gather_sources(frame, prediction, K, config)
            sparse = gathered.sparse
        with _timed(timings, 'align'):
            current = CurrentFrame(thumbnail(rgb), frame.stamp_ns, K, frame.T_world_camera)
            state = self._start_over_at_breaks(frame, current)
            prediction, weights = weigh_members(prediction, sparse, config, state.weights)

            def fit_map() -> tuple[Alignment, Prediction, Alignment]:
                held = state.held_fit(frame.stamp_ns)
                fit = align_map(prediction, sparse, config, held, gathered.reason)
                return fit, *align_guided(self.model, rgb, prediction, sparse, fit, self.config)

            fits, points = gather_beside(fit_map, sparse, config, rgb.shape[:2], rgb)
            fit, guided, alignment = fits
        with _timed(timings, 'fuse'):
            network = self.load_fusion()
            alignment = fuse(alignment, sparse, config, rgb.shape[:2], rgb, network, points)
            if config.method == 'fused' and not np.isfinite(alignment.scale):
                # A map that the points contradict is neither held nor evidence of calibration.
                fit = Alignment(reason=alignment.map_reason, space=fit.space)

            def refit(points: SparseDepth) -> Alignment:
                return align(prediction, points, config, rgb=rgb, network=network)

            alignment = carry_over(alignment, state.previous, current, config, refit)
            alignment = without_border(alignment, frame.camera)
        with _timed(timings, 'sigma'):
            errors = count_errors(state.errors, guided, sparse, alignment, config)
            scale = score_sigma(state.sigma_scale, alignment, sparse, rgb, network)
            alignment = with_scaled_sigma(alignment, scale, sparse)
            sigma = sigma_map(errors, guided, alignment, config, sparse)
            sigma = with_pitch_error(sigma, prediction, alignment, sparse, config)
            sigma = with_range_limit(sigma, alignment, sparse)
            alignment = judge_held(alignment, sigma, sparse, config)
            sigma = None if alignment.metric is None else sigma
        with _timed(timings, 'sky'):
            depth = postprocess(rgb, prediction, alignment, sigma, sparse, self.config)
        with _timed(timings, 'calibration'):
            # Points on the ground were chosen by the map, which they cannot contradict.
            # Of several sources it would not be known which one errs.
            own = sparse is not None and sparse.extends and not gathered.reports
            scan = sparse if own else None
            calibration = update_calibration(
                state.calibration, current, prediction, scan, fit, config
            )
        state = state.after(current, fit, alignment, errors, scale, calibration)
        self._state = replace(state, weights=weights)
        timings['total'] = sum(timings.values())
        return FrameResult(
            relative=prediction.relative,
            space=prediction.space,
            alignment=alignment,
            metric=depth.metric,
            sigma=depth.sigma,
            spread=prediction.spread,
            camera=camera,
            rgb=rgb,
            sparse=sparse,
            stamp_ns=frame.stamp_ns,
            timings_ms=timings,
            counts=count_pixels(prediction, depth, frame.camera, config),
            calibration=calibration.calibration.text,
            domain_gap=prediction.domain_gap,
            sources=gathered.reports,
        )

    def _start_over_at_breaks(
        self, frame: Frame, current: CurrentFrame | None = None
    ) -> StreamState:
        """
        Forget fits and depth so far where the stream breaks, and return the state.

        After a clock jump or a new image size the model is reset too; at a scene cut it ignores
        its last frame by itself.
        """
        shape, cut = frame.rgb.shape[:2], self.config.engine.scene_cut
        found = find_break(self._state, frame.stamp_ns, shape, current, cut)
        if found:
            self._state = self._state.without_fits()
        if found in ('clock jump', 'size'):
            self._reset_model()
        self._state = replace(self._state, stamp_ns=frame.stamp_ns, shape=shape)
        return self._state

    def _reset_model(self) -> None:
        if hasattr(self.model, 'reset'):
            self.model.reset()

    def _claim(self, frame: Frame, prediction: Prediction) -> tuple[np.ndarray, dict[str, float]]:
        """Take over image and timings of the first half, if this is its prediction."""
        if self._pending is not None and self._pending[0] is prediction:
            _, rgb, timings = self._pending
            self._pending = None
            return rgb, dict(timings)
        rgb = _rectified_rgb(frame)
        _check_size(prediction, rgb)
        return rgb, {'predict': 0.0}


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = perf_counter()
    yield
    timings[stage] = 1e3 * (perf_counter() - start)


def _rectified_rgb(frame: Frame) -> np.ndarray:
    return frame.rgb if frame.camera is None else rectify_image(frame.rgb, frame.camera)


def _check_size(prediction: Prediction, rgb: np.ndarray) -> None:
    if prediction.relative.shape != rgb.shape[:2]:
        raise InputError(
            f'the prediction is {prediction.relative.shape}, the image {rgb.shape[:2]}; a '
            'prediction has the size of its image: pass the prediction of this frame',
            cause='shape',
        )
