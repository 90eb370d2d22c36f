# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Scores of relative models and of published depth on the judged frames, all at the same points.

``oracle`` fits each map to all points of the frame; ``fused`` publishes depth from some scan lines
or degrees of azimuth, as a robot with a poorer LiDAR would, and is scored at the other points.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
from marigold_ros.bags.frames import bag_frames, BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.evaluation.baselines import interpolate_linear
from marigold_ros.evaluation.metrics.depth_metrics import depth_metrics
from marigold_ros.evaluation.protocols.held_out import (
    can_hold_out,
    HeldOut,
    hold_out,
    project_scan,
)
from marigold_ros.evaluation.protocols.oracle import oracle_depth
from marigold_ros.evaluation.protocols.scan_lines import find_scan_lines
from marigold_ros.evaluation.protocols.truth import substitute_missing
from marigold_ros.frame import Frame, Prediction, SparseDepth
from marigold_ros.geometry.camera.rectification import rectified, rectify_image
from marigold_ros.geometry.fusion.mixing import FusionModel
from marigold_ros.models.protocol import DepthModel
from marigold_ros.pipeline import FramePipeline
from marigold_ros.spaces import to_metres
from marigold_training.adapt.blocks import cell_depths, thinned
from marigold_training.adapt.calibration import calibration_of_recording, check_calibration
from marigold_training.data.bag_pairs import BagPairs, on_held_line
import numpy as np

# Points that depth is made of: name to what is kept together, and every how many.
SPLITS = {
    'every 8th line': ('rings', 8),
    'every 2nd line': ('rings', 2),
    'every 8th degree': ('azimuth', 8),
}
DISPARITY, MEAN_MAP = 'interpolation in disparity', 'mean depth map'
_CELL_PX = 8
_LINE_POINTS = 20  # of a scan line that counts for stripes
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
MOST_MOUNTED = 40  # images that show how a LiDAR is mounted


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


@dataclass(frozen=True)
class Judged:
    """A judged frame, with the predictions of the models by name."""

    item: BagFrame
    frame: Frame
    lidar: SparseDepth
    predictions: Mapping[str, Prediction]


def judged_frames(
    bags: Sequence[str],
    numbers: Iterable[int],
    topics: Mapping[str, Any],
    models: Mapping[str, DepthModel],
    config: PipelineConfig,
) -> Iterator[Judged]:
    """Yield the images of these numbers over all bags, in order, with their predictions."""
    wanted, first = set(numbers), 0
    pipelines = {name: FramePipeline(model, config) for name, model in models.items()}
    for bag in bags:
        with BagReader(Path(bag)) as reader:
            found = reader.choose_topics(
                topics.get('image'), topics.get('camera_info'), topics.get('lidar'), None
            )
            found, number = replace(found, truth=None), first - 1
            how = LidarConfig(), topics.get('T_cam_lidar'), topics.get('stamps', 'header')
            for number, item in enumerate(bag_frames(reader, found, *how), first):
                if number not in wanted or item.frame is None or not can_hold_out(item.frame):
                    continue
                lidar = project_scan(
                    item.frame, np.asarray(item.frame.points_lidar), config.alignment
                )
                # Without the points, which are held out in many ways later.
                alone = replace(item.frame, inputs=())
                seen = {name: pipeline.predict(alone) for name, pipeline in pipelines.items()}
                yield Judged(item, item.frame, lidar, seen)
            first = number + 1


def check_mounting(
    bags: Sequence[str],
    numbers: Sequence[int],
    topics: Mapping[str, Any],
    model: DepthModel,
    config: PipelineConfig,
) -> None:
    """Raise CalibrationError if points and images of these numbers do not fit each other."""

    def images() -> Iterator[tuple[np.ndarray, Prediction, SparseDepth, np.ndarray]]:
        chosen = thinned(numbers, MOST_MOUNTED)
        for one in judged_frames(bags, chosen, topics, {'base': model}, config):
            camera = one.frame.camera
            if camera is None or not len(one.lidar):
                continue
            rgb = rectify_image(one.frame.rgb, camera)
            yield rgb, one.predictions['base'], one.lidar, rectified(camera).K

    check_calibration(calibration_of_recording(images(), config.alignment))


def judge_maps(
    judged: Sequence[Judged], mean_map: np.ndarray, limits: tuple[float, float]
) -> Table:
    """
    Score the maps, each with its best fit to all points, and the mean depth map alike.

    If all models are metric, nothing is fitted.
    """
    table = Table()
    for one in judged:
        at = one.lidar.v, one.lidar.u
        maps = {name: (p.relative, p.space) for name, p in one.predictions.items()}
        size = one.predictions[next(iter(one.predictions))].relative.shape
        maps[MEAN_MAP] = cv2.resize(mean_map, size[::-1]), 'log'
        for name, (relative, space) in maps.items():
            seen = relative[at].astype(np.float64)
            if all_metric(one):
                depth = np.clip(to_metres(seen, space, limits[1]), *limits)
            else:
                depth = oracle_depth(seen, one.lidar.z, space, limits)
            table.score(name, depth, one.lidar, size, one.frame.stamp_ns)
    return table


def all_metric(one: Judged) -> bool:
    """Whether all models predict metres, which are then judged as they are."""
    return all(prediction.space == 'metric' for prediction in one.predictions.values())


def judge_fused(
    judged: Sequence[Judged],
    rows: Mapping[str, tuple[str, DepthModel, FusionModel | None]],
    config: PipelineConfig,
) -> dict[str, Table]:
    """
    Score published depth between its points, beside interpolation in disparity.

    Parameters
    ----------
    judged : sequence of Judged
    rows : mapping
        Name of a row to the name of its predictions, their model, and the fusion network.
    config : PipelineConfig

    Returns
    -------
    dict
        Name of ``SPLITS`` to its scores.

    """
    tables = {}
    for split, (held_out, every) in SPLITS.items():
        table = tables[split] = Table()
        pipelines = {
            row: FramePipeline(model, config, fusion) for row, (_, model, fusion) in rows.items()
        }
        for one in judged:
            parts = _hold_out(one, config, held_out, every)
            if parts is None:
                for row in (*rows, DISPARITY):
                    table.add(row, {})
                continue
            at, truth = parts.score, parts.score.z
            size, stamp_ns = one.frame.rgb.shape[:2], one.frame.stamp_ns
            poorer = parts.to_fit(one.frame)
            for row, pipeline in pipelines.items():
                result = pipeline.finish(poorer, one.predictions[rows[row][0]])
                depth = np.full(len(at), np.nan)
                if result.metric is not None:
                    depth = result.metric[at.v, at.u].astype(np.float64)
                depth = substitute_missing(depth, truth, parts.fit, at)
                table.score(row, depth, at, size, stamp_ns)
            _, depth = interpolate_linear(parts.fit, at.u, at.v)
            table.score(DISPARITY, depth, at, size, stamp_ns)
    return tables


def _hold_out(one: Judged, config: PipelineConfig, held_out: str, every: int) -> HeldOut | None:
    """Split the scan of a frame; None where a part has too few points."""
    try:
        parts = hold_out(one.frame, config.alignment, every, one.item.ring, held_out, one.lidar)
    except MarigoldError:
        return None
    few = not len(parts.score) or len(parts.fit) < config.alignment.min_points
    return None if few else parts


def stripes(judged: Sequence[Judged], names: Sequence[str], hold_lines: int) -> Scores:
    """
    Return the ratio of a map's vertical gradient on trained scan lines to that between them.

    Each held line is compared with the two beside it, so that a trend over the image cancels. The
    ratio of each named model is relative to the first's, which knows nothing of these lines.
    """
    sums = {name: np.zeros(2) for name in names}
    for one in judged:
        points = np.asarray(one.frame.points_lidar)[:, :3]
        lines = find_scan_lines(points, one.item.ring)
        line = lines.index[one.lidar.index]
        count = np.bincount(line, minlength=lines.count)
        held = np.flatnonzero(on_held_line(np.arange(lines.count), hold_lines))
        held = held[(held > 0) & (held < lines.count - 1)]
        held = held[np.minimum.reduce([count[held + k] for k in (-1, 0, 1)]) >= _LINE_POINTS]
        for name in names:
            slope = np.abs(np.gradient(one.predictions[name].relative.astype(np.float64), axis=0))
            total = np.bincount(line, slope[one.lidar.v, one.lidar.u], lines.count)
            mean = total / np.maximum(count, 1)
            sums[name] += 0.5 * (mean[held - 1] + mean[held + 1]).sum(), mean[held].sum()
    ratios = {name: trained / max(between, 1e-12) for name, (trained, between) in sums.items()}
    return {name: float(ratio / max(ratios[names[0]], 1e-12)) for name, ratio in ratios.items()}


def training_mean_map(blocks: Iterable[BagPairs]) -> np.ndarray:
    """Return the mean log depth of the training points (rows, columns), in cells of 8 pixels."""
    from scipy.ndimage import distance_transform_edt

    found = []
    for pairs, index in ((block, index) for block in blocks for index in range(len(block))):
        pair = pairs.read_lidar(index)
        rows, columns = (-(-side // _CELL_PX) for side in pair.rgb.shape[:2])
        cell = pair.points.v // _CELL_PX * columns + pair.points.u // _CELL_PX
        cell = cell[pair.visible]
        logs = np.log(pair.points.z[pair.visible])
        sums = np.stack([np.bincount(cell, w, rows * columns) for w in (logs, None)])
        found.append(sums.reshape(2, rows, columns))
    total, count = np.sum(found, axis=0)
    empty = count == 0
    mean = np.divide(total, count, out=np.zeros_like(total), where=~empty)
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return mean[tuple(nearest)].astype(np.float32)
