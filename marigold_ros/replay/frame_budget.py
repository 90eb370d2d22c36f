# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The budget of a frame: what each stage costs, from the bytes of messages to those of the outputs.

Frames are rendered, their points lie as sensors put them. What transport adds is measured by
``test/trials/timing_trial.py``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

from marigold_ros.config import PipelineConfig, PointsConfig
from marigold_ros.evaluation.baselines import interpolate_linear
from marigold_ros.frame import Camera, Frame, Prediction, SparseDepth, SparseInput
from marigold_ros.geometry.cloud.organised import cloud_of, unproject_depth
from marigold_ros.message_codec import (
    encode_cloud,
    encode_depth,
    encode_image,
    to_depth,
    to_points,
    to_rgb,
)
from marigold_ros.models.benchmarks.measuring import percentiles
from marigold_ros.models.protocol import DepthModel
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.call_trace import traced_calls
import numpy as np

_WARM_UP = 7  # frames: the first ones fit, score sigma and compile
_PERIOD_NS = 33_333_333
_FOCAL, _FARTHEST = 0.8, 80.0  # of the width; metres
_BUSY = 2  # processes
_STAND_IN_MS = 5.0


@dataclass(frozen=True)
class FrameCase:
    """An image size, and the sensor: ``random``, ``lines`` of a LiDAR, or a depth ``camera``."""

    width: int
    height: int
    points: int
    sensor: str

    @property
    def name(self) -> str:
        """Short text for tables."""
        what = 'depth camera' if self.sensor == 'camera' else f'{self.points} points'
        return f'{self.width}x{self.height}, {what}'


CASES = (
    FrameCase(640, 480, 2000, 'random'),
    FrameCase(1242, 375, 20_000, 'lines'),
    FrameCase(1920, 1080, 100_000, 'lines'),
    FrameCase(640, 480, 200_000, 'camera'),
)


class StandIn:
    """Stands in for a model on a GPU: answers with a prediction after 5 ms."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction

    def predict(self, rgb: np.ndarray, **_settings: Any) -> Prediction:
        """Wait, and return the prediction."""
        time.sleep(_STAND_IN_MS / 1e3)
        return self._prediction


def measure_frames(
    model: DepthModel,
    render: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
    runs: int,
    progress: Callable[[int], Any],
) -> list[dict[str, Any]]:
    """
    Measure all cases, with the model and with a stand-in of 5 ms, alone and beside two processes.

    ``render`` returns an image (H, W, 3) uint8 of a width and height, and its depth (H, W) in
    metres. Returns for each case ``name``, ``stages_ms``, ``wall_ms`` and ``core_ms`` of the whole
    frame, ``after_model_ms`` and ``after_model_core_ms``, ``interpolation_core_ms`` (SciPy, of the
    same points at every pixel), ``beside_busy`` (times as slow), ``allocated_mb`` (at once, by one
    frame), and ``calls``, the trace of that frame.
    """
    found = []
    for case in CASES:
        messages = _Messages(case, *render(case.width, case.height))
        alone = _measured(messages, model, runs)
        progress(1)
        after = _measured(messages, StandIn(model.predict(messages.rgb)), runs)
        progress(1)
        with _busy_processes():
            busy = _measured(messages, model, runs)
        progress(1)
        found.append(
            {
                'name': case.name,
                **alone,
                'after_model_ms': after['wall_ms']['p50'] - _STAND_IN_MS,
                'after_model_core_ms': after['core_ms']['p50'],
                'interpolation_core_ms': messages.interpolation_core_ms(),
                'beside_busy': busy['wall_ms']['p50'] / alone['wall_ms']['p50'],
                'allocated_mb': alone['calls'][-1]['args']['peak_mb'],
            }
        )
    return found


class _Messages:
    """The inputs of a frame as the fields of messages."""

    def __init__(self, case: FrameCase, rgb: np.ndarray, depth: np.ndarray) -> None:
        self.rgb = rgb
        focal = _FOCAL * case.width
        K = np.array([[focal, 0, case.width / 2], [0, focal, case.height / 2], [0, 0, 1.0]])
        self.camera = Camera(K, case.width, case.height)
        depth = np.where(depth < _FARTHEST, depth, np.nan)
        seen = _seen(np.random.default_rng(0), depth, case)
        self._measured = np.where(seen, depth, np.nan).astype(np.float32)
        self._image = encode_image(rgb, 'rgb8')
        self._is_camera = case.sensor == 'camera'
        if self._is_camera:
            self._depth = encode_depth(self._measured)
        else:
            points = unproject_depth(self._measured, K)[seen]
            cloud = np.zeros((1, len(points)), [(axis, '<f4') for axis in 'xyz'])
            for column, axis in enumerate('xyz'):
                cloud[axis] = points[:, column]
            self._cloud = _as_message(encode_cloud(cloud))

    def frame(self, stamp_ns: int) -> Frame:
        """Decode the messages."""
        if self._is_camera:
            source = SparseInput('depth_image', sparse_image=to_depth(self._depth))
        else:
            source = SparseInput('pointcloud', to_points(self._cloud), np.eye(4))
        rgb = to_rgb(self._image)
        return Frame(rgb=rgb, camera=self.camera, stamp_ns=stamp_ns, inputs=(source,))

    def interpolation_core_ms(self) -> float:
        """Return what SciPy's linear interpolation of the points at every pixel costs."""
        v, u = np.nonzero(np.isfinite(self._measured))
        rows, columns = np.indices(self._measured.shape)
        sparse = SparseDepth(u, v, self._measured[v, u])
        beyond = np.full(rows.size, np.nan)  # no search for the nearest point of every pixel
        begun = time.process_time()
        interpolate_linear(sparse, columns.ravel(), rows.ravel(), beyond)
        return 1e3 * (time.process_time() - begun)


def _as_message(cloud: Any) -> SimpleNamespace:
    names = ('name', 'offset', 'datatype', 'count')
    fields = [SimpleNamespace(**dict(zip(names, one, strict=True))) for one in cloud.fields]
    return SimpleNamespace(**{**vars(cloud), 'fields': fields})


def _seen(rng: np.random.Generator, depth: np.ndarray, case: FrameCase) -> np.ndarray:
    """Return the pixels (H, W) bool that the sensor measures."""
    known = np.isfinite(depth)
    if case.sensor == 'camera':
        blobs = rng.random((case.height // 20 + 1, case.width // 20 + 1)) < 2 / 3
        return known & np.kron(blobs, np.ones((20, 20), bool))[: case.height, : case.width]
    if case.sensor == 'lines':
        rows = np.linspace(0.35 * case.height, case.height - 1, 64).astype(int)
        known &= np.isin(np.arange(case.height), rows)[:, None]
    place = np.flatnonzero(known)
    seen = np.zeros(depth.shape, bool)
    seen.ravel()[rng.choice(place, min(case.points, len(place)), replace=False)] = True
    return seen


def _measured(messages: _Messages, model: Any, runs: int) -> dict[str, Any]:
    """
    Run frames one after the other, as the node does.

    Returns percentiles of each stage and of the whole frame, milliseconds of the wall and of
    cores, and the ``calls`` of one more frame, as of :func:`traced_calls`; the frame is the last.
    """
    pipeline = FramePipeline(model, PipelineConfig())
    stages: dict[str, list[float]] = {}
    wall, core = [], []
    for run in range(-_WARM_UP, runs):
        cores, start = time.process_time(), time.perf_counter()
        timings_ms, decoded, finished = _frame(pipeline, messages, run + _WARM_UP)
        end = time.perf_counter()
        if run < 0:
            continue
        taken = {'decode': 1e3 * (decoded - start), **timings_ms}
        taken |= {'cloud, encode': 1e3 * (end - finished)}
        taken.pop('total')
        for name, milliseconds in taken.items():
            stages.setdefault(name, []).append(milliseconds)
        wall.append(1e3 * (end - start))
        core.append(1e3 * (time.process_time() - cores))
    with traced_calls() as calls:
        _frame(pipeline, messages, runs + _WARM_UP)
    return {
        'stages_ms': {name: percentiles(taken) for name, taken in stages.items()},
        'wall_ms': percentiles(wall),
        'core_ms': percentiles(core),
        'calls': calls,
    }


def _frame(
    pipeline: FramePipeline, messages: _Messages, number: int
) -> tuple[Mapping[str, float], float, float]:
    """Run a frame; return its timings, and when it was decoded and when finished, seconds."""
    frame = messages.frame(number * _PERIOD_NS)
    decoded = time.perf_counter()
    result = pipeline.process(frame)
    finished = time.perf_counter()
    cloud = cloud_of(result, PointsConfig())
    if cloud is not None and result.metric is not None:
        encode_cloud(cloud)
        encode_depth(result.metric)
    return result.timings_ms, decoded, finished


@contextmanager
def _busy_processes() -> Iterator[None]:
    """Keep two cores busy inside."""
    code = 'import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass'
    processes = [subprocess.Popen([sys.executable, '-c', code]) for _ in range(_BUSY)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
