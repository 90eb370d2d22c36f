# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What ``evaluate`` costs beside the model: a stand-in answers at once, parts are added one by one.

CPU time of one thread, because a busy machine tells nothing by the clock; bags are independent, so
``--jobs`` processes do as many times the frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import tempfile
from time import process_time
from typing import Any, TYPE_CHECKING

from marigold_ros.commands.benchmark import tell

if TYPE_CHECKING:
    from marigold_ros.bags.frames import BagFrame
    from marigold_ros.frame import Prediction
    from marigold_ros.replay.replay_plan import ReplayOptions
    import numpy as np

_DECODED = 'decoding images alone'
_READ = 'reading, decoding, pairing'
_SCORED = '+ projection, split, metrics'
_FITTED = '+ published and held-out fit'
_ALL = '+ baselines: all but the model'


class _Ramp:
    """Answers with the same map at once: far above, near below."""

    description = {'name': 'ramp'}  # noqa: RUF012

    def __init__(self) -> None:
        self._ramps: dict[tuple[int, int], Prediction] = {}

    def predict(self, rgb: np.ndarray, **_: Any) -> Prediction:
        from marigold_ros.frame import Prediction
        import numpy as np

        height, width = rgb.shape[:2]
        if (height, width) not in self._ramps:
            column = np.linspace(0.95, 0.05, height, dtype=np.float32)[:, None]
            self._ramps[height, width] = Prediction(np.repeat(column, width, axis=1))
        return self._ramps[height, width]


def run(args: argparse.Namespace, folder: Path | None) -> int:
    """Measure and print."""
    from marigold_ros.evaluation.results.results import machine, to_json

    with _bag(args.data) as bag:
        results = {'schema': 1, 'machine': machine(), **measure(bag, args.runs or 2)}
    print(to_json(results) if args.json else table(results))
    if folder is not None:
        path = folder / 'benchmark.json'
        path.write_text(to_json(results) + '\n', encoding='utf-8')
        tell(str(path))
    return 0


@contextmanager
def _bag(given: str | None) -> Iterator[Path]:
    """Give the bag, or draw a synthetic drive meanwhile."""
    if given:
        yield Path(given)
        return
    from marigold_ros.synthetic.drive.drive import write_drive

    with tempfile.TemporaryDirectory() as folder:
        tell('drawing a drive of 10 images')
        yield write_drive(Path(folder) / 'drive', 10, width=1242, height=375, lidar_beams=64)


def measure(bag: Path, runs: int) -> dict[str, Any]:
    """
    Take the CPU time of a frame, in ms, with more and more of the work.

    Raises
    ------
    BagError
        If the bag cannot be read.

    """
    from marigold_ros.evaluation.benchmarks.cpu_time import one_thread
    from marigold_ros.replay.replay_plan import ReplayOptions

    options = ReplayOptions()
    with one_thread():
        items = list(_items(bag, options))
        _play(items[:2], options, baselines=True)  # the first call loads libraries
        opening, reading = _reading_ms(runs, bag, options)
        cost = {
            name: _cpu_ms(runs, len(items), work)
            for name, work in (
                (_DECODED, lambda: _decode(items)),
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
    from marigold_ros.bags.frames import frames
    from marigold_ros.bags.reader import BagReader

    with BagReader(bag) as reader:
        yield from frames(reader, reader.choose_topics(), options.lidar)


def _reading_ms(runs: int, bag: Path, options: ReplayOptions) -> tuple[float, float]:
    """
    CPU time up to the first frame, and of a frame behind it; the quickest of so many runs.

    Types and metadata are parsed once a bag, however long it is. Both are of one pass: the
    difference of two passes can be anything on a busy machine.
    """
    opening, behind = [], []
    for _ in range(runs):
        start = process_time()
        items = _items(bag, options)
        next(items)
        opened = process_time()
        count = sum(1 for _ in items)
        opening.append(1e3 * (opened - start))
        behind.append(1e3 * (process_time() - opened) / count if count else opening[-1])
    return min(opening), min(behind)


def _decode(items: list[BagFrame]) -> None:
    from marigold_ros.message_codec import to_rgb

    for item in items:
        to_rgb(item.image_message)


def _score(items: list[BagFrame], options: ReplayOptions) -> None:
    """Score a map in metres that is there already, also as the fit to few lines."""
    from marigold_ros.frame import Alignment, Frame, FrameResult
    from marigold_ros.replay.model_scorers import empty_scorer

    def as_published(frame: Frame, prediction: Prediction) -> FrameResult:
        metric = prediction.relative
        fit = Alignment('fitted', scale=1.0, shift=0.0, metric=metric)
        seen = (frame.camera, frame.rgb, None, frame.stamp_ns)
        return FrameResult(metric, 'depth', fit, metric, None, None, *seen, {})

    model, scorer = _Ramp(), empty_scorer(options, baselines=False, finish=as_published)
    for item in items:
        assert item.frame is not None
        prediction = model.predict(item.frame.rgb)
        metric = prediction.relative
        scorer.add(item.frame, prediction, metric, truth=item.truth, ring=item.ring)


def _play(items: list[BagFrame], options: ReplayOptions, baselines: bool) -> None:
    from marigold_ros.replay.model_scorers import ModelScorer

    scorer = ModelScorer(_Ramp(), options, baselines)
    for item in items:
        scorer.score(item)


def _cpu_ms(runs: int, frames: int, work: Any) -> float:
    """CPU time of a frame in the quickest of so many runs."""
    taken = []
    for _ in range(runs):
        start = process_time()
        work()
        taken.append(process_time() - start)
    return 1e3 * min(taken) / frames


def table(results: dict[str, Any]) -> str:
    """Give the figures as text."""
    height, width = results['picture']
    lines = [
        f'{results["frames"]} images of {width}x{height}, {results["points"]:.0f} points; CPU '
        f'time of one thread ({results["machine"]["processor"]})',
        f'opening the bag, up to its first frame: {results["opening_ms"]:.0f} ms, once',
        f'{"":34}{"ms a frame":>12}{"frames/s a core":>17}',
    ]
    for name, ms in results['cpu_ms'].items():
        lines.append(f'{name:34}{ms:12.1f}{results["frames_per_s"][name]:17.0f}')
    return '\n'.join(lines)
