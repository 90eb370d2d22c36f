# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Train a Depth Anything further, in the layout of transformers.

``init`` is ``{kind: checkpoint, path: …}``; the unit of disparity stays that of the checkpoint.
Letters: B images, H, W image.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
import re
import shutil
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.depth_anything.kinds import CONFIG, OWN, space_of
from marigold_ros.models.depth_anything.model import DepthEstimator
from marigold_ros.models.locate import find_folder, peek_json, read_json
from marigold_ros.models.transformers_networks import (
    load_depth_network,
    PROCESSOR,
    processor_values,
)
from marigold_ros.models.weights import quiet
from marigold_ros.spaces import SPACES
from marigold_training.families.registry import init_kind, TrainedFamily, Weights
from marigold_training.networks.export import check_finite, write_json
from marigold_training.objectives.trained_networks import TrainedModel
import torch
from torch.nn import functional
from transformers.utils import logging

MODEL_TYPE = 'depth_anything'
# What no pass reads has no gradient, which wrappers for several processes do not forgive.
_UNREAD = re.compile(r'\.mask_token$|\.fusion_stage\.layers\.0\.residual_layer1\.')
_LAYER = re.compile(r'network\.backbone\.encoder\.layer\.\d+')


class TrainedDepthAnything(TrainedModel):
    """A Depth Anything in training, of the checkpoint and the processor of an opened one."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, opened: DepthEstimator) -> None:
        super().__init__(opened.space)
        self.folder, self.unit = opened.folder, opened.unit
        self.network: Any = load_depth_network(opened.folder).requires_grad_(True)
        processor = opened.processor
        values = {'mean': processor.image_mean, 'deviation': processor.image_std}
        if not processor.do_normalize:
            values = {'mean': [0.0], 'deviation': [1.0]}
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)

    def map_and_latent(self, rgb: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Predict (B, 1, H, W) of images (B, 3, H, W) in [-1, 1] at the nearest whole patches."""
        patch = self.network.config.patch_size
        size = [max(1, round(side / patch)) * patch for side in rgb.shape[-2:]]
        image = ((rgb + 1.0) / 2.0 - self.mean) / self.deviation
        seen = functional.interpolate(image, size, mode='bicubic')
        found = self.network(pixel_values=seen).predicted_depth[:, None].float()
        return functional.interpolate(found, rgb.shape[-2:], mode='bicubic') / self.unit, None

    def choose_trained(self, names: Iterable[str]) -> None:
        """Train networks; see the base."""
        super().choose_trained(names)
        for name, weight in self.named_parameters():
            weight.requires_grad_(weight.requires_grad and not _UNREAD.search(name))

    def parts(self) -> tuple[str, ...]:
        """Return neck, head and the later half of the backbone's layers."""
        layers = [name for name, _ in self.named_modules() if _LAYER.fullmatch(name)]
        return 'network.neck', 'network.head', *layers[len(layers) // 2 :]


def initial_network(recipe: Mapping[str, Any], seed: int) -> TrainedDepthAnything:
    """Open the checkpoint that a recipe's ``init`` names."""
    entry, space = recipe['init'], recipe['facts']['space']
    init_kind(entry, {'checkpoint': ('path',)})
    folder = find_folder(str(entry.get('path')))
    _check_kind(folder)
    opened = DepthEstimator(folder, torch.device('cpu'))
    if space != opened.space:
        raise ConfigurationError(
            f"facts.space is '{space}', and {opened.folder.name} predicts {opened.space}; "
            'correct it'
        )
    return TrainedDepthAnything(opened)


def _check_kind(folder: Path) -> None:
    """Raise ConfigurationError for another network of transformers."""
    kind = peek_json(folder / CONFIG).get('model_type')
    if kind != MODEL_TYPE:
        raise ConfigurationError(
            f'{folder.name} is a {kind}, and of the depth estimators of transformers only '
            f'{MODEL_TYPE} is trained here; choose another checkpoint'
        )


def recipe_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint; it is trained at the pixels of its processor's size."""
    _check_kind(folder)
    size = processor_values(folder)['size']
    pixels = int(size['height']) * int(size['width'])
    space = space_of(read_json(folder / CONFIG), peek_json(folder / OWN))
    return {'space': space, 'default_processing_pixels': pixels}


def engine_model(
    chain: TrainedDepthAnything, weights: Weights, facts: Mapping[str, Any], device: torch.device
) -> DepthEstimator:
    """Build the inference model from copies of weights, as from a checkpoint of them."""
    network = deepcopy(chain.network)
    network.load_state_dict({k.removeprefix('network.'): v.detach() for k, v in weights.items()})
    with TemporaryDirectory() as folder:
        _write(Path(folder), chain, network)
        return DepthEstimator(Path(folder), device)


def write(folder: Path, chain: TrainedDepthAnything, facts: Mapping[str, Any]) -> None:
    """Write configuration, processor and weights, as transformers does."""
    _write(folder, chain, chain.network)


def _write(folder: Path, chain: TrainedDepthAnything, network: Any) -> None:
    check_finite(network.state_dict())
    with quiet(logging):
        network.save_pretrained(folder)
    for name in (CONFIG, PROCESSOR):
        shutil.copyfile(chain.folder / name, folder / name)
    write_json(folder / OWN, {'space': chain.space, 'disparity_unit': chain.unit})


def kind(facts: Mapping[str, Any]) -> str:
    """Return what the model is."""
    what = 'metres' if facts['space'] == 'metric' else facts['space']
    return f'Depth Anything, which predicts {what} in one pass'


def usage(facts: Mapping[str, Any]) -> str:
    """Return how to open the checkpoint with transformers."""
    return (
        '\nWith transformers: `AutoModelForDepthEstimation.from_pretrained(folder)`, and '
        '`AutoImageProcessor` likewise.\n'
    )


FAMILY = TrainedFamily(
    initial_network, engine_model, write, kind, usage, facts=recipe_facts, spaces=SPACES
)
