# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Stages of a recipe: objective, networks, steps and learning rate, by their YAML keys."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
import math
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_training.objectives.losses import OBJECTIVES
from marigold_training.recipe_keys import check_entries, check_keys, check_mapping

NETWORKS = ('autoencoder', 'unet', 'student', 'fusion', 'network', 'prompt')
SCORED = {'unet', 'fusion', 'network'}  # predict depth, which a validation can score
DECAYS = ('exponential', 'cosine')
# By the type of a field: those of its values, and what they are in words.
TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), 'true or false'),
    int: ((int,), 'a whole number (YAML takes 1e4 for text: write 10000)'),
    str: ((str,), 'text'),
    float: ((int, float), 'a number (YAML takes 1e-4 for text: write 1.0e-4)'),
}


@dataclass(frozen=True)
class Stage:
    """One stage; a step is ``accumulation`` batches and one update of the weights."""

    name: str
    objective: str
    steps: int
    batch_size: int = 16  # over all processes
    accumulation: int = 1
    learning_rate: float = 5e-4
    warmup: int = 100  # steps, linear from zero
    decay: str = 'exponential'  # or cosine
    decay_from: float = 0.7  # share of the steps after which the rate falls
    final_rate: float = 0.01  # share of the rate at the end
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam's moments
    scale: float = 1.0  # of each image side
    average: float = 0.0  # decay of the exponential moving average of the weights; 0 is none
    clip: float = 0.0  # norm of the gradient; 0 is no limit
    trains: tuple[str, ...] = ()  # NETWORKS or parts of them; empty: as the objective says
    gradient_checkpointing: bool = False
    latent_cache: bool = False  # encode all images once, see latent_cache.py
    save_every: int = 200  # steps
    backup_every: int = 0  # steps after which the weights are kept in a file; 0 is never
    validate_every: int = 0  # steps, and at the end, if SCORED are trained; 0 is never

    @property
    def pixels(self) -> float:
        """Images of a step, in units of the sources' size."""
        return self.batch_size * self.accumulation * self.scale**2

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            kinds, words = TYPES.get(item.type, ((type(value),), ''))
            if type(value) not in kinds:
                raise ConfigurationError(f'{item.name} is {value!r}; give {words}')
        self._check_objective()
        self._check_numbers()

    def _check_objective(self) -> None:
        """Check the objective, and what it trains; ``trains`` becomes a tuple, never empty."""
        if self.objective not in OBJECTIVES:
            raise ConfigurationError(
                f"objective is '{self.objective}'; choose one of {', '.join(OBJECTIVES)}"
            )
        if not isinstance(self.trains, (list, tuple)) or not all(
            isinstance(name, str) for name in self.trains
        ):
            raise ConfigurationError(f'trains is {self.trains!r}; give a list, as [unet]')
        trains = tuple(self.trains) or OBJECTIVES[self.objective].trains
        whole = {name.split('.')[0] for name in trains}
        for name in sorted(whole - set(NETWORKS)):
            raise ConfigurationError(f"trains has '{name}'; choose from {', '.join(NETWORKS)}")
        needed = set(OBJECTIVES[self.objective].trains)
        # Other families than Marigold have one network, by another name.
        if not needed <= whole and not (needed == {'unet'} and whole & {'prompt', 'network'}):
            raise ConfigurationError(
                f'trains of stage {self.name} is {", ".join(trains)}; {self.objective} trains at '
                f'least {", ".join(sorted(needed))}'
            )
        if self.latent_cache and not (
            OBJECTIVES[self.objective].on_latents and 'autoencoder' not in trains
        ):
            usable = [name for name, item in OBJECTIVES.items() if item.on_latents]
            raise ConfigurationError(
                f'stage {self.name} has latent_cache, objective {self.objective} and trains '
                f'{", ".join(trains)}; latents can be cached under {" or ".join(usable)} if the '
                'autoencoder is not trained: set latent_cache to false'
            )
        object.__setattr__(self, 'trains', trains)

    def _check_numbers(self) -> None:
        """Check each number against its range, and those of the learning rate's decay together."""
        if self.decay not in DECAYS:
            raise ConfigurationError(f"decay is '{self.decay}'; choose one of {', '.join(DECAYS)}")
        betas = self.betas
        two = isinstance(betas, (list, tuple)) and len(betas) == 2
        if not two or not all(isinstance(x, (int, float)) and 0.0 <= x < 1.0 for x in betas):
            raise ConfigurationError(f'betas is {betas}; give two numbers in [0, 1)')
        object.__setattr__(self, 'betas', tuple(map(float, betas)))  # as Adam wants them
        for name in ('steps', 'batch_size', 'accumulation', 'save_every'):
            if getattr(self, name) < 1:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; it must be at least 1')
        for name in ('validate_every', 'backup_every', 'warmup'):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f'{name} is {getattr(self, name)}; choose a number of steps, or 0'
                )
        for name in ('learning_rate', 'weight_decay', 'clip'):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; choose 0 or more')
        shares = ('average', 0.0, 1.0), ('decay_from', 0, 1), ('final_rate', 0, 1)
        for name, low, high in (('scale', 1e-3, 1.0), *shares):
            if not low <= getattr(self, name) <= high:
                raise ConfigurationError(
                    f'{name} is {getattr(self, name)}; choose from {low:g} to {high:g}'
                )
        if self.decay == 'exponential' and not self.final_rate:
            raise ConfigurationError(
                'final_rate is 0, which an exponential decay never reaches; choose a share above '
                '0, or set decay to cosine'
            )

    def validates_at(self, step: int) -> bool:
        """Return whether to score after this step, if the stage changes depth."""
        if not self.validate_every or not SCORED & {name.split('.')[0] for name in self.trains}:
            return False
        return step % self.validate_every == 0 or step == self.steps


def read_stages(entries: list[dict[str, Any]], common: Mapping[str, Any]) -> list[Stage]:
    """Read the stages of a recipe; raises ConfigurationError for an unknown key."""
    known = [item.name for item in fields(Stage)]
    check_entries('stages', entries)
    for entry in (*entries, check_mapping('common', common)):
        check_keys('a stage', entry, known)
    if not entries:
        raise ConfigurationError('stages is empty; a recipe needs at least one')
    for number, entry in enumerate(entries, 1):
        for key in ('name', 'objective', 'steps'):
            if key not in {**common, **entry}:
                raise ConfigurationError(f'entry {number} of stages lacks {key}')
    stages = [Stage(**{**common, **entry}) for entry in entries]
    names = [stage.name for stage in stages]
    for name in names:  # of files of the run
        if names.count(name) > 1 or '/' in name:
            raise ConfigurationError(
                f"a stage has the name '{name}'; give each a name of its own, without /"
            )
    return stages
