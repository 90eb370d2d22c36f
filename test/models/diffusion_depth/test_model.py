# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""DiffusionDepth: its checkpoint's folder, backbones, steps, seeds and errors."""

import json
import shutil

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.models import families_of, load_model
from marigold_ros.models.diffusion_depth.checkpoint import read_architecture
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_ros.models.runtime import devices
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
PUBLISHED_RESNET = {
    'model_type': 'diffusion_depth_resnet',
    'channels': [4, 8, 8, 8],
    'blocks': [2, 1, 1, 1],
}
MPVIT = {
    'model_type': 'mpvit',
    'stages': [8, 8, 16, 16],
    'layers': [1, 2, 1, 1],
    'paths': [2, 1, 2, 1],
    'ratios': [2, 2, 2, 2],
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
@pytest.mark.parametrize(
    'backbone', [SWIN, RESNET, PUBLISHED_RESNET, MPVIT, {'channels': [8, 16], 'blocks': [1]}]
)
@pytest.mark.parametrize('size', [(64, 96), (50, 71)])
def test_every_backbone_guides_a_latent_of_half_the_size(backbone, neck, size):
    values = {**SMALL, 'backbone': backbone, 'neck': neck, 'fuse': True}
    network = DiffusionDepth(read_architecture(values, 'init')).eval()
    size = size[0] + size[0] % 2, size[1] + size[1] % 2
    image = torch.rand(2, 3, *size) * 2 - 1
    noise = torch.randn(2, *network.architecture.noise_shape(*size))
    assert noise.shape[-2:] == (size[0] // 2, size[1] // 2)
    depth = network(image, noise)
    assert depth.shape == (2, 1, *size)
    assert (depth >= 0).all()
    changed = network(image.flip(-1), noise)
    assert not torch.allclose(depth, changed)


@pytest.mark.parametrize(
    'changes',
    [
        {'paths': [2, 1, 2]},
        {'layers': [1, 0, 1, 1]},
        {'stages': [8, 8, 12, 16]},
        {'stages': 8},
        {'stages': [], 'layers': [], 'paths': [], 'ratios': []},
        {'channels': [8]},
        {'model_type': None},
        {'model_type': ['mpvit']},
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(changes):
    with pytest.raises(CheckpointError, match='has backbone'):
        read_architecture({'backbone': {**MPVIT, **changes}}, 'init')


@pytest.mark.parametrize(
    'wrong',
    [{'features': 9}, {'hidden': 0}, {'latent': 8.0}, {'neck': -1}]
    + [{'fuse': 1}, {'rectify': 0}, {'steps': 0}, {'steps': True}, {'steps': 10**6}],
)
def test_an_architecture_that_cannot_be_built_is_refused_by_its_value(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(CheckpointError, match=f'config has {name} {value}; give'):
        read_architecture(wrong, 'config')


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
    assert prediction.censored == (-np.inf, pytest.approx(0.495 * far))


def test_only_the_steps_of_training_are_taken(diffusion_depth_folder, rgb):
    model = load_model(str(diffusion_depth_folder), 'cpu')
    same = model.predict(rgb, denoising_steps=20, ensemble_size=1).relative
    np.testing.assert_array_equal(same, model.predict(rgb).relative)


def test_the_fastest_backend_that_runs_it_is_torch(diffusion_depth_folder, unet_folder):
    runtime = RuntimeConfig(backend='auto', warm_up='48x64')
    model = load_model(str(diffusion_depth_folder), 'cpu', runtime=runtime)
    assert model.description['runtime']['backend'] != 'openvino'
    both = families_of(f'{unet_folder}+{diffusion_depth_folder}')
    assert [family.openvino for family in both] == [True, False]


def test_a_cpu_takes_its_steps_in_float32_unless_told(diffusion_depth_folder, monkeypatch):
    # In bfloat16 twenty steps move the metres, by whichever runtime.
    monkeypatch.setattr(devices, 'has_bfloat16', lambda: True)
    monkeypatch.setattr(devices, 'LARGE', 1)  # as the Swin-L of the released weights is
    for dtype, taken in (('auto', 'float32'), ('bfloat16', 'bfloat16')):
        model = load_model(str(diffusion_depth_folder), 'cpu', dtype)
        assert model.description['dtype'] == taken
