# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Validation during training, on fixed images and through the inference engine that users run.

The engine gets copies of the weights, because it changes their layout and precision. No global
random generator is used, so that a run ends the same with and without validation.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import chain as joined
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.processes import never, Stop
from marigold_training.data.layouts import FolderPairs
from marigold_training.data.sources import open_source
from marigold_training.families.registry import TrainedFamily, Weights
from marigold_training.objectives.trained_networks import TrainedModel
from marigold_training.published_sets import PublishedSet, SETS
from marigold_training.recipe_keys import check_validation
from marigold_training.run.score import (
    contact_sheet,
    HELD_OUT,
    HeldOutScenes,
    is_scorable,
    LabelledPair,
    MEASURES,
    MIN_KNOWN,
    read_pairs,
    render_scenes,
    score,
)
import torch

SHOWN = 8  # images
SELECTS = 'stop'  # key of the images that select the weights, unless BEST names others
BEST = 'best'
# The best quadric is constant, the baseline to beat, alone or with the map as one more column.
METHODS = ('model', 'quadric', 'quadric and model', 'own metres')
Table = dict[str, dict[str, float]]


class Validation:
    """
    The images that a run is scored on.

    Parameters
    ----------
    entry : mapping
        A recipe's ``validation``: for keys of ``generators`` a number of held-out scenes,
        ``pairs``, a folder of folders with ``image.*`` and ``depth_mm.png``, data sets of
        publications (see published_sets.py), ``stop``, a source, and ``best``, the figure that
        selects the exported weights, as ``nyu.abs_rel``; by default that of ``stop``.
    family : TrainedFamily
        Builds the model that is scored.
    facts : mapping
        A recipe's ``facts``: how the checkpoint will run.
    data : Path
        Base of relative folders.
    generators : mapping of str to HeldOutScenes

    Raises
    ------
    ConfigurationError
        If a key is unknown or a number is invalid.
    InputError
        If the folder has no pairs.

    """

    def __init__(
        self,
        entry: Mapping[str, Any],
        family: TrainedFamily,
        facts: Mapping[str, Any],
        data: Path,
        generators: Mapping[str, HeldOutScenes] = HELD_OUT,
    ) -> None:
        check_validation(entry, generators, ['pairs', *SETS, SELECTS, BEST])
        self.generators = generators
        self._counts = {key: entry.get(key, 0) for key in generators}
        self._pairs = None
        if entry.get('pairs'):
            self._pairs = FolderPairs(
                data, str(entry['pairs']), images='*/image.*', depths='*/depth_mm.png'
            )
        self._stop = open_source(entry[SELECTS], data) if entry.get(SELECTS) else None
        self.published = [PublishedSet(name, entry[name], data) for name in SETS if name in entry]
        self.best = self._read_best(entry)
        self.family, self.facts = family, facts

    def _read_best(self, entry: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return set and metric of the figure that selects the weights; None keeps the last."""
        if BEST not in entry:
            return None if self._stop is None else (SELECTS, MEASURES[0])
        scored = [key for key in entry if key != BEST and entry[key]]
        name, _, metric = str(entry[BEST]).partition('.')
        judged = [key for key, item in METRICS.items() if item.better != 'zero']
        metrics = judged if name in SETS else MEASURES
        if name not in scored or metric not in metrics:
            raise ConfigurationError(
                f"validation.best is '{entry[BEST]}'; give one of {', '.join(scored)}, a dot, and "
                f'one of {", ".join(metrics)}, such as nyu.abs_rel'
            )
        return name, metric

    def __bool__(self) -> bool:
        """Return whether there is anything to score on."""
        sources = self._pairs, self._stop, *self.published
        return any(source is not None for source in sources) or any(self._counts.values())

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Verify folders and bags; raises InputError for broken files and images of few points."""
        for name, source in (('pairs', self._pairs), (SELECTS, self._stop)):
            if source is None:
                continue
            source.prepare(workers, stop)
            if not any(is_scorable(source.read(index)) for index in range(len(source))):
                raise InputError(
                    f'validation.{name}: none of {len(source)} images has known depth at '
                    f'{MIN_KNOWN} pixels, which a score needs; give images with more points',
                    cause='empty',
                )
        for own in self.published:
            own.prepare(stop)

    @cached_property
    def sets(self) -> dict[str, list[LabelledPair]]:
        """The images by the key that asked for them; rendered once."""
        sets = {
            key: list(render_scenes(self.generators[key].make, count))
            for key, count in self._counts.items()
        }
        if self._stop is not None:
            stop = self._stop
            sets[SELECTS] = [(SELECTS, stop.read(index)) for index in range(len(stop))]
        sets['pairs'] = [] if self._pairs is None else list(read_pairs(self._pairs))
        return {name: pairs for name, pairs in sets.items() if pairs}

    @property
    def shown(self) -> list[LabelledPair]:
        """The images on the contact sheet: eight, taken from the sets in turns."""
        published = [[(own.name, own.shown())] for own in self.published]
        turns = joined.from_iterable(zip_longest(*self.sets.values(), *published))
        usable = (item for item in turns if item and is_scorable(item[1]))
        return list(islice(usable, SHOWN))

    def run(
        self, chain: TrainedModel, weights: Weights, device: torch.device, image: Path
    ) -> dict[str, Table]:
        """
        Score weights, in place of the chain's own, and draw their predictions to a PNG ``image``.

        Returns
        -------
        dict
            Key of the recipe to method (of METHODS) to ``abs_rel``, ``delta1``, ``pictures``;
            for data sets of publications the method is ``model``, with all metrics.

        """
        with torch.random.fork_rng(devices=[]):
            model = self.family.engine(chain, weights, self.facts, device)
            figures = {}
            for name, pairs in self.sets.items():
                table = score(model, pairs, len(pairs))
                figures[name] = {key: table[key] for key in METHODS if key in table}
            for own in self.published:
                figures[own.name] = {METHODS[0]: own.score(model)}
            if shown := self.shown:
                contact_sheet(model, shown, image)
        return figures

    def quality(self, figures: dict[str, Table]) -> float | None:
        """Return the figure of ``best``, negative if more is better; None if nothing selects."""
        if self.best is None or self.best[0] not in figures:
            return None
        name, metric = self.best
        # Metres of a robot's own camera are asked for; those of other cameras have another scale.
        own = METHODS[-1] if name == SELECTS else METHODS[0]
        value = figures[name].get(own, figures[name][METHODS[0]])[metric]
        return -value if METRICS[metric].better == 'higher' else value
