# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One camera frame from image to metric depth: the only place that knows the order of the steps.

Node and offline evaluation both call it. It comes in two halves because a scan often arrives after
its image: the node then runs ``FramePipeline.predict`` first, decides the pairing as late as
possible, and runs ``FramePipeline.finish``; points that are there before are scored beside the
model. While one frame is finished in a thread another thread may predict the next. Sigma of a
frame is scored beside the next one, which waits for it where it states its own. The steps hand on
records: measured points, metric depth, stated depth, published depth. The model is passed in: no
torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TYPE_CHECKING

from marigold_ros.config import PipelineConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import (
    Alignment,
    Camera,
    CurrentFrame,
    Frame,
    FrameResult,
    Prediction,
    SparseDepth,
)
from marigold_ros.geometry.alignment.align import align_map, align_scale
from marigold_ros.geometry.alignment.member_weights import weigh_members
from marigold_ros.geometry.alignment.point_guidance import align_guided
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.blind_image import sample_pixels, why_blind
from marigold_ros.geometry.calibration.edge_agreement import observe_edges
from marigold_ros.geometry.calibration.monitor import (
    Calibration,
    CalibrationState,
    update_calibration,
)
from marigold_ros.geometry.camera.rectification import (
    at_focal_length,
    rectified,
    rectify_image,
    reduced,
    thumbnail,
)
from marigold_ros.geometry.fusion.fuse import align, fuse, FusionGuide, PointsAtWork
from marigold_ros.geometry.fusion.held_out_scores import ScoredPoints
from marigold_ros.geometry.fusion.mixing import FusionModel
from marigold_ros.geometry.ground.visible import visible_ground
from marigold_ros.geometry.measured_points import (
    measure_points,
    MeasuredPoints,
    without_input,
)
from marigold_ros.geometry.postprocess import (
    count_pixels,
    only_at,
    postprocess,
    PublishedDepth,
    without_border,
)
from marigold_ros.geometry.sigma.fused_sigma import (
    judge_held,
    score_sigma,
    SigmaHistory,
    SigmaScale,
    state_sigma,
    StatedDepth,
    widen_sigma,
)
from marigold_ros.geometry.sky import sky_mask
from marigold_ros.geometry.stream import carry_over, is_break, StreamState
from marigold_ros.models.locate import fingerprint
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason, sentence
from marigold_ros.threads import run_beside
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.models.protocol import DepthModel

# Predictions that may wait to be finished: one is, while the next is made.
_PENDING = 2


@dataclass(frozen=True)
class _Begun:
    """The first half of a frame: its rectified image, and its points where they were known."""

    frame: Frame
    config: PipelineConfig
    rgb: np.ndarray
    points: PointsAtWork | None
    timings: dict[str, float]


@dataclass(frozen=True)
class View:
    """What all steps see of a frame."""

    frame: Frame
    rgb: np.ndarray  # (H, W, 3) uint8, its rectified image
    small: np.ndarray  # (h, w, 3) uint8, that as `reduced`
    camera: Camera | None  # of ``rgb``
    current: CurrentFrame
    points: PointsAtWork  # that are being scored
    measured: MeasuredPoints  # none where the image contradicts them
    wrong: Reason | None  # why they are not of this image, where they are used all the same
    before: StreamState  # with the edges of this frame counted


@dataclass(frozen=True)
class MetricDepth:
    """
    The map in metres by scale, shift and field, then fused with points and image.

    Later frames may hold ``fit``, which is none once fusion finds that the points contradict it.
    ``guided`` and ``alignment`` are prediction and fit, or those of a prediction that the points
    have guided; then with fused depth.
    """

    prediction: Prediction
    weights: np.ndarray | None  # (n,), of an average's members
    fit: Alignment
    guided: Prediction
    alignment: Alignment
    points: ScoredPoints | None  # what the points alone give, for fusion


class FramePipeline:
    """
    Turns the frames of one camera into depth, each with the state that the last one left.

    Parameters
    ----------
    model : DepthModel
        Its ``reset`` may be missing if frames leave nothing to the next.
    config : PipelineConfig or None
        Settings; may be swapped between frames by assigning ``config``.
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
        # A history of sigma, and its scale with the points of the last frame.
        self._scoring: tuple[SigmaHistory, Future[SigmaScale | None]] | None = None
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
        self._state = replace(self._state, sigma=self._scored(self._state.sigma))
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        self._state = state

    @property
    def calibration(self) -> Calibration:
        """Errors of the LiDAR's mounting and clock, estimated since the last reset."""
        state = self._state
        return replace(state.calibration.calibration, edges_agree=state.edges.is_right)

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

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The description of the model, with ``fusion_sha256`` of the weights of its fusion."""
        found = dict(self.model.description)
        if folder := getattr(self.load_fusion(), 'folder', None):
            found['fusion_sha256'] = fingerprint([folder])
        return found

    @property
    def finishes_without_model(self) -> bool:
        """Whether ``finish`` leaves the model alone, which may predict the next frame then."""
        return self.config.guidance == 'none' and not hasattr(self.model, 'predict_prompted')

    def reset(self) -> None:
        """Forget the frames so far, evidence on calibration included."""
        self._state = self._predicted = StreamState()
        self._pending: dict[int, tuple[Prediction, _Begun]] = {}  # by identity of the prediction
        self._reset_model()

    def process(self, frame: Frame) -> FrameResult:
        """Run both halves: see ``predict`` and ``finish``."""
        return self.finish(frame, self.predict(frame))

    def predict(self, frame: Frame) -> Prediction:
        """
        Rectify the image if need be and run the model on it.

        Parameters
        ----------
        frame : Frame
            Image and camera. Points that it has are scored at the same time, in a thread, for
            ``finish`` of a frame with the same inputs.

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
        self._reset_model_at_breaks(frame)
        with _timed(timings, 'predict'):
            rgb = _rectified_rgb(frame)
            alone = frame.inputs and frame.ground is None  # ground is looked for in the prediction
            points = self._begin_points(frame, rgb) if alone else None
            prediction = self.model.predict(rgb, **self.config.prediction)
        prediction = at_focal_length(prediction, frame.camera)
        _check_size(prediction, rgb)
        while len(self._pending) >= _PENDING:  # predictions that nobody finished
            self._pending.pop(next(iter(self._pending)))
        begun = _Begun(frame, self.config, rgb, points, timings)
        self._pending[id(prediction)] = prediction, begun
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
            From ``predict``.

        Returns
        -------
        FrameResult
            ``alignment.state`` states whether it is metric, and ``alignment.reason`` why not.

        Raises
        ------
        AlignmentError
            If a point at a pixel lies outside of the image.
        CalibrationError
            If the camera's distortion model is unknown.
        InputError
            If the prediction is of another size than the image, or the points are not (N, 3).

        """
        begun = self._claim(frame, prediction)
        timings = dict(begun.timings)
        with _timed(timings, 'project'):
            view = self._view(frame, begun, prediction)
        with _timed(timings, 'align'):
            fitted = self._fit_map(view, prediction)
        with _timed(timings, 'fuse'):
            fused = self._fuse(view, fitted)
        with _timed(timings, 'sigma'):
            stated = self._state_sigma(view, fused)
        with _timed(timings, 'sky'):
            on_ground = self._is_on_ground(view, stated.alignment)
            depth = self._published(view, fused.prediction, stated, on_ground)
        with _timed(timings, 'calibration'):
            calibration = self._observe(view, fused)
        left = replace(view.before, weights=fused.weights, on_ground=on_ground)
        left = replace(left, sigma=stated.history, calibration=calibration)
        self._state = left.after(view.current, fused.fit, stated.alignment)
        timings['total'] = sum(timings.values())
        return self._result(view, fused.prediction, stated.alignment, depth, timings)

    def _begin_points(
        self, frame: Frame, rgb: np.ndarray, prediction: Prediction | None = None
    ) -> PointsAtWork:
        """Begin to measure and score the points of a frame, in a thread."""
        config = self.config.alignment
        return PointsAtWork(lambda: measure_points(frame, prediction, config), config, _guide(rgb))

    def _view(self, frame: Frame, begun: _Begun, prediction: Prediction) -> View:
        """Measure the points of a frame, and see whether its stream goes on."""
        rgb = begun.rgb
        camera = None if frame.camera is None else rectified(frame.camera)
        K = None if camera is None else camera.K
        points = begun.points or self._begin_points(frame, rgb, prediction)
        measured = points.measured()
        small = reduced(rgb)
        current = CurrentFrame(thumbnail(small), frame.stamp_ns, K, frame.T_world_camera)
        before = self._start_over_at_breaks(begun, current)
        edges = observe_edges(before.edges, current.grey, rgb.shape[1], measured.mounted)
        before, wrong = replace(before, edges=edges), edges.contradiction(measured.mounted)
        if wrong and self.config.alignment.contradiction == 'refuse':
            if wrong.code == 'not_of_this_image':  # nor were those that gave earlier fits
                before = before.without_fits()
            refusal = Reason('until_it_fits', {'why': wrong})
            others = without_input(frame, measured.mounted_by, refusal)
            points = self._begin_points(others, rgb, prediction)
            measured, wrong = replace(points.measured(), mounted=None), None
        return View(frame, rgb, small, camera, current, points, measured, wrong, before)

    def _fit_map(self, view: View, prediction: Prediction) -> MetricDepth:
        """Fit the map to the points, or hold the last fit, while the points are scored."""
        config, measured, sparse = self.config.alignment, view.measured, view.measured.sparse
        weights = None
        if prediction.members is not None:
            prediction, weights = weigh_members(prediction, sparse, config, view.before.weights)

        fit = self._fit_scale(view, prediction) if view.before.is_map_idle else None
        if fit is None:
            held = view.before.held_fit(view.current.stamp_ns)
            fit = align_map(prediction, sparse, config, held, measured.refusal, measured.further)
        guided, alignment = align_guided(
            self.model, view.rgb, prediction, sparse, fit, self.config
        )
        points = None if sparse is None else view.points.scored()
        return MetricDepth(prediction, weights, fit, guided, alignment, points)

    def _fit_scale(self, view: View, prediction: Prediction) -> Alignment | None:
        """Fit an idle map, of which fused depth needs nothing; None where it may."""
        config, measured = self.config.alignment, view.measured
        if config.method != 'fused' or prediction.space == 'metric' or measured.sparse is None:
            return None
        if not (measured.sparse.kind.extends and self.finishes_without_model):
            return None
        fit = align_scale(prediction, measured.sparse, config, measured.further)
        return fit and replace(fit, map_refusal=view.before.map_refusal)

    def _fuse(self, view: View, fitted: MetricDepth) -> MetricDepth:
        """Fuse map and points, or what is remembered, and smooth the depth over time."""
        config, fit, network = self.config.alignment, fitted.fit, self.load_fusion()
        sparse = view.measured.sparse
        guide = _guide(view.rgb, network)
        alignment = fuse(fitted.alignment, sparse, config, guide, fitted.points)
        if config.method == 'fused' and not np.isfinite(alignment.scale):
            # A map that the points contradict is neither held nor evidence of calibration.
            fit = Alignment(refusal=alignment.map_refusal, space=fit.space)

        def refit(points: SparseDepth) -> Alignment:
            return align(fitted.prediction, points, config, rgb=view.rgb, network=network)

        alignment = carry_over(alignment, view.before.previous, view.current, config, refit)
        refusal = _unscaled(view.frame, fitted.prediction, alignment)
        if refusal := refusal or _blind(view.rgb, sparse, alignment):
            refused = Alignment(refusal=refusal, space=fit.space, n_points=alignment.n_points)
            return replace(fitted, fit=refused, alignment=refused)
        alignment = without_border(alignment, view.frame.camera)
        return replace(fitted, fit=fit, alignment=alignment)

    def _state_sigma(self, view: View, fused: MetricDepth) -> StatedDepth:
        """State sigma; refuse a held depth that the points contradict by it."""
        config, sparse = self.config.alignment, view.measured.sparse
        guide = _guide(view.rgb, self.load_fusion())
        before = self._scored(view.before.sigma)
        stated = state_sigma(fused.alignment, fused.guided, sparse, guide, config, before)
        history = stated.history
        if before.scale is not None:
            history = self._score(history, before.scale, fused.alignment, sparse, guide)
        fit = fused.prediction, stated.alignment
        sigma = widen_sigma(stated.sigma, *fit, sparse, config, view.measured.dispute)
        alignment = judge_held(stated.alignment, sigma, sparse, config)
        if alignment.state == 'fitted' and alignment.sigma is not None:
            alignment = replace(alignment, sigma=sigma)  # for a frame that holds this depth
        return StatedDepth(alignment, None if alignment.metric is None else sigma, history)

    def _score(
        self, history: SigmaHistory, scale: SigmaScale, alignment: Alignment, *of_frame: Any
    ) -> SigmaHistory:
        """Count a frame for sigma; one whose turn it is is scored beside the next frame."""
        if not scale.is_turn:
            return replace(history, scale=score_sigma(scale, alignment, *of_frame))
        # Copies: by then the caller may draw into the image, or read the next one into its memory.
        sparse, guide = of_frame
        own = deepcopy(sparse), replace(guide, rgb=guide.rgb.copy())
        scored: Future[SigmaScale | None] = Future()
        run_beside({scored: lambda: score_sigma(scale, alignment, *own)})
        self._scoring = history, scored
        return history

    def _scored(self, history: SigmaHistory) -> SigmaHistory:
        """Return a history of sigma with the score of its last frame, waiting for it."""
        scoring, self._scoring = self._scoring, None
        if scoring is None or scoring[0] is not history:
            return history
        return replace(history, scale=scoring[1].result())

    def _is_on_ground(self, view: View, alignment: Alignment) -> bool:
        """Return whether metres rest on the plane of the ground alone, or those that are held."""
        if self.config.alignment.method == 'fixed' or alignment.space == 'metric':
            return False
        if alignment.state != 'fitted':
            return view.before.on_ground
        # Where it leads, other points are few, or a radar's, which show no obstacle in its place.
        sparse = view.measured.sparse
        return sparse is not None and sparse.kind is PointKind.GROUND

    def _published(
        self, view: View, prediction: Prediction, stated: StatedDepth, on_ground: bool
    ) -> PublishedDepth:
        """Take margin and sky off depth; of metres of the ground alone publish the ground."""
        metric, sky = stated.alignment.metric, None
        if metric is not None and self.config.sky != 'fitted':
            sky = sky_mask(view.rgb, prediction, metric, view.measured.sparse, view.small)
        depth = postprocess(stated.alignment, stated.sigma, sky, self.config)
        if metric is None or not on_ground:
            return depth
        if self.config.alignment.ground_alone == 'all':
            caution = Reason('ground_alone', {'obstacles': 'where the map puts it'})
            return replace(depth, caution=caution)
        plane, shown = view.frame.ground, np.zeros(metric.shape, bool)
        if plane is not None and view.camera is not None:
            shown = visible_ground(view.rgb, metric, view.camera.K, plane)
        caution = Reason('ground_alone', {'obstacles': 'not published'})
        return replace(only_at(depth, shown), caution=caution)

    def _observe(self, view: View, fused: MetricDepth) -> CalibrationState:
        """Compare image and points for errors of the LiDAR's mounting and clock."""
        config, sparse = self.config.alignment, view.measured.mounted
        # Points on the ground were chosen by the map, which they cannot contradict.
        if sparse is not None and not sparse.kind.extends:
            sparse = None
        before, current = view.before.calibration, view.current
        return update_calibration(before, current, fused.prediction, sparse, fused.fit, config)

    def _result(
        self,
        view: View,
        prediction: Prediction,
        alignment: Alignment,
        depth: PublishedDepth,
        timings: dict[str, float],
    ) -> FrameResult:
        raw_camera, config = view.frame.camera, self.config.alignment
        findings = sentence(view.wrong), self.calibration.text
        return FrameResult(
            relative=prediction.relative,
            space=prediction.space,
            alignment=alignment,
            metric=depth.metric,
            sigma=depth.sigma,
            spread=prediction.spread,
            camera=view.camera,
            rgb=view.rgb,
            sparse=view.measured.sparse,
            stamp_ns=view.current.stamp_ns,
            timings_ms=timings,
            counts=count_pixels(prediction, alignment, depth, raw_camera, config),
            calibration='; '.join(filter(None, findings)),
            caution=depth.caution,
            domain_gap=prediction.domain_gap,
            sources=view.measured.reports,
        )

    def _reset_model_at_breaks(self, frame: Frame) -> None:
        """Reset the model after a clock jump or a new image size; scene cuts it finds itself."""
        shape, cut = frame.rgb.shape[:2], self.config.engine.scene_cut
        if is_break(self._predicted, frame.stamp_ns, shape, None, cut):
            self._reset_model()
        self._predicted = replace(self._predicted, stamp_ns=frame.stamp_ns, shape=shape)

    def _start_over_at_breaks(self, begun: _Begun, current: CurrentFrame) -> StreamState:
        """Forget fits and depth so far where the stream breaks, and return the state."""
        # Without its camera a distorted image is not rectified: its pixels show other things.
        shape = *begun.rgb.shape[:2], begun.rgb is not begun.frame.rgb
        if is_break(self._state, current.stamp_ns, shape, current, self.config.engine.scene_cut):
            self._state = self._state.without_fits()
        self._state = replace(self._state, stamp_ns=current.stamp_ns, shape=shape)
        return self._state

    def _reset_model(self) -> None:
        if hasattr(self.model, 'reset'):
            self.model.reset()

    def _claim(self, frame: Frame, prediction: Prediction) -> _Begun:
        """Take over the first half of a frame, if this is its prediction; points if the same."""
        _, begun = self._pending.pop(id(prediction), (None, None))
        if begun is None:
            rgb = _rectified_rgb(frame)
            _check_size(prediction, rgb)
            return _Begun(frame, self.config, rgb, None, {'predict': 0.0})
        then = begun.frame.inputs, begun.frame.camera, begun.config
        now = frame.inputs, frame.camera, self.config
        same = all(one is other for one, other in zip(then, now, strict=True))
        return begun if same else replace(begun, points=None)


def _blind(rgb: np.ndarray, sparse: SparseDepth | None, alignment: Alignment) -> Reason | None:
    """Return that an image shows nothing, unless depth is that of points around it; else None."""
    measured = sparse is not None and sparse.kind.extends and alignment.state == 'fitted'
    why = '' if measured or alignment.state == 'none' else why_blind(sample_pixels(rgb))
    return Reason('blind', {'why': why}) if why else None


def _unscaled(frame: Frame, prediction: Prediction, alignment: Alignment) -> Reason | None:
    """Return why metres of a model hold for a focal length that may not be the camera's."""
    hangs_on_it = prediction.space == 'metric' and np.isfinite(prediction.focal_share)
    return frame.no_camera if hangs_on_it and alignment.state != 'none' else None


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = perf_counter()
    yield
    timings[stage] = 1e3 * (perf_counter() - start)


def _guide(rgb: np.ndarray, network: FusionModel | None = None) -> FusionGuide:
    return FusionGuide((rgb.shape[0], rgb.shape[1]), rgb, network)


def _rectified_rgb(frame: Frame) -> np.ndarray:
    return frame.rgb if frame.camera is None else rectify_image(frame.rgb, frame.camera)


def _check_size(prediction: Prediction, rgb: np.ndarray) -> None:
    if prediction.relative.shape != rgb.shape[:2]:
        raise InputError(
            f'the prediction is {prediction.relative.shape}, the image {rgb.shape[:2]}; a '
            'prediction has the size of its image: pass the prediction of this frame',
            cause='shape',
        )
