# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The cost of an evaluation without the model: parts are added one by one to a constant prediction.

CPU time of one thread, which does not depend on the load of the machine; bags are independent, so
N processes evaluate N times the frames.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

from cpu_time import one_thread
from marigold_ros.bags.frames import bag_frames, BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.frame import Alignment, FrameResult, Prediction
from marigold_ros.message_codec import to_rgb
from marigold_ros.replay.bag_replay import empty_scorer, ModelScorer
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np

_DECODED = 'decoding images alone'
_READ = 'reading, decoding, pairing'
_SCORED = '+ projection, split, metrics'
_FITTED = '+ published and held-out fit'
_ALL = '+ baselines: all but the model'


class _Ramp:
    """Predicts the same map at no cost: far above, near below."""

    space, device = 'depth', 'cpu'
    description = {'name': 'ramp'}  # noqa: RUF012

    def __init__(self) -> None:
        self._ramps: dict[tuple[int, int], Prediction] = {}

    def predict(self, rgb: np.ndarray, *_: Any, **__: Any) -> Prediction:
        height, width = rgb.shape[:2]
        if (height, width) not in self._ramps:
            column = np.linspace(0.95, 0.05, height, dtype=np.float32)[:, None]
            self._ramps[height, width] = Prediction(np.repeat(column, width, axis=1))
        return self._ramps[height, width]

    def reset(self) -> None:
        """Forget nothing: frames are independent."""


def measure_cost(bag: Path, runs: int) -> dict[str, Any]:
    """
    Take the CPU time of a frame with more and more of the work, each the minimum of ``runs``.

    Returns
    -------
    dict
        ``frames``, ``picture`` (height, width), ``points`` (mean of the scans), ``opening_ms``
        (once per bag), and by part of the work ``cpu_ms`` (per frame) and ``frames_per_s``.

    Raises
    ------
    BagError
        If the bag cannot be read.

    """
    options = ReplayOptions()
    with one_thread():
        items = list(_items(bag, options))
        _play(items[:2], options, baselines=True)  # the first call loads libraries
        opening, reading = _reading_ms(runs, bag, options)
        cost = {
            name: _cpu_ms(runs, len(items), work)
            for name, work in (
                (_DECODED, lambda: [to_rgb(item.image_message) for item in items]),
                (_SCORED, lambda: _score(items, options)),
                (_FITTED, lambda: _play(items, options, baselines=False)),
                (_ALL, lambda: _play(items, options, baselines=True)),
            )
        }
    more = {name: cost[name] + reading for name in (_SCORED, _FITTED, _ALL)}
    cost = {_DECODED: cost[_DECODED], _READ: reading, **more}
    used = [item.frame for item in items if item.frame is not None]
    points = [0 if frame.points_lidar is None else len(frame.points_lidar) for frame in used]
    return {
        'frames': len(items),
        'picture': list(used[0].rgb.shape[:2]),
        'points': sum(points) / len(points),
        'opening_ms': opening,
        'cpu_ms': cost,
        'frames_per_s': {name: 1e3 / ms for name, ms in cost.items()},
    }


def _items(bag: Path, options: ReplayOptions) -> Iterator[BagFrame]:
    with BagReader(bag) as reader:
        yield from bag_frames(reader, reader.choose_topics(), options.lidar)


def _reading_ms(runs: int, bag: Path, options: ReplayOptions) -> tuple[float, float]:
    """Return the CPU time up to the first frame and of a later frame, measured in one pass."""
    opening, later = [], []
    for _ in range(runs):
        start = process_time()
        items = _items(bag, options)
        next(items)
        opened = process_time()
        count = sum(1 for _ in items)
        opening.append(1e3 * (opened - start))
        later.append(1e3 * (process_time() - opened) / count if count else opening[-1])
    return min(opening), min(later)


def _score(items: list[BagFrame], options: ReplayOptions) -> None:
    """Score the prediction as if it were metric, in place of both fits."""
    model, scorer = _Ramp(), empty_scorer(options, baselines=False)
    for item in items:
        frame, prediction = item.usable, model.predict(item.usable.rgb)
        metric = prediction.relative
        fit = Alignment('fitted', scale=1.0, shift=0.0, metric=metric)
        seen = (frame.camera, frame.rgb, None, frame.stamp_ns)
        scorer.add(
            item, prediction, FrameResult(metric, 'depth', fit, metric, None, None, *seen, {})
        )


def _play(items: list[BagFrame], options: ReplayOptions, baselines: bool) -> None:
    scorer = ModelScorer(_Ramp(), options, baselines)
    for item in items:
        prediction = scorer.pipeline.predict(item.usable)
        scorer.score(item, prediction, scorer.pipeline.finish(item.usable, prediction))


def _cpu_ms(runs: int, frames: int, work: Callable[[], object]) -> float:
    taken = []
    for _ in range(runs):
        start = process_time()
        work()
        taken.append(process_time() - start)
    return 1e3 * min(taken) / frames
