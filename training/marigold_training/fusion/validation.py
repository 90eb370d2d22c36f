# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Scores of the fusion network on held-out scenes, relative to linear interpolation.

Every scene is seen by several LiDARs without a map. The second generator, whose scenes are never
trained on, selects the weights, or scans of a recording where a recipe names some.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.fusion.work_grid import CELLS
from marigold_ros.models.fusion.mixing import mix_candidates
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.processes import never, Stop
from marigold_ros.synthetic.raycast.description import Sample
from marigold_ros.synthetic.scenes.scene import GENERATION
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.simulated_points import FEWEST
from marigold_training.data.sources import open_source
from marigold_training.fusion.example_cache import ExampleCache
from marigold_training.fusion.examples import cells_over, FusionExample, inputs_of, target_on_grid
from marigold_training.fusion.line_dropout import example_of, resized, split_scan
from marigold_training.fusion.simulated_examples import KNOWN
from marigold_training.objectives.fusion import TrainedFusion
from marigold_training.recipe_keys import check_validation
from marigold_training.run.score import HELD_OUT, HeldOutScenes
import numpy as np
import torch

SELECTS = 'second'  # of the generators
STOP = 'stop'  # key of the scans that select the weights instead
SIZE = (240, 320)  # of the images, px
# Points anywhere, of which some are outliers, or around a hole; on rows; rows in sectors of
# azimuth; every pixel but holes. By the cells that they need.
CONDITIONS = {
    CELLS[0]: (
        '20 points',
        '50 points',
        '500 points',
        '500 points, 10 % outliers',
        '4 rows',
        'azimuth',
        'depth camera',
        '2000 points',
        '2000 points around a hole',
        '12 rows',
    ),
    CELLS[1]: ('5000 points', '16 rows', '40 rows', '64 rows'),
}
_OUTLIERS = 0.1
# Of a recording: every n-th scan line, or degree of azimuth, is the input.
LINES = ('8th line', '2nd line', '8th degree of azimuth')
_SPLITS = (('line', 8), ('line', 2), ('azimuth', 8))
MEASURES = ('abs_rel', 'rmse', 'worst', 'coverage')
Table = dict[str, dict[str, float]]


class HeldOutExamples:
    """
    Scenes of a generator, each under all ``conditions`` of a grid; in turns.

    Those of little depth have no target.
    """

    def __init__(self, scenes: HeldOutScenes, count: int, cells: int) -> None:
        self.conditions = CONDITIONS[cells]
        self.name, self.count = f'{scenes.title}, {cells} cells', count * len(self.conditions)
        self._make, self._cells = scenes.make, cells
        self.cells = cells_over(SIZE, cells)

    def fingerprint(self) -> str:
        """Return what determines the examples."""
        make = f'{self._make.__module__}.{self._make.__qualname__} v{GENERATION}'
        return f'{make} {SIZE} {self.conditions}'

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Do nothing: scenes are rendered as they are drawn."""

    def draw(self, index: int) -> FusionExample:
        """Render a scene and measure it under one condition."""
        seed, number = divmod(index, len(self.conditions))
        sample = _scene(self._make, seed)
        known = np.isfinite(sample.depth)
        if known.mean() < KNOWN:
            return unusable(self.cells)
        sparse = measure(np.random.default_rng(seed), sample.depth, self.conditions[number])
        if len(sparse) < FEWEST:
            return unusable(self.cells)
        inputs = inputs_of(sample.rgb, sparse, None, self._cells)
        return FusionExample(inputs, target_on_grid(sample.depth, self._cells))


class HeldOutLines:
    """The scans of bags, each split under all conditions; those of few points have no target."""

    conditions = LINES

    def __init__(self, bags: BagPairs, size: tuple[int, int]) -> None:
        self.name, self.count = f'held-out lines of {bags.name}', len(bags) * len(LINES)
        self._bags, self._size = bags, size
        self.cells = cells_over(size)

    def fingerprint(self) -> str:
        """Return what determines the examples."""
        return f'{self._bags.fingerprint()} {self._size} {LINES}'

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Extract images and scans."""
        self._bags.prepare(workers, stop)

    def draw(self, index: int) -> FusionExample:
        """Split a scan under one condition."""
        place, number = divmod(index, len(LINES))
        pair = resized(self._bags.read_lidar(place), self._size)
        by, every = _SPLITS[number]
        label = pair.azimuth if by == 'azimuth' else pair.line
        example = example_of(pair, *split_scan(pair, label % every == every // 2))
        return unusable(self.cells) if example is None else example


class HeldOutCache(ExampleCache):
    """The examples of one source, which are under its ``conditions`` in turns."""

    def __init__(self, source: HeldOutExamples | HeldOutLines, folder: Path) -> None:
        super().__init__(source, folder)
        self.conditions = source.conditions


def unusable(cells: tuple[int, int]) -> FusionExample:
    """Return an example without a target."""
    inputs = np.zeros((len(CHANNELS), *cells), np.float32)
    return FusionExample(inputs, np.full(cells, np.nan, np.float32))


@lru_cache(maxsize=1)
def _scene(make: Any, seed: int) -> Sample:
    height, width = SIZE
    return make(seed, width, height)


def measure(rng: np.random.Generator, depth: np.ndarray, condition: str) -> SparseDepth:
    """Measure depth (H, W) in metres, known where finite, under one of ``CONDITIONS``."""
    known = np.isfinite(depth)
    height, width = depth.shape
    kind, _, more = condition.partition(', ')
    seen = np.zeros_like(known)
    if kind == 'azimuth':
        seen[np.linspace(0.35 * height, height - 4, 48).astype(int)] = True
        seen &= np.arange(width) % 40 < 5
    elif kind == 'depth camera':
        blobs = rng.standard_normal((height // 20 + 1, width // 20 + 1)).astype(np.float32)
        blobs = np.asarray(cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC))
        seen = blobs < np.quantile(blobs, 2 / 3)
    elif kind.endswith('rows'):
        rows = np.linspace(0.3 * height, height - 4, int(kind.split()[0])).astype(int)
        seen[rows, ::2] = True
    else:
        allowed = known.copy()
        if kind.endswith('hole'):
            allowed[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = False
        place = np.flatnonzero(allowed)
        count = min(int(kind.split()[0]), len(place))
        seen.ravel()[rng.choice(place, count, replace=False)] = True
    v, u = np.nonzero(seen & known)
    z = depth[v, u].astype(np.float64)
    wrong = rng.random(len(z)) < (_OUTLIERS if more else 0.0)
    z[wrong] *= rng.uniform(0.3, 3, wrong.sum())
    return SparseDepth(u, v, z.astype(np.float32))


class FusionValidation:
    """
    The held-out scenes that a run is scored on.

    Parameters
    ----------
    entry : mapping
        A recipe's ``validation``: numbers of scenes for keys of ``generators``, and ``stop``, a
        source of kind bag whose scans select the weights.
    folder : Path
        Of all caches.
    generators : mapping of str to HeldOutScenes

    Raises
    ------
    ConfigurationError
        If a key is unknown or a number is invalid.

    """

    def __init__(
        self,
        entry: Mapping[str, Any],
        folder: Path,
        generators: Mapping[str, HeldOutScenes] = HELD_OUT,
    ) -> None:
        check_validation(entry, generators, [STOP])
        self.caches: dict[str, list[HeldOutCache]] = {}
        for key, count in entry.items():
            if key == STOP:
                lines = HeldOutLines(_open_bags(count, folder.parent), tuple(count['size']))
                self.caches[STOP] = [HeldOutCache(lines, folder)]
            elif count:
                examples = (HeldOutExamples(generators[key], count, cells) for cells in CELLS)
                self.caches[key] = [HeldOutCache(part, folder) for part in examples]

    def __bool__(self) -> bool:
        """Return whether there is anything to score on."""
        return bool(self.caches)

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Render and measure the scenes."""
        for cache in chain.from_iterable(self.caches.values()):
            cache.source.prepare(workers, stop)
            cache.fill(workers, stop)

    def run(
        self,
        trained: TrainedFusion,
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        image: Path,
    ) -> dict[str, Table]:
        """Score weights in place of the chain's own; key of the recipe to :func:`score`."""
        network = deepcopy(trained.fusion)
        network.load_state_dict(
            {name.removeprefix('fusion.'): value for name, value in weights.items()}
        )
        network.to(device).eval()
        return {key: score(network, caches, device) for key, caches in self.caches.items()}

    def quality(self, figures: Mapping[str, Table]) -> float | None:
        """Return :func:`mean_ratio` of ``stop``, or of ``second``."""
        table = figures.get(STOP, figures.get(SELECTS, {}))
        return mean_ratio(table) if table else None


def mean_ratio(table: Table) -> float:
    """Return the mean of both ratios over the conditions of a table."""
    return float(np.mean([0.5 * (row['abs_rel'] + row['rmse']) for row in table.values()]))


def _open_bags(entry: Any, data: Path) -> BagPairs:
    source = open_source(entry if isinstance(entry, Mapping) else {}, data)
    if not isinstance(source, BagPairs):
        raise ConfigurationError(f'validation.{STOP} is of kind {entry["kind"]}; give a bag')
    return source


@torch.inference_mode()
def score(network: FusionNetwork, caches: Sequence[HeldOutCache], device: torch.device) -> Table:
    """
    Score a network on held-out examples.

    Returns
    -------
    dict
        Condition to ``abs_rel`` (ratio of means to linear interpolation), ``rmse`` (mean ratio),
        ``worst`` (``abs_rel`` of the worst scene) and ``coverage`` (share within one sigma).

    """
    rows: dict[str, list[list[float]]] = {}
    for cache, index in ((part, index) for part in caches for index in range(len(part))):
        inputs, target = (torch.from_numpy(part)[None] for part in cache.read(index))
        known = torch.isfinite(target)[0]
        if not known.any():
            continue
        mixed = mix_candidates(network, inputs.to(device))[0, :2]
        change, log_error = (part.cpu()[known] for part in mixed)
        depth = target[0][known].exp()
        linear = inputs[0, CHANNELS.index('linear')][known].exp()
        fused = linear * change.exp()
        within = (fused / depth).log().abs() < log_error.exp()
        condition = cache.conditions[index % len(cache.conditions)]
        rows.setdefault(condition, []).append(
            [
                (fused / depth - 1).abs().mean().item(),
                (linear / depth - 1).abs().mean().item(),
                ((fused - depth).square().mean() / (linear - depth).square().mean()).sqrt().item(),
                within.float().mean().item(),
            ]
        )
    found = {}
    for condition, values in rows.items():
        fused_error, linear_error, squared, covered = np.array(values).T
        found[condition] = {
            'abs_rel': float(fused_error.mean() / linear_error.mean()),
            'rmse': float(squared.mean()),
            'worst': float((fused_error / linear_error).max()),
            'coverage': float(covered.mean()),
        }
    return found
