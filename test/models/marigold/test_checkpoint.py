# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Checkpoints that are incomplete, damaged or pickled are refused with the remedy."""

from functools import partial
import json
import math

from diffusers.utils import logging
from marigold_ros.errors import CheckpointError
from marigold_ros.models import load_model
from marigold_ros.models.locate import EMBEDDED, find_folder
import pytest
from safetensors.torch import load_file, save_file
import torch


def weights(folder, part='unet'):
    return next((folder / part).glob('*.safetensors'))


def test_an_unknown_name_lists_the_embedded_checkpoints_after_the_one_that_was_meant():
    for name, words in (('nowhere', ''), ('marigold-depth-v11', r'did you mean \S+-v1-1\? ')):
        with pytest.raises(CheckpointError, match=f"no checkpoint '{name}'; {words}embedded are"):
            load_model(name)


@pytest.mark.parametrize('part', ['unet', 'vae'])
def test_pickled_weights_are_never_opened(copy, part):
    path = weights(copy, part)
    torch.save(load_file(path), path.with_suffix('.bin'))
    path.unlink()
    with pytest.raises(CheckpointError, match=r'a pickle.*never opened.*safe_serial'):
        load_model(str(copy))


def test_a_single_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'model.safetensors').touch()
    for name in ('~/model.safetensors', '~/missing.ckpt'):
        with pytest.raises(CheckpointError, match='single file'):
            find_folder(name)
    assert find_folder('~') == tmp_path


def test_weights_of_eight_bits_open(copy):
    weight('conv_in.bias', lambda w: w.to(torch.float8_e4m3fn))(copy)
    assert load_model(str(copy), device='cpu', dtype='float32').unet.dtype == torch.float32


def test_the_description_names_what_runs(small_checkpoint, monkeypatch):
    monkeypatch.chdir(small_checkpoint)
    assert find_folder('unet') == EMBEDDED / 'unet'  # not the part of that name
    description = load_model('.', device='cpu').description
    assert description['name'] == 'small'
    assert description['space'] == 'depth'
    assert description['dtype'] == 'float32'
    assert len(description['sha256']) == 64


def test_the_fingerprint_changes_with_the_empty_prompt(copy):
    before = load_model(str(copy), device='cpu').sha256
    embedding(torch.ones(1, 2, 32))(copy)
    assert load_model(str(copy), device='cpu').sha256 != before


def test_a_native_processing_resolution_is_kept(copy, edit):
    edit(copy / 'model_index.json', default_processing_resolution=0)
    assert load_model(str(copy)).description['processing_resolution'] == 0


def without(name):
    return lambda folder: (folder / name).unlink()


def text(name, content):
    data = content.encode('utf-8', 'surrogateescape')
    return lambda folder: (folder / name).write_bytes(data)


def edited(name, **values):
    """Change keys of a JSON file; None removes one."""

    def change(folder):
        content = {**json.loads((folder / name).read_text()), **values}
        left = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(left))

    return change


def weight(name, new):
    """Replace a weight of the U-Net by a function of it, None removes it."""

    def change(folder):
        state = load_file(weights(folder))
        old = state.pop(name)
        if new is not None:
            state[name] = new(old).contiguous()
        save_file(state, weights(folder), metadata={'format': 'pt'})

    return change


def embedding(value):
    name = 'empty_text_embedding'
    return lambda folder: save_file({name: value}, folder / f'{name}.safetensors')


def cut_off(folder):
    weights(folder).write_bytes(weights(folder).read_bytes()[:-1000])


def renamed(folder):
    path = weights(folder, 'vae')
    path.rename(path.with_name('diffusion_pytorch_model.bf16.safetensors'))


def endless_header(folder):
    weights(folder).write_bytes((2**40).to_bytes(8, 'little') + weights(folder).read_bytes()[8:])


VAE, UNET, INDEX = 'vae/config.json', 'unet/config.json', 'model_index.json'
SCHEDULE, FACTS = 'scheduler/scheduler_config.json', 'marigold_ros.json'
SHARDS = 'unet/diffusion_pytorch_model.safetensors.index.fp16.json'
DAMAGES = [
    *((without(name), name.split('/')[-1]) for name in (INDEX, UNET, VAE, SCHEDULE)),
    (without('empty_text_embedding.safetensors'), 'empty_text_embedding'),
    *(
        (text(name, content), f'{name}.*restore the file')
        for name in (INDEX, FACTS, UNET)
        for content in ('{', '[]', '\udcff')
    ),
    *(
        (text('SHA256SUMS', line), 'SHA256SUMS lists')
        for line in ('0' * 64 + '  nowhere.safetensors', 'x' * 64 + '  ../a', 'junk')
    ),
    (lambda folder: weights(folder).write_bytes(b'version https://git-lfs'), 'git lfs pull'),
    (renamed, 'no file named diffusion_pytorch_model.safetensors .* have other names'),
    (text(SHARDS, '{"weight_map": {"x": "../x"}}'), r'names \.\./x, which is not in its folder'),
    (cut_off, 'cannot be loaded'),
    (endless_header, 'cannot be loaded'),
    (weight('conv_in.weight', None), r'conv_in\.weight'),
    (weight('conv_in.weight', lambda w: w[:, :4]), 'unet'),
    (weight('conv_in.bias', lambda w: w + math.inf), r'conv_in\.bias is not finite'),
    *(
        (weight('conv_in.bias', partial(torch.Tensor.to, dtype=kind)), f'bias has type {name},')
        for kind, name in (
            (torch.int8, 'I8'),
            (torch.int64, 'I64'),
            (torch.bool, 'BOOL'),
            (torch.complex64, 'C64'),
        )
    ),
    (embedding(torch.ones(1, 2, 31)), r'shape \(1, 2, 31\)'),
    (embedding(torch.ones(1, 0, 32)), r'shape \(1, 0, 32\)'),
    (embedding(torch.ones(1, 1025, 32)), 'L from 1 to 1024'),
    (embedding(torch.full((1, 2, 32), torch.nan)), 'empty_text_embedding is not finite'),
    *(
        (edited(VAE, _class_name=kind), 'must be one of AutoencoderKL, AutoencoderTiny')
        for kind in ('AsymmetricAutoencoderKL', ['AutoencoderKL'], None)
    ),
    *(
        (edited(VAE, scaling_factor=factor), f'scaling_factor {factor}; it must be above 0')
        for factor in (0, -0.2)
    ),
    (edited(UNET, in_channels=4), 'unet'),
    (edited(UNET, layers_per_block='1'), "layers_per_block '1', which must be a number"),
    (edited(FACTS, space='parsecs'), 'parsecs'),
    (edited(FACTS, noise='pink'), "noise of copy is 'pink'"),
    *(
        (edited(FACTS, **{key: value}), f'{key} of copy is {value!r}')
        for key, value in (
            ('default_denoising_steps', 0),
            ('default_denoising_steps', True),
            ('default_processing_pixels', -8),
        )
    ),
    *(
        (edited(INDEX, _class_name=kind), f'{kind}.*{what}')
        for kind, what in (
            ('MarigoldNormalsPipeline', 'normals'),
            ('MarigoldIntrinsicsPipeline', 'albedo'),
            ('StableDiffusionInstructPix2PixPipeline', 'edited images'),
        )
    ),
    (edited(SCHEDULE, beta_schedule='steep'), 'makes no schedule'),
    *(
        (text(SCHEDULE, content), words)
        for content, words in (
            ('{}', 'prediction_type None; known are v_prediction'),
            ('{"prediction_type": "sample", "num_train_timesteps": "x"}', 'a whole number'),
            ('{"prediction_type": "flow"}', "prediction_type 'flow'; known are v_pred.*restore"),
            ('{"prediction_type": "sample", "thresholding": true}', 'dynamic thresholding'),
            ('{"prediction_type": "sample", "beta_start": -1}', 'share of the image'),
            ('{"prediction_type": "sample", "beta_start": NaN}', 'NaN is not finite'),
        )
    ),
]


@pytest.mark.parametrize(('damage', 'words'), DAMAGES)
def test_a_damaged_folder_is_refused_with_what_is_wrong(copy, damage, words):
    damage(copy)
    with pytest.raises(CheckpointError, match=words):
        load_model(str(copy), device='cpu')


@pytest.mark.parametrize('shown', [False, True])
def test_loading_is_silent_and_leaves_the_reports_of_diffusers_as_they_were(
    copy, edit, image, caplog, capfd, shown
):
    for name in (UNET, VAE, SCHEDULE):
        edit(copy / name, of_a_later_release=True)
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    logging.add_handler(caplog.handler)
    load_model(str(copy)).predict(image(32, 32), 1)
    logging.remove_handler(caplog.handler)
    after = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(before)
    logging.enable_progress_bar()
    assert after == (logging.WARNING, shown)
    assert [one for one in caplog.records if 'diffusers' in one.name] == []
    assert capfd.readouterr().err == ''
