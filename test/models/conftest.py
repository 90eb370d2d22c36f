# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Small checkpoints of each family, images, and diffusers' pipeline as the oracle."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
import gzip
import json
from pathlib import Path
import shutil
import zlib

from diffusers import MarigoldDepthPipeline
from marigold_ros.config import RuntimeConfig
from marigold_ros.models import load_model
from marigold_ros.models.convert.pickles import Released
from marigold_ros.models.convert.released import write_files
from marigold_ros.models.diffusion_depth import checkpoint as diffusion_depth
from marigold_ros.models.diffusion_depth.convert import convert as convert_diffusion_depth
from marigold_ros.models.diffusion_depth.network import Architecture, DiffusionDepth
from marigold_ros.models.locate import write_sums
from marigold_ros.models.marigold.prompt import PointPrompt
from marigold_ros.models.prime_depth import checkpoint as prime_depth
from marigold_ros.models.prime_depth.convert import convert as convert_prime_depth
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.unet.folder import MODEL_TYPE
from marigold_ros.models.unet.network import DepthUNet
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from small_estimators import (
    small_depth_anything,
    small_depth_pro,
    small_dpt,
    small_glpn,
    small_prompt_depth_anything,
    small_tips,
    small_zoedepth,
    write_estimator,
)
import torch


@pytest.fixture
def copy(small_checkpoint, tmp_path) -> Path:
    folder = tmp_path / 'copy'
    shutil.copytree(small_checkpoint, folder)
    return folder


@pytest.fixture(scope='module')
def plain(small_checkpoint):
    """The small Marigold in the layout and arithmetic of diffusers."""
    return load_model(
        str(small_checkpoint), device='cpu', runtime=RuntimeConfig(channels_last=False)
    )


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change keys of a JSON file; None removes one."""

    def change(path: Path, **changes) -> None:
        value = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))

    return change


@pytest.fixture
def oracle() -> Callable[..., MarigoldDepthPipeline]:
    """Diffusers' pipeline over the networks of a model, none of whose layers is replaced."""

    def build(model) -> MarigoldDepthPipeline:
        vae = deepcopy(model.autoencoder)
        for block in getattr(vae.decoder, 'up_blocks', ()):
            for number, layer in enumerate(block.upsamplers or ()):
                block.upsamplers[number] = layer.layer
        pipe = MarigoldDepthPipeline(
            unet=model.unet,
            vae=vae,
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


@pytest.fixture
def rgb() -> np.ndarray:
    """Noise, (70, 96, 3)."""
    return np.random.default_rng(0).integers(0, 256, (70, 96, 3), np.uint8)


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
    config = {'model_type': MODEL_TYPE, 'channels': [8, 16, 24], 'blocks': [1, 0]}
    facts = {'space': 'log', 'default_processing_pixels': 3072}
    return write_network(tmp_path_factory.mktemp('unet') / 'plain', network, config, facts)


@pytest.fixture(scope='session')
def scaled_checkpoint(small_checkpoint, tmp_path_factory) -> Path:
    """The small Marigold with scaled latents, and an empty prompt that is not zero."""
    folder = tmp_path_factory.mktemp('scaled') / 'small'
    shutil.copytree(small_checkpoint, folder)
    config = json.loads((folder / 'vae' / 'config.json').read_text())
    (folder / 'vae' / 'config.json').write_text(json.dumps({**config, 'scaling_factor': 0.5}))
    text = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(0))
    save_file({'empty_text_embedding': text}, folder / 'empty_text_embedding.safetensors')
    return folder


@pytest.fixture(scope='session')
def prompted_folder(scaled_checkpoint, tmp_path_factory) -> Path:
    """The small Marigold with random weights that let its decoder see points."""
    folder = tmp_path_factory.mktemp('prompted') / 'prompted'
    shutil.copytree(scaled_checkpoint, folder)
    torch.manual_seed(1)
    prompt = PointPrompt((8, 8, 16, 16), 8)
    for block in prompt.blocks:
        torch.nn.init.normal_(block[-1].weight, std=0.3)
    (folder / 'prompt').mkdir()
    (folder / 'prompt' / 'config.json').write_text(json.dumps(prompt.config))
    save_file(prompt.state_dict(), folder / 'prompt' / 'model.safetensors')
    write_sums(folder)
    return folder


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
def prime_depth_shapes() -> dict:
    """Names and shapes of a released PrimeDepth, small and of full size; see test_convert.py."""
    path = Path(__file__).parent / 'prime_depth' / 'original_shapes.json.gz'
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture(scope='session')
def prime_depth_state(prime_depth_shapes) -> dict:
    """The small one's weights, from a generator of NumPy that never changes."""

    def weight(name, shape):
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        values = np.asarray(drawn, np.float32)
        if len(shape) < 2:
            values = np.asarray(name.endswith('weight') + 0.1 * values, np.float32)
        else:
            values = values / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        return torch.from_numpy(values)

    return {name: weight(name, shape) for name, shape in prime_depth_shapes['small'].items()}


@pytest.fixture(scope='session')
def converted_prime_depth(prime_depth_state, tmp_path_factory) -> Path:
    """A small PrimeDepth of the released layout, converted."""
    folder = tmp_path_factory.mktemp('prime_depth') / 'converted'
    found = convert_prime_depth(Released(folder, prime_depth_state, {}))
    folder.mkdir()
    write_files(found, folder)
    facts = {**found.files['marigold_ros.json'], 'longest_edge': 48}  # small images for tests
    (folder / 'marigold_ros.json').write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope='session')
def diffusion_depth_folder(tmp_path_factory) -> Path:
    """A small DiffusionDepth of random weights."""
    torch.manual_seed(0)
    backbone = {'channels': [8, 16, 24], 'blocks': [1, 0]}
    architecture = Architecture(backbone=backbone, features=8, hidden=8, latent=8)
    network = DiffusionDepth(architecture)
    # The statistics of the norms, as training finds them.
    with torch.no_grad():
        for _ in range(10):
            image = torch.rand(4, 3, 24, 32) * 2 - 1
            network(image, torch.randn(4, *network.architecture.noise_shape(24, 32)))
    config = {'model_type': diffusion_depth.MODEL_TYPE, **asdict(architecture)}
    facts = {'space': 'metric', 'max_depth': 80.0, 'default_processing_pixels': 3072}
    # Float16 does not reach the variances of latents far below zero.
    folder = tmp_path_factory.mktemp('diffusion_depth') / 'refined'
    return write_network(folder, network, config, facts, torch.float32)


@pytest.fixture(scope='session')
def released_folders(tmp_path_factory) -> Path:
    """DiffusionDepths of random weights as their authors release them, converted, by backbone."""
    parent = tmp_path_factory.mktemp('released')
    for path in (Path(__file__).parent / 'diffusion_depth' / 'released').glob('*.safetensors'):
        state = {
            key.removeprefix('state.'): value
            for key, value in load_file(path).items()
            if key.startswith('state.')
        }
        options = {'args.max_depth': 80.0}
        conversion = convert_diffusion_depth(Released(path, state, options))
        conversion.files['marigold_ros.json']['default_processing_pixels'] = 3072
        (parent / path.stem).mkdir()
        write_files(conversion, parent / path.stem)
    return parent


@pytest.fixture(scope='session')
def depth_anything_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp('depth_anything')
    kinds = {'relative': {}, 'metric': {'depth_estimation_type': 'metric', 'max_depth': 20}}
    return [
        write_estimator(folder / name, *small_depth_anything(**kind))
        for name, kind in kinds.items()
    ]


KIN = {
    'depth_pro': small_depth_pro,
    'dpt': small_dpt,
    'glpn': small_glpn,
    'prompt_depth_anything': small_prompt_depth_anything,
    'tipsv2_dpt': small_tips,
    'zoedepth': small_zoedepth,
    'zoedepth of two domains': lambda: small_zoedepth(('nyu', 'kitti')),
}


@pytest.fixture(scope='session')
def kin_folders(tmp_path_factory) -> Path:
    """Write the other depth estimators of transformers, small and of random weights."""
    root = tmp_path_factory.mktemp('kin')
    for kind, small in KIN.items():
        torch.manual_seed(0)
        write_estimator(root / kind, *small())
    return root


@pytest.fixture(params=tuple(KIN))
def kin_folder(request, kin_folders, tmp_path) -> Path:
    """Return a copy of one of them."""
    return shutil.copytree(kin_folders / request.param, tmp_path / request.param)


@pytest.fixture
def relative_folder(depth_anything_folders, tmp_path):
    return shutil.copytree(depth_anything_folders[0], tmp_path / 'relative')


@pytest.fixture
def metric_folder(depth_anything_folders, tmp_path):
    return shutil.copytree(depth_anything_folders[1], tmp_path / 'metric')
