# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A recipe read from YAML and carried out in a folder: check the data, train, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.data.augment import read_augmentation
from marigold_ros.learning.data.latent_cache import check_augmentation
from marigold_ros.learning.data.mixture import Mixture, Part
from marigold_ros.learning.data.sources import open_source
from marigold_ros.learning.data.sources.whole_file import write_whole
from marigold_ros.learning.networks.initialise import initialise
from marigold_ros.learning.networks.small_networks import export_checkpoint
from marigold_ros.learning.objectives.objectives import Chain
from marigold_ros.learning.parallel import never, Stop, Stopped
from marigold_ros.learning.run.average import blend
from marigold_ros.learning.run.card import METRICS, metrics_table, model_card
from marigold_ros.learning.run.loop import Trainer
from marigold_ros.learning.run.run_state import load_averaged, STATE
from marigold_ros.learning.run.score import figures
from marigold_ros.learning.run.sharding import divided, shard
from marigold_ros.learning.run.stages import read_stages, Stage
from marigold_ros.learning.run.validation import engine_model, facts_of, Validation
from marigold_ros.models.marigold.weights import write_sums
from marigold_ros.settings import nearest_name
from marigold_ros.spaces import RELATIVE_SPACES
import yaml

REQUIRED = ('name', 'init', 'sources', 'stages', 'facts')
OPTIONAL = (
    'seed',
    'augment',
    'common',
    'noise',
    'noise_strength',
    'validation',
    'student',
    'keep_of_start',
)
KEYS = REQUIRED + OPTIONAL


class Run:
    """
    One training run.

    Parameters
    ----------
    recipe : Path
        YAML file, see training/README.md for its keys.
    folder : Path
        Of the run.
    data : Path
        Folder that the recipe's relative paths of data start from; rendered images go there too.
    accelerator : Accelerator
        Device, arithmetic and processes.
    workers : int
        Processes that load batches ahead.
    sharded : bool
        Whether the processes divide the weights among them.

    """

    def __init__(
        self,
        recipe: Path,
        folder: Path,
        data: Path,
        accelerator: Accelerator,
        workers: int = 0,
        sharded: bool = False,
    ) -> None:
        self.recipe, self.sharded = read_recipe(recipe), sharded
        self.folder, self.accelerator, self.workers = folder, accelerator, workers
        self.seed = int(self.recipe.get('seed', 0))
        self.data = data
        self.stages = read_stages(self.recipe['stages'], self.recipe.get('common', {}))
        self.augmentation = read_augmentation(self.recipe.get('augment', {}))
        if any(stage.latent_cache for stage in self.stages):
            check_augmentation(self.augmentation)
        self.kept = self._kept()
        self.space = self.recipe['facts']['space']
        self.validation = self._validation(data)
        self.sources = [open_source(entry, data) for entry in self.recipe['sources']]
        self.chain = self.new_chain()

    def new_chain(self) -> Chain:
        """Make the networks that the run starts with."""
        if 'student' in self.recipe or any('student' in stage.trains for stage in self.stages):
            raise ConfigurationError(
                'this recipe trains a student; give it to training/distill_autoencoder.py'
            )
        return self.first_chain()

    def first_chain(self) -> Chain:
        """Make the networks that the recipe's ``init`` names."""
        return initialise(
            self.recipe['init'],
            self.seed,
            self.space,
            self.recipe.get('noise', 'gaussian'),
            float(self.recipe.get('noise_strength', 0.9)),
        )

    def prepare_data(self, workers: int = 1, stop: Stop = never) -> bool:
        """
        Render what is missing and look through what is there; names every broken file.

        Returns False when it was stopped, which keeps what is done.
        """
        try:
            for source in self.sources:
                source.prepare(workers, stop)
            self.validation.prepare(workers, stop)
        except Stopped:
            return False
        return True

    def _kept(self) -> float:
        """Share of the first weights in what is exported."""
        kept = self.recipe.get('keep_of_start', 0.0)
        if isinstance(kept, bool) or not isinstance(kept, (int, float)) or not 0.0 <= kept < 1.0:
            raise ConfigurationError(f'keep_of_start is {kept!r}; choose from 0 to below 1')
        made_anew = any(stage.objective == 'autoencoder' for stage in self.stages)
        new = made_anew or 'student' in self.recipe
        if kept and (new or self.recipe['init'].get('kind') != 'checkpoint'):
            raise ConfigurationError(
                'keep_of_start needs an init of kind checkpoint, no student and no stage of '
                f'objective autoencoder; leave it out of {self.recipe["name"]}'
            )
        return float(kept)

    def _validation(self, data: Path) -> Validation:
        validation = Validation(self.recipe.get('validation') or {}, self.recipe['facts'], data)
        asking = [stage.name for stage in self.stages if stage.validate_every]
        if asking and not validation:
            raise ConfigurationError(
                f'validate_every of stage {asking[0]} needs images; give the recipe '
                'validation: {scenes: 20}, or set it to 0'
            )
        return validation

    def parts(self, scale: float = 1.0) -> list[Part]:
        """Make the sources with their weights and sizes."""
        found = []
        for entry, source in zip(self.recipe['sources'], self.sources, strict=True):
            height, width = (side * scale for side in entry['size'])
            size = round(height), round(width)
            found.append(Part(source, float(entry.get('weight', len(source))), size))
        return found

    def mixture(self, stage: Stage, number: int) -> Mixture:
        """Make the batches of a stage."""
        return Mixture(
            self.parts(stage.scale),
            stage.batch_size,
            self.space,
            self.augmentation,
            self.seed + 1000 * number,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )

    def trainer(self, provenance: Mapping[str, Any] | None = None) -> Trainer:
        """Make the trainer, at the run's last checkpoint."""
        if self.sharded and not divided(self.chain):
            shard(self.chain, self.accelerator)
        return Trainer(
            self.chain,
            self.stages,
            [self.mixture(stage, i) for i, stage in enumerate(self.stages)],
            self.folder,
            self.accelerator,
            {
                'recipe': self.recipe,
                'processes': self.accelerator.num_processes,
                **(provenance or {}),
            },
            self.seed,
            self.workers,
            self.validation,
            self.data / 'latents',
        )

    def train(
        self,
        minutes: float | None = None,
        stop: Callable[[], bool] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """Train to the end or for a time; True when the recipe is done."""
        return self.trainer(provenance).run(minutes, stop)

    def finished(self) -> Chain:
        """
        Give the networks with the averaged weights of the last checkpoint.

        Where the recipe says ``keep_of_start``, they go back so far to where the run began.
        One of several processes can do it alone: divided networks are left as they are.
        """
        chain = self.new_chain() if divided(self.chain) else self.chain
        load_averaged(self.folder / STATE, chain.to(self.accelerator.device))
        if self.kept:
            start = self.first_chain().state_dict()
            chain.load_state_dict(blend(chain.state_dict(), start, self.kept))
        return chain

    def export(self, scored: bool = False) -> Path:
        """
        Write the averaged weights of the last checkpoint as a folder that the node opens.

        ``scored`` first measures them on held-out scenes, for ``metrics.json`` and the card.
        """
        chain = self.finished()
        if scored:
            facts, device = facts_of(self.recipe['facts']), self.accelerator.device
            model = engine_model(chain, chain.state_dict(), facts, device)
            write_whole(self.folder / METRICS, json.dumps(figures(model), indent=2).encode())
        target = self.folder / self.recipe['name']
        export_checkpoint(
            target,
            chain.autoencoder,
            chain.unet,
            self.recipe['facts'],
            model_card(self.recipe, self.stages, self.parts(), self.folder),
            scheduler=chain.scheduler,
            text=chain.text,
        )
        write_sums(target)
        return target

    def measured(self) -> str:
        """Table of the figures in the run's folder, in Markdown; empty without any."""
        return metrics_table(self.folder / METRICS)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe and check its top level; raises ConfigurationError."""
    if not path.is_file():
        raise ConfigurationError(f'no recipe {path}; see training/recipes')
    try:
        recipe = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ConfigurationError(f'{path} is no YAML: {error}') from error
    if not isinstance(recipe, dict):
        raise ConfigurationError(f'{path} holds no keys; see training/recipes')
    for key in recipe:
        if key not in KEYS:
            raise ConfigurationError(
                f"unknown key '{key}' in {path.name}; {nearest_name(key, list(KEYS))}"
            )
    missing = [key for key in REQUIRED if key not in recipe]
    if missing:
        raise ConfigurationError(f'{path.name} lacks {", ".join(missing)}; see training/recipes')
    space = recipe['facts'].get('space') if isinstance(recipe['facts'], dict) else None
    if space not in RELATIVE_SPACES:
        raise ConfigurationError(
            f"facts.space of {path.name} is '{space}'; choose one of {', '.join(RELATIVE_SPACES)}"
        )
    return recipe
