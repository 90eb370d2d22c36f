# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What is adapted and how: the base, recipes of a relative model and a fusion network, their budget.

Defaults were chosen on short recordings, one of them real; other robots may want others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.average.model import is_average
from marigold_ros.models.image_sizes import size_by_area, size_by_edge
from marigold_ros.models.locate import find_folder
from marigold_ros.models.registry import family_name
from marigold_training.adapt.blocks import Blocks
from marigold_training.families.registry import FAMILIES, trained_family
from marigold_training.networks.export import usual_size
from marigold_training.objectives.adapters import check_peft

SMALL = 30_000_000  # weights; of larger models low-rank adapters are trained where there are some
RANK = 16  # of adapters
MINUTES = 12.0  # of training, of both networks
HOLD_LINES = 4  # every 4th scan line is never trained on
SYNTHETIC_SHARE = 0.4  # of the steps; with a quarter, synthetic scenes lost more
ROWS = 8  # images of a step; smaller batches take twice the time per image
SCENES = 300
# Of the time to train: the relative model at half size, at full size; the rest is for fusion.
HALF_SHARE, FULL_SHARE = 0.15, 0.6
LINE_EXAMPLES, SCENE_EXAMPLES = 320, 200
STOP_SCENES = 6
VALIDATIONS = 6  # in each stage


@dataclass(frozen=True)
class Base:
    """
    A checkpoint to adapt.

    ``network`` is its family and ``facts`` are its own, as in a recipe; ``trains`` are the
    networks to train or parts of them, empty for the objective's; ``adapters`` their rank, 0
    without.
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
    parts = tuple(name for name, _ in chain.named_children()) if small else chain.parts()
    rank = 0 if small or 'adapters' not in family.keys else RANK
    if rank:
        check_peft()  # before bags are read
    return Base(folder, network, facts, parts, rank)


@dataclass(frozen=True)
class Budget:
    """Steps of each stage."""

    half: int
    full: int
    fusion: int


@dataclass(frozen=True)
class Recordings:
    """
    The bags to adapt to.

    ``bags`` are absolute paths, ``topics`` are arguments of the source ``bag``, ``size`` (H, W) of
    the images in pixels; ``teacher`` a model that labels pixels between the points, or None.
    """

    bags: tuple[str, ...]
    topics: dict[str, Any]
    size: tuple[int, int]
    blocks: Blocks
    hold_lines: int = HOLD_LINES
    teacher: str | None = None

    def source(self, block: str, size: Sequence[int]) -> dict[str, Any]:
        """Return the entry of a recipe for a block."""
        return {
            'kind': 'bag',
            'folder': list(self.bags),
            **self.topics,
            'frames': self.blocks.entries(block),
            'hold_lines': self.hold_lines,
            'size': list(size),
        }

    def taught_source(self, size: Sequence[int]) -> dict[str, Any]:
        """Return the entry of the training block, with the teacher's labels if there are any."""
        source = self.source('train', size)
        if self.teacher is None:
            return source
        return {**source, 'kind': 'taught_bag', 'teacher': self.teacher}


def relative_recipe(base: Base, recordings: Recordings, budget: Budget) -> dict[str, Any]:
    """Return the recipe that adapts a relative model."""
    scene = usual_size(base.facts)
    if pixels := base.facts.get('default_processing_pixels', 0):
        size = size_by_area(*recordings.size, pixels)
    else:
        longest = base.facts.get('default_processing_resolution', max(scene))
        size = size_by_edge(*recordings.size, longest)
    rendered = {'kind': 'synthetic', 'height': scene[0], 'width': scene[1], 'count': SCENES}
    learning = {'learning_rate': 2.0e-4, 'decay': 'cosine'}
    stages: list[dict[str, Any]] = [
        {'name': 'half', 'steps': budget.half, 'scale': 0.5, 'decay_from': 0.7, **learning},
        {'name': 'full', 'steps': budget.full, 'decay_from': 0.2, **learning},
    ]
    for stage in stages:
        stage['validate_every'] = max(1, -(-stage['steps'] // VALIDATIONS))
    return {
        'name': 'relative',
        'network': base.network,
        'init': {'kind': 'checkpoint', 'path': str(base.folder)},
        **({'adapters': base.adapters} if base.adapters else {}),
        'mixing': 'turns',
        'sources': [
            {**recordings.taught_source(size), 'weight': 1 - SYNTHETIC_SHARE},
            {**rendered, 'size': list(scene), 'weight': SYNTHETIC_SHARE},
        ],
        # No mirrored and no cropped images: the camera does not change its place on a robot.
        'augment': {'flip': 0.0, 'colour': 0.5, 'sensor': 0.2},
        'validation': {'stop': recordings.source('stop', size)},
        'common': {
            'objective': 'anchored',
            'trains': list(base.trains),
            'batch_size': ROWS,
            'average': 0.98,
            'clip': 1.0,
            'weight_decay': 1.0e-3,
            'warmup': 20,
            'save_every': 60,
        },
        'stages': stages,
        'facts': base.facts,
    }


def fusion_recipe(start: Path, recordings: Recordings, budget: Budget) -> dict[str, Any]:
    """Return the recipe that adapts the fusion network of the folder ``start``."""
    rendered = {'kind': 'synthetic', 'height': 240, 'width': 320, 'count': SCENE_EXAMPLES}
    return {
        'name': 'fusion',
        'network': 'fusion',
        'init': {'path': str(start)},
        'mixing': 'turns',
        'sources': [
            {
                **recordings.source('train', recordings.size),
                'examples': LINE_EXAMPLES,
                'weight': 1 - SYNTHETIC_SHARE,
            },
            {
                **rendered,
                'size': [240, 320],
                'examples': SCENE_EXAMPLES,
                'weight': SYNTHETIC_SHARE,
            },
        ],
        'validation': {'scenes': STOP_SCENES, 'stop': recordings.source('stop', recordings.size)},
        'stages': [
            {
                'name': 'fusion',
                'objective': 'fusion',
                'steps': budget.fusion,
                'batch_size': ROWS,
                'learning_rate': 3.0e-4,
                'warmup': 10,
                'decay': 'cosine',
                'decay_from': 0.0,
                'final_rate': 0.05,
                'weight_decay': 1.0e-4,
                'betas': [0.9, 0.99],
                'average': 0.98,
                'clip': 1.0,
                'save_every': 60,
                'validate_every': max(1, -(-budget.fusion // VALIDATIONS)),
            }
        ],
    }


def budget_for(minutes: float, half_s: float, full_s: float, fusion_s: float) -> Budget:
    """Return the steps that fit into minutes of training, by measured seconds per step."""
    if not minutes > 0:
        raise ConfigurationError(f'--minutes is {minutes}; choose a time above 0')
    shares = HALF_SHARE, FULL_SHARE, 1 - HALF_SHARE - FULL_SHARE
    steps = (
        max(1, int(60 * minutes * share / seconds))
        for share, seconds in zip(shares, (half_s, full_s, fusion_s), strict=True)
    )
    return Budget(*steps)
