# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Initial networks: random, from a checkpoint, from Stable Diffusion."""

import json
from pathlib import Path
import shutil

from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models.marigold.schedule import marigold_scheduler
from marigold_training.networks.initialise import initialise, widen
from marigold_training.networks.small_networks import small_autoencoder, TEXT_SHAPE
import pytest
import torch
from transformers import CLIPTextModel


def text_to_image_unet() -> UNet2DConditionModel:
    """Build what Stable Diffusion 2 has, very small: one latent in, one out."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )


@pytest.fixture(scope='module')
def published(tmp_path_factory, write_text_encoder) -> Path:
    """Make a folder with the parts and the schedule of Stable Diffusion 2."""
    folder = tmp_path_factory.mktemp('published') / 'sd2'
    text_to_image_unet().save_pretrained(folder / 'unet')
    small_autoencoder(channels=(8, 8, 16, 16), latent_channels=4).save_pretrained(folder / 'vae')
    PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        prediction_type='v_prediction',
        skip_prk_steps=True,
        steps_offset=1,
    ).save_pretrained(folder / 'scheduler')
    (folder / 'model_index.json').write_text('{"_class_name": "StableDiffusionPipeline"}')
    write_text_encoder(folder)
    return folder


@pytest.fixture
def sd2(published, tmp_path) -> Path:
    return Path(shutil.copytree(published, tmp_path / 'sd2'))


def start(folder: Path, **more):
    return initialise({'kind': 'stable_diffusion', 'path': str(folder), **more}, 0, 'depth')


# Stable Diffusion


def test_the_widened_unet_maps_a_repeated_latent_as_before():
    unet = text_to_image_unet()
    before = unet.conv_in.weight.clone(), unet.conv_in.bias.clone()
    latent, text = torch.randn(2, 4, 8, 12), torch.randn(2, 2, 32)
    timestep = torch.tensor([3, 700])
    with torch.no_grad():
        expected = unet(latent, timestep, text).sample
        widen(unet, 4)
        got = unet(torch.cat([latent, latent], 1), timestep, text).sample
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    weight, bias = before
    assert torch.equal(unet.conv_in.weight, torch.cat([weight, weight], 1) / 2)
    assert torch.equal(unet.conv_in.bias, bias)
    assert unet.config.in_channels == 8
    again = UNet2DConditionModel.from_config(unet.config)
    again.load_state_dict(unet.state_dict())


def test_stable_diffusion_becomes_a_chain_with_the_empty_prompt(sd2):
    chain = start(sd2)
    encoder = CLIPTextModel.from_pretrained(sd2 / 'text_encoder')
    with torch.no_grad():
        expected = encoder(torch.tensor([[0, 1]]))[0]
    torch.testing.assert_close(chain.text, expected)
    assert {name.split('.')[0] for name, _ in chain.named_parameters()} == {'autoencoder', 'unet'}
    assert chain.unet.config.in_channels == 8
    assert (sd2 / 'empty_text_embedding.safetensors').is_file()
    shutil.rmtree(sd2 / 'text_encoder')
    assert torch.equal(start(sd2).text, chain.text)


def test_the_schedule_is_that_of_v1_1_unless_v1_0_is_asked_for(sd2):
    new, old = start(sd2).scheduler, start(sd2, schedule='v1_0').scheduler
    assert isinstance(new, DDIMScheduler)
    assert new.alphas_cumprod[-1] == 0
    torch.testing.assert_close(new.alphas_cumprod, marigold_scheduler().alphas_cumprod)
    assert new.config.timestep_spacing == 'trailing'
    assert old.config.timestep_spacing == 'leading'
    assert old.alphas_cumprod[-1].item() == pytest.approx(0.0047, abs=1e-4)
    for scheduler in (new, old):
        assert scheduler.config.prediction_type == 'v_prediction'
        assert not scheduler.config.clip_sample
        assert scheduler.config.steps_offset == 1


def edit_schedule(folder: Path, **changes) -> None:
    path = folder / 'scheduler' / 'scheduler_config.json'
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_epsilon_models_refuse_schedules_ending_in_pure_noise(sd2):
    edit_schedule(sd2, prediction_type='epsilon')
    with pytest.raises(ConfigurationError, match="'v1_1'.*epsilon.*'v1_0'"):
        start(sd2)
    assert start(sd2, schedule='v1_0').scheduler.config.prediction_type == 'epsilon'


@pytest.mark.parametrize('part', ['unet', 'vae', 'scheduler', 'text_encoder'])
def test_a_missing_part_is_named(sd2, part):
    shutil.rmtree(sd2 / part)
    with pytest.raises(CheckpointError, match=part):
        start(sd2)


def test_a_schedule_without_prediction_type_is_refused(sd2):
    edit_schedule(sd2, prediction_type=None)
    with pytest.raises(CheckpointError, match='prediction_type'):
        start(sd2)


def test_a_truncated_weight_file_is_named(sd2):
    path = sd2 / 'unet' / 'diffusion_pytorch_model.safetensors'
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='unet'):
        start(sd2)


def test_a_text_encoder_of_another_width_is_refused(sd2):
    from safetensors.torch import save_file

    shutil.rmtree(sd2 / 'text_encoder')
    path = sd2 / 'empty_text_embedding.safetensors'
    save_file({'empty_text_embedding': torch.zeros(1, 2, 16)}, path)
    with pytest.raises(CheckpointError, match='width 16.*32'):
        start(sd2)


def test_marigold_given_as_stable_diffusion_names_its_kind(small_checkpoint):
    with pytest.raises(CheckpointError, match="8 and gives 4.*'checkpoint'"):
        start(small_checkpoint)


# a checkpoint


def test_a_checkpoint_gives_its_networks_schedule_and_prompt(small_checkpoint):
    entry = {'kind': 'checkpoint', 'path': str(small_checkpoint)}
    chain = initialise(entry, 0, 'disparity', 'annealed', 0.5)
    for part, kind, network in (
        ('vae', AutoencoderKL, chain.autoencoder),
        ('unet', UNet2DConditionModel, chain.unet),
    ):
        expected = kind.from_pretrained(small_checkpoint / part).state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(value, expected[key]), key
    assert chain.text.shape == TEXT_SHAPE
    assert (chain.space, chain.noise, chain.noise_strength) == ('disparity', 'annealed', 0.5)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match='nowhere'):
        initialise({'kind': 'checkpoint', 'path': str(tmp_path / 'nowhere')}, 0, 'log')


def test_an_lcm_checkpoint_cannot_be_trained_on(small_checkpoint, tmp_path):
    folder = Path(shutil.copytree(small_checkpoint, tmp_path / 'lcm'))
    edit_schedule(folder, _class_name='LCMScheduler', timestep_spacing='leading')
    with pytest.raises(CheckpointError, match='LCMScheduler.*DDIMScheduler'):
        initialise({'kind': 'checkpoint', 'path': str(folder)}, 0, 'log')


# from nothing


def test_random_weights_are_a_function_of_the_seed_alone(toy):
    torch.manual_seed(77)
    before = torch.get_rng_state()
    first = initialise(toy['init'], 3, 'log').state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(78)
    second, other = (initialise(toy['init'], seed, 'log').state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('small', "init is 'small'"),
        ({}, "kind is 'None'.*small, checkpoint, stable_diffusion"),
        ({'kind': ['small']}, 'small, checkpoint, stable_diffusion'),
        ({'kind': 'big'}, "kind is 'big'.*small"),
        ({'kind': 'small', 'vae': {}}, "has 'vae'.*autoencoder, unet"),
        ({'kind': 'small', 'seed': 3}, "has 'seed'"),
        ({'kind': 'small', 'unet': {'chanels': [8]}}, "'chanels'.*did you mean 'channels'"),
        ({'kind': 'small', 'unet': {'channels': [17, 33]}}, 'is not valid'),
        ({'kind': 'small', 'unet': {'channels': 64}}, 'is not valid'),
        ({'kind': 'small', 'unet': {'channels': [16, -16]}}, 'is not valid'),
        ({'kind': 'small', 'unet': 3}, 'init.unet is 3'),
        ({'kind': 'small', 'unet': {'latent_channels': 2}}, 'latent_channels is 2'),
        ({'kind': 'checkpoint'}, 'lacks path'),
        ({'kind': 'checkpoint', 'path': 'tiny', 'schedule': 'v1_0'}, "has 'schedule'"),
        ({'kind': 'stable_diffusion', 'path': '.', 'schedule': 'v2'}, "'v2'.*v1_1, v1_0"),
    ],
)
def test_errors_of_a_recipe_name_the_valid_keys(entry, message):
    with pytest.raises(ConfigurationError, match=message):
        initialise(entry, 0, 'log')


def test_noise_and_space_are_checked_before_anything_is_built():
    with pytest.raises(ConfigurationError, match="'pink'"):
        initialise({'kind': 'small'}, 0, 'log', 'pink')
    with pytest.raises(ConfigurationError, match='noise_strength'):
        initialise({'kind': 'small'}, 0, 'log', 'annealed', 1.0)
    with pytest.raises(ConfigurationError, match="'metric'"):
        initialise({'kind': 'small'}, 0, 'metric')
