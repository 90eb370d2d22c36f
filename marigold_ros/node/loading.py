# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Loading of the model that the parameters name, and sharing of one model between several cameras.

Decision: cameras keep their own worker, fit and rate, and share only the networks. The first
camera to find the model free waits a moment for the others, since cameras of one robot mostly
expose together, and batches what waits. A shared worker would make fits wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
import threading
import traceback
from types import SimpleNamespace
from typing import Any
import weakref

import cv2
from marigold_ros.config import ModelConfig, NodeConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.frame import Camera, Frame, Prediction, SparseInput
from marigold_ros.geometry.alignment.point_guidance import check_guidable
from marigold_ros.geometry.cloud.organised import cloud_of, unproject_depth
from marigold_ros.geometry.fusion.mixing import FusionModel
from marigold_ros.models import load_compiled
from marigold_ros.models.image_sizes import warm_up_sizes
from marigold_ros.models.protocol import DepthModel, PredictOptions
from marigold_ros.models.runtime.disk_cache import cache_folder, known_sizes
from marigold_ros.models.runtime.processor import LARGE
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import flat
from marigold_ros.threads import return_memory
import numpy as np

WINDOW = 0.005  # seconds to wait for the other cameras
_POINTS = 2000, 20_000  # whose grids have different sizes


def load(config: NodeConfig) -> DepthModel:
    """
    Load the checkpoint that the parameters name, and warm it up with the node's own settings.

    Where the images' size is known from the last run, a runtime that compiles begins now; what
    OpenVINO has compiled then runs without torch, whose import takes seconds. Where
    ``runtime.backend`` is auto OpenVINO compiles beside the images, which PyTorch answers
    meanwhile. Raises MarigoldError.
    """
    runtime = config.runtime
    sizes = warm_up_sizes(runtime.warm_up)
    known = _expected_sizes(config)
    model = None
    if config.pipeline.guidance == 'none':  # by gradients, which only torch gives
        resolution = config.pipeline.prediction['processing_resolution']
        model = load_compiled(
            config.model, runtime, known, lambda: _load_by_torch(config, (), ()), resolution
        )
    if model is None:
        return _load_by_torch(config, sizes, known)
    _warm_up(model, known, config)
    return model


def _expected_sizes(config: NodeConfig) -> Sequence[tuple[int, int]]:
    """Return the sizes (H, W) that the settings name, or else those of the last run's images."""
    runtime = config.runtime
    named = warm_up_sizes(runtime.warm_up)
    return named or known_sizes(cache_folder(runtime.cache_dir), config.model.model)


def _load_by_torch(
    config: NodeConfig, sizes: Sequence[tuple[int, int]], known: Sequence[tuple[int, int]]
) -> DepthModel:
    """Load as :func:`load`, and warm up ``sizes``, or those ``known`` where a runtime compiles."""
    from marigold_ros.models import families_of, load_model, use_threads
    from marigold_ros.models.runtime.compiled_networks import compiling_beside
    from marigold_ros.models.runtime.devices import choose_backend, choose_device

    use_threads(config.model.torch_threads)
    runtime = config.runtime
    beside: AbstractContextManager[None] = nullcontext()
    if runtime.backend == 'auto':
        guided = config.pipeline.guidance != 'none'
        device = choose_device(config.model.device)
        fit = not guided and all(one.openvino for one in families_of(config.model.model))
        runtime, beside = choose_backend(runtime, device, fit), compiling_beside()
    with beside:
        model = load_model(*config.model.arguments, replace(runtime, warm_up=''))
    _warm_up(model, known if runtime.converted else sizes, config)
    return model


def _warm_up(model: DepthModel, sizes: Sequence[tuple[int, int]], config: NodeConfig) -> None:
    for size in sizes:
        model.predict(np.zeros((*size, 3), np.uint8), **config.pipeline.prediction)
    model.reset()


def _warm_up_fusion(network: FusionModel | None, config: NodeConfig) -> None:
    """
    Fuse made-up frames of the size of the last run, few points and many, below a sky.

    Otherwise the first frames of each, and their clouds, would wait for compiled functions.
    """
    sizes = _expected_sizes(config)
    if not sizes or config.sparse_source == 'none':
        return
    height, width = sizes[-1]
    depth = np.tile(np.linspace(20, 4, height, dtype=np.float32)[:, None], (1, width))
    depth[height // 3 : height // 2, width // 3 : width // 2] = 4.0
    depth[: height // 4] = 25.0
    rgb = cv2.cvtColor((10 * depth).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    answer = Prediction(depth / 25.0)
    model: Any = SimpleNamespace(predict=lambda _rgb, **_settings: answer)
    K = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    camera, T_cam_lidar = Camera(K, width, height), np.eye(4)
    T_cam_lidar[1, 3] = -0.1  # what is hidden from the camera is looked for
    # Guidance would need the model itself.
    pipeline = FramePipeline(model, replace(config.pipeline, guidance='none'), network)
    for count in _POINTS:
        pipeline.reset()
        place = np.linspace(0.3 * depth.size, depth.size - 1, min(count, depth.size // 2))
        v, u = np.divmod(place.astype(np.int64), width)
        points_lidar = unproject_depth(depth, K)[v, u] - T_cam_lidar[:3, 3]
        points = SparseInput('pointcloud', points_lidar=points_lidar, T_cam_lidar=T_cam_lidar)
        frame = Frame(rgb=rgb, camera=camera, inputs=(points,))
        pipeline.process(frame)
    cloud_of(pipeline.process(frame), config.points)  # averaged with the one before


def check_model(model: Any, config: NodeConfig) -> None:
    """
    Check that a model takes the settings, which it would refuse at each image.

    Raises ConfigurationError. Models that have no ``check_options`` take all of them.
    """
    check_guidable(model, config.pipeline)
    if hasattr(model, 'check_options'):
        model.check_options(PredictOptions(**config.pipeline.prediction))


def _how(config: NodeConfig, facts: Mapping[str, Any]) -> str:
    """Describe in the log how a model runs, and what would be faster."""
    backend = facts.get('runtime', {}).get('backend')
    if backend is None:
        return ''
    text = f' by {backend} in {facts.get("dtype")}'
    if config.runtime.backend == 'auto' and backend == 'openvino':
        if facts.get('parameters', 0) >= LARGE:
            return f'{text}; images of a new size wait until it has compiled'
        return f'{text}, and by torch while that compiles for a new size of images'
    slow = config.runtime.backend == 'auto' and backend == 'torch' and facts['device'] == 'cpu'
    if not slow or config.pipeline.guidance != 'none' or config.runtime.compile != 'off':
        return text
    missing = find_spec('openvino') is None
    return f'{text}; OpenVINO would be faster: pip install openvino' if missing else text


class Loader:
    """Loads models one after the other, logs each, and describes the last one."""

    def __init__(self, load_model: Callable[[NodeConfig], DepthModel], logger) -> None:
        self._load_model, self._logger = load_model, logger
        self.loaded: ModelConfig | None = None  # the settings of the last model
        self.description: dict[str, str] = {}

    def load(self, config: NodeConfig) -> DepthModel:
        """Load a model and the fusion network for it; raises what loading and checking raise."""
        model = self._load_model(config)
        check_model(model, config)
        if config.pipeline.alignment.method == 'fused':
            from marigold_ros.models.fusion.load import fusion_of

            # Kept for the pipeline; cameras that share the model may name other networks.
            network = fusion_of(model, config.pipeline.alignment.fusion)
            _warm_up_fusion(network, config)
        self.loaded = config.model
        return_memory()
        # Read once per load, since the description includes a hash of the weights.
        known = {'name': config.model.model, 'device': str(getattr(model, 'device', ''))}
        facts = getattr(model, 'description', {})
        self.description = known | {name: str(value) for name, value in flat(facts)}
        self._logger.info(f'model {known["name"]} on {known["device"]}{_how(config, facts)}')
        return model

    def try_to_load(self, read_config: Callable[[], NodeConfig]) -> tuple[DepthModel | None, str]:
        """Load a model while another is in use; returns it and its name, or None and why not."""
        try:
            config = read_config()
            return self.load(config), config.model.model
        except Exception as error:
            reason = str(error) if isinstance(error, MarigoldError) else traceback.format_exc()
            self._logger.error(f'reload failed, the old model stays: {reason}')
            return None, str(error)


@dataclass(eq=False)
class _Request:
    """An image that waits for the model, and its prediction once there is one."""

    camera: CameraModel
    rgb: np.ndarray
    settings: dict[str, Any]
    answer: Future[Prediction] = field(default_factory=Future)

    def goes_with(self, other: _Request) -> bool:
        """Whether one call can answer both."""
        return self.rgb.shape == other.rgb.shape and self.settings == other.settings


class SharedModel:
    """
    A model that several cameras run, one call at a time; ``waiting`` are the images to predict.

    With ``new_stream`` and ``predict_together`` it keeps the state of each camera, and predicts
    several images at once if it ``takes_any_batch``.
    """

    def __init__(self, model: DepthModel) -> None:
        self.model: Any = model  # its optional members are used only where it has them
        self._together = getattr(model, 'takes_any_batch', False)
        self.turn = threading.Lock()  # held by whoever runs the model
        self._changed = threading.Condition()
        self.waiting: list[_Request] = []
        self._cameras: weakref.WeakSet[CameraModel] = weakref.WeakSet()

    def for_camera(self) -> CameraModel:
        """Return the view of the model for another camera."""
        camera = CameraModel(self)
        self._cameras.add(camera)
        return camera

    def predict(self, request: _Request) -> Prediction:
        """Answer a request, in whichever camera's thread the model runs for it."""
        with self._changed:
            self.waiting.append(request)
            self._changed.notify_all()
        with self.turn:
            if not request.answer.done():
                self._run(self._gather(request))
        try:
            return request.answer.result()
        finally:
            del request.answer  # whose error would hold in a circle what the model had computed

    def _gather(self, first: _Request) -> list[_Request]:
        """Take a request from the queue, and those of other cameras that fit into its batch."""
        with self._changed:
            if self._together:
                self._changed.wait_for(
                    lambda: len(self.waiting) >= len(self._cameras), timeout=WINDOW
                )
            others = [r for r in self.waiting if r is not first and r.goes_with(first)]
            taken = [first, *others] if self._together else [first]
            self.waiting = [r for r in self.waiting if r not in taken]
        return taken

    def _run(self, requests: list[_Request]) -> None:
        try:
            answers = self._answers(requests)
        except Exception as error:  # raised in the thread of each camera
            for request in requests:
                request.answer.set_exception(error)
            return
        for request, answer in zip(requests, answers, strict=True):
            request.answer.set_result(answer)

    def _answers(self, requests: list[_Request]) -> list[Prediction]:
        first = requests[0]
        if first.camera.stream is None:
            return [self.model.predict(first.rgb, **first.settings)]
        return self.model.predict_together(
            [request.rgb for request in requests],
            [request.camera.stream for request in requests],
            PredictOptions(**first.settings),
        )


class CameraModel:
    """The model as one camera's pipeline sees it, a DepthModel."""

    def __init__(self, shared: SharedModel) -> None:
        self.shared = shared
        self.stream = getattr(shared.model, 'new_stream', lambda: None)()

    def predict(self, rgb: np.ndarray, **settings: Any) -> Prediction:
        """Predict as the model does, possibly in a batch with other cameras' images."""
        return self.shared.predict(_Request(self, rgb, settings))

    def reset(self) -> None:
        """Forget the last frame of this camera."""
        if self.stream is not None:
            self.stream.reset()

    def __getattr__(self, name: str) -> Any:
        """Return other members of the model; those that predict run without a batch, in turn."""
        member = getattr(self.shared.model, name)
        if not name.startswith('predict_'):
            return member

        def in_turn(*arguments: Any, **settings: Any) -> Prediction:
            with self.shared.turn:
                found: Prediction = member(*arguments, **settings)
            return found

        return in_turn


class ModelPool:
    """Models by their settings, each kept as long as a camera uses it."""

    def __init__(self, load_model: Callable[[NodeConfig], DepthModel]) -> None:
        self._load_model = load_model
        self._lock = threading.Lock()
        self._models = weakref.WeakValueDictionary[tuple, SharedModel]()
        self._held = weakref.WeakValueDictionary[str, CameraModel]()

    def load(self, camera: str, config: NodeConfig) -> Any:
        """
        Return a camera's model, loaded for it or already for another one.

        A camera that asks again for the model it uses, as by ~/reload, has the files read again.
        """
        key = config.model, config.runtime, config.pipeline.guidance  # which decides the backend
        with self._lock:
            shared = self._models.get(key)
            held = self._held.get(camera)
            if shared is None or (held is not None and held.shared is shared):
                shared = self._models[key] = SharedModel(self._load_model(config))
            given = self._held[camera] = shared.for_camera()
        return given
