# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The families that can be trained, by ``network`` of a recipe: their names in ``models.registry``.

A family is a module beside this file with a :class:`TrainedFamily`, and one line in
:data:`FAMILIES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
import json
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.facts import OWN
from marigold_ros.models.locate import read_json
from marigold_ros.models.marigold.domain_gap import FILE as FEATURES
from marigold_ros.models.marigold.domain_gap import TrainingFeatures
from marigold_ros.models.protocol import DepthModel
from marigold_ros.spaces import RELATIVE_SPACES
from marigold_training.networks.export import new_checkpoint
from marigold_training.recipe_keys import check_keys
import torch

Weights = Mapping[str, torch.Tensor]
FAMILIES = {
    'marigold': 'marigold_training.families.marigold',
    'unet': 'marigold_training.families.unet',
    'prime_depth': 'marigold_training.families.prime_depth',
    'diffusion_depth': 'marigold_training.families.diffusion_depth',
    'depth_anything': 'marigold_training.families.depth_anything',
}


def stored_facts(folder: Path) -> dict[str, Any]:
    """Return the facts that a checkpoint was exported with."""
    return read_json(folder / OWN)


@dataclass(frozen=True)
class TrainedFamily:
    """
    What a training run needs of a family; ``facts`` are those of the recipe.

    Parameters
    ----------
    initialise : callable
        Takes the recipe and a seed; returns the networks that a run starts with. Raises
        ConfigurationError or CheckpointError.
    engine : callable
        Takes networks, weights like their ``state_dict``, facts, and a device; returns a model
        that shares no memory with them.
    write : callable
        Takes a folder, networks and facts; writes the checkpoint but for its card.
    kind, usage : callable
        Take the facts; return the card's words on what the model is, and Markdown on how to open
        it elsewhere, or nothing.
    keys : tuple of str
        Keys of a recipe that only this family takes.
    facts : callable
        Takes the folder of a checkpoint; returns the facts of a recipe that starts with it. Raises
        CheckpointError, or ConfigurationError if it cannot be trained by its prediction.
    spaces : tuple of str
        Those that it can predict in.

    """

    initialise: Callable[[Mapping[str, Any], int], Any]
    engine: Callable[[Any, Weights, Mapping[str, Any], torch.device], DepthModel]
    write: Callable[[Path, Any, Mapping[str, Any]], None]
    kind: Callable[[Mapping[str, Any]], str]
    usage: Callable[[Mapping[str, Any]], str] = lambda facts: ''
    keys: tuple[str, ...] = ()
    facts: Callable[[Path], dict[str, Any]] = stored_facts
    spaces: tuple[str, ...] = RELATIVE_SPACES

    def export(
        self,
        folder: Path,
        chain: Any,
        facts: Mapping[str, Any],
        card: str,
        features: TrainingFeatures | None = None,
    ) -> None:
        """Write a checkpoint, whole or not at all; ``features`` are of the training images."""
        with new_checkpoint(folder, card) as draft:
            self.write(draft, chain, facts)
            if features is not None:
                text = json.dumps(asdict(features)) + '\n'
                (draft / FEATURES).write_text(text, encoding='utf-8')


def trained_family(network: str) -> TrainedFamily:
    """Return a family by the ``network`` of a recipe; raises ConfigurationError."""
    if network not in FAMILIES:
        raise ConfigurationError(
            f"network is '{network}', which is no depth model; choose one of {', '.join(FAMILIES)}"
        )
    family: TrainedFamily = import_module(FAMILIES[network]).FAMILY
    return family


def init_kind(entry: Any, known: Mapping[str, Sequence[str]]) -> str:
    """
    Return ``kind`` of a recipe's ``init``.

    ``known`` are the kinds of a family, with the other keys that each may have; raises
    ConfigurationError for any other.
    """
    found: Any = entry.get('kind') if isinstance(entry, Mapping) else None
    if found not in tuple(known):  # it may be a list
        raise ConfigurationError(f"init.kind is '{found}'; choose one of {', '.join(known)}")
    check_keys('init', [key for key in entry if key != 'kind'], known[found])
    if found == 'checkpoint' and 'path' not in entry:
        raise ConfigurationError('init of kind checkpoint lacks path: a name, folder or hub id')
    return str(found)


def copied_weights(
    weights: Weights, name: str, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return copies of one network's weights, by their names in the network."""
    prefix = f'{name}.'
    return {
        key.removeprefix(prefix): value.detach().to(device, dtype, copy=True)
        for key, value in weights.items()
        if key.startswith(prefix)
    }
