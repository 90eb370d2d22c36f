# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Examples on disk, drawn once, and the batches made of them.

Drawing one takes longer than a training step on it: points, candidates and a fit of the map.
Examples are visited many times, mirrored, in other colours and without their map at random.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from marigold_ros.fusion_channels import CHANNELS, level_of, OF_MAP
from marigold_ros.processes import never, run_jobs, Stop
from marigold_training.data.mixture import BatchPlan, BatchRule, FusionBatch
from marigold_training.data.record_blocks import RecordBlocks
from marigold_training.fusion.examples import FusionExample
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

GENERATION = 12  # of simulation and network input; another number invalidates all caches
# Probabilities of changes to an example.
_MIRRORED, _OTHER_LEVEL, _OTHER_COLOURS = 0.5, 0.3, 0.1
_WITHOUT_MAP, _MAP_AMONG = 0.3, 0.2  # a map may be proved among the points only
# Share of each side that one visit sees, and cells of which sides are multiples.
_PART, _MULTIPLE = 0.83, 16
_COLOURS = slice(0, 3)
_OF_MAP = [CHANNELS.index(name) for name in OF_MAP]
_LEVEL, _INSIDE = CHANNELS.index('level'), CHANNELS.index('inside')


class ExampleSource(Protocol):
    """Examples by index; each draws its random numbers from seed and index."""

    name: str
    count: int
    cells: tuple[int, int]  # rows and columns of all examples

    def fingerprint(self) -> str:
        """Return a text that changes whenever an example does."""

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Render or verify what the examples are drawn from."""

    def draw(self, index: int) -> FusionExample:
        """Draw one example; it may have no target."""


class ExampleCache(RecordBlocks):
    """The examples of one source, in a folder of ``folder``."""

    def __init__(self, source: ExampleSource, folder: Path) -> None:
        self.source = source
        about = {'source': source.name, 'examples': source.count, 'cells': list(source.cells)}
        record = np.dtype(
            [
                ('inputs', np.float16, (len(CHANNELS), *source.cells)),
                ('target', np.float32, source.cells),
            ]
        )
        facts = [GENERATION, CHANNELS, about, source.fingerprint()]
        remedy = 'draw fewer examples'
        super().__init__(folder, facts, about, record, source.count, remedy)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.count

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the input (C, rows, columns) and the target (rows, columns), float32.

        The target is relative to the level. Raises InputError if the file is damaged or missing.
        """
        record = self.record_at(index)
        return record['inputs'].astype(np.float32), np.array(record['target'])

    def fill(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Draw the missing examples in several processes; finished blocks are kept.

        Raises Stopped once ``stop`` returns true.
        """
        missing = self.missing()
        if not missing:
            return
        self.begin(len(missing))
        total = sum(len(self.members(number)) for number in missing)
        with (
            run_jobs(self.draw_block, missing, workers, stop) as drawn,
            tqdm(total=total, desc=f'draw {self.source.name}') as bar,
        ):
            for count in drawn:
                bar.update(count)

    def draw_block(self, number: int) -> int:
        """Draw and write a block; returns the number of its examples."""
        members = self.members(number)
        records = np.empty(len(members), self.record)
        for row, index in enumerate(members):
            example = self.source.draw(index)
            records[row]['inputs'] = example.inputs
            records[row]['target'] = example.target - level_of(example.inputs)
        self.write(number, records)
        return len(members)


class FusionMixture(Dataset):
    """
    Training batches of examples by number.

    Parameters
    ----------
    caches : sequence of ExampleCache
        Filled; each batch comes from one of them.
    weights : sequence of float
        Of the caches.
    rule : BatchRule
        Size of the batches, and this process's share.

    """

    def __init__(
        self, caches: Sequence[ExampleCache], weights: Sequence[float], rule: BatchRule
    ) -> None:
        self.caches = tuple(caches)
        sources = [
            (cache.source.name, len(cache), weight)
            for cache, weight in zip(caches, weights, strict=True)
        ]
        self.plan = BatchPlan(sources, rule)

    def __getitem__(self, number: int) -> FusionBatch:
        """Return this process's rows of batch ``number``."""
        which, visits = self.plan.visits(number)
        cache = self.caches[which]
        rows = [vary(*cache.read(index), rng) for index, rng in visits]
        inputs, target = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return FusionBatch(inputs, target, cache.source.name, self.plan.rows)


def vary(
    inputs: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a part of an example, mirrored, in other colours, at another level, or without its map.

    ``inputs`` (C, rows, columns) and ``target`` (rows, columns), which are unchanged.
    """
    rows, columns = (round(_PART * side / _MULTIPLE) * _MULTIPLE for side in target.shape)
    top, left = (
        rng.integers(0, side - part + 1)
        for side, part in zip(target.shape, (rows, columns), strict=True)
    )
    inputs = inputs[:, top : top + rows, left : left + columns]
    target = target[top : top + rows, left : left + columns]
    if rng.random() < _MIRRORED:
        inputs, target = inputs[:, :, ::-1], target[:, ::-1]
    inputs = inputs.copy()
    colours = rng.uniform(0.8, 1.2) * inputs[_COLOURS]
    colours += rng.normal(0, 0.15, (3, 1, 1)).astype(np.float32)
    if rng.random() < _OTHER_COLOURS:
        colours = colours[rng.permutation(3)]
    inputs[_COLOURS] = colours
    if rng.random() < _OTHER_LEVEL:
        inputs[_LEVEL] += rng.normal(0, 0.5)
    which = rng.random()
    if which < _WITHOUT_MAP:
        inputs[_OF_MAP] = 0.0
    elif which < _WITHOUT_MAP + _MAP_AMONG:
        inputs[_OF_MAP] *= inputs[_INSIDE]
    return inputs, np.ascontiguousarray(target)
