# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Small checkpoints of each family, images, and diffusers' pipeline as the oracle."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil

from diffusers import MarigoldDepthPipeline
from marigold_ros.models.diffusion_depth import checkpoint as diffusion_depth
from marigold_ros.models.diffusion_depth.network import Architecture
from marigold_ros.models.prime_depth import checkpoint as prime_depth
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.unet import checkpoint as plain_unet
from marigold_ros.models.unet.network import DepthUNet
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
)


@pytest.fixture
def copy(small_checkpoint, tmp_path) -> Path:
    folder = tmp_path / 'copy'
    shutil.copytree(small_checkpoint, folder)
    return folder


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change keys of a JSON file; None removes one."""

    def change(path: Path, **changes) -> None:
        value = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))

    return change


@pytest.fixture
def oracle() -> Callable[..., MarigoldDepthPipeline]:
    """Diffusers' pipeline over the networks of a model."""

    def build(model) -> MarigoldDepthPipeline:
        pipe = MarigoldDepthPipeline(
            unet=model.unet,
            vae=model.autoencoder,
            scheduler=type(model.scheduler).from_config(model.scheduler.config),
            text_encoder=None,
            tokenizer=None,
            prediction_type='depth',
            scale_invariant=True,
            shift_invariant=True,
            default_denoising_steps=1,
            default_processing_resolution=128,
        )
        pipe.empty_text_embedding = model.text
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return build


@pytest.fixture
def image() -> Callable[..., np.ndarray]:
    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.random((height // 8 + 2, width // 8 + 2, 3))
        return (np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] * 255).astype(np.uint8)

    return make


PROCESSOR = {
    'image_processor_type': 'DPTImageProcessor',
    'do_normalize': True,
    'do_pad': False,
    'do_rescale': True,
    'do_resize': True,
    'ensure_multiple_of': 14,
    'image_mean': [0.485, 0.456, 0.406],
    'image_std': [0.229, 0.224, 0.225],
    'keep_aspect_ratio': True,
    'resample': 3,
    'rescale_factor': 1 / 255,
    'size': {'height': 140, 'width': 140},
}


def write_depth_anything(folder, **kind):
    """Write a small checkpoint with random weights, in the layout of transformers."""
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=70,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 16, 16],
        fusion_hidden_size=16,
        head_hidden_size=8,
        **kind,
    )
    torch.manual_seed(0)
    network = DepthAnythingForDepthEstimation(config)
    # Random weights alone would predict almost the same everywhere, or nothing positive.
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.copy_(weight.abs() * 3)
    network.save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps(PROCESSOR))
    return folder


def write_network(folder, network, config, facts, dtype=torch.float16):
    """Write the checkpoint of a family of one network."""
    folder.mkdir()
    weights = {name: value.to(dtype) for name, value in network.state_dict().items()}
    save_file(weights, folder / 'model.safetensors')
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'marigold_ros.json').write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope='session')
def unet_folder(tmp_path_factory) -> Path:
    """A small plain U-Net of random weights."""
    torch.manual_seed(0)
    network = DepthUNet([8, 16, 24], [1, 0])
    config = {'model_type': plain_unet.MODEL_TYPE, 'channels': [8, 16, 24], 'blocks': [1, 0]}
    facts = {'space': 'log', 'default_processing_pixels': 3072}
    return write_network(tmp_path_factory.mktemp('unet') / 'plain', network, config, facts)


@pytest.fixture(scope='session')
def prime_depth_folder(small_checkpoint, tmp_path_factory) -> Path:
    """A small PrimeDepth with random weights, on the U-Net of the small Marigold."""
    base = prime_depth.load_base(str(small_checkpoint))
    torch.manual_seed(0)
    refiner = Refiner(base.unet.config, 2, [8, 16], 0)
    refiner.text.zero_()
    with torch.no_grad():  # random weights alone would leave [0, 1] nearly everywhere
        refiner.labels.conv_out.bias.fill_(0.5)
        refiner.labels.conv_out.weight.mul_(0.5)
    config = prime_depth.config_of(base, refiner)
    facts = {'space': 'disparity', 'default_processing_pixels': 3072}
    return write_network(tmp_path_factory.mktemp('prime_depth') / 'prime', refiner, config, facts)


@pytest.fixture(scope='session')
def diffusion_depth_folder(tmp_path_factory) -> Path:
    """A small DiffusionDepth of random weights."""
    torch.manual_seed(0)
    backbone = {'channels': [8, 16, 24], 'blocks': [1, 0]}
    architecture = Architecture(backbone=backbone, features=8, hidden=8, latent=8)
    network = diffusion_depth.build_network(architecture)
    # The statistics of the norms, as training finds them.
    with torch.no_grad():
        for _ in range(10):
            image = torch.rand(4, 3, 24, 32) * 2 - 1
            network(image, torch.randn(4, *network.noise_shape(24, 32)))
    config = {'model_type': diffusion_depth.MODEL_TYPE, **architecture.as_dict()}
    facts = {'space': 'metric', 'max_depth': 80.0, 'default_processing_pixels': 3072}
    # Float16 does not reach the variances of latents far below zero.
    folder = tmp_path_factory.mktemp('diffusion_depth') / 'refined'
    return write_network(folder, network, config, facts, torch.float32)


@pytest.fixture(scope='session')
def depth_anything_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp('depth_anything')
    metric = {'depth_estimation_type': 'metric', 'max_depth': 20}
    return write_depth_anything(folder / 'relative'), write_depth_anything(
        folder / 'metric', **metric
    )


@pytest.fixture(params=['dpt', 'glpn'])
def kin_folder(request, tmp_path):
    """Write another depth estimator of transformers."""
    torch.manual_seed(0)
    if request.param == 'glpn':
        sizes = {'hidden_sizes': [8, 16, 24, 32], 'depths': [1, 1, 1, 1]}
        heads = {'num_attention_heads': [1, 1, 2, 2], 'decoder_hidden_size': 8}
        network = GLPNForDepthEstimation(GLPNConfig(**sizes, **heads))
        processor = {'image_processor_type': 'GLPNImageProcessor', 'size_divisor': 32}
    else:
        config = DPTConfig(
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=96,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 16, 16, 16],
            fusion_hidden_size=16,
            is_hybrid=False,
        )
        network = DPTForDepthEstimation(config)
        with torch.no_grad():
            network.head.head[-2].bias.fill_(1.0)  # disparity is positive
        size = {'height': 96, 'width': 96}
        processor = PROCESSOR | {'size': size, 'ensure_multiple_of': 1, 'keep_aspect_ratio': False}
    network.save_pretrained(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(processor))
    return tmp_path


@pytest.fixture
def relative_folder(depth_anything_folders, tmp_path):
    return shutil.copytree(depth_anything_folders[0], tmp_path / 'relative')


@pytest.fixture
def metric_folder(depth_anything_folders, tmp_path):
    return shutil.copytree(depth_anything_folders[1], tmp_path / 'metric')
