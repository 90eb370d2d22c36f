# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Planted pairs, whose brightness shows the depth; the smallest networks.

The training package may be missing, so it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from marigold_ros.models.marigold.schedule import marigold_scheduler
import numpy as np
import pytest
import torch
import yaml


class PlantedPairs:
    """Pairs whose image shows its own depth, 1 to 9 m from dark to bright, with a hole."""

    def __init__(self, count: int, size: tuple[int, int] = (32, 48), name: str = 'planted'):
        self.name, self._count, self._size = name, count, size
        self.read_indices: list[int] = []

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> object:
        from marigold_training.data.pairs import Pair

        self.read_indices.append(index)
        rng = np.random.default_rng(index)
        height, width = self._size
        ramp = np.linspace(0, 1, height)[:, None] * 0.5 + np.linspace(0, 1, width) * 0.5
        depth = (1.0 + 8.0 * (ramp * rng.uniform(0.5, 1.0))).astype(np.float32)
        grey = np.rint((depth - 1.0) / 8.0 * 255).astype(np.uint8)
        depth[:2, :2] = np.nan
        depth[-2:, -2:] = np.inf
        return Pair(np.repeat(grey[..., None], 3, axis=2), depth)

    def fingerprint(self) -> str:
        return f'{self.name} {self._count} {self._size}'

    def prepare(self, workers: int = 1, stop: object = None) -> None:
        pass


@pytest.fixture(scope='session')
def toy() -> dict:
    """Return a recipe without stages, for very small networks and eight rendered images."""
    return {
        'name': 'toy',
        'init': {
            'kind': 'small',
            'autoencoder': {'channels': [8, 8, 16, 16], 'latent_channels': 4},
            'unet': {'channels': [16, 32]},
        },
        'sources': [
            {'kind': 'synthetic', 'height': 32, 'width': 48, 'count': 8, 'size': [32, 48]}
        ],
        'facts': {'space': 'log', 'noise': 'zeros', 'default_processing_pixels': 1536},
    }


@pytest.fixture
def open_run(toy, tmp_path, accelerator):
    """Return a function that opens a run of the toy recipe with one stage and other keys."""
    from marigold_training.run.recipe import TrainingRun

    def build(stage: object = (), options: object = (), **changes: object) -> TrainingRun:
        one = {'name': 'a', 'objective': 'pixel', 'steps': 1, 'batch_size': 2, **dict(stage)}
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**toy, 'stages': [one], **changes}))
        return TrainingRun(path, tmp_path / 'out', tmp_path / 'data', accelerator, **dict(options))

    return build


@pytest.fixture(scope='session')
def depth_anything(tmp_path_factory):
    """Return a function that writes a small Depth Anything of random weights, in their layout."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    def write(**kind: object) -> Path:
        heads = {'num_attention_heads': 2, 'out_indices': [1, 2, 3, 4]}
        size = {'hidden_size': 32, 'num_hidden_layers': 4, 'image_size': 56, 'patch_size': 14}
        backbone = Dinov2Config(**heads, **size, reshape_hidden_states=False)
        width = {'fusion_hidden_size': 16, 'head_hidden_size': 8, 'reassemble_hidden_size': 32}
        necks = {'neck_hidden_sizes': [8, 16, 16, 16], **width}
        torch.manual_seed(0)
        network = DepthAnythingForDepthEstimation(
            DepthAnythingConfig(backbone_config=backbone, **necks, **kind)
        )
        for part in (network.neck, network.head):
            for weight in part.parameters():
                if weight.ndim == 4:
                    torch.nn.init.kaiming_normal_(weight)
        network.head.conv3.weight.data.mul_(0.1)  # far from the ends of a sigmoid
        network.head.conv3.bias.data.fill_(1.0)
        folder = tmp_path_factory.mktemp('depth_anything') / 'small'
        network.save_pretrained(folder)
        rules = {'ensure_multiple_of': 14, 'keep_aspect_ratio': True}
        processor = {'image_processor_type': 'DPTImageProcessor', **rules}
        processor['size'] = {'height': 42, 'width': 42}
        (folder / 'preprocessor_config.json').write_text(json.dumps(processor))
        return folder

    return write


@pytest.fixture(scope='session')
def planted():
    """Return the class PlantedPairs."""
    return PlantedPairs


@pytest.fixture(scope='session')
def new_chain():
    """Return a function that builds the smallest networks, the same each time."""
    from marigold_training.networks.small_networks import small_autoencoder, small_unet, TEXT_SHAPE
    from marigold_training.objectives.trained_networks import TrainedNetworks

    def make(latent_channels: int = 4) -> TrainedNetworks:
        torch.manual_seed(0)
        return TrainedNetworks(
            small_autoencoder(channels=(8, 8, 16, 16), latent_channels=latent_channels),
            small_unet(channels=(16, 32), latent_channels=latent_channels),
            marigold_scheduler(),
            torch.zeros(TEXT_SHAPE),
        )

    return make


@pytest.fixture(scope='module')
def precision() -> str:
    """Return the precision of the module's accelerator."""
    return 'no'


@pytest.fixture(scope='module', autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Let accelerate, which keeps the settings of the first accelerator, forget it."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture(scope='module')
def accelerator(fresh_accelerate: None, precision: str) -> Accelerator:
    """Return one accelerator of the CPU for the module."""
    return Accelerator(cpu=True, mixed_precision=precision)
