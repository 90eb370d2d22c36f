# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""DiffusionDepth: its checkpoint's folder, backbones, steps, seeds, LiDAR and errors."""

import json
import shutil

from marigold_ros.config import AlignmentConfig, EngineConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry import align
from marigold_ros.models import load_model, runs_on_openvino
from marigold_ros.models.diffusion_depth.checkpoint import build_network, read_architecture
import numpy as np
import pytest
import torch

SWIN = {
    'model_type': 'swin',
    'embed_dim': 8,
    'depths': [1, 1, 1, 1],
    'num_heads': [1, 1, 1, 1],
    'window_size': 4,
    'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
}
RESNET = {
    'model_type': 'resnet',
    'embedding_size': 8,
    'hidden_sizes': [8, 16, 24, 32],
    'depths': [1, 1, 1, 1],
    'layer_type': 'basic',
    'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
}
SMALL = {'features': 8, 'hidden': 8, 'latent': 8, 'steps': 3}


@pytest.fixture
def folder(diffusion_depth_folder, tmp_path):
    """Return a copy that a test may damage."""
    return shutil.copytree(diffusion_depth_folder, tmp_path / 'refined')


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.mark.parametrize('neck', [0, 16])
@pytest.mark.parametrize('backbone', [SWIN, RESNET, {'channels': [8, 16], 'blocks': [1]}])
@pytest.mark.parametrize('size', [(64, 96), (50, 71)])
def test_every_backbone_guides_a_latent_of_half_the_size(backbone, neck, size):
    values = {**SMALL, 'backbone': backbone, 'neck': neck, 'fuse': True}
    network = build_network(read_architecture(values, 'init')).eval()
    size = size[0] + size[0] % 2, size[1] + size[1] % 2
    image = torch.rand(2, 3, *size) * 2 - 1
    noise = torch.randn(2, *network.noise_shape(*size))
    assert noise.shape[-2:] == (size[0] // 2, size[1] // 2)
    depth = network(image, noise)
    assert depth.shape == (2, 1, *size)
    assert (depth >= 0).all()
    changed = network(image.flip(-1), noise)
    assert not torch.allclose(depth, changed)


def test_the_seed_draws_the_noise_alike_for_every_image(diffusion_depth_folder, rgb):
    model = load_model(str(diffusion_depth_folder), 'cpu')
    first, same, other = (model.predict(rgb, seed=seed).relative for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    both = model.predict_together([rgb[::-1].copy(), rgb], [model.new_stream()] * 2)
    np.testing.assert_allclose(both[1].relative, first, rtol=1e-3)


def test_metres_end_at_the_largest_depth(folder, rgb):
    path = folder / 'marigold_ros.json'
    model = load_model(str(folder), 'cpu')
    far = float(model.predict(rgb).relative.max())
    path.write_text(json.dumps({**json.loads(path.read_text()), 'max_depth': 0.5 * far}))
    prediction = load_model(str(folder), 'cpu').predict(rgb)
    assert prediction.relative.max() == pytest.approx(0.5 * far)
    assert prediction.censored[1] < 0.5 * far


def test_points_do_not_move_its_metres(diffusion_depth_folder, rgb):
    prediction = load_model(str(diffusion_depth_folder), 'cpu').predict(rgb)
    v, u = (x.ravel() for x in np.mgrid[2:48:4, 2:64:4])
    points = SparseDepth(u, v, 2.0 * prediction.relative[v, u])
    for method in ('global', 'local', 'median', 'least_squares'):
        config = AlignmentConfig(method=method, min_points=20)
        fit = align(prediction, points, config)
        if fit.metric is not None:
            seen = np.isfinite(fit.metric)
            np.testing.assert_allclose(fit.metric[seen], prediction.relative[seen], rtol=1e-6)


def test_only_the_steps_of_training_are_taken(diffusion_depth_folder, rgb):
    model = load_model(str(diffusion_depth_folder), 'cpu')
    same = model.predict(rgb, denoising_steps=20, ensemble_size=1).relative
    np.testing.assert_array_equal(same, model.predict(rgb).relative)
    with pytest.raises(ConfigurationError, match='in the 20 steps that it was trained with'):
        model.predict(rgb, denoising_steps=4)
    with pytest.raises(ConfigurationError, match='ensemble_size is 3'):
        model.predict(rgb, ensemble_size=3)
    with pytest.raises(ConfigurationError, match=r'engine\.noise is zeros'):
        model.predict(rgb, engine=EngineConfig(noise='zeros'))
    with pytest.raises(ConfigurationError, match='no autoencoder'):
        load_model(str(diffusion_depth_folder), 'cpu', vae='taesd')
    with pytest.raises(ConfigurationError, match=r'only torch runs refined'):
        load_model(str(diffusion_depth_folder), 'cpu', runtime=RuntimeConfig(backend='openvino'))


@pytest.mark.parametrize(
    ('name', 'key', 'value', 'words'),
    [
        ('config.json', 'steps', 0, 'steps 0; give 1 to 50'),
        ('config.json', 'steps', 10, None),
        ('config.json', 'latent', 6, 'latent 6; give a multiple of 4'),
        ('config.json', 'latent', 16, 'cannot be loaded'),
        ('config.json', 'fuse', 'yes', "fuse 'yes'; give true or false"),
        ('config.json', 'backbone', {'channels': [8]}, r'backbone \{.*give \{channels'),
        ('config.json', 'backbone', {'model_type': 'no_such'}, 'cannot be built'),
        ('config.json', 'depth', 3, "has 'depth'"),
        ('marigold_ros.json', 'space', 'log', 'a DiffusionDepth has metric'),
        ('marigold_ros.json', 'max_depth', -1, 'give metres above 0'),
        ('marigold_ros.json', 'default_processing_pixels', '9', 'give a whole number'),
    ],
)
def test_a_damaged_configuration_is_named(folder, name, key, value, words):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    if words is None:  # another number of steps fits the weights
        assert load_model(str(folder), 'cpu').denoising_steps == value
        return
    with pytest.raises(CheckpointError, match=words):
        load_model(str(folder), 'cpu')


def test_missing_and_damaged_weights_are_named(folder):
    weights = folder / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='cannot be loaded'):
        load_model(str(folder), 'cpu')
    weights.unlink()
    with pytest.raises(CheckpointError, match=r'no model\.safetensors'):
        load_model(str(folder), 'cpu')


def test_the_fastest_backend_that_runs_it_is_torch(diffusion_depth_folder, unet_folder):
    runtime = RuntimeConfig(backend='auto', warm_up='48x64')
    model = load_model(str(diffusion_depth_folder), 'cpu', runtime=runtime)
    assert model.description['runtime']['backend'] != 'openvino'
    assert runs_on_openvino(str(unet_folder))
    assert not runs_on_openvino(str(diffusion_depth_folder))
    assert not runs_on_openvino(f'{unet_folder}+{diffusion_depth_folder}')
