# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Time map fit and fusion by stage: what metric depth adds to the model of a frame."""

from collections.abc import Iterator
from time import perf_counter

from fusion_cases import FusionScene
from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, median_gap
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.fusion.candidates import point_candidates, points_on_grid
from marigold_ros.geometry.fusion.fuse import align, FusionGuide
from marigold_ros.geometry.fusion.held_out_scores import score_map, ScoredPoints
from marigold_ros.geometry.fusion.mixing import FusionModel, mix
from marigold_ros.geometry.fusion.sound_points import sound_points
from marigold_ros.geometry.fusion.work_grid import (
    cells_needed,
    enlarge_depth,
    through_points,
    with_detail,
    work_grid,
)
from marigold_ros.geometry.sigma.fused_sigma import score_sigma, with_scaled_sigma
import numpy as np
from simulated_predictions import (
    PointPattern,
    simulate_prediction,
    SimulatedPrediction,
)

# Height, width and points of the frames that are timed.
FRAMES = ((480, 640, 2000), (375, 1242, 20000), (480, 640, 200000))
_CONFIG = AlignmentConfig(method='fused')


def stage_ms(
    scene: FusionScene, points: int, network: FusionModel | None, runs: int
) -> dict[str, dict[str, float]]:
    """
    Measure wall time in ms by stage, median and 95th percentile of some runs.

    ``total`` is `align` as a whole, with its judgement at the points. Sigma comes in addition: it
    is scored in turns, among and beyond the points each in every twelfth frame of a stream.
    """
    rows = 64 if points <= 20000 else 0
    pattern = PointPattern('', points, rows=rows, outliers=0.0)
    simulated = simulate_prediction(scene.depth, pattern, 'smooth', 0)
    taken: dict[str, list[float]] = {}
    with one_blas_thread():
        for run in range(runs + 1):
            start = perf_counter()
            for stage in _stages(scene, simulated, network):
                now = perf_counter()
                if run:  # the first one compiles and loads
                    taken.setdefault(stage, []).append(1e3 * (now - start))
                start = perf_counter()
    return {
        stage: {'p50': float(np.median(ms)), 'p95': float(np.quantile(ms, 0.95))}
        for stage, ms in taken.items()
    }


def _stages(
    scene: FusionScene, simulated: SimulatedPrediction, network: FusionModel | None
) -> Iterator[str]:
    """Run each stage of `align` and yield its name after it, then the whole, then sigma."""
    prediction, sparse = simulated.prediction, simulated.sparse
    gap, _ = median_gap(sparse.u, sparse.v, scene.depth.shape, among=True)
    grid = work_grid(scene.depth.shape, cells_needed(len(sparse), gap, scene.depth.shape))
    fit = align_map(prediction, sparse, _CONFIG)
    yield 'map fit'
    sound = sound_points(sparse.u, sparse.v, sparse.z, grid)
    known = sparse.chosen(sound)
    yield 'points'
    fold = checkerboard_fold(known.u, known.v, grid.shape, among=True)
    on_grid = points_on_grid(known, fold, grid)
    candidates = point_candidates(on_grid, scene.rgb)
    yield 'candidates'
    scored = ScoredPoints(sparse, sound, known, on_grid, candidates)
    with_map = score_map(scored, scene.rgb, fit)
    channels = with_map.channels
    yield 'input'
    outputs = None if network is None else network(channels)
    if outputs is not None:
        yield 'network'
    mixture = mix(channels, None if outputs is None else lambda _: outputs)
    yield 'mixing'
    metric = enlarge_depth(np.exp(mixture.log_depth), scene.rgb, candidates.image, grid)
    if fit.metric is not None and with_map.fitted is not None:
        change = mixture.log_depth - with_map.fitted.log_depth
        metric = with_detail(metric, fit.metric, change, mixture.map_share, grid)
    through_points(metric, known, np.exp(mixture.log_error), grid)
    yield 'full size'
    fused = align(prediction, sparse, _CONFIG, rgb=scene.rgb, network=network)
    yield 'total'
    scale = score_sigma(None, fused, sparse, FusionGuide(scene.depth.shape, scene.rgb, network))
    yield 'scoring sigma'
    with_scaled_sigma(fused, scale, sparse)
    yield 'scaling sigma'
