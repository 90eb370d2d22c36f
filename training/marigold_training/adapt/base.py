# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The checkpoint that an adaptation starts from, of any family that can be trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.average.model import is_average
from marigold_ros.models.locate import find_folder
from marigold_ros.models.registry import family_name
from marigold_training.families.registry import FAMILIES, trained_family
from marigold_training.objectives.adapters import check_peft

SMALL = 30_000_000  # weights; of larger models low-rank adapters are trained where there are some
RANK = 16  # of adapters


@dataclass(frozen=True)
class Base:
    """
    A checkpoint to adapt.

    ``network`` is its family and ``facts`` are its own, as in a recipe; ``trains`` are the
    networks to train, empty for those of the objective; ``adapters`` their rank, 0 without.
    """

    folder: Path
    network: str
    facts: dict[str, Any]
    trains: tuple[str, ...]
    adapters: int = 0

    @property
    def weight_files(self) -> list[Path]:
        """The files of all weights, for a fingerprint."""
        return sorted(self.folder.rglob('*.safetensors'))


def open_base(name: str) -> Base:
    """
    Find a checkpoint and how it is trained.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, or it is damaged.
    ConfigurationError
        If it cannot be trained.

    """
    if is_average(name):
        raise ConfigurationError(
            f'--base {name} is an average of several models; adapt one of them, and average the '
            'result with the others'
        )
    folder = find_folder(name)
    network = family_name(folder)
    if network not in FAMILIES:
        raise ConfigurationError(
            f'--base {name} is a model of the family {network}, which cannot be trained here; '
            f'choose another --base, of one of {", ".join(FAMILIES)}'
        )
    family = trained_family(network)
    facts = family.facts(folder)
    recipe = {'init': {'kind': 'checkpoint', 'path': str(folder)}, 'facts': facts}
    chain = family.initialise(recipe, 0)
    small = sum(p.numel() for p in chain.parameters()) < SMALL
    parts = tuple(name for name, _ in chain.named_children()) if small else ()
    rank = 0 if small or 'adapters' not in family.keys else RANK
    if rank:
        check_peft()  # before bags are read
    return Base(folder, network, facts, parts, rank)
