# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A training run: reads a recipe from YAML, prepares the data, trains and exports."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
import json
import os
from pathlib import Path
from typing import Any, Generic, TypeVar

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.locate import FUSION, SUMS
from marigold_ros.models.marigold.domain_gap import TrainingFeatures
from marigold_ros.models.protocol import DepthModel
from marigold_ros.processes import never, Stop
from marigold_ros.whole_files import write_whole
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import BatchRule, Mixture, Part
from marigold_training.data.sources import check_folders, check_teacher, open_source
from marigold_training.data.targets import TargetRule
from marigold_training.families.registry import FAMILIES, trained_family
from marigold_training.objectives.losses import OBJECTIVES
from marigold_training.objectives.trained_networks import (
    TrainedModel,
    TrainedModule,
    TrainedNetworks,
)
from marigold_training.recipe_keys import check_entries, check_keys, check_mapping, read_fields
from marigold_training.run.average import blend
from marigold_training.run.latent_cache import check_augmentation
from marigold_training.run.loop import PICTURES, Scoring, Trainer
from marigold_training.run.model_card import (
    METRICS,
    metrics_table,
    model_card,
    training_note,
)
from marigold_training.run.run_log import CURVES
from marigold_training.run.run_log import NAME as LOG
from marigold_training.run.run_state import BACKUPS, load_averaged, origin, STATE, trained_stages
from marigold_training.run.score import HELD_OUT, HeldOutScenes, score_held_out
from marigold_training.run.sharding import divided, shard
from marigold_training.run.stages import read_stages, Stage
from marigold_training.run.training_features import training_features
from marigold_training.run.validation import Validation
from torch.utils.data import Dataset
import yaml

# The keys that a recipe must have, and may have: of a depth model, and of the fusion network.
REQUIRED = ('name', 'init', 'sources', 'stages', 'facts')
OPTIONAL = (
    'network',
    'seed',
    'augment',
    'targets',
    'precision',
    'common',
    'validation',
    'keep_of_start',
    'mixing',
)
FUSION_REQUIRED = ('name', 'network', 'sources', 'stages')
FUSION_OPTIONAL = ('init', 'seed', 'precision', 'common', 'validation', 'mixing', 'keep_of_start')
FACTS = (
    'space',
    'noise',
    'default_denoising_steps',
    'default_ensemble_size',
    'default_processing_pixels',
    'default_processing_resolution',
    'longest_edge',
    'max_depth',
)
MIXINGS = ('drawn', 'turns')  # how batches choose their source
OF_RUN = (STATE, BACKUPS, METRICS, LOG, CURVES, PICTURES)  # in a run's folder, beside the export
PRECISIONS = {'bf16': 'bf16', 'fp16': 'fp16', 'float32': 'no'}  # as accelerate names them

Chain = TypeVar('Chain', bound=TrainedModule)


class Run(ABC, Generic[Chain]):
    """
    One training run in a folder: what the runs of all networks share.

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

    chain: Chain
    validation: Scoring
    kept: float  # share of the initial weights in the export

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
        self.recipe, self.folder, self.data = read_recipe(recipe), folder, data
        if folder is not None:  # there is none where data are only prepared
            _check_target(folder / self.recipe['name'])
        self.accelerator, self.workers, self.sharded = accelerator, workers, sharded
        self.generators, self.seed = generators, seed_of(self.recipe)
        self.stages = read_stages(self.recipe['stages'], self.recipe.get('common', {}))
        self.in_turns = in_turns(self.recipe)
        self.weights = ''  # of the export, as of load_averaged

    def batch_rule(self, stage: Stage, number: int) -> BatchRule:
        """Return how the batches of a stage are put together."""
        accelerator, seed = self.accelerator, self.seed + 1000 * number
        rank, world = accelerator.process_index, accelerator.num_processes
        return BatchRule(stage.batch_size, seed, rank, world, self.in_turns)

    @abstractmethod
    def first_chain(self) -> Chain:
        """Build the networks that the recipe's ``init`` names."""

    def new_chain(self) -> Chain:
        """Build the networks that the run starts with."""
        return self.first_chain()

    @abstractmethod
    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Make what is missing of the data and verify files; raises InputError naming broken ones.

        Raises Stopped once ``stop`` returns true; what is finished is kept.
        """

    def check_validation(self) -> None:
        """Raise ConfigurationError if a stage wants to validate and there is nothing to."""
        asking = [stage.name for stage in self.stages if stage.validate_every]
        if asking and not self.validation:
            raise ConfigurationError(
                f'validate_every of stage {asking[0]} needs images; give the recipe '
                'validation: {scenes: 20}, or set it to 0'
            )

    @abstractmethod
    def mixture(self, stage: Stage, number: int) -> Dataset:
        """Return the batches of a stage."""

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

    def finished(self, weights: str = '') -> Chain:
        """
        Return the networks with the averaged weights that validation selected, or else the last.

        Other ``weights`` are as of :func:`load_averaged`. The recipe's ``keep_of_start`` blends in
        that share of the initial weights. A single process can call this alone: divided networks
        stay divided.
        """
        chain = self.new_chain() if divided(self.chain) else self.chain
        chain.to(self.accelerator.device)
        load_averaged(self.folder / STATE, chain, weights, self.recipe)
        if self.kept:
            start = self.first_chain().state_dict()
            chain.load_state_dict(blend(chain.state_dict(), start, self.kept))
        return chain

    def export(self, scored: bool = False, weights: str = '') -> Path:
        """
        Export the averaged weights of the last checkpoint as a folder that the node opens.

        ``weights`` chooses others, see :func:`load_averaged`. ``scored`` scores them on held-out
        scenes first, for ``metrics.json`` and the card.
        """
        chain, self.weights, state = self.finished(weights), weights, self.folder / STATE
        if scored:
            write_whole(self.metrics, json.dumps(self.figures(chain), indent=2).encode())
        target = self.folder / self.recipe['name']
        stages, stopped = trained_stages(state, self.stages)
        self.write(target, chain, stages, training_note(stopped, origin(state, weights)))
        return target

    @abstractmethod
    def figures(self, chain: Chain) -> dict[str, dict[str, float]]:
        """Score networks on held-out scenes; row of the card's table to its figures."""

    @abstractmethod
    def write(self, folder: Path, chain: Chain, stages: list[Stage], note: str) -> None:
        """Write networks and card; ``stages`` were trained, ``note`` is of their card."""

    def measured(self) -> str:
        """Return the Markdown table of the run's figures; empty without any."""
        return metrics_table(self.metrics)

    @property
    def metrics(self) -> Path:
        """The file of the figures of the exported weights."""
        name = f'metrics_{Path(self.weights).stem}.json' if self.weights else METRICS
        return self.folder / name


class TrainingRun(Run[TrainedModel]):
    """
    A run that trains a depth model.

    Parameters
    ----------
    *given
        As of :class:`Run`.
    networks : bool
        False only to prepare the data, for which no weights are needed.
    **named
        As of :class:`Run`.

    """

    def __init__(self, *given: Any, networks: bool = True, **named: Any) -> None:
        super().__init__(*given, **named)
        self.family = trained_family(network_of(self.recipe))
        self.augmentation = read_fields(Augmentation, 'augment', self.recipe.get('augment', {}))
        self.targets = read_fields(TargetRule, 'targets', self.recipe.get('targets', {}))
        if any(stage.latent_cache for stage in self.stages):
            check_augmentation(self.augmentation)
        kind = self.recipe['init'].get('kind')
        objectives = {stage.objective for stage in self.stages}
        if 'anchored' in objectives and kind != 'checkpoint':
            raise ConfigurationError(
                f"objective anchored needs an init of kind checkpoint; it is '{kind}': use pixel"
            )
        new = kind != 'checkpoint' or 'student' in self.recipe or 'autoencoder' in objectives
        self.kept = kept_of_start(self.recipe, not new)
        unweighted = objectives & {'latent', 'one_step', 'diffusion_depth'}
        if unweighted and any(one.get('kind') == 'taught_bag' for one in self.recipe['sources']):
            raise ConfigurationError(
                f'objective {min(unweighted)} ignores the weights of labels, which a source of '
                'kind taught_bag has; use pixel or anchored'
            )
        self.space = self.recipe['facts']['space']
        check_folders(self.recipe, self.data)
        self.validation: Validation = Validation(
            self.recipe.get('validation', {}),
            self.family,
            self.recipe['facts'],
            self.data,
            self.generators,
        )
        self.check_validation()
        self.sources = [open_source(entry, self.data) for entry in self.recipe['sources']]
        for source in self.sources:
            check_teacher(source, self.space)
        if networks:
            self.chain = self.new_chain()

    def new_chain(self) -> TrainedModel:
        """Build the networks that the run starts with."""
        if any('student' in stage.trains for stage in self.stages):
            raise ConfigurationError(
                'the stages train a student; give its sizes as student, {} for the usual ones'
            )
        chain = self.first_chain()
        anchored = any(stage.objective == 'anchored' for stage in self.stages)
        if (anchored or self.kept) and chain.initial_space != self.space:
            raise ConfigurationError(
                f"facts.space is '{self.space}' and init predicts '{chain.initial_space}', which "
                'objective anchored and keep_of_start would mix; set it to the latter'
            )
        if anchored:
            chain.start = (self.first_chain().requires_grad_(False).eval(),)
            chain.eval()  # a few images of one place are no statistics for batch norms
        for stage in self.stages:
            check_stage(stage, chain)
        if isinstance(chain, TrainedNetworks):
            check_initial_noise(self.stages, self.recipe['facts'].get('noise', 'gaussian'))
        return chain

    def first_chain(self) -> TrainedModel:
        """Build the networks that the recipe's ``init`` names."""
        chain: TrainedModel = self.family.initialise(self.recipe, self.seed)
        return chain

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Render missing images and verify existing files."""
        for source in self.sources:
            source.prepare(workers, stop)
        self.validation.prepare(workers, stop)

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
        rule = self.batch_rule(stage, number)
        return Mixture(self.parts(stage.scale), rule, self.space, self.augmentation, self.targets)

    def trainer(self, provenance: Mapping[str, Any] | None = None) -> Trainer:
        """Build the trainer, at the run's last checkpoint if there is one."""
        if self.sharded and not divided(self.chain):
            if not isinstance(self.chain, TrainedNetworks):
                raise ConfigurationError(
                    f'--shard is for large networks; {self.recipe["network"]} is small: leave it '
                    'out'
                )
            shard(self.chain, self.accelerator)
        return super().trainer(provenance)

    def training_features(self, chain: TrainedModel) -> TrainingFeatures | None:
        """
        Summarise the training images, as the encoder of ``chain`` sees them; None without one.

        Of recipes with recordings or photographs these alone: the scenes beside them only keep
        networks from forgetting.
        """
        parts = self.parts(self.stages[-1].scale)
        kinds = [entry.get('kind') for entry in self.recipe['sources']]
        own = [part for part, kind in zip(parts, kinds, strict=True) if kind != 'synthetic']
        device = self.accelerator.device
        return training_features(chain, own or parts, self.augmentation, device, self.seed)

    def figures(self, chain: TrainedModel) -> dict[str, dict[str, float]]:
        """Score networks on held-out scenes; row of the card's table to its figures."""
        return score_held_out(self.engine(chain), self.generators.values())

    def write(self, folder: Path, chain: TrainedModel, stages: list[Stage], note: str) -> None:
        """Write the checkpoint and its card."""
        card = model_card(self.recipe, self.family, stages, self.parts(), self.metrics, note)
        features = self.training_features(chain)
        self.family.export(folder, chain, self.recipe['facts'], card, features)

    def engine(self, chain: TrainedModel) -> DepthModel:
        """Build the inference model from copies of a chain's weights."""
        device = self.accelerator.device
        return self.family.engine(chain, chain.state_dict(), self.recipe['facts'], device)


def check_stage(stage: Stage, chain: TrainedModule) -> None:
    """Raise ConfigurationError unless a stage's objective and networks are those of the chain."""
    if not isinstance(chain, OBJECTIVES[stage.objective].of):
        usable = [name for name, item in OBJECTIVES.items() if isinstance(chain, item.of)]
        raise ConfigurationError(
            f'stage {stage.name} has objective {stage.objective}, which this network cannot '
            f'learn; choose one of {", ".join(usable)}, or another network'
        )
    parts = dict(chain.named_modules())
    for name in stage.trains:
        if name not in parts:
            own = ', '.join(name for name, _ in chain.named_children())
            raise ConfigurationError(f'stage {stage.name} trains {name}; this network has {own}')


def check_initial_noise(stages: Sequence[Stage], noise: str) -> None:
    """Raise ConfigurationError if a U-Net that last learned steps from zeros begins with noise."""
    last = [stage for stage in stages if any(x.split('.')[0] == 'unet' for x in stage.trains)][-1:]
    if last and last[0].objective != 'latent' and noise != 'zeros':
        raise ConfigurationError(
            f"facts.noise is '{noise}', and stage {last[0].name} (objective {last[0].objective}) "
            'trains one step from zeros; set it to zeros, or let a stage of latent follow'
        )


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


def _check_target(target: Path) -> None:
    """Refuse to replace a folder that no run has exported; raises ConfigurationError."""
    if os.path.lexists(target) and not (target / SUMS).is_file():
        raise ConfigurationError(
            f'{target} exists and is no exported checkpoint, which alone would be replaced; '
            'choose another --out'
        )


def seed_of(recipe: Mapping[str, Any]) -> int:
    """Return the seed of a recipe; raises ConfigurationError unless NumPy can take it."""
    seed = recipe.get('seed', 0)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ConfigurationError(f'seed is {seed!r}; give a whole number from 0 to {2**32 - 1}')
    return seed


def in_turns(recipe: Mapping[str, Any]) -> bool:
    """Return whether the batches of a recipe take its sources in turns, or draw them."""
    mixing = recipe.get('mixing', MIXINGS[0])
    if mixing not in MIXINGS:
        raise ConfigurationError(f"mixing is '{mixing}'; choose one of {', '.join(MIXINGS)}")
    return bool(mixing == 'turns')


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe and check its keys; raises ConfigurationError."""
    recipe = _read(path)
    network, known = network_of(recipe), (*FAMILIES, FUSION)
    if network not in known:
        raise ConfigurationError(
            f"network of {path.name} is '{network}'; choose one of {', '.join(known)}"
        )
    required: tuple[str, ...]
    optional: tuple[str, ...]
    if network == FUSION:
        required, optional = FUSION_REQUIRED, FUSION_OPTIONAL
    else:
        required, optional = REQUIRED, (*OPTIONAL, *trained_family(network).keys)
    check_keys(path.name, recipe, (*required, *optional))
    missing = [key for key in required if key not in recipe]
    if missing:
        raise ConfigurationError(f'{path.name} lacks {", ".join(missing)}; see training/recipes')
    name = recipe['name']
    if not isinstance(name, str) or Path(name).name != name or not name.strip('. '):
        raise ConfigurationError(f'name of {path.name} is {name!r}; give text without /')
    if name in OF_RUN:
        raise ConfigurationError(
            f"name of {path.name} is '{name}', which the run's folder has for a file of its own; "
            'choose another'
        )
    check_mapping('init', recipe.get('init', {}))
    check_entries('sources', recipe['sources'])
    if network != FUSION:
        _check_facts(path, recipe['facts'], trained_family(network).spaces)
    return recipe


def network_of(recipe: Mapping[str, Any]) -> str:
    """Return the network that a recipe trains."""
    network: str = recipe.get('network', 'marigold')
    return network


def precision_of(recipe: Mapping[str, Any]) -> str:
    """Return accelerate's name of a recipe's ``precision``; raises ConfigurationError."""
    precision = recipe.get('precision', 'bf16')
    if precision not in tuple(PRECISIONS):  # it may be a list
        raise ConfigurationError(
            f"precision is '{precision}'; choose one of {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[precision]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                text = f"'{key.value}' is given twice; leave one of them out"
                raise yaml.MarkedYAMLError(problem=text, problem_mark=key.start_mark)
        return node


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigurationError(f'no recipe {path}; see training/recipes')
    try:
        recipe = yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f'{path} is not valid YAML: {error}') from error
    if not isinstance(recipe, dict):
        raise ConfigurationError(f'{path} holds no keys; see training/recipes')
    # A key without a value, as where all below it is a comment, says nothing.
    return {key: value for key, value in recipe.items() if value is not None}


def _check_facts(path: Path, facts: Any, spaces: Sequence[str]) -> None:
    check_keys(f'facts of {path.name}', check_mapping('facts', facts), FACTS)
    space = facts.get('space')
    if space not in spaces:
        raise ConfigurationError(
            f"facts.space of {path.name} is '{space}'; choose one of {', '.join(spaces)}"
        )
