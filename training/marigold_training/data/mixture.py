# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training batches as a function of their number: mixed sources, shuffled and augmented images.

Batch n of a seed is always the same. So a resumed run needs its step only, loading ahead changes
nothing, and several processes share a batch by taking its rows in turns; a sampler with state
would have to be saved, restored and kept equal among processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
import signal
from typing import Any, TypeVar

import cv2
from marigold_ros.errors import ConfigurationError, InputError
from marigold_training.data.augment import augment_image, Augmentation, crop, flip
from marigold_training.data.pairs import Pair, PairSource
from marigold_training.data.targets import normalise, OWN_TARGETS, TargetRule
import numpy as np
import torch

KEPT_PIXELS = 1 << 26  # of a source, 8 bytes each
MULTIPLE = 8  # of both sides: the autoencoder's factor
AnyBatch = TypeVar('AnyBatch', bound='_OnDevice')


class _OnDevice:
    """Tensors of a batch, beside its ``source`` and ``rows``."""

    def to(self: AnyBatch, device: torch.device | str) -> AnyBatch:
        """Copy to a device."""
        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Batch(_OnDevice):
    """
    A batch of images of one source.

    ``rgb`` (B, 3, H, W) float32 in [-1, 1]; ``relative`` (B, 1, H, W) float32 of ``normalise``;
    ``valid`` and ``sky`` (B, 1, H, W) bool; ``depth`` (B, 1, H, W) float32 metres, NaN unknown,
    inf sky; ``source`` its name; ``rows`` the indices of the images in the undivided batch;
    ``weight`` (B, 1, H, W) float32 how much the known depth counts, None for 1.
    """

    rgb: torch.Tensor
    relative: torch.Tensor
    valid: torch.Tensor
    sky: torch.Tensor
    depth: torch.Tensor
    source: str
    rows: tuple[int, ...] = ()
    weight: torch.Tensor | None = None

    @property
    def counted(self) -> torch.Tensor:
        """The weight (B, 1, H, W) of each pixel: 0 where depth is unknown."""
        known = self.valid.float()
        return known if self.weight is None else known * self.weight


@dataclass(frozen=True)
class LatentBatch(_OnDevice):
    """
    The latents of a batch, for objectives that need no image.

    ``rgb_latent`` and ``depth_latent`` (B, C, h, w) float32, scaled; ``mask`` (B, 1, h, w)
    float32, 1 where all pixels of a cell are known or sky; ``source`` and ``rows`` as in Batch.
    """

    rgb_latent: torch.Tensor
    depth_latent: torch.Tensor
    mask: torch.Tensor
    source: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class FusionBatch(_OnDevice):
    """
    Examples of the fusion network.

    ``inputs`` (B, C, h, w) float32 are ``network_input.CHANNELS``; ``target`` (B, h, w) float32 is
    log of true depth relative to the points' median, NaN unknown; ``source`` and ``rows`` as in
    Batch.
    """

    inputs: torch.Tensor
    target: torch.Tensor
    source: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """One source of a mixture, its weight and the size (H, W) that its images are resized to."""

    source: PairSource
    weight: float
    size: tuple[int, int]


@dataclass(frozen=True)
class BatchRule:
    """
    How batches are put together.

    Parameters
    ----------
    size : int
        Items in a batch, over all processes.
    seed : int
        Of all random choices.
    rank, world : int
        This process takes rows ``rank``, ``rank + world``, … of each batch.
    in_turns : bool
        Whether the sources take turns, so that any few batches in a row hold their shares, or are
        drawn at random.

    """

    size: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    in_turns: bool = False


class BatchPlan:
    """
    The items of each batch, as a function of seed and number.

    Parameters
    ----------
    sources : sequence of (name, count, weight)
        Each batch comes from one of them.
    rule : BatchRule
        Size of the batches, and this process's share.

    """

    def __init__(self, sources: Sequence[tuple[str, int, float]], rule: BatchRule) -> None:
        if not sources:
            raise ConfigurationError('sources is empty; a recipe needs at least one')
        for name, count, weight in sources:
            if not weight > 0.0:
                raise ConfigurationError(f'weight of {name} is {weight}; choose a number above 0')
            if not count:
                raise InputError(
                    f'{name} has no images; check its folder and its list', cause='empty'
                )
        if rule.size % rule.world:
            raise ConfigurationError(
                f'batch_size is {rule.size} over {rule.world} processes; choose a multiple of '
                f'{rule.world}'
            )
        self.rule = rule
        self._counts = [count for _, count, _ in sources]
        weights = np.array([weight for _, _, weight in sources])
        self._share = weights / weights.sum()
        self._chosen = np.zeros(0, np.int64)

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each undivided batch that this process takes."""
        return tuple(range(self.rule.rank, self.rule.size, self.rule.world))

    def visits(self, number: int) -> tuple[int, list[tuple[int, np.random.Generator]]]:
        """
        Choose the items of batch ``number``.

        Returns the index of their source and, for each row of this process, the index of the item
        and the random generator of its augmentation.
        """
        which, first = self._place(number)
        seed = self.rule.seed
        return which, [
            (self._index(which, first + row), np.random.default_rng([seed, 2, number, row]))
            for row in self.rows
        ]

    def _place(self, number: int) -> tuple[int, int]:
        """Choose the source of batch ``number``, and count its items in earlier batches."""
        if number >= len(self._chosen):
            count = 1024 + 2 * number
            draw = np.random.default_rng([self.rule.seed, 1])
            self._chosen = (
                turns(self._share, count)
                if self.rule.in_turns
                else draw.choice(len(self._share), count, p=self._share)
            )
        which = int(self._chosen[number])
        before = int(np.count_nonzero(self._chosen[:number] == which))
        return which, before * self.rule.size

    def _index(self, which: int, position: int) -> int:
        """Index of the item at a position in a source's endless shuffled list."""
        count = self._counts[which]
        epoch, place = divmod(position, count)
        return int(_shuffled(count, self.rule.seed, which, epoch)[place])


def turns(share: np.ndarray, count: int) -> np.ndarray:
    """Return sources (count,) in turns: always the one that lags its share (n,) the most."""
    done = np.zeros(len(share))
    chosen = np.empty(count, np.int64)
    for number in range(count):
        which = int(np.argmax(share * (number + 1) - done))
        chosen[number] = which
        done[which] += 1
    return chosen


@lru_cache(maxsize=16)
def _shuffled(count: int, seed: int, which: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 3, which, epoch]).permutation(count)


class Mixture(torch.utils.data.Dataset):
    """
    Training batches of images by number.

    Parameters
    ----------
    parts : sequence of Part
        Each batch comes from one of them.
    rule : BatchRule
        Size of the batches, and this process's share.
    space : str
        Of the relative values.
    augmentation : Augmentation
        Applied anew at each visit of an image.
    targets : TargetRule
        How depth becomes a target.

    """

    def __init__(
        self,
        parts: Sequence[Part],
        rule: BatchRule,
        space: str,
        augmentation: Augmentation,
        targets: TargetRule = OWN_TARGETS,
    ) -> None:
        self.parts, self.space, self.augmentation = tuple(parts), space, augmentation
        self.targets = targets
        sources = [(part.source.name, len(part.source), part.weight) for part in parts]
        self.plan = BatchPlan(sources, rule)
        self._kept: dict[tuple[int, int], Pair] = {}

    def __getitem__(self, number: int) -> Batch:
        """Return this process's rows of batch ``number``."""
        which, visits = self.plan.visits(number)
        part = self.parts[which]
        examples = [self._example(which, index, rng) for index, rng in visits]
        return make_batch(examples, part.source.name, self.plan.rows)

    def _example(self, which: int, index: int, rng: np.random.Generator) -> tuple[Any, ...]:
        """Make an example; pairs of small sources that are never cropped are kept resized."""
        part = self.parts[which]
        size, how = part.size, self.augmentation
        height, width = in_multiples(size)
        large = len(part.source) * height * width > KEPT_PIXELS
        if how.crop or how.rotation or large or self.targets.resize == 'nearest':
            return make_example(part.source.read(index), size, self.space, how, rng, self.targets)
        draw = rng.random()  # as cropping does, so that later draws are the same
        assert draw >= how.crop
        if (which, index) not in self._kept:
            whole = crop(part.source.read(index), how, size[1] / size[0], rng.spawn(1)[0])
            self._kept[which, index] = resize(whole, size)
        return finish_example(self._kept[which, index], self.space, how, rng, self.targets)

    def undivided(self) -> Mixture:
        """Return the same batches with the rows of all processes."""
        rule = replace(self.plan.rule, rank=0, world=1)
        return Mixture(self.parts, rule, self.space, self.augmentation, self.targets)


def make_example(
    pair: Pair,
    size: tuple[int, int],
    space: str,
    how: Augmentation,
    rng: np.random.Generator,
    targets: TargetRule = OWN_TARGETS,
) -> tuple[Any, ...]:
    """Crop, resize and augment a pair: rgb, relative, valid, sky, depth, weight, (H, W, ...)."""
    part = crop(pair, how, size[1] / size[0], rng)
    if space == 'metric':
        part = nearer(part, pair.depth.shape, size[1] / size[0])
    if targets.resize == 'nearest':
        arrays = finish_example(part, space, how, rng, targets)
        where = np.ix_(*centres(arrays[0].shape[:2], in_multiples(size)))
        return tuple(None if array is None else array[where] for array in arrays)
    return finish_example(resize(part, size), space, how, rng, targets)


def nearer(part: Pair, whole: tuple[int, ...], aspect: float) -> Pair:
    """
    Scale depth and labels of a crop to what a camera of the same focal length would see so large.

    A part of the image that is enlarged looks like a scene that is nearer by the same factor.
    ``whole`` is the size before the crop to the ratio ``aspect``.
    """
    share = np.float32(part.depth.shape[0] / min(whole[0], whole[1] / aspect))
    labels = part.labels
    if labels is not None:
        labels = np.stack([labels[..., 0] * share, labels[..., 1]], axis=-1)  # weights stay
    return replace(part, depth=part.depth * share, labels=labels)


def finish_example(
    pair: Pair, space: str, how: Augmentation, rng: np.random.Generator, targets: TargetRule
) -> tuple[Any, ...]:
    """Augment a pair of its final size; see :func:`make_example`."""
    pair = flip(pair, how, rng)
    rgb = augment_image(pair.rgb, how, rng)
    depth, weight = with_labels(pair)
    return rgb, *normalise(depth, space, targets), depth, weight


def with_labels(pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
    """Return depth (H, W) float32, a teacher's where it is unknown, and weights (H, W) or None."""
    depth = pair.depth.astype(np.float32)
    if pair.labels is None:
        return depth, None
    taught = np.isnan(depth)
    weight = np.where(taught, np.nan_to_num(pair.labels[..., 1]), 1.0)
    return np.where(taught, pair.labels[..., 0], depth), weight.astype(np.float32)


def make_batch(
    examples: Sequence[tuple[Any, ...]], source: str, rows: tuple[int, ...] = ()
) -> Batch:
    """Stack results of :func:`make_example`."""
    *arrays, weights = zip(*examples, strict=True)
    rgb, relative, valid, sky, depth = (torch.from_numpy(np.stack(values)) for values in arrays)
    weight = None if weights[0] is None else torch.from_numpy(np.stack(weights))[:, None]
    return Batch(
        rgb=rgb.permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous(),
        relative=relative[:, None],
        valid=valid[:, None],
        sky=sky[:, None],
        depth=depth[:, None],
        source=source,
        rows=rows,
        weight=weight,
    )


def in_multiples(size: tuple[float, float]) -> tuple[int, int]:
    """Round a size (H, W) to the multiples of 8 that the autoencoder needs."""
    height, width = (max(MULTIPLE, MULTIPLE * round(side / MULTIPLE)) for side in size)
    return height, width


def resize(pair: Pair, size: tuple[int, int]) -> Pair:
    """
    Resize a pair to (H, W), rounded to multiples of 8.

    Colours are averaged over the new pixels. Depth is sampled at their centres, as averages over
    an edge belong to no surface; where the centre is unknown, as between LiDAR points, the nearest
    known depth within the new pixel counts.
    """
    height, width = in_multiples(size)
    old = pair.depth.shape
    if old == (height, width):
        return pair
    smaller = height * width < old[0] * old[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    where = np.ix_(*centres(old, (height, width)))
    depth = pair.depth[where]
    labels = None if pair.labels is None else pair.labels[where]
    unknown = np.isnan(depth)
    if smaller and unknown.any():
        depth[unknown] = _nearest_within(pair.depth, (height, width))[unknown]
    return Pair(cv2.resize(pair.rgb, (width, height), interpolation=how), depth, labels)


def centres(old: tuple[int, ...], new: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of an image (H, W) at the centres of a new one's pixels."""
    rows, columns = (
        ((np.arange(count) + 0.5) * before / count).astype(np.intp)
        for count, before in zip(new, old, strict=True)
    )
    return rows, columns


def _nearest_within(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Smallest known depth in each cell of a coarser grid (H, W); NaN where none is known."""
    v, u = np.nonzero(~np.isnan(depth))
    rows, columns = (x * new // old for x, new, old in zip((v, u), size, depth.shape, strict=True))
    nearest = np.full(size, np.inf, depth.dtype)
    seen = np.zeros(size, bool)
    np.minimum.at(nearest, (rows, columns), depth[v, u])
    seen[rows, columns] = True
    return np.where(seen, nearest, np.nan)


def collate(batches: list[Any]) -> Any:
    """Return the only item: a Mixture's items are batches already."""
    return batches[0]


def ignore_signals(_worker: int) -> None:
    """
    Ignore SIGTERM and SIGINT in a loading process.

    Schedulers and terminals signal all processes of a job; a killed loader would end the run in
    the middle of a step, while the run itself saves and ends its loaders.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
