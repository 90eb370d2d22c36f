# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Examples of the fusion network over images with dense depth: LiDARs and maps are simulated."""

from collections.abc import Sequence
from dataclasses import dataclass

from marigold_ros.errors import InputError
from marigold_ros.geometry.fusion.work_grid import CELLS
from marigold_ros.models.locate import EMBEDDED, SUMS
from marigold_ros.processes import never, Stop
from marigold_training.data.mixture import in_multiples, resize
from marigold_training.data.pairs import PairSource
from marigold_training.fusion.examples import cells_over, draw_example, FusionExample
import numpy as np

# Share of an image whose depth must be known, and how many images are tried to find one.
KNOWN, _TRIES = 0.4, 100


@dataclass(frozen=True)
class Simulation:
    """
    What is simulated over images of a size.

    Parameters
    ----------
    size : (height, width)
        To which images are resized, px.
    cells : int or None
        One of `CELLS`: size of the grid, and the density of points that needs it. None takes any
        density on the coarser one.
    model : str or None
        Name of the embedded model that makes some of the maps.

    """

    size: tuple[int, int]
    cells: int | None = None
    model: str | None = None


class SimulatedExamples:
    """
    Examples over the images of a source of pairs.

    Parameters
    ----------
    pairs : PairSource
        Images with dense depth.
    simulation : Simulation
        What is drawn over them.
    count : int
        Number of examples.
    seed : sequence of int
        Of all random choices.
    others : PairSource
        Scenes whose depth serves as a useless map.

    """

    def __init__(
        self,
        pairs: PairSource,
        simulation: Simulation,
        count: int,
        seed: Sequence[int],
        others: PairSource,
    ) -> None:
        self.name, self.count = pairs.name, count
        self._pairs, self._others, self._seed = pairs, others, tuple(seed)
        self._size, self._cells = in_multiples(simulation.size), simulation.cells
        self._model = simulation.model
        self.cells = cells_over(self._size, self._cells or CELLS[0])

    def fingerprint(self) -> str:
        """Return what determines the examples."""
        sources = self._pairs.fingerprint(), self._others.fingerprint()
        sums = None if self._model is None else (EMBEDDED / self._model / SUMS).read_text()
        return f'{sources} {self._size} {self._seed} {self._cells} {sums}'

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Render or verify the pairs."""
        for source in (self._pairs, self._others):
            source.prepare(workers, stop)

    def draw(self, index: int) -> FusionExample:
        """Draw an example; raises InputError if no image has enough known depth."""
        rng = np.random.default_rng([*self._seed, index])
        for _ in range(_TRIES):
            pair = resize(self._pairs.read(int(rng.integers(len(self._pairs)))), self._size)
            if np.isfinite(pair.depth).mean() > KNOWN:
                other = self._others.read(int(rng.integers(len(self._others))))
                foreign = np.asarray(other.depth)
                return draw_example(rng, pair, self._cells, foreign, self._model)
        raise InputError(
            f'of {_TRIES} images of {self.name} none has depth at {KNOWN:.0%} of its pixels; '
            'simulated LiDARs need dense depth: remove this source'
        )
