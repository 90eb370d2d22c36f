# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scores of the judged frames, by row: over all points, by range of depth, and flicker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.frame import SparseDepth
from marigold_training.adapt.blocks import cell_depths
import numpy as np

# AbsRel of points in these ranges of true depth, metres.
RANGES = {
    f'abs_rel {low:g} to {high:g} m': (low, high)
    for low, high in ((0.0, 10.0), (10.0, 20.0), (20.0, 40.0), (40.0, 80.0))
}
OVERALL = ('abs_rel', 'mae', 'rmse', 'delta1')
FLICKER = 'flicker'
MEASURES = (*OVERALL, *RANGES, FLICKER)
_FEWEST_POINTS, _FEWEST_CELLS = 20, 20
_LONGEST_GAP_NS = 1_000_000_000  # frames farther apart are no neighbours
Scores = dict[str, float]


@dataclass
class Table:
    """Scores by row and measure, one list over the frames."""

    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    _last: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)

    def add(self, row: str, scores: Mapping[str, float]) -> None:
        """Add the scores of a frame; those that it lacks are NaN."""
        own = self.rows.setdefault(row, {name: [] for name in MEASURES})
        for name in MEASURES:
            own[name].append(float(scores.get(name, np.nan)))

    def score(
        self,
        row: str,
        depth: np.ndarray,
        points: SparseDepth,
        size: tuple[int, int],
        stamp_ns: int,
    ) -> None:
        """
        Score depth (M,) at points of an image of a size, and compare it with the last frame.

        Flicker is the median change of log predicted over true depth in cells of 16 pixels: the
        LiDAR takes the motion out, so that it needs no poses.
        """
        truth = np.asarray(points.z, np.float64)
        scores = {name: float(value) for name, value in depth_metrics(depth, truth).items()}
        for name, (low, high) in RANGES.items():
            inside = (truth >= low) & (truth < high)
            if inside.sum() >= _FEWEST_POINTS:
                scores[name] = float(depth_metrics(depth[inside], truth[inside])['abs_rel'])
        with np.errstate(invalid='ignore'):
            known = depth > 0
        ratio = np.log(depth[known] / truth[known])
        cells = cell_depths(SparseDepth(points.u[known], points.v[known], ratio), size)
        before_ns, before = self._last.get(row, (0, cells))
        self._last[row] = stamp_ns, cells
        if 0 < stamp_ns - before_ns <= _LONGEST_GAP_NS and before.shape == cells.shape:
            change = np.abs(cells - before)
            change = change[np.isfinite(change)]
            if len(change) >= _FEWEST_CELLS:
                scores[FLICKER] = float(np.median(change))
        self.add(row, scores)

    def means(self) -> dict[str, Scores]:
        """Return the mean over frames by row and measure; NaN where no frame has it."""
        return {
            row: {name: _mean(values) for name, values in own.items()}
            for row, own in self.rows.items()
        }


def mean_table(tables: Iterable[Table]) -> Table:
    """Return the mean over tables of the same frames, frame by frame and measure by measure."""
    found = Table()
    tables = list(tables)
    for row in tables[0].rows:
        stacked = {
            name: np.array([table.rows[row][name] for table in tables]) for name in MEASURES
        }
        for frame in range(len(stacked['abs_rel'][0])):
            found.add(row, {name: _mean(values[:, frame]) for name, values in stacked.items()})
    return found


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float('nan')
