# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Batches as a function of their number: sources mixed by weight, images shuffled, changed, scaled.

Batch n of a seed is always the same, whoever asks for it and whatever was asked before. So a
resumed run needs to know its step only, loading ahead in other processes changes nothing, and
several processes share a batch by taking its rows in turns. A sampler with a state of its own was
rejected: it has to be saved, restored and kept equal among processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
import signal
from typing import Any, TypeVar

import cv2
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.learning.data.augment import Augmentation, change_image, crop, flip
from marigold_ros.learning.data.pairs import Pair, PairSource
from marigold_ros.learning.data.targets import normalise
import numpy as np
import torch

MULTIPLE = 8  # of both sides: the autoencoder's factor
AnyBatch = TypeVar('AnyBatch', 'Batch', 'LatentBatch')


@dataclass(frozen=True)
class Batch:
    """
    Images of one source.

    ``rgb`` (B, 3, H, W) float32 in [-1, 1]; ``relative`` (B, 1, H, W) float32 in [0, 1]; ``valid``
    and ``sky`` (B, 1, H, W) bool; ``depth`` (B, 1, H, W) float32 metres, NaN unknown, inf sky;
    ``source`` its name; ``rows`` the numbers of the images within the whole batch.
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
        return _moved(self, device)


@dataclass(frozen=True)
class LatentBatch:
    """
    Latents of a batch, for objectives that need no image.

    ``rgb_latent`` and ``depth_latent`` (B, C, h, w) float32, scaled; ``mask`` (B, 1, h, w)
    float32, 1 where all pixels of a cell are known or sky; ``source`` and ``rows`` as in a Batch.
    """

    rgb_latent: torch.Tensor
    depth_latent: torch.Tensor
    mask: torch.Tensor
    source: str
    rows: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> LatentBatch:
        """Copy to a device."""
        return _moved(self, device)


def _moved(batch: AnyBatch, device: torch.device | str) -> AnyBatch:
    moved = {
        item.name: getattr(batch, item.name).to(device, non_blocking=True)
        for item in fields(batch)
        if item.name not in ('source', 'rows')
    }
    return replace(batch, **moved)


@dataclass(frozen=True)
class Part:
    """One source of a mixture with its weight and the size (H, W) its images are brought to."""

    source: PairSource
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
        Images of a batch, over all processes.
    space : str
        Of the relative values.
    augmentation : Augmentation
        How images are changed at each visit.
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
                    f'{part.source.name} has no images; check its folder and its list',
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
        which, visits = self.visits(number)
        part = self.parts[which]
        taken = [
            change(part.source.read(index), part.size, self.space, self.augmentation, rng)
            for index, rng in visits
        ]
        return make_batch(taken, part.source.name, self.rows)

    def undivided(self) -> Mixture:
        """Give the same batches with all their rows, whatever this process takes."""
        return Mixture(self.parts, self.batch_size, self.space, self.augmentation, self.seed)

    @property
    def rows(self) -> tuple[int, ...]:
        """Images of each whole batch that are this process's."""
        return tuple(range(self.rank, self.batch_size, self.world))

    def visits(self, number: int) -> tuple[int, list[tuple[int, np.random.Generator]]]:
        """
        Tell which images batch ``number`` has.

        Returns
        -------
        which : int
            The source, all of them are from.
        visits : list of (index, generator)
            For each row of this process the image, and where its changes are drawn from.

        """
        which, first = self._place(number)
        return which, [
            (self._index(which, first + row), np.random.default_rng([self.seed, 2, number, row]))
            for row in self.rows
        ]

    def _place(self, number: int) -> tuple[int, int]:
        """Which source batch ``number`` comes from, and how many images of it came before."""
        if number >= len(self._plan):
            draw = np.random.default_rng([self.seed, 1])
            self._plan = draw.choice(len(self.parts), 1024 + 2 * number, p=self._share)
        which = int(self._plan[number])
        before = int(np.count_nonzero(self._plan[:number] == which))
        return which, before * self.batch_size

    def _index(self, which: int, position: int) -> int:
        """Image at a position of a source's endless shuffled list."""
        count = len(self.parts[which].source)
        epoch, place = divmod(position, count)
        return int(_shuffled(count, self.seed, which, epoch)[place])


@lru_cache(maxsize=16)
def _shuffled(count: int, seed: int, which: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 3, which, epoch]).permutation(count)


def change(
    pair: Pair, size: tuple[int, int], space: str, how: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Crop, scale and change a pair: rgb, relative, valid, sky and depth, each (H, W, ...)."""
    pair = crop(pair, how, size[1] / size[0], rng)
    pair = flip(scale(pair, size), how, rng)
    rgb = change_image(pair.rgb, how, rng)
    depth = pair.depth.astype(np.float32)
    return rgb, *normalise(depth, space), depth


def make_batch(
    taken: Sequence[tuple[np.ndarray, ...]], source: str, rows: tuple[int, ...] = ()
) -> Batch:
    """Stack what :func:`change` gave for several images."""
    rgb, relative, valid, sky, depth = (
        torch.from_numpy(np.stack(values)) for values in zip(*taken, strict=True)
    )
    return Batch(
        rgb=rgb.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous(),
        relative=relative[:, None],
        valid=valid[:, None],
        sky=sky[:, None],
        depth=depth[:, None],
        source=source,
        rows=rows,
    )


def in_multiples(size: tuple[int, int]) -> tuple[int, int]:
    """Nearest size (H, W) that the autoencoder takes."""
    height, width = (max(MULTIPLE, MULTIPLE * round(side / MULTIPLE)) for side in size)
    return height, width


def scale(pair: Pair, size: tuple[int, int]) -> Pair:
    """
    Bring a pair to a size (H, W), multiples of 8.

    Images are averaged over the new pixels; depth is taken at their centres, because an average
    over an edge is a depth that nothing has. Where it is unknown there, as between the points of a
    LiDAR, it is the nearest one known within the new pixel.
    """
    height, width = in_multiples(size)
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


def leave_signals(_worker: int) -> None:
    """
    Leave signals to the run that a loading process works for.

    Schedulers and terminals signal all processes of a job. The run saves and ends its loaders; one
    that is killed would end the run in the middle of a step.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
