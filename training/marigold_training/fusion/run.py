# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A training run of the fusion network: reads a recipe, draws examples, trains and exports."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.models.locate import EMBEDDED, FUSION
from marigold_ros.processes import never, Stop, Stopped
from marigold_ros.settings import nearest_name
from marigold_ros.whole_files import write_whole
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.sources import open_source
from marigold_training.fusion.example_cache import ExampleCache, ExampleSource, FusionMixture
from marigold_training.fusion.export import export_fusion
from marigold_training.fusion.line_dropout import LineDropout
from marigold_training.fusion.model_card import fusion_card
from marigold_training.fusion.simulated_examples import SimulatedExamples
from marigold_training.fusion.validation import FusionValidation, score
from marigold_training.objectives.fusion import TrainedFusion
from marigold_training.run.average import blend
from marigold_training.run.loop import Trainer
from marigold_training.run.model_card import METRICS, metrics_table
from marigold_training.run.recipe import in_turns, kept_of_start, network_of, read_recipe
from marigold_training.run.run_state import load_averaged, STATE, trained_stages
from marigold_training.run.score import HELD_OUT, HeldOutScenes
from marigold_training.run.stages import read_stages, Stage
import torch

# Keys of a recipe's ``init``: the sizes of a new network, or the folder of a trained one.
INIT = ('channels', 'blocks', 'path')


class FusionRun:
    """
    One training run of the fusion network in a folder.

    Parameters
    ----------
    recipe : Path
        YAML file with ``network: fusion``, see docs/training.md for its keys.
    folder : Path
        Of checkpoints, log and export.
    data : Path
        Base of the recipe's relative paths; also caches images and examples.
    accelerator : Accelerator
        Device, precision and processes.
    workers : int
        Processes that load batches ahead.
    sharded : bool
        Must be False: the weights are few.
    generators : mapping of str to HeldOutScenes
        Scenes to validate and score on, by their key in the recipe's ``validation``.

    """

    def __init__(
        self,
        recipe: Path,
        folder: Path,
        data: Path,
        accelerator: Accelerator,
        workers: int = 0,
        sharded: bool = False,
        generators: Mapping[str, HeldOutScenes] = HELD_OUT,
    ) -> None:
        if network_of(recipe) != FUSION:
            raise ConfigurationError(
                f'{recipe.name} trains a depth model; give it to training/finetune.py'
            )
        self.recipe, self.folder = read_recipe(recipe), folder
        self.cache, self.accelerator, self.workers = data / 'fusion', accelerator, workers
        self.generators, self.seed = generators, int(self.recipe.get('seed', 0))
        if sharded:
            raise ConfigurationError('--shard is for large networks; leave it out for fusion')
        self.stages = read_stages(self.recipe['stages'], self.recipe.get('common', {}))
        for stage in self.stages:
            _check_stage(stage)
        self.kept = kept_of_start(self.recipe, 'path' in (self.recipe.get('init') or {}))
        entry = self.recipe.get('validation') or {}
        self.validation = FusionValidation(entry, self.cache, generators)
        asking = [stage.name for stage in self.stages if stage.validate_every]
        if asking and not self.validation:
            raise ConfigurationError(
                f'validate_every of stage {asking[0]} needs scenes; give the recipe '
                'validation: {second: 20}, or set it to 0'
            )
        self.caches = [ExampleCache(source, self.cache) for source in self._sources(data)]
        self.chain = self.initial()

    def _sources(self, data: Path) -> list[ExampleSource]:
        """Open the sources: LiDAR of bags by line dropout, all others by simulation."""
        entries = self.recipe['sources']
        opened = []
        for entry in entries:
            _example_count(entry)
            opened.append(open_source(_of_pairs(entry), data))
        dense = [pairs for pairs in opened if not isinstance(pairs, BagPairs)]
        found: list[ExampleSource] = []
        for number, (entry, pairs) in enumerate(zip(entries, opened, strict=True)):
            common = tuple(entry['size']), _example_count(entry), (self.seed, number)
            if isinstance(pairs, BagPairs):
                found.append(LineDropout(pairs, *common))
            else:
                found.append(SimulatedExamples(pairs, *common, dense[0]))
        return found

    def prepare_data(self, workers: int = 1, stop: Stop = never) -> bool:
        """
        Render images and draw the examples that are missing; returns False if it was stopped.

        What is finished is kept.
        """
        try:
            for cache in self.caches:
                if cache.missing():
                    cache.source.prepare(workers, stop)
                    cache.fill(workers, stop)
            self.validation.prepare(workers, stop)
        except Stopped:
            return False
        return True

    def mixture(self, stage: Stage, number: int) -> FusionMixture:
        """Return the batches of a stage."""
        weights = [
            float(entry.get('weight', entry['examples'])) for entry in self.recipe['sources']
        ]
        return FusionMixture(
            self.caches,
            weights,
            stage.batch_size,
            self.seed + 1000 * number,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            in_turns(self.recipe),
        )

    def trainer(self, provenance: Mapping[str, Any] | None = None) -> Trainer:
        """Build the trainer, at the run's last checkpoint if there is one."""
        return Trainer(
            self.chain,
            self.stages,
            [self.mixture(stage, i) for i, stage in enumerate(self.stages)],
            self.folder,
            self.accelerator,
            {'recipe': self.recipe, 'processes': self.accelerator.num_processes}
            | dict(provenance or {}),
            self.seed,
            self.workers,
            self.validation,
        )

    def train(
        self,
        minutes: float | None = None,
        stop: Stop | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """Train to the end of the recipe or for a time; returns whether the end was reached."""
        return self.trainer(provenance).run(minutes, stop)

    def initial(self) -> TrainedFusion:
        """Build the network that the run starts with."""
        return TrainedFusion(new_network(self.recipe.get('init') or {}, self.seed))

    def finished(self) -> TrainedFusion:
        """
        Return the network with the averaged weights that validation selected, or else the last.

        The recipe's ``keep_of_start`` blends in that share of the initial weights.
        """
        chain = self.chain.to(self.accelerator.device)
        load_averaged(self.folder / STATE, chain)
        if self.kept:
            chain.load_state_dict(
                blend(chain.state_dict(), self.initial().state_dict(), self.kept)
            )
        return chain

    def export(self, scored: bool = False) -> Path:
        """
        Export the averaged weights that validation selected, or else the last.

        ``scored`` scores them on held-out scenes first, for ``metrics.json`` and the card.
        """
        chain = self.finished()
        if scored:
            figures = self._figures(chain.fusion)
            write_whole(self.folder / METRICS, json.dumps(figures, indent=2).encode())
        target = self.folder / self.recipe['name']
        stages, stopped = trained_stages(self.folder / STATE, self.stages)
        card = fusion_card(self.recipe, stages, self.caches, self.folder, stopped)
        export_fusion(target, chain.fusion, card)
        return target

    def _figures(self, network: FusionNetwork) -> dict[str, dict[str, float]]:
        """Score on the scenes of all generators; row of the card's table to its figures."""
        wanted = {key: scenes.count for key, scenes in self.generators.items()}
        validation = FusionValidation(wanted, self.cache, self.generators)
        validation.prepare(max(1, self.workers))
        network = network.eval()
        rows = {}
        for key, cache in validation.caches.items():
            scenes = self.generators[key]
            for condition, row in score(network, cache, self.accelerator.device).items():
                rows[f'{scenes.count} {scenes.title}: {condition}'] = row
        return rows

    def measured(self) -> str:
        """Return the Markdown table of the run's figures; empty without any."""
        return metrics_table(self.folder / METRICS)


def new_network(entry: Mapping[str, Any], seed: int) -> FusionNetwork:
    """
    Build the network that a run starts with, from a recipe's ``init``.

    ``channels`` and ``blocks`` of a new one, or ``path``, a folder or ``fusion``, of a trained
    one. Raises ConfigurationError for other keys.
    """
    for key in entry:
        if key not in INIT:
            raise ConfigurationError(f"init has '{key}'; {nearest_name(key, list(INIT))}")
    if 'path' in entry:
        if len(entry) > 1:
            raise ConfigurationError(f'init is {entry}; a path leaves no other choice')
        folder = Path(str(entry['path'])).expanduser()
        if str(folder) == FUSION and not folder.is_dir():
            folder = EMBEDDED / FUSION
        return load_fusion_network(folder).requires_grad_(True).train()
    sizes = {key: [int(x) for x in entry[key]] for key in entry}
    if len(sizes) == 1 or len({len(size) for size in sizes.values()}) > 1:
        raise ConfigurationError(f'init is {entry}; give channels and blocks for as many levels')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FusionNetwork(len(CHANNELS), len(CANDIDATES), **sizes)


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


def _of_pairs(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != 'examples'}
