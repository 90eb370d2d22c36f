# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A training run of the fusion network: reads a recipe, draws examples, trains and exports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.geometry.fusion.work_grid import CELLS
from marigold_ros.models.fusion.checkpoint import load_fusion_network, SIZES
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.models.locate import EMBEDDED, FUSION, list_checkpoints
from marigold_ros.processes import never, Stop
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.sources import open_source
from marigold_training.fusion.example_cache import ExampleCache, ExampleSource, FusionMixture
from marigold_training.fusion.export import export_fusion
from marigold_training.fusion.line_dropout import LineDropout
from marigold_training.fusion.model_card import fusion_card
from marigold_training.fusion.simulated_examples import SimulatedExamples, Simulation
from marigold_training.fusion.validation import FusionValidation, score
from marigold_training.objectives.fusion import TrainedFusion
from marigold_training.recipe_keys import check_keys
from marigold_training.run.recipe import kept_of_start, Run
from marigold_training.run.stages import Stage
import torch

# Keys of a recipe's ``init``: the sizes of a new network, or the folder of a trained one.
INIT = (*SIZES, 'path')
# Keys of a source that say what is drawn over its images.
_OF_EXAMPLES = ('examples', 'model', 'cells')


class FusionRun(Run[TrainedFusion]):
    """A run that trains the fusion network; ``networks`` as of TrainingRun."""

    def __init__(self, *given: Any, networks: bool = True, **named: Any) -> None:
        super().__init__(*given, **named)
        self.cache = self.data / 'fusion'
        if self.sharded:
            raise ConfigurationError('--shard is for large networks; leave it out for fusion')
        for stage in self.stages:
            _check_stage(stage)
        self.kept = kept_of_start(self.recipe, 'path' in self.recipe.get('init', {}))
        entry = self.recipe.get('validation', {})
        self.validation: FusionValidation = FusionValidation(entry, self.cache, self.generators)
        self.check_validation()
        self.caches = [ExampleCache(source, self.cache) for source in self._sources(self.data)]
        if networks:
            self.chain = self.first_chain()

    def _sources(self, data: Path) -> list[ExampleSource]:
        """Open the sources: LiDAR of bags by line dropout, all others by simulation."""
        entries = self.recipe['sources']
        opened = []
        for entry in entries:
            _example_count(entry)
            _model(entry)
            opened.append(open_source(_of_pairs(entry), data))
        dense = [pairs for pairs in opened if not isinstance(pairs, BagPairs)]
        found: list[ExampleSource] = []
        for number, (entry, pairs) in enumerate(zip(entries, opened, strict=True)):
            size, drawn = tuple(entry['size']), (_example_count(entry), (self.seed, number))
            if isinstance(pairs, BagPairs):
                found.append(LineDropout(pairs, size, *drawn))
            else:
                simulation = Simulation(size, _cells(entry), _model(entry))
                found.append(SimulatedExamples(pairs, simulation, *drawn, dense[0]))
        return found

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Render images and draw the examples that are missing."""
        for cache in self.caches:
            if cache.missing():
                cache.source.prepare(workers, stop)
                cache.fill(workers, stop)
        self.validation.prepare(workers, stop)

    def mixture(self, stage: Stage, number: int) -> FusionMixture:
        """Return the batches of a stage."""
        weights = [
            float(entry.get('weight', entry['examples'])) for entry in self.recipe['sources']
        ]
        return FusionMixture(self.caches, weights, self.batch_rule(stage, number))

    def first_chain(self) -> TrainedFusion:
        """Build the network that the recipe's ``init`` names."""
        return TrainedFusion(new_network(self.recipe.get('init', {}), self.seed))

    def write(self, folder: Path, chain: TrainedFusion, stages: list[Stage], note: str) -> None:
        """Write the network and its card."""
        card = fusion_card(self.recipe, stages, self.caches, self.metrics, note)
        export_fusion(folder, chain.fusion, card)

    def figures(self, chain: TrainedFusion) -> dict[str, dict[str, float]]:
        """Score on the scenes of all generators; row of the card's table to its figures."""
        wanted = {key: scenes.count for key, scenes in self.generators.items()}
        validation = FusionValidation(wanted, self.cache, self.generators)
        validation.prepare(max(1, self.workers))
        network = chain.fusion.eval()
        rows = {}
        for key, caches in validation.caches.items():
            scenes = self.generators[key]
            for condition, row in score(network, caches, self.accelerator.device).items():
                rows[f'{scenes.count} {scenes.title}: {condition}'] = row
        return rows


def new_network(entry: Mapping[str, Any], seed: int) -> FusionNetwork:
    """
    Build the network that a run starts with, from a recipe's ``init``.

    ``channels``, ``blocks`` and ``inner``, by default as wide, of a new one, or ``path``, a
    folder or ``fusion``, of a trained one. Raises ConfigurationError for other keys.
    """
    check_keys('init', entry, INIT)
    if 'path' in entry:
        if len(entry) > 1:
            raise ConfigurationError(f'init is {entry}; a path leaves no other choice')
        folder = Path(str(entry['path'])).expanduser()
        if str(folder) == FUSION and not folder.is_dir():
            folder = EMBEDDED / FUSION
        return load_fusion_network(folder).requires_grad_(True).train()
    sizes = dict(entry)
    if 'channels' in sizes:
        sizes.setdefault('inner', sizes['channels'])
    lists = all(
        isinstance(size, list) and size and all(type(x) is int and x > 0 for x in size)
        for size in sizes.values()
    )
    if not lists or len(sizes) not in (0, len(SIZES)) or len(set(map(len, sizes.values()))) > 1:
        raise ConfigurationError(
            f'init is {entry}; give {", ".join(SIZES)}, a list of whole numbers above 0 each, for '
            'as many levels'
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FusionNetwork(**sizes)


def _check_stage(stage: Stage) -> None:
    if stage.objective != 'fusion' or stage.trains != ('fusion',):
        raise ConfigurationError(
            f'stage {stage.name} has objective {stage.objective} and trains '
            f'{", ".join(stage.trains)}; a recipe of the fusion network has fusion only'
        )
    for name, plain in (('scale', 1.0), ('gradient_checkpointing', False)):
        if getattr(stage, name) != plain:
            raise ConfigurationError(
                f'{name} of stage {stage.name} is {getattr(stage, name)}, which the fusion '
                'network does not have; leave it out'
            )


def _example_count(entry: Mapping[str, Any]) -> int:
    count = entry.get('examples')
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConfigurationError(
            f'examples of a source is {count!r}; give the number of examples to draw from it'
        )
    return count


def _cells(entry: Mapping[str, Any]) -> int | None:
    cells = entry.get('cells')
    if cells not in (None, *CELLS):
        raise ConfigurationError(
            f'cells of a source is {cells!r}; give {" or ".join(map(str, CELLS))}'
        )
    return cells


def _model(entry: Mapping[str, Any]) -> str | None:
    name = entry.get('model')
    if name is None:
        return None
    if entry.get('kind') == 'bag':
        raise ConfigurationError(
            f'model of a source is {name!r}, but of a bag no maps are made; leave it out'
        )
    if name not in list_checkpoints():
        raise ConfigurationError(
            f'model of a source is {name!r}; give {" or ".join(list_checkpoints())}'
        )
    return str(name)


def _of_pairs(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _OF_EXAMPLES}
