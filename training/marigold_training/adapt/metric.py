# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Fit one metric scale to all images of a robot, and judge it on images that it was not fitted to.

The scale is that of one camera on one mount; where blocks of the recording disagree on it there is
none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.affine_fit import fit_robustly, fit_target, log_ratio
from marigold_ros.geometry.camera.rectification import focal_share
from marigold_ros.models.metric_scale import MetricScale
from marigold_ros.models.protocol import DepthModel
from marigold_training.adapt.blocks import thinned
from marigold_training.adapt.judge import Judged, MEAN_MAP, Table
from marigold_training.adapt.proof import difference, MetricProof
from marigold_training.data.bag_pairs import BagPairs
import numpy as np

MOST_IMAGES, POINTS = 60, 1000  # of an image, evenly chosen
UNFITTED = 'without LiDAR'
AGREEING = 0.15  # ratio of the scales of two blocks, less one
Values = tuple[np.ndarray, np.ndarray]  # of an image: the map at points, and their depth in metres


def values_of(model: DepthModel, pairs: BagPairs) -> list[Values]:
    """Predict the images of a block, or some of them, at their visible points."""
    found = []
    for index in thinned(range(len(pairs)), MOST_IMAGES):
        pair = pairs.read_lidar(index)
        points = pair.points.chosen(pair.visible)
        found.append(values_at(model.predict(pair.rgb).relative, points))
    return found


def values_at(relative: np.ndarray, points: SparseDepth) -> Values:
    """Return a map (H, W) at some of the points, and their depth."""
    places = np.array(thinned(range(len(points)), POINTS), np.intp)
    z = np.asarray(points.z, np.float64)[places]
    return relative[points.v[places], points.u[places]].astype(np.float64), z


def fit_scale(
    images: Sequence[Values], space: str, focal_share: float, config: AlignmentConfig
) -> MetricScale:
    """Fit scale and shift to the points of all images, each with the same number of points."""
    relative, z = (np.concatenate(parts) for parts in zip(*images, strict=True))
    fit = fit_robustly(relative, *fit_target(z, space, config), config.robust_rounds)
    return MetricScale(
        space, float(fit.scale), float(fit.shift), focal_share, float('nan'), config.max_depth
    )


def block_ratios(scale: MetricScale, blocks: Mapping[str, Iterable[Values]]) -> dict[str, float]:
    """Return the median ratio of true to predicted depth in each block of the recording."""
    ratios = {}
    for name, images in blocks.items():
        medians = [np.nanmedian(log_ratio(z, scale.metres(r))) for r, z in images]
        ratios[name] = float(np.exp(np.median(medians)))
    return ratios


@dataclass(frozen=True)
class JudgedBlock:
    """The judged images, how long they lasted, and the mean log depth (h, w) of the others."""

    images: Sequence[Judged]
    seconds: float
    mean_map: np.ndarray


def judge_unfitted(judged: JudgedBlock, name: str, scale: MetricScale) -> Table:
    """Score a model's metres at all points, and those of the mean depth map, without any fit."""
    table = Table()
    for one in judged.images:
        at, size = one.lidar, one.frame.rgb.shape[:2]
        mean = cv2.resize(judged.mean_map, size[::-1])
        depths = {UNFITTED: scale.metres(one.predictions[name].relative), MEAN_MAP: np.exp(mean)}
        for row, depth in depths.items():
            table.score(row, depth[at.v, at.u].astype(np.float64), at, size, one.frame.stamp_ns)
    return table


def judge_metric(
    model: DepthModel,
    blocks: Mapping[str, BagPairs],
    judged: JudgedBlock,
    name: str,
    config: AlignmentConfig,
) -> MetricProof:
    """
    Fit a scale to blocks, and decide by the judged images whether it is installed.

    ``name`` is that of the model's predictions. The scales of all blocks, the judged one included,
    must agree, and depth be better than the mean depth map's, both without any fit.
    """
    known = {block: values_of(model, pairs) for block, pairs in blocks.items()}
    images = [values for own in known.values() for values in own]
    camera = judged.images[0].frame.camera
    assert camera is not None
    scale = fit_scale(images, model.space, focal_share(camera), config)
    own = [values_at(one.predictions[name].relative, one.lidar) for one in judged.images]
    ratios = block_ratios(scale, {**known, 'judge': own})
    spread = max(ratios.values()) / min(ratios.values()) - 1.0
    table = judge_unfitted(judged, name, scale)
    found = difference(table, UNFITTED, MEAN_MAP, judged.seconds)
    scale = replace(scale, abs_rel=table.means()[UNFITTED]['abs_rel'])
    listed = ', '.join(f'{block} {ratio:.2f}' for block, ratio in ratios.items())
    why = f'{found.text()}; true over predicted depth: {listed}'
    if spread > AGREEING:
        why = (
            f'scales of blocks differ by {spread:.0%}, more than {AGREEING:.0%} '
            f'(true over predicted depth: {listed})'
        )
    elif found.better and scale.scale > 0:
        return MetricProof(scale, table, [f'metric scale: installed, {scale.text()}: {why}'])
    return MetricProof(None, table, [f'metric scale: none, depth needs LiDAR: {why}'])
