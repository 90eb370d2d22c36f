# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Checkpoints that are incomplete, damaged or pickled are refused with the remedy."""

from marigold_ros.errors import CheckpointError
from marigold_ros.models import list_checkpoints, load_model
import pytest
from safetensors.torch import load_file, save_file
import torch


def weights(folder, part='unet'):
    return next((folder / part).glob('*.safetensors'))


def test_an_unknown_name_lists_the_embedded_checkpoints():
    with pytest.raises(CheckpointError, match=r"no checkpoint 'nowhere'; embedded are"):
        load_model('nowhere')


@pytest.mark.parametrize('part', ['unet', 'vae'])
def test_pickled_weights_are_never_opened(copy, part):
    path = weights(copy, part)
    torch.save(load_file(path), path.with_suffix('.bin'))
    path.unlink()
    with pytest.raises(CheckpointError, match=r'a pickle.*never opened.*safe_serial'):
        load_model(str(copy))


def test_a_single_pickle_file_is_refused(tmp_path):
    path = tmp_path / 'model.ckpt'
    torch.save({}, path)
    with pytest.raises(CheckpointError, match='single file'):
        load_model(str(path))


@pytest.mark.parametrize(
    'missing',
    ['model_index.json', 'unet/config.json', 'vae/config.json', 'scheduler/scheduler_config.json'],
)
def test_a_missing_file_is_named(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(CheckpointError, match=missing.split('/')[-1]):
        load_model(str(copy))


def test_truncated_weights_are_an_error(copy):
    path = weights(copy)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match='cannot be loaded'):
        load_model(str(copy))


def test_a_missing_weight_is_named_not_left_random(copy):
    path = weights(copy)
    state = load_file(path)
    del state['conv_in.weight']
    save_file(state, path, metadata={'format': 'pt'})
    with pytest.raises(CheckpointError, match=r'conv_in\.weight'):
        load_model(str(copy))


def test_a_weight_of_another_shape_is_an_error(copy):
    path = weights(copy)
    state = load_file(path)
    state['conv_in.weight'] = state['conv_in.weight'][:, :4].contiguous()
    save_file(state, path, metadata={'format': 'pt'})
    with pytest.raises(CheckpointError, match=r'unet'):
        load_model(str(copy))


def test_a_checkpoint_without_any_text_conditioning_is_an_error(copy):
    (copy / 'empty_text_embedding.safetensors').unlink()
    with pytest.raises(CheckpointError, match='empty_text_embedding'):
        load_model(str(copy))


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (torch.ones(1, 2, 31), r'shape \(1, 2, 31\)'),
        (torch.ones(1, 0, 32), r'shape \(1, 0, 32\)'),
        (torch.full((1, 2, 32), torch.nan), 'empty_text_embedding is not finite'),
    ],
)
def test_an_embedding_that_is_none_of_the_prompt_is_an_error(copy, text, words):
    path = copy / 'empty_text_embedding.safetensors'
    save_file({'empty_text_embedding': text}, path)
    with pytest.raises(CheckpointError, match=words):
        load_model(str(copy))


def test_weights_of_eight_bits_open(copy):
    path = weights(copy)
    state = load_file(path)
    state['conv_in.bias'] = state['conv_in.bias'].to(torch.float8_e4m3fn)
    save_file(state, path, metadata={'format': 'pt'})
    assert load_model(str(copy), device='cpu', dtype='float32').unet.dtype == torch.float32


def test_an_unknown_space_is_an_error(copy, edit):
    edit(copy / 'marigold_ros.json', space='parsecs')
    with pytest.raises(CheckpointError, match='parsecs'):
        load_model(str(copy))


@pytest.mark.parametrize('kind', ['AsymmetricAutoencoderKL', ['AutoencoderKL'], None])
def test_another_kind_of_autoencoder_is_an_error(copy, edit, kind):
    edit(copy / 'vae' / 'config.json', _class_name=kind)
    with pytest.raises(CheckpointError, match='must be one of AutoencoderKL, AutoencoderTiny'):
        load_model(str(copy))


@pytest.mark.parametrize('factor', [0, -0.2])
def test_latents_are_scaled_by_a_number_above_zero(copy, edit, factor):
    edit(copy / 'vae' / 'config.json', scaling_factor=factor)
    with pytest.raises(CheckpointError, match=f'has scaling_factor {factor}; it must be above 0'):
        load_model(str(copy))


def test_another_kind_of_unet_is_an_error(copy, edit):
    edit(copy / 'unet' / 'config.json', in_channels=4)
    with pytest.raises(CheckpointError, match='unet'):
        load_model(str(copy))


def test_the_description_names_what_runs(small_checkpoint):
    description = load_model(str(small_checkpoint), device='cpu').description
    assert description['name'] == 'small'
    assert description['space'] == 'depth'
    assert description['dtype'] == 'float32'
    assert len(description['sha256']) == 64


@pytest.mark.parametrize('name', list_checkpoints())
def test_every_embedded_checkpoint_opens_under_its_name(name):
    assert load_model(name, device='cpu').description['name'] == name


@pytest.mark.parametrize('name', ['tiny', 'tiny-diffusion'])
def test_the_embedded_text_fits_the_network(name):
    model = load_model(name, device='cpu')
    assert model.text.shape[-1] == model.unet.config.cross_attention_dim


def test_a_native_processing_resolution_is_kept(copy, edit):
    edit(copy / 'model_index.json', default_processing_resolution=0)
    assert load_model(str(copy)).description['processing_resolution'] == 0


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{', 'not JSON'),
        ('{}', 'prediction_type'),
        ('{"prediction_type": "sample", "num_train_timesteps": "x"}', 'give a whole number'),
        ('{"prediction_type": "flow"}', "prediction_type is 'flow'; known are v_prediction"),
        ('{"prediction_type": "flow", "_class_name": "LCMScheduler"}', "is 'flow'; known are"),
        ('{"prediction_type": "sample", "thresholding": true}', 'dynamic thresholding'),
        ('{"prediction_type": "sample", "beta_start": "x"}', 'no schedule'),
        ('{"prediction_type": "sample", "beta_start": NaN}', 'NaN is not finite'),
    ],
)
def test_a_schedule_is_never_assumed(copy, text, words):
    (copy / 'scheduler' / 'scheduler_config.json').write_text(text)
    with pytest.raises(CheckpointError, match=words):
        load_model(str(copy))


def test_loading_draws_no_bars(small_checkpoint, capfd):
    load_model(str(small_checkpoint))
    assert capfd.readouterr().err == ''
