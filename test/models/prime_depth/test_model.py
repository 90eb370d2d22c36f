# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""PrimeDepth: its refiner, its checkpoint's folder, and the base that it needs."""

import json
import shutil

from diffusers import DDPMScheduler, UNet2DConditionModel
from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.frame import UNBOUNDED
from marigold_ros.models import load_model
from marigold_ros.models.locate import SUMS
from marigold_ros.models.prime_depth.checkpoint import load_base
from marigold_ros.models.prime_depth.preimage import decoder_steps, KEPT, read_preimage
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.protocol import PredictOptions
import numpy as np
import pytest
import torch


@pytest.fixture
def folder(prime_depth_folder, tmp_path):
    """Return a copy that a test may damage."""
    return shutil.copytree(prime_depth_folder, tmp_path / 'prime')


@torch.no_grad()
@pytest.mark.parametrize('size', [(8, 8), (9, 12), (14, 20), (23, 31)])
def test_the_refiner_follows_the_decoder_at_any_size(size):
    channels, heads = (32, 64, 96, 96), (2, 4, 6, 6)
    frozen = UNet2DConditionModel(
        in_channels=4,
        block_out_channels=channels,
        attention_head_dim=heads,
        cross_attention_dim=24,
    ).eval()
    refiner = Refiner(frozen.config, 2, (8, 16, 16, 24), 1)
    assert len(refiner.joins) == len(decoder_steps(frozen))
    for own, theirs in zip(refiner.blocks, frozen.up_blocks, strict=True):
        assert type(own) is type(theirs)
        for narrow, wide in zip(own.resnets, theirs.resnets, strict=True):
            assert 2 * narrow.out_channels == wide.out_channels
    preimage = read_preimage(frozen, torch.randn(1, 4, *size), torch.randn(1, 2, 24))
    assert refiner(preimage).shape == (1, 1, 8 * size[0], 8 * size[1])


def test_every_weight_of_the_refiner_learns_and_none_of_the_frozen_unet(prime_depth_folder):
    runtime = RuntimeConfig(channels_last=False)
    model = load_model(str(prime_depth_folder), 'cpu', runtime=runtime)
    networks = model.base.unet, model.base.autoencoder
    for network in (*networks, model.refiner):
        network.requires_grad_(True)
    noise = torch.randn(model.base.noise_shape(64, 96))
    preimage = model.base.preimage(torch.rand(1, 3, 64, 96) * 2 - 1, model.refiner.text, noise)
    model.refiner(preimage).square().sum().backward()
    assert all(weight.grad is not None for weight in model.refiner.parameters())
    assert all(weight.grad is None for network in networks for weight in network.parameters())


def test_the_base_is_named_and_may_be_moved(folder, small_checkpoint, tmp_path, rgb):
    found = load_model(str(folder), 'cpu')
    assert found.description['base']['name'] == str(small_checkpoint)
    moved = shutil.copytree(small_checkpoint, tmp_path / 'elsewhere')
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'base': str(moved)}))
    again = load_model(str(folder), 'cpu')
    np.testing.assert_array_equal(again.predict(rgb).relative, found.predict(rgb).relative)
    assert again.sha256 == found.sha256


@pytest.mark.parametrize(
    ('base', 'words'),
    [
        ('tiny-diffusion', r"U-Net of '.*small' .*tiny-diffusion holds another"),
        ('/nowhere', r"no checkpoint '/nowhere'.*as base into"),
    ],
)
def test_a_missing_base_or_one_of_another_unet_is_refused(folder, base, words):
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'base': base}))
    with pytest.raises(CheckpointError, match=words):
        load_model(str(folder), 'cpu')


def test_a_base_of_other_channels_or_with_changed_files_is_refused(small_checkpoint, tmp_path):
    base = shutil.copytree(small_checkpoint, tmp_path / 'base')
    shutil.rmtree(base / 'unet')
    unet = UNet2DConditionModel(
        in_channels=5, block_out_channels=(32, 32, 32, 32), cross_attention_dim=24
    )
    unet.save_pretrained(base / 'unet')
    (base / SUMS).write_text('')
    with pytest.raises(CheckpointError, match='takes 5 channels and the latent has 4'):
        load_base(str(base))
    (base / SUMS).write_text(f'{"0" * 64}  unet/config.json')
    with pytest.raises(CheckpointError, match='changed or damaged'):
        load_base(str(base))


def test_the_latent_is_sampled_and_mixed_with_noise_of_the_seed(prime_depth_folder, rgb):
    model = load_model(str(prime_depth_folder), 'cpu', 'float32')
    once, again, other = (model.predict(rgb, seed=seed).relative for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-4
    kept = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')
    assert pytest.approx(float(kept.alphas_cumprod[1]), abs=1e-6) == KEPT
    base, image = model.base, torch.rand(1, 3, 64, 96) * 2 - 1
    noise = torch.randn(base.noise_shape(64, 96))
    with torch.no_grad():
        drawn = base.autoencoder.encode(image).latent_dist
        latent = (drawn.mean + drawn.std * noise[0]) * base.autoencoder.config.scaling_factor
        latent = kept.add_noise(latent, noise[1], torch.tensor([1]))
        expected = read_preimage(base.unet, latent, model.refiner.text)
        found = base.preimage(image, model.refiner.text, noise)
    torch.testing.assert_close(found.features[-1], expected.features[-1])


def test_batches_are_divided_as_the_limit_says(prime_depth_folder, rgb):
    model = load_model(str(prime_depth_folder), 'cpu', 'float32')
    images = [rgb, rgb[::-1].copy(), rgb[:, ::-1].copy()]
    streams = [model.new_stream() for _ in images]
    batches = []
    model.refiner.register_forward_hook(lambda _module, _given, maps: batches.append(len(maps)))
    whole = model.predict_together(images, streams)
    parts = model.predict_together(
        images, streams, PredictOptions(engine=EngineConfig(batch_limit=2, scene_cut=0.5))
    )
    assert batches == [3, 2, 1]
    assert whole[0].censored == UNBOUNDED  # its maps go beyond [0, 1]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.relative, other.relative, atol=1e-5)


def test_torch_cannot_compile_it(prime_depth_folder):
    with pytest.raises(ConfigurationError, match='auto'):
        load_model(str(prime_depth_folder), 'cpu', runtime=RuntimeConfig(compile='auto'))
