# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Families that answer in one way: runtimes, damaged folders, and what they have no choice of."""

import json
from pathlib import Path
import shutil

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError, InputError
from marigold_ros.models import load_model
from marigold_ros.models.protocol import PredictOptions
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch

FAMILIES = ('unet', 'prime_depth', 'diffusion_depth', 'depth_anything')
KIN = ('depth_pro', 'dpt', 'glpn', 'prompt_depth_anything', 'tipsv2_dpt', 'zoedepth')


@pytest.fixture(scope='session')
def folders(
    unet_folder, prime_depth_folder, diffusion_depth_folder, depth_anything_folders, kin_folders
) -> dict[str, Path]:
    """Give a folder of each family."""
    values = unet_folder, prime_depth_folder, diffusion_depth_folder, depth_anything_folders[0]
    kin = {name: kin_folders / name for name in KIN}
    return {**dict(zip(FAMILIES, values, strict=True)), **kin}


@pytest.fixture(scope='module')
def models(folders):
    return [load_model(str(folder), 'cpu') for folder in folders.values()]


@pytest.fixture
def damaged(folders, tmp_path):
    """Copy the folder of a family, for a test to damage."""
    return lambda family: shutil.copytree(folders[family], tmp_path / family)


def test_loading_draws_none_of_the_random_numbers_of_the_process(folders):
    for folder in folders.values():
        before = torch.get_rng_state()
        load_model(str(folder), 'cpu')
        assert torch.equal(torch.get_rng_state(), before), folder


COMPILED = ['unet']
COMPILED += [pytest.param(name, marks=pytest.mark.slow) for name in (*FAMILIES[1:], *KIN)]


@pytest.mark.parametrize('family', COMPILED)
def test_openvino_answers_as_torch_does(folders, family, rgb, tmp_path):
    pytest.importorskip('openvino')
    runtime = RuntimeConfig(backend='openvino', cache_dir=str(tmp_path))
    name = str(folders[family])
    compiled = load_model(name, 'cpu', 'float32', runtime=runtime).predict(rgb).relative
    plain = load_model(name, 'cpu', 'float32').predict(rgb).relative
    # Of metres beyond the depth that the network sees well, as Depth Pro's, relative to it.
    np.testing.assert_allclose(compiled, plain, 1e-4, 1e-4 if np.ptp(plain) <= 1.0 else 1e-3)


@pytest.mark.parametrize(
    'settings',
    [
        {'denoising_steps': 4},
        {'ensemble_size': 5},
        {'engine': EngineConfig(warm_start=0.1)},
        {'engine': EngineConfig(noise='zeros')},
        {'reference_exact': True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_a_model_has_no_choice_of_is_refused_by_name(models, rgb, settings):
    name, value = next(iter(settings.items()))
    if name == 'engine':
        name = 'engine.warm_start' if value.warm_start else 'engine.noise'
    for model in models:
        with pytest.raises(ConfigurationError, match=name):
            model.predict(rgb, **settings)
        model.check_options(PredictOptions(engine=EngineConfig(scene_cut=0.5, batch_limit=2)))


@pytest.mark.parametrize(
    ('family', 'size', 'resolution'),
    [('unet', (2, 2), 0), ('diffusion_depth', (1, 1), 0), ('prime_depth', (31, 33), 8)],
)
def test_an_image_of_too_few_pixels_for_a_norm_is_a_bad_frame(folders, family, size, resolution):
    model, rgb = load_model(str(folders[family]), 'cpu'), np.zeros((*size, 3), np.uint8)
    with pytest.raises(InputError, match=f'{size[1]}x{size[0]} is too small.*larger') as caught:
        model.predict(rgb, processing_resolution=resolution)
    assert caught.value.cause == 'shape'
    assert np.isfinite(model.predict(rgb).relative).all()


@pytest.mark.parametrize('family', FAMILIES)
def test_another_autoencoder_is_refused(folders, family):
    with pytest.raises(ConfigurationError, match="'taesd'"):
        load_model(str(folders[family]), 'cpu', vae='taesd')


@pytest.mark.parametrize(
    ('families', 'name', 'key', 'value'),
    [
        (['unet'], 'config.json', 'channels', [8, 16]),
        (['unet'], 'config.json', 'channels', [8, 15, 24]),
        (['prime_depth'], 'config.json', 'base', None),
        (['prime_depth'], 'config.json', 'trained_on', 'x'),
        (['prime_depth'], 'config.json', 'decoder', [8, 15]),
        (['diffusion_depth'], 'config.json', 'latent', 6),
        (['diffusion_depth'], 'config.json', 'backbone', {'model_type': 'no_such'}),
        (['diffusion_depth'], 'config.json', 'depth', 3),
        (['diffusion_depth'], 'marigold_ros.json', 'space', 'log'),
        (['diffusion_depth'], 'marigold_ros.json', 'max_depth', -1),
        (['unet', 'prime_depth'], 'marigold_ros.json', 'space', 'metric'),
        (['unet'], 'marigold_ros.json', 'default_processing_pixels', 63),
        (['prime_depth'], 'marigold_ros.json', 'default_processing_pixels', 2**22 + 1),
        (['diffusion_depth'], 'marigold_ros.json', 'default_processing_pixels', 96.5),
    ],
)
def test_a_damaged_configuration_is_named_with_its_value(
    damaged, edit_json, families, name, key, value
):
    for family in families:
        folder = damaged(family)
        edit_json(folder / name, key, value)
        with pytest.raises(CheckpointError) as caught:
            load_model(str(folder), 'cpu')
        text = str(caught.value)
        assert key in text
        assert name in text
        assert key == 'depth' or str(value).strip("[]{}'") in text


@pytest.fixture
def edit_json():
    """Set a value of a JSON file, None included."""

    def change(path, key, value):
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


@pytest.mark.parametrize(
    ('family', 'key', 'value'),
    [('unet', 'blocks', [2, 0]), ('prime_depth', 'layers', 1), ('diffusion_depth', 'latent', 16)],
)
def test_weights_of_another_architecture_are_refused(damaged, edit_json, family, key, value):
    folder = damaged(family)
    edit_json(folder / 'config.json', key, value)
    with pytest.raises(CheckpointError, match=r'model\.safetensors'):
        load_model(str(folder), 'cpu')


def test_another_number_of_steps_fits_the_weights(damaged, edit_json):
    folder = damaged('diffusion_depth')
    edit_json(folder / 'config.json', 'steps', 10)
    assert load_model(str(folder), 'cpu').denoising_steps == 10


@pytest.mark.parametrize('family', FAMILIES)
def test_only_floating_point_numbers_are_weights(damaged, family):
    folder = damaged(family)
    path = folder / 'model.safetensors'
    weights = load_file(path)  # some have integers beside the weights: counters of batches

    def save(kind):
        changed = {k: v.to(kind) if v.is_floating_point() else v for k, v in weights.items()}
        save_file(changed, path, {'format': 'pt'})

    for kind in (torch.float64, torch.bfloat16):
        save(kind)
        assert load_model(str(folder), 'cpu')
    for kind, named in ((torch.int8, 'I8'), (torch.bool, 'BOOL'), (torch.complex64, 'C64')):
        save(kind)
        match = rf'model\.safetensors: weight \S+ has type {named}, .*save it in float16$'
        with pytest.raises(CheckpointError, match=match):
            load_model(str(folder), 'cpu')


@pytest.mark.parametrize('family', FAMILIES)
def test_missing_and_damaged_weights_are_named(damaged, family):
    folder = damaged(family)
    weights = folder / 'model.safetensors'
    unknown = {name: torch.nan * one for name, one in load_file(weights).items()}
    save_file(unknown, weights, {'format': 'pt'})
    with pytest.raises(CheckpointError, match='is not finite'):
        load_model(str(folder), 'cpu')
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=family):
        load_model(str(folder), 'cpu')
    weights.unlink()
    with pytest.raises(CheckpointError, match='no (model.)?safetensors'):
        load_model(str(folder), 'cpu')
