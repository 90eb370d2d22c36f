# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Blocks of time of recordings: images to train on, to stop on, and to judge.

Neighbouring images show nearly the same, so that judged images must lie in a block of their own,
with a gap before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import SparseDepth
from marigold_training.data.bag_pairs import BagPairs, Shot
import numpy as np

FEWEST = 8  # usable images
JUDGED = 0.3  # share of the images, the last ones
STOPPED = 1 / 6  # share of the training block, its last images, at least two
GAP_S, GAP_SHARE = 2.0, 0.1  # before the judged block: seconds, or share of the recording
MOST_STOPPED, MOST_JUDGED = 8, 60  # images; evenly chosen where there are more
_CELL_PX = 16
# Depth of a cell changes at least so much (log ratio) in a tenth of the cells once a robot moves.
_MOVED, _MOVED_SHARE = 0.05, 0.1

Span = tuple[int, int]


@dataclass(frozen=True)
class Blocks:
    """Numbers of the usable images of each block, in order."""

    train: tuple[int, ...]
    stop: tuple[int, ...]
    judge: tuple[int, ...]
    seconds: float  # of the judged images: in each bag from the first to the last

    def entries(self, name: str) -> list[list[int]]:
        """Return a block as a recipe's ``frames``."""
        return [[number, number + 1] for number in getattr(self, name)]


def plan_blocks(
    shots: Sequence[Shot], train: Span | None = None, judge: Span | None = None
) -> Blocks:
    """
    Divide the usable images.

    Parameters
    ----------
    shots : sequence of Shot
        All images with depth, in order.
    train, judge : (first, end) or None
        Numbers of images, ``end`` not included. By default the last 30 % are judged, and those
        before are trained on, except for a gap of 2 s or a tenth of the recording, whichever is
        less.

    Raises
    ------
    InputError
        If there are fewer than 8 usable images, or a block has too few.
    ConfigurationError
        If the blocks overlap.

    """
    if len(shots) < FEWEST:
        raise InputError(
            f'{len(shots)} images have LiDAR points in view; adapting needs at least {FEWEST}: '
            'record for longer, or check topics, stamps and transforms',
            cause='empty',
        )
    if train and judge and train[0] < judge[1] and judge[0] < train[1]:
        raise ConfigurationError(
            f'--train {train[0]}:{train[1]} and --judge {judge[0]}:{judge[1]} share images; '
            'give blocks apart from each other'
        )
    if judge is None:
        left = list(shots[math.ceil((1 - JUDGED) * len(shots)) :])
        if train is not None:
            last = next((s for s in reversed(shots) if s.number < train[1]), None)
            left = _apart(shots, [s for s in shots if s.number >= train[1]], last)
        judge = (left[0].number, left[-1].number + 1) if left else (0, 0)
    if train is None:
        earlier = [shot for shot in shots if shot.number < judge[0]]
        following = next((s for s in shots if s.number >= judge[0]), None)
        earlier = _apart(shots, earlier, following)
        train = (earlier[0].number, earlier[-1].number + 1) if earlier else (0, 0)
    trained, judged = ([s for s in shots if a <= s.number < b] for a, b in (train, judge))
    stopped = max(2, round(STOPPED * len(trained)))
    if len(trained) < 4 or len(judged) < 2:
        raise InputError(
            f'{len(trained)} usable images to train on and {len(judged)} to judge; at least 4 and '
            '2 are needed: choose other blocks, or record for longer',
            cause='empty',
        )
    return Blocks(
        tuple(shot.number for shot in trained[:-stopped]),
        thinned([shot.number for shot in trained[-stopped:]], MOST_STOPPED),
        thinned([shot.number for shot in judged], MOST_JUDGED),
        _seconds(judged),
    )


def check_motion(pairs: BagPairs, blocks: Blocks) -> None:
    """
    Raise InputError if the robot stood still between training and judged images.

    Nothing could be judged then: the image to predict would be one of the training images.
    """
    place = {shot.number: index for index, shot in enumerate(pairs.shots)}
    size = pairs.read_lidar(0).rgb.shape[:2]
    maps = [
        cell_depths(pairs.read_lidar(place[number]).points, size)
        for number in (blocks.train[0], blocks.train[len(blocks.train) // 2], blocks.judge[-1])
    ]
    changes = [np.abs(np.log(maps[-1] / other)) for other in maps[:-1]]
    shares = [
        float(np.mean(change[np.isfinite(change)] > _MOVED))
        for change in changes
        if np.isfinite(change).any()
    ]
    if shares and max(shares) < _MOVED_SHARE:
        raise InputError(
            f'the robot stood still: {1 - max(shares):.0%} of the view have the same depth in '
            f'images {blocks.train[0]} and {blocks.judge[-1]}; there is no baseline between '
            'training and judged images: record while it drives',
            cause='empty',
        )


def cell_depths(points: SparseDepth, size: tuple[int, int]) -> np.ndarray:
    """Return the median depth of the points in cells of 16 pixels, NaN without, metres."""
    rows, columns = (-(-side // _CELL_PX) for side in size)
    cell = points.v // _CELL_PX * columns + points.u // _CELL_PX
    order = np.lexsort((points.z, cell))
    count = np.bincount(cell, minlength=rows * columns)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    found = np.full(rows * columns, np.nan)
    seen = count > 0
    found[seen] = points.z[order][(start + count // 2)[seen]]
    return found.reshape(rows, columns)


def thinned(numbers: Sequence[int], most: int) -> tuple[int, ...]:
    """Return the numbers, or so many of them if there are more, evenly chosen."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), most)).round())
    return tuple(numbers[int(place)] for place in places)


def _apart(shots: Sequence[Shot], chosen: Sequence[Shot], neighbour: Shot | None) -> list[Shot]:
    """Leave out images of the same bag as a neighbour that are nearer to it than the gap."""
    if neighbour is None:
        return list(chosen)
    gap = min(GAP_S, GAP_SHARE * _seconds(shots))
    return [
        shot
        for shot in chosen
        if shot.bag != neighbour.bag or abs(shot.stamp_ns - neighbour.stamp_ns) >= round(gap * 1e9)
    ]


def _seconds(shots: Sequence[Shot]) -> float:
    """Return how long images last: of each bag from the first to the last."""
    length = 0
    for bag in {shot.bag for shot in shots}:
        stamps = [shot.stamp_ns for shot in shots if shot.bag == bag]
        length += max(stamps) - min(stamps)
    return length / 1e9
