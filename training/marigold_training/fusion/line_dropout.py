# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Self-supervision from recordings: some scan lines are the input, the others the target.

No truth is needed beyond the scan. The lines are drawn anew for each example.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import InputError
from marigold_ros.evaluation.corruptions import dimmed
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.camera.hidden_points import nearest_per_pixel, not_hidden
from marigold_ros.geometry.fusion.work_grid import CELLS, work_grid, WorkGrid
from marigold_ros.processes import never, Stop
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.pairs import LidarPair
from marigold_training.data.simulated_points import FEWEST
from marigold_training.fusion.examples import cells_over, FusionExample, inputs_of
import numpy as np

# Every n-th line or degree of azimuth is the input; how often it is azimuth.
_EVERY, _BY_AZIMUTH = (2, 4, 8, 16), 0.3
_TRIES = 100
# Window of the occlusion test, pixels, and its threshold.
_OCCLUSION = AlignmentConfig.occlusion_window, AlignmentConfig.occlusion_threshold
_BY_NIGHT = 0.4  # of the images, which are darkened: edges then count for less
_DARKEST, _BRIGHTEST = 0.03, 0.6  # light, as a share of that by day
_PHOTONS = 200.0, 2000.0  # of a white pixel by day


def drop_lines(rng: np.random.Generator, pair: LidarPair) -> tuple[SparseDepth, SparseDepth]:
    """
    Split the points of a scan into those of some lines, and those of all others.

    The former pass the occlusion test by themselves, as of a LiDAR with these lines only; the
    latter passed that of the whole scan. They share no pixel.
    """
    label = pair.azimuth if rng.random() < _BY_AZIMUTH else pair.line
    every = int(rng.choice(_EVERY))
    return split_scan(pair, label % every == rng.integers(every))


def split_scan(pair: LidarPair, kept: np.ndarray) -> tuple[SparseDepth, SparseDepth]:
    """Split a scan by a mask (M,) into input and target; see :func:`drop_lines`."""
    shown = pair.points.chosen(kept)
    shown = shown.chosen(nearest_per_pixel(shown.u, shown.v, shown.z, pair.rgb.shape[1]))
    shown = shown.chosen(not_hidden(shown.u, shown.v, shown.z, *_OCCLUSION))
    used = np.zeros(pair.rgb.shape[:2], bool)
    used[shown.v, shown.u] = True
    others = ~kept & pair.visible & ~used[pair.points.v, pair.points.u]
    return shown, pair.points.chosen(others)


def target_at_points(sparse: SparseDepth, grid: WorkGrid) -> np.ndarray:
    """Return log depth of the point nearest to the middle of each cell, NaN where none is."""
    place = grid.place(sparse.u, sparse.v)
    cell = np.rint(place).astype(np.intp)
    # The last assignment to a cell stays.
    order = np.argsort(-np.square(place - cell).sum(axis=1), kind='stable')
    row, column = cell[order].T
    target = np.full((grid.rows, grid.columns), np.nan, np.float32)
    target[row, column] = np.log(sparse.z[order])
    return target


def line_dropout_example(rng: np.random.Generator, pair: LidarPair) -> FusionExample | None:
    """Draw an example from an image with its scan; None if too few points remain."""
    return example_of(pair, *drop_lines(rng, pair))


def example_of(pair: LidarPair, shown: SparseDepth, others: SparseDepth) -> FusionExample | None:
    """Make an example without a map of a split scan; None if either part has too few points."""
    if len(shown) < FEWEST or len(others) < FEWEST:
        return None
    target = target_at_points(others, work_grid(pair.rgb.shape[:2]))
    return FusionExample(inputs_of(pair.rgb, shown, None, CELLS[0]), target)


def resized(pair: LidarPair, size: tuple[int, int]) -> LidarPair:
    """Resize an image with its scan to (H, W)."""
    height, width = pair.rgb.shape[:2]
    if (height, width) == size:
        return pair
    points = pair.points
    u, v = points.u * size[1] // width, points.v * size[0] // height
    how = cv2.INTER_AREA if size[0] * size[1] < height * width else cv2.INTER_LINEAR
    rgb = cv2.resize(pair.rgb, size[::-1], interpolation=how)
    return LidarPair(rgb, SparseDepth(u, v, points.z), pair.visible, pair.line, pair.azimuth)


def darkened(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """Reduce the light of an image (H, W, 3) uint8 by a random share."""
    share = np.exp(rng.uniform(np.log(_DARKEST), np.log(_BRIGHTEST)))
    photons = np.exp(rng.uniform(*np.log(_PHOTONS)))
    return dimmed(rgb, float(share), float(photons), rng)


class LineDropout:
    """
    Examples from the LiDAR of bags, without a map.

    Parameters
    ----------
    bags : BagPairs
        With LiDAR.
    size : (height, width)
        To which images are resized, px.
    count : int
        Number of examples.
    seed : sequence of int
        Of all random choices.

    """

    def __init__(
        self, bags: BagPairs, size: tuple[int, int], count: int, seed: Sequence[int]
    ) -> None:
        self.name, self.count = f'line dropout of {bags.name}', count
        self._bags, self._size, self._seed = bags, size, tuple(seed)
        self.cells = cells_over(size)

    def fingerprint(self) -> str:
        """Return what determines the examples."""
        return f'{self._bags.fingerprint()} {self._size} {self._seed} nights {_BY_NIGHT}'

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Extract images and scans."""
        self._bags.prepare(workers, stop)

    def draw(self, index: int) -> FusionExample:
        """Draw an example; raises InputError if the scans have too few points or lines."""
        rng = np.random.default_rng([*self._seed, index])
        for _ in range(_TRIES):
            pair = self._bags.read_lidar(int(rng.integers(len(self._bags))))
            pair = resized(pair, self._size)
            if rng.random() < _BY_NIGHT:
                pair = replace(pair, rgb=darkened(rng, pair.rgb))
            example = line_dropout_example(rng, pair)
            if example is not None:
                return example
        raise InputError(
            f'of {_TRIES} draws from {self.name} none has {FEWEST} points on some of the lines '
            'and as many on the others; remove this source'
        )
