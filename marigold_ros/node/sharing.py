# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One model for several cameras: loaded once, and run once for the images that wait for it.

Decision: cameras keep their own worker, fit and rate; only the networks are common ground. Who
finds the model free waits a moment for the other cameras, since those of one robot mostly expose
together, and takes along whatever waits. A common worker was rejected: it would make the fit of
one camera wait for that of another.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Any
import weakref

from marigold_ros.config import NodeConfig
from marigold_ros.frame import Prediction
import numpy as np

WINDOW = 0.005  # seconds for which the other cameras are waited for


class _Request:
    """An image that waits for the model."""

    def __init__(self, camera: CameraModel, rgb: np.ndarray, settings: dict[str, Any]) -> None:
        self.camera, self.rgb, self.settings = camera, rgb, settings
        self.done = False
        self.prediction: Prediction | None = None
        self.error: Exception | None = None

    def goes_with(self, other: _Request) -> bool:
        """Whether one call can answer both."""
        return self.rgb.shape == other.rgb.shape and self.settings == other.settings


class SharedModel:
    """
    A model that several cameras run, one call at a time.

    Parameters
    ----------
    model : object
        As FramePipeline takes it. One with ``new_stream`` and ``predict_together`` keeps its
        cameras apart, and answers several at once if it ``takes_any_batch``.

    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._together = getattr(model, 'takes_any_batch', False)
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._cameras: weakref.WeakSet[CameraModel] = weakref.WeakSet()

    def for_camera(self) -> CameraModel:
        """Give another camera its view of the model."""
        camera = CameraModel(self)
        self._cameras.add(camera)
        return camera

    def predict(self, request: _Request) -> Prediction:
        """Answer a request, in whichever camera's call the model runs for it."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        with self._turn:
            if not request.done:
                self._run(self._gather(request))
        if request.error is not None:
            raise request.error
        assert request.prediction is not None
        return request.prediction

    def alone(self, work: Callable[[], Any]) -> Any:
        """Do something else with the model, between two calls."""
        with self._turn:
            return work()

    def _gather(self, first: _Request) -> list[_Request]:
        """Take a request out of the queue, and those of other cameras that one call answers."""
        with self._changed:
            if self._together:
                self._changed.wait_for(
                    lambda: len(self._waiting) >= len(self._cameras), timeout=WINDOW
                )
            taken = [r for r in self._waiting if r is first]
            if self._together:
                taken += [r for r in self._waiting if r is not first and r.goes_with(first)]
            self._waiting = [r for r in self._waiting if r not in taken]
        return taken

    def _run(self, requests: list[_Request]) -> None:
        try:
            for request, answer in zip(requests, self._answers(requests), strict=True):
                request.prediction = answer
        except Exception as error:  # each of the cameras counts it as its own
            for request in requests:
                request.error = error
        for request in requests:
            request.done = True

    def _answers(self, requests: list[_Request]) -> list[Prediction]:
        first = requests[0]
        if first.camera.stream is None:
            return [self.model.predict(first.rgb, **first.settings)]
        return self.model.predict_together(
            [request.rgb for request in requests],
            [request.camera.stream for request in requests],
            **first.settings,
        )


class CameraModel:
    """What one camera's pipeline takes for its model."""

    def __init__(self, shared: SharedModel) -> None:
        self._shared = shared
        new_stream = getattr(shared.model, 'new_stream', None)
        self.stream = None if new_stream is None else new_stream()

    def predict(self, rgb: np.ndarray, **settings: Any) -> Prediction:
        """Answer as the model does; perhaps together with other cameras' images."""
        return self._shared.predict(_Request(self, rgb, settings))

    def predict_guided(self, *arguments: Any, **settings: Any) -> Prediction:
        """Answer as the model does, by itself."""
        return self._shared.alone(
            lambda: self._shared.model.predict_guided(*arguments, **settings)
        )

    def reset(self) -> None:
        """Forget this camera's last frame."""
        if self.stream is not None:
            self.stream.reset()

    def is_of(self, shared: SharedModel) -> bool:
        """Whether this is a view of that model."""
        return self._shared is shared

    def __getattr__(self, name: str) -> Any:
        """Facts of the model: space, device, description, processing_size."""
        return getattr(self._shared.model, name)


class ModelPool:
    """
    Models by their settings, each kept as long as a camera holds it.

    Parameters
    ----------
    load_model : callable
        Takes a NodeConfig and gives a model.

    """

    def __init__(self, load_model: Callable[[NodeConfig], Any]) -> None:
        self._load_model = load_model
        self._lock = threading.Lock()
        self._models: weakref.WeakValueDictionary[tuple, SharedModel] = (
            weakref.WeakValueDictionary()
        )
        self._held: weakref.WeakValueDictionary[str, CameraModel] = weakref.WeakValueDictionary()

    def load(self, camera: str, config: NodeConfig) -> CameraModel:
        """
        Give a camera its model, loaded by now for another one or for it.

        A camera that asks again for what it holds, as by ~/reload, wants the files read anew.
        """
        key = (config.model, config.runtime)
        with self._lock:
            shared = self._models.get(key)
            held = self._held.get(camera)
            if shared is None or (held is not None and held.is_of(shared)):
                shared = self._models[key] = SharedModel(self._load_model(config))
            given = self._held[camera] = shared.for_camera()
        return given
