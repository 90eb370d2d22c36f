# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The plain U-Net: its checkpoint's folder, sizes, runtimes and errors."""

import json
import shutil

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.unet.network import DepthUNet
import numpy as np
import pytest
import torch


@pytest.fixture
def folder(unet_folder, tmp_path):
    """Return a copy that a test may damage."""
    return shutil.copytree(unet_folder, tmp_path / 'plain')


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (70, 96, 3), np.uint8)


def test_an_image_is_answered_alike_alone_and_in_a_batch():
    network = DepthUNet((8, 16, 24), (1, 1)).eval()
    images = torch.rand(3, 3, 26, 34) * 2 - 1
    together = network(images)
    assert together.shape == (3, 1, 26, 34)
    for one, found in zip(images, together, strict=True):
        torch.testing.assert_close(network(one[None])[0], found)


def test_distant_pixels_see_each_other():
    """A change in one corner reaches the whole map: the scene decides on near and far."""
    network = DepthUNet((8, 16), (0,))
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(image)[0, 0, 0, 0].backward()
    assert (image.grad[..., -8:, -8:].abs().sum() > 0).item()


def test_at_its_own_size_the_map_is_the_networks(unet_folder, rgb):
    model = load_model(str(unet_folder), 'cpu')
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 127.5 - 1.0
    with torch.no_grad():
        expected = model._network(image)[0, 0].clamp(0, 1).numpy()
    found = model.predict(rgb, processing_resolution=0).relative
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bilateral_upsampling_keeps_the_edges_of_the_image(unet_folder):
    rgb = np.zeros((96, 128, 3), np.uint8)
    rgb[:, 64:] = 255
    model = load_model(str(unet_folder), 'cpu')
    steps = {
        kind: np.abs(np.diff(model.predict(rgb, engine=EngineConfig(upsampling=kind)).relative))
        for kind in ('bilinear', 'bilateral')
    }
    row = {kind: step[48, 56:72].max() for kind, step in steps.items()}
    assert row['bilateral'] > row['bilinear']


def test_openvino_answers_as_torch_does(unet_folder, rgb):
    pytest.importorskip('openvino')
    runtime = RuntimeConfig(backend='openvino')
    compiled = load_model(str(unet_folder), 'cpu', 'float32', runtime=runtime)
    plain = load_model(str(unet_folder), 'cpu', 'float32')
    np.testing.assert_allclose(
        compiled.predict(rgb).relative, plain.predict(rgb).relative, atol=1e-4
    )


@pytest.mark.parametrize(
    ('name', 'key', 'value', 'words'),
    [
        ('config.json', 'channels', [8, 16], 'channels .* and blocks'),
        ('config.json', 'channels', [8, 15, 24], 'channels .* and blocks'),
        ('config.json', 'blocks', [2, 0], 'cannot be loaded'),
        ('marigold_ros.json', 'space', 'metric', "space 'metric'; choose one of"),
        ('marigold_ros.json', 'default_processing_pixels', '9', 'give a whole number'),
    ],
)
def test_a_damaged_configuration_is_named(folder, name, key, value, words):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
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


def test_what_a_single_pass_cannot_do_is_refused(unet_folder, rgb):
    model = load_model(str(unet_folder), 'cpu')
    with pytest.raises(ConfigurationError, match='denoising_steps is 4'):
        model.predict(rgb, denoising_steps=4)
    with pytest.raises(ConfigurationError, match=r'engine\.noise is zeros'):
        model.predict(rgb, engine=EngineConfig(noise='zeros'))
    with pytest.raises(ConfigurationError, match='no autoencoder'):
        load_model(str(unet_folder), 'cpu', vae='taesd')
