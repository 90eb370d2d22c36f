# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Batches as a function of their number: sources mixed by weight, pictures shuffled, changed, scaled.

Batch n of a seed is always the same, whoever asks for it and whatever was asked before. So a
resumed run needs to know its step only, loading ahead in other processes changes nothing, and
several processes share a batch by taking its rows in turns. A sampler with a state of its own was
rejected: it has to be saved, restored and kept equal among processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import cv2
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.learning.augment import Augmentation, change_picture, crop, flip
from marigold_ros.learning.pairs import Pair, Source
from marigold_ros.learning.targets import normalise
import numpy as np
import torch

MULTIPLE = 8  # of both sides: the autoencoder's factor


@dataclass(frozen=True)
class Batch:
    """
    Pictures of one source.

    ``rgb`` (B, 3, H, W) float32 in [-1, 1]; ``relative`` (B, 1, H, W) float32 in [0, 1]; ``valid``
    and ``sky`` (B, 1, H, W) bool; ``depth`` (B, 1, H, W) float32 metres, NaN unknown, inf sky;
    ``source`` its name; ``rows`` the numbers of the pictures within the whole batch.
    """

    rgb: torch.Tensor
    relative: torch.Tensor
    valid: torch.Tensor
    sky: torch.Tensor
    depth: torch.Tensor
    source: str
    rows: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> Batch:
        """Copy to a device."""
        moved = {
            item.name: getattr(self, item.name).to(device, non_blocking=True)
            for item in fields(self)
            if item.name not in ('source', 'rows')
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Part:
    """One source of a mixture with its weight and the size (H, W) its pictures are brought to."""

    source: Source
    weight: float
    size: tuple[int, int]


class Mixture(torch.utils.data.Dataset):
    """
    Training batches by number.

    Parameters
    ----------
    parts : sequence of Part
        Each batch comes from one of them.
    batch_size : int
        Pictures of a batch, over all processes.
    space : str
        Of the relative values.
    augmentation : Augmentation
        How pictures are changed at each visit.
    seed : int
        Of every choice.
    rank, world : int
        This process takes rows ``rank``, ``rank + world``, … of each batch.

    """

    def __init__(
        self,
        parts: Sequence[Part],
        batch_size: int,
        space: str,
        augmentation: Augmentation,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        for part in parts:
            if not part.weight > 0.0:
                raise ConfigurationError(
                    f'weight of {part.source.name} is {part.weight}; give a number above 0'
                )
            if not len(part.source):
                raise InputError(
                    f'{part.source.name} has no pictures; check its folder and its list',
                    cause='empty',
                )
        if batch_size % world:
            raise ConfigurationError(
                f'batch_size is {batch_size} over {world} processes; give a multiple of {world}'
            )
        self.parts, self.batch_size, self.space = tuple(parts), batch_size, space
        self.augmentation, self.seed = augmentation, seed
        self.rank, self.world = rank, world
        weights = np.array([part.weight for part in parts])
        self._share = weights / weights.sum()
        self._plan = np.zeros(0, np.int64)

    def __getitem__(self, number: int) -> Batch:
        """Return this process's rows of batch ``number``."""
        which, first = self._place(number)
        part = self.parts[which]
        rows = tuple(range(self.rank, self.batch_size, self.world))
        taken = [self._take(part, which, first + row, (number, row)) for row in rows]
        rgb, relative, valid, sky, depth = (
            torch.from_numpy(np.stack(values)) for values in zip(*taken, strict=True)
        )
        return Batch(
            rgb=rgb.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous(),
            relative=relative[:, None],
            valid=valid[:, None],
            sky=sky[:, None],
            depth=depth[:, None],
            source=part.source.name,
            rows=rows,
        )

    def _place(self, number: int) -> tuple[int, int]:
        """Which source batch ``number`` comes from, and how many pictures of it came before."""
        if number >= len(self._plan):
            draw = np.random.default_rng([self.seed, 1])
            self._plan = draw.choice(len(self.parts), 1024 + 2 * number, p=self._share)
        which = int(self._plan[number])
        before = int(np.count_nonzero(self._plan[:number] == which))
        return which, before * self.batch_size

    def _take(
        self, part: Part, which: int, position: int, visit: tuple[int, int]
    ) -> tuple[np.ndarray, ...]:
        """Read, change and scale the picture at a position of a source's endless shuffled list."""
        epoch, place = divmod(position, len(part.source))
        index = int(_shuffled(len(part.source), self.seed, which, epoch)[place])
        rng = np.random.default_rng([self.seed, 2, *visit])
        pair = part.source.read(index)
        pair = crop(pair, self.augmentation, part.size[1] / part.size[0], rng)
        pair = flip(scale(pair, part.size), self.augmentation, rng)
        rgb = change_picture(pair.rgb, self.augmentation, rng)
        depth = pair.depth.astype(np.float32)
        return rgb, *normalise(depth, self.space), depth


@lru_cache(maxsize=16)
def _shuffled(count: int, seed: int, which: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 3, which, epoch]).permutation(count)


def scale(pair: Pair, size: tuple[int, int]) -> Pair:
    """
    Bring a pair to a size (H, W), multiples of 8.

    Pictures are averaged over the new pixels; depth is taken at their centres, because an average
    over an edge is a depth that nothing has. Where it is unknown there, as between the points of a
    LiDAR, it is the nearest one known within the new pixel.
    """
    height, width = (max(MULTIPLE, MULTIPLE * round(side / MULTIPLE)) for side in size)
    old = pair.depth.shape
    if old == (height, width):
        return pair
    smaller = height * width < old[0] * old[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    rows, columns = (
        ((np.arange(new) + 0.5) * before / new).astype(np.intp)
        for new, before in zip((height, width), old, strict=True)
    )
    depth = pair.depth[np.ix_(rows, columns)]
    unknown = np.isnan(depth)
    if smaller and unknown.any():
        depth[unknown] = _nearest_within(pair.depth, (height, width))[unknown]
    return Pair(cv2.resize(pair.rgb, (width, height), interpolation=how), depth)


def _nearest_within(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest known depth of each cell of a coarser grid (H, W); NaN where none is known."""
    v, u = np.nonzero(~np.isnan(depth))
    rows, columns = (x * new // old for x, new, old in zip((v, u), size, depth.shape, strict=True))
    nearest = np.full(size, np.inf, depth.dtype)
    seen = np.zeros(size, bool)
    np.minimum.at(nearest, (rows, columns), depth[v, u])
    seen[rows, columns] = True
    return np.where(seen, nearest, np.nan)


def collate(batches: list[Any]) -> Any:
    """Hand a batch on as it is: a Mixture's items are batches already."""
    return batches[0]
