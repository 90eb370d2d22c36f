# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A training run: reads a recipe from YAML, prepares the data, trains and exports."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.data.augment import read_augmentation
from marigold_ros.learning.data.mixture import Mixture, Part
from marigold_ros.learning.data.sources import open_source
from marigold_ros.learning.data.storage import write_whole
from marigold_ros.learning.networks.export import export_checkpoint
from marigold_ros.learning.networks.initialise import initialise
from marigold_ros.learning.objectives.trained_networks import TrainedNetworks
from marigold_ros.learning.parallel import never, Stop, Stopped
from marigold_ros.learning.run.average import blend
from marigold_ros.learning.run.latent_cache import check_augmentation
from marigold_ros.learning.run.loop import Trainer
from marigold_ros.learning.run.model_card import METRICS, metrics_table, model_card
from marigold_ros.learning.run.run_state import load_averaged, STATE
from marigold_ros.learning.run.score import HELD_OUT, HeldOutScenes, score_held_out
from marigold_ros.learning.run.sharding import divided, shard
from marigold_ros.learning.run.stages import read_stages, Stage
from marigold_ros.learning.run.training_features import training_features
from marigold_ros.learning.run.validation import engine_model, facts_of, Validation
from marigold_ros.models.marigold.checkpoint import write_sums
from marigold_ros.models.marigold.domain_gap import TrainingFeatures
from marigold_ros.settings import nearest_name
from marigold_ros.spaces import RELATIVE_SPACES
import yaml

# By the network that a recipe trains: the keys that it must have, and may have.
REQUIRED = {
    'marigold': ('name', 'init', 'sources', 'stages', 'facts'),
    'fusion': ('name', 'network', 'sources', 'stages'),
}
MIXINGS = ('drawn', 'turns')  # how batches choose their source
OPTIONAL = {
    'marigold': (
        'network',
        'seed',
        'augment',
        'common',
        'noise',
        'noise_strength',
        'validation',
        'student',
        'keep_of_start',
        'mixing',
    ),
    'fusion': ('init', 'seed', 'common', 'validation', 'mixing', 'keep_of_start'),
}


class TrainingRun:
    """
    One training run in a folder.

    Parameters
    ----------
    recipe : Path
        YAML file, see docs/training.md for its keys.
    folder : Path
        Of checkpoints, log and export.
    data : Path
        Base of the recipe's relative paths; also caches rendered images.
    accelerator : Accelerator
        Device, precision and processes.
    workers : int
        Processes that load batches ahead.
    sharded : bool
        Whether the processes divide the weights among them.
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
        self.recipe, self.sharded = read_recipe(recipe), sharded
        self.folder, self.data = folder, data
        self.accelerator, self.workers, self.generators = accelerator, workers, generators
        self.seed = int(self.recipe.get('seed', 0))
        self.stages = read_stages(self.recipe['stages'], self.recipe.get('common', {}))
        self.augmentation = read_augmentation(self.recipe.get('augment', {}))
        if any(stage.latent_cache for stage in self.stages):
            check_augmentation(self.augmentation)
        self.kept = self._kept()
        if any(stage.objective == 'anchored' for stage in self.stages):
            self._check_start()
        self.in_turns = in_turns(self.recipe)
        self.space = self.recipe['facts']['space']
        self.validation = self._validation()
        self.sources = [open_source(entry, data) for entry in self.recipe['sources']]
        self.chain = self.new_chain()

    def new_chain(self) -> TrainedNetworks:
        """Build the networks that the run starts with."""
        if 'student' in self.recipe or any('student' in stage.trains for stage in self.stages):
            raise ConfigurationError(
                'this recipe trains a student; give it to training/distill_autoencoder.py'
            )
        if any('fusion' in stage.trains for stage in self.stages):
            raise ConfigurationError(
                f'{self.recipe["name"]} has a stage that trains fusion; such a recipe has '
                "'network: fusion'"
            )
        chain = self.first_chain()
        if any(stage.objective == 'anchored' for stage in self.stages):
            chain.start = (self.first_chain().requires_grad_(False).eval(),)
        return chain

    def first_chain(self) -> TrainedNetworks:
        """Build the networks that the recipe's ``init`` names."""
        return initialise(
            self.recipe['init'],
            self.seed,
            self.space,
            self.recipe.get('noise', 'gaussian'),
            float(self.recipe.get('noise_strength', 0.9)),
        )

    def prepare_data(self, workers: int = 1, stop: Stop = never) -> bool:
        """
        Render missing images and verify existing files; raises InputError naming broken ones.

        Returns False if it was stopped; finished images are kept.
        """
        try:
            for source in self.sources:
                source.prepare(workers, stop)
            self.validation.prepare(workers, stop)
        except Stopped:
            return False
        return True

    def _kept(self) -> float:
        """Return the share of the initial weights in the export."""
        new = any(stage.objective == 'autoencoder' for stage in self.stages)
        new = new or 'student' in self.recipe or self.recipe['init'].get('kind') != 'checkpoint'
        return kept_of_start(self.recipe, not new)

    def _check_start(self) -> None:
        kind = self.recipe['init'].get('kind')
        if kind != 'checkpoint':
            raise ConfigurationError(
                f"objective anchored needs an init of kind checkpoint; it is '{kind}': use pixel"
            )

    def _validation(self) -> Validation:
        entry = self.recipe.get('validation') or {}
        validation = Validation(entry, self.recipe['facts'], self.data, self.generators)
        asking = [stage.name for stage in self.stages if stage.validate_every]
        if asking and not validation:
            raise ConfigurationError(
                f'validate_every of stage {asking[0]} needs images; give the recipe '
                'validation: {scenes: 20}, or set it to 0'
            )
        return validation

    def parts(self, scale: float = 1.0) -> list[Part]:
        """Return the sources with their weights and sizes."""
        found = []
        for entry, source in zip(self.recipe['sources'], self.sources, strict=True):
            height, width = (side * scale for side in entry['size'])
            size = round(height), round(width)
            found.append(Part(source, float(entry.get('weight', len(source))), size))
        return found

    def mixture(self, stage: Stage, number: int) -> Mixture:
        """Return the batches of a stage."""
        return Mixture(
            self.parts(stage.scale),
            stage.batch_size,
            self.space,
            self.augmentation,
            self.seed + 1000 * number,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.in_turns,
        )

    def trainer(self, provenance: Mapping[str, Any] | None = None) -> Trainer:
        """Build the trainer, at the run's last checkpoint if there is one."""
        if self.sharded and not divided(self.chain):
            shard(self.chain, self.accelerator)
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
            self.data / 'latents',
        )

    def train(
        self,
        minutes: float | None = None,
        stop: Stop | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """Train to the end of the recipe or for a time; returns whether the end was reached."""
        return self.trainer(provenance).run(minutes, stop)

    def finished(self) -> TrainedNetworks:
        """
        Return the networks with the averaged weights of the last checkpoint.

        The recipe's ``keep_of_start`` blends in that share of the initial weights. A single
        process can call this alone: divided networks stay divided.
        """
        chain = self.new_chain() if divided(self.chain) else self.chain
        load_averaged(self.folder / STATE, chain.to(self.accelerator.device))
        if self.kept:
            start = self.first_chain().state_dict()
            chain.load_state_dict(blend(chain.state_dict(), start, self.kept))
        return chain

    def training_features(self, chain: TrainedNetworks) -> TrainingFeatures:
        """
        Summarise the training images, as the encoder of ``chain`` sees them.

        Of recipes with recordings or photographs these alone: the scenes beside them only keep
        networks from forgetting.
        """
        parts = self.parts(self.stages[-1].scale)
        kinds = [entry.get('kind') for entry in self.recipe['sources']]
        own = [part for part, kind in zip(parts, kinds, strict=True) if kind != 'synthetic']
        batch = self.stages[-1].batch_size
        mixture = Mixture(own or parts, batch, self.space, self.augmentation, self.seed)
        return training_features(chain.autoencoder, mixture, self.accelerator.device)

    def export(self, scored: bool = False) -> Path:
        """
        Export the averaged weights of the last checkpoint as a folder that the node opens.

        ``scored`` scores them on held-out scenes first, for ``metrics.json`` and the card.
        """
        chain = self.finished()
        if scored:
            facts, device = facts_of(self.recipe['facts']), self.accelerator.device
            model = engine_model(chain, chain.state_dict(), facts, device)
            figures = score_held_out(model, self.generators.values())
            write_whole(self.folder / METRICS, json.dumps(figures, indent=2).encode())
        target = self.folder / self.recipe['name']
        features = self.training_features(chain)
        export_checkpoint(
            target,
            chain.autoencoder,
            chain.unet,
            self.recipe['facts'],
            model_card(self.recipe, self.stages, self.parts(), self.folder),
            scheduler=chain.scheduler,
            text=chain.text,
            features=features,
        )
        write_sums(target)
        return target

    def measured(self) -> str:
        """Return the Markdown table of the run's figures; empty without any."""
        return metrics_table(self.folder / METRICS)


def kept_of_start(recipe: Mapping[str, Any], trained: bool) -> float:
    """Check ``keep_of_start``; ``trained`` is whether the run starts with trained weights."""
    kept = recipe.get('keep_of_start', 0.0)
    if isinstance(kept, bool) or not isinstance(kept, (int, float)) or not 0.0 <= kept < 1.0:
        raise ConfigurationError(f'keep_of_start is {kept!r}; choose from 0 to below 1')
    if kept and not trained:
        raise ConfigurationError(
            'keep_of_start needs an init of kind checkpoint (or of a path, for fusion), no '
            f'student and no stage of objective autoencoder; leave it out of {recipe["name"]}'
        )
    return float(kept)


def in_turns(recipe: Mapping[str, Any]) -> bool:
    """Return whether the batches of a recipe take its sources in turns, or draw them."""
    mixing = recipe.get('mixing', MIXINGS[0])
    if mixing not in MIXINGS:
        raise ConfigurationError(f"mixing is '{mixing}'; choose one of {', '.join(MIXINGS)}")
    return bool(mixing == 'turns')


def read_recipe(path: Path, network: str = 'marigold') -> dict[str, Any]:
    """Read a recipe that trains a network, and check its keys; raises ConfigurationError."""
    recipe = _read(path)
    found = network_of(path)
    if found != network:
        raise ConfigurationError(
            f'{path.name} trains the network {found}, needed is one for {network}; give it to '
            'training/finetune.py'
        )
    keys = [*REQUIRED[network], *OPTIONAL[network]]
    for key in recipe:
        if key not in keys:
            raise ConfigurationError(
                f"unknown key '{key}' in {path.name}; {nearest_name(key, keys)}"
            )
    missing = [key for key in REQUIRED[network] if key not in recipe]
    if missing:
        raise ConfigurationError(f'{path.name} lacks {", ".join(missing)}; see training/recipes')
    if network == 'marigold':
        _check_space(path, recipe['facts'])
    return recipe


def network_of(path: Path) -> str:
    """Return the network that a recipe trains; raises ConfigurationError if it is unknown."""
    network = _read(path).get('network', 'marigold')
    if network not in REQUIRED:
        raise ConfigurationError(
            f"network of {path.name} is '{network}'; choose one of {', '.join(REQUIRED)}"
        )
    return str(network)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigurationError(f'no recipe {path}; see training/recipes')
    try:
        recipe = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ConfigurationError(f'{path} is not valid YAML: {error}') from error
    if not isinstance(recipe, dict):
        raise ConfigurationError(f'{path} holds no keys; see training/recipes')
    return recipe


def _check_space(path: Path, facts: Any) -> None:
    space = facts.get('space') if isinstance(facts, dict) else None
    if space not in RELATIVE_SPACES:
        raise ConfigurationError(
            f"facts.space of {path.name} is '{space}'; choose one of {', '.join(RELATIVE_SPACES)}"
        )
