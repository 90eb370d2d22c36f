# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The model families: found by a checkpoint's files, loaded when first needed; imports no torch.

A family is a package beside this file and one line in :data:`FAMILIES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models.depth_anything.kinds import is_depth_estimator, KINDS, NOT_DEPTH
from marigold_ros.models.light_imports import import_networks
from marigold_ros.models.locate import offline, peek_json, read_json


@dataclass(frozen=True)
class Family:
    """
    A family of checkpoints.

    The loader, ``module:function``, takes folder, ``torch.device``, dtype and RuntimeConfig, and
    ``vae`` as in ``load_model`` if it ``takes_vae``; it returns a ``FullDepthModel``. Where there
    is one, the loader ``compiled`` loads what OpenVINO compiled before, without torch, and the
    converter, ``module:function`` both, makes a ``Conversion`` of a ``Released``.
    """

    matches: Callable[[Path], bool]  # whether a folder holds a checkpoint of the family
    loader: str
    openvino: bool = True  # whether it runs it: then `runtime.backend: auto` may choose it
    takes_vae: bool = False
    diffusers: bool = False  # whether its networks are those of diffusers, or hold some
    compiled: str = ''
    converter: str = ''

    def load(self, folder: Path, *settings: Any, vae: str | None = None) -> Any:
        """Call the loader, which imports the family; ConfigurationError for a vae in vain."""
        if vae is not None and not self.takes_vae:
            raise ConfigurationError(
                f"vae is '{vae}', and {folder} has no autoencoder of its own: leave it empty"
            )
        with offline():  # packages seem missing to other threads while networks are imported
            if self.diffusers:
                import_networks()
            load = named(self.loader)
            return load(folder, *settings, vae) if self.takes_vae else load(folder, *settings)


def named(place: str) -> Any:
    """Import what ``module:function`` names."""
    module, function = place.split(':')
    return getattr(import_module(module), function)


def has_file(name: str, **values: Any) -> Callable[[Path], bool]:
    """Return a predicate of folders: the JSON file is there and holds these values."""

    def matches(folder: Path) -> bool:
        path = folder / name
        content = peek_json(path) if values else {}
        return path.is_file() and all(content.get(key) == one for key, one in values.items())

    return matches


# The first that matches is taken.
FAMILIES = {
    'marigold': Family(
        has_file('model_index.json'),
        'marigold_ros.models.marigold.prompted:load',
        takes_vae=True,
        diffusers=True,
    ),
    'unet': Family(
        has_file('config.json', model_type='marigold_ros_unet'),
        'marigold_ros.models.unet.model:load',
        compiled='marigold_ros.models.unet.compiled_model:CompiledUNetModel',
    ),
    'prime_depth': Family(
        has_file('config.json', model_type='marigold_ros_prime_depth'),
        'marigold_ros.models.prime_depth.model:load',
        diffusers=True,
        converter='marigold_ros.models.prime_depth.convert:convert',
    ),
    'diffusion_depth': Family(
        has_file('config.json', model_type='marigold_ros_diffusion_depth'),
        'marigold_ros.models.diffusion_depth.model:load',
        openvino=False,  # in its bfloat16, twenty steps move metres
        diffusers=True,
        converter='marigold_ros.models.diffusion_depth.convert:convert',
    ),
    'zoedepth': Family(
        has_file('config.json', model_type='zoedepth'),
        'marigold_ros.models.depth_anything.model:load',
        openvino=False,  # of two domains, which choose their head
    ),
    'depth_anything': Family(is_depth_estimator, 'marigold_ros.models.depth_anything.model:load'),
}


# What `model` may name: a checkpoint of a family, or several to be averaged.
NAMES = (*FAMILIES, 'average')
_FIRST_FILES = ('model_index.json', 'config.json')  # one of them shows the family


def find_family(folder: Path) -> Family:
    """Return the family of a checkpoint's folder; raises CheckpointError if there is none."""
    return FAMILIES[family_name(folder)]


def family_name(folder: Path) -> str:
    """Return the name of the family of a checkpoint's folder; raises as :func:`find_family`."""
    for name, family in FAMILIES.items():
        if family.matches(folder):
            return name
    config = folder / 'config.json'
    if not config.is_file():
        inner = _checkpoints_below(folder)
        example = f', such as {inner[0]}' if inner else ''
        raise CheckpointError(
            f'{folder} has no model_index.json and no config.json; give the folder of a checkpoint'
            f'{example}, in the layout of diffusers or transformers'
        )
    kind = read_json(config).get('model_type')
    other = NOT_DEPTH.get(str(kind), 'is no known depth network')
    raise CheckpointError(
        f'{config} has model_type {kind!r}, which {other}; choose one of {", ".join(KINDS)}, or a '
        'folder with model_index.json'
    )


def _checkpoints_below(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, which may be a run's or one of the hub's cache."""
    names = [f'{part}/{name}' for part in ('*', 'snapshots/*') for name in _FIRST_FILES]
    inner = sorted({path.parent for name in names for path in folder.glob(name)})
    return [path for path in inner if any(one.matches(path) for one in FAMILIES.values())]
