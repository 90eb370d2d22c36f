# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The folder of a DiffusionDepth: ``config.json``, ``model.safetensors`` and ``marigold_ros.json``.

``config.json`` has ``model_type`` and the architecture, ``marigold_ros.json`` the space
(``metric``), ``max_depth`` in metres and ``default_processing_pixels``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.models.diffusion_depth.backbones import is_backbone
from marigold_ros.models.diffusion_depth.denoiser import GROUPS
from marigold_ros.models.diffusion_depth.network import Architecture, DiffusionDepth
from marigold_ros.models.facts import CONFIG, MapFacts, processing_pixels, WEIGHTS
from marigold_ros.models.locate import read_json
from marigold_ros.models.weights import build_within, load_weights
from marigold_ros.settings import nearest_name
import torch

MODEL_TYPE = 'marigold_ros_diffusion_depth'
SPACE = 'metric'
MAX_DEPTH, PIXELS = 88.0, 27648  # m, as published; 144x192
MOST_STEPS = 50


@dataclass(frozen=True)
class DiffusionDepthFacts(MapFacts):
    """Also the largest depth in metres."""

    max_depth: float


def facts_of(own: Mapping[str, Any], where: str) -> DiffusionDepthFacts:
    """Check the content of ``marigold_ros.json``; raises CheckpointError."""
    space = own.get('space')
    depth = own.get('max_depth', MAX_DEPTH)
    if space != SPACE:
        raise CheckpointError(f"{where} has space '{space}'; a DiffusionDepth has {SPACE}")
    if isinstance(depth, bool) or not isinstance(depth, (int, float)) or not 0.0 < depth < inf:
        raise CheckpointError(f'{where} has max_depth {depth!r}; give metres above 0')
    return DiffusionDepthFacts(SPACE, processing_pixels(own, where, PIXELS), float(depth))


def read_architecture(values: Mapping[str, Any], where: str) -> Architecture:
    """Check the values of an architecture, of which any may be missing; raises CheckpointError."""
    known = [item.name for item in fields(Architecture)]
    for key in values:
        if key not in known:
            raise CheckpointError(f"{where} has '{key}'; {nearest_name(key, known)}")
    own = Architecture(**values)
    rules = {
        'backbone': (
            is_backbone,
            '{channels: […], blocks: […]}, or a model_type with what it needs',
        ),
        'neck': (lambda value: _is_count(value, 0), 'a number of channels, 0 without it'),
        'features': (_is_width, f'a multiple of {GROUPS}'),
        'hidden': (_is_width, f'a multiple of {GROUPS}'),
        'latent': (_is_width, f'a multiple of {GROUPS}'),
        'fuse': (lambda value: isinstance(value, bool), 'true or false'),
        'rectify': (lambda value: isinstance(value, bool), 'true or false'),
        'steps': (lambda value: _is_count(value, 1) and value <= MOST_STEPS, f'1 to {MOST_STEPS}'),
    }
    for name, (passes, rule) in rules.items():
        value = getattr(own, name)
        if not passes(value):
            raise CheckpointError(f'{where} has {name} {value!r}; give {rule}')
    return own


def load_network(folder: Path) -> DiffusionDepth:
    """Load the network of a folder in float32; raises CheckpointError if a file is damaged."""
    path = folder / CONFIG
    values = {key: value for key, value in read_json(path).items() if key != 'model_type'}
    architecture = read_architecture(values, str(path))
    build_within([folder / WEIGHTS], lambda: DiffusionDepth(architecture))
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        network = DiffusionDepth(architecture)
    load_weights(network, folder / WEIGHTS)
    return network.eval().requires_grad_(False)


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_width(value: Any) -> bool:
    return _is_count(value, 1) and value % GROUPS == 0
