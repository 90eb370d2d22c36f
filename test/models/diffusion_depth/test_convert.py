# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Released weights of DiffusionDepth, against what the original's own modules make of them.

``released/`` holds small ones of random weights by the original's names, saved by its classes with
other numbers of channels, with an image, noise, sparse truth, and what its forward pass returned;
and the names and shapes of its three networks of full size.
"""

from argparse import Namespace
import gzip
import json
from pathlib import Path

from marigold_ros.__main__ import main
from marigold_ros.errors import CheckpointError
from marigold_ros.models import load_model
from marigold_ros.models.convert.pickles import Released
from marigold_ros.models.diffusion_depth.checkpoint import read_architecture
from marigold_ros.models.diffusion_depth.convert import convert
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
import pytest
from safetensors.torch import load_file
import torch

FOLDER = Path(__file__).parent / 'released'
KINDS = ('resnet', 'swin', 'mpvit')
OPTIONS = {'args.max_depth': 80.0, 'args.num_train_timesteps': 1000}


def original(kind):
    """Return the state dict of the original's network, and what it was given and returned."""
    found = load_file(FOLDER / f'{kind}.safetensors')
    state, out = (
        {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}
        for start in ('state.', 'out.')
    )
    state = {key: x.float() if x.is_floating_point() else x for key, x in state.items()}
    image = found['image'].float() / 255.0 * 2.0 - 1.0
    return state, {**out, 'image': image}


def released(state, values=OPTIONS):
    return Released(Path('model.pt'), {f'net.{key}': x for key, x in state.items()}, dict(values))


def network_of(conversion):
    config = {k: v for k, v in conversion.files['config.json'].items() if k != 'model_type'}
    network = DiffusionDepth(read_architecture(config, 'config.json'))
    network.load_state_dict(conversion.files['model.safetensors'])
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize('kind', KINDS)
def test_converted_weights_give_the_originals_depth(kind):
    state, given = original(kind)
    network = network_of(convert(released(state)))
    features = network.features(given['image'])
    torch.testing.assert_close(features, given['condition'], rtol=1e-4, atol=1e-4)
    depth = network(given['image'], given['noise'])
    torch.testing.assert_close(depth, given['depth'], rtol=1e-4, atol=1e-4)
    encoded = network.latent.encode(given['truth'])
    torch.testing.assert_close(encoded, given['encoded'], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('kind', 'options', 'pixels'),
    [('resnet', {'args.data_name': 'NYU'}, 228 * 304)]
    + [(kind, {}, 352 * 1216) for kind in KINDS[1:]],
)
def test_every_name_of_the_published_sizes_is_used_or_named(kind, options, pixels):
    shapes = json.loads(gzip.decompress((FOLDER / 'full_size.json.gz').read_bytes()))[kind]
    nothing = torch.zeros(())  # expanded: no memory
    given = released({key: nothing.expand(shape) for key, shape in shapes.items()}, options)
    conversion = convert(given)
    written = conversion.tensors + len(conversion.unused)
    # Joint queries, keys and values are split in three; transformers has a norm of its own.
    extra = 24 * 2 * 2 + 2 if kind == 'swin' else 0
    assert written == len(shapes) + extra
    words = ('hahineck', 'convup_fp', 'relative_position_index', '.MHCA_layers.')
    assert all(any(word in name for word in words) for name in conversion.unused)
    config = conversion.files['config.json']
    assert (config['features'], config['hidden'], config['latent']) == (256, 64, 16)
    assert (config['neck'], config['fuse']) == ((0, False) if kind == 'resnet' else (512, True))
    backbone = {
        'resnet': {'channels': [64, 128, 256, 512], 'blocks': [3, 4, 6, 3]},
        'swin': {'depths': [2, 2, 18, 2], 'num_heads': [6, 12, 24, 48], 'window_size': 7},
        'mpvit': {'stages': [64, 128, 216, 288], 'layers': [1, 3, 6, 3], 'paths': [2, 3, 3, 3]},
    }[kind]
    assert backbone.items() <= config['backbone'].items()
    facts = {'space': 'metric', 'max_depth': 88.0, 'default_processing_pixels': pixels}
    assert conversion.files['marigold_ros.json'] == facts


def test_the_command_writes_a_folder_that_predicts(tmp_path, capsys):
    state, given = original('resnet')
    options = Namespace(**{key.removeprefix('args.'): x for key, x in OPTIONS.items()})
    torch.save({'net': state, 'args': options}, tmp_path / 'model.pt')
    command = ['models', 'convert', str(tmp_path / 'model.pt'), '--family', 'diffusion_depth']
    command += ['--out', str(tmp_path / 'folder')]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert 'not used: net.depth_head.convup_fp.0.weight' in text
    assert (tmp_path / 'folder' / 'README.md').read_text().startswith('# DiffusionDepth\n')
    model = load_model(str(tmp_path / 'folder'), 'cpu')
    assert model.description['max_depth'] == 80.0
    rgb = ((given['image'][0].permute(1, 2, 0) + 1.0) * 127.5).round().byte().numpy()
    assert model.predict(rgb).relative.shape == rgb.shape[:2]
    assert main(command) == 1
    assert 'is there already' in capsys.readouterr().err


def without(state, part):
    return {key: value for key, value in state.items() if part not in key}


def reshaped(state, part, shape):
    return {key: torch.ones(shape) if part in key else value for key, value in state.items()}


def changed(state, part):
    return {key: value + 1 if part in key else value for key, value in state.items()}


@pytest.mark.parametrize(
    ('state', 'values', 'words'),
    [
        ({'layer1.weight': torch.ones(2)}, {}, 'none of this family .*first: net.layer1.weight'),
        (without(original('swin')[0], 'noise_embedding'), {}, 'misses weights'),
        (without(original('swin')[0], 'blocks.0.norm1.weight'), {}, '4 weights missing'),
        (without(original('resnet')[0], 'depth_backbone'), {}, 'misses weights'),
        (reshaped(original('swin')[0], 'downsample', ()), {}, 'misses weights'),
        (reshaped(original('swin')[0], 'ffn.layers.0.0', (4,)), {}, 'misses weights'),
        (reshaped(original('swin')[0], 'conv_lateral.3.0', (8, 8, 3, 3)), {}, '1 of other shape'),
        (reshaped(original('mpvit')[0], 'mlp.fc1', (0, 8)), {}, 'has backbone'),
        (changed(original('mpvit')[0], 'MHCA_layers.1.cpe'), {}, 'shares between layers'),
        (original('resnet')[0], {'args.num_train_timesteps': 500}, 'only 1000 are known'),
        (original('resnet')[0], {'args.inference_steps': 1000}, 'steps 1000; give 1 to 50'),
        (original('resnet')[0], {'args.max_depth': -1.0}, 'max_depth -1.0; give metres'),
        (original('resnet')[0], {'args.max_depth': float('inf')}, 'max_depth inf; give metres'),
    ],
)
def test_what_is_no_whole_diffusion_depth_is_refused(state, values, words):
    with pytest.raises(CheckpointError, match=words):
        convert(released(state, values))
