# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Conversion of released files, against the original's own modules.

These ran outside of the project, small and of random weights that follow from their names:
``original.safetensors`` holds image, noise, output and embedding of the prompt,
``original_shapes.json.gz`` the names and shapes of its state, and of one of full size.
"""

from pathlib import Path
import shutil

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.models import load_model
from marigold_ros.models.convert.pickles import Released
from marigold_ros.models.convert.released import convert_file
from marigold_ros.models.prime_depth.checkpoint import config_of, load_base, load_refiner
from marigold_ros.models.prime_depth.convert import build, convert, split
from marigold_ros.models.prime_depth.model import Chain
from marigold_ros.models.runtime.kept_networks import openvino_core
from marigold_ros.models.runtime.openvino_networks import CAPABILITIES
from marigold_ros.models.weights import count_parameters
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch

HERE = Path(__file__).parent


@pytest.fixture(scope='module')
def original():
    return load_file(HERE / 'original.safetensors')


@pytest.fixture
def released(prime_depth_state, tmp_path):
    named = {f'state_dict.{name}': one for name, one in prime_depth_state.items()}
    return Released(tmp_path / 'x.ckpt', named, {})


def test_the_converted_answers_as_the_original(converted_prime_depth, original):
    network = Chain(*load_refiner(converted_prime_depth))
    torch.testing.assert_close(network.refiner.text, original['text'], rtol=0, atol=1e-5)
    image = original['image'].permute(2, 0, 1)[None] / 255.0 * 2.0 - 1.0
    with torch.no_grad():
        found = network(image, original['noise'][:, None])[0]
    assert found.std() > 0.3
    torch.testing.assert_close(found, original['depth'], rtol=0, atol=1e-4)


def test_a_refiner_trained_further_reads_the_networks_of_the_converted_folder(
    converted_prime_depth,
):
    base, refiner = load_refiner(converted_prime_depth)
    assert config_of(base, refiner)['base'] == str(converted_prime_depth)
    again = load_base(str(converted_prime_depth))
    assert again.sha256 == config_of(base, refiner)['trained_on']['sha256']


@pytest.mark.slow  # compiles the frozen U-Net
@pytest.mark.parametrize(('dtype', 'most'), [('float32', 1e-3), ('bfloat16', 0.3)])
def test_openvino_answers_as_torch_does(converted_prime_depth, tmp_path, dtype, most):
    pytest.importorskip('openvino', reason='needs the extra openvino')
    capability = CAPABILITIES[getattr(torch, dtype)]
    if capability not in openvino_core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
        pytest.skip(f'this CPU has no {dtype}')
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    runtime = RuntimeConfig(backend='openvino', cache_dir=str(tmp_path))
    folder = str(converted_prime_depth)
    found = load_model(folder, 'cpu', dtype, runtime=runtime).predict(rgb).relative
    plain = load_model(folder, 'cpu', 'float32').predict(rgb).relative
    np.testing.assert_allclose(found, plain, rtol=0, atol=most)


@pytest.mark.parametrize('size', ['small', 'full'])
def test_every_name_is_used_once_or_returned(prime_depth_shapes, size):
    shapes = prime_depth_shapes[size]
    tensors = {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}
    with torch.device('meta'):
        networks, names = build(shapes)
    parts, unused = split(Released(Path('x.ckpt'), tensors, {}), names)
    assert sum(map(len, parts.values())) + len(unused) == len(shapes)
    for name, network in networks.items():
        own = {key: one.shape for key, one in network.state_dict().items() if key != 'text'}
        assert own == {key: one.shape for key, one in parts[name].items()}
    assert not any(name.startswith('labeller.depth') for name in unused)


def test_the_refiner_of_full_size_is_the_published_one(prime_depth_shapes):
    with torch.device('meta'):
        networks, _ = build(prime_depth_shapes['full'])
    refiner, unet = networks['refiner'], networks['unet']
    assert count_parameters(refiner) == 356_079_179
    inputs = [one.in_channels for block in refiner.blocks for one in block.resnets]
    assert inputs == [2690, 1920, 1920, 3330, 3330, 3010, 3010, 1665, 1505, 1505, 832, 832]
    heads = [
        one.transformer_blocks[0].attn1.heads
        for block in refiner.blocks
        for one in getattr(block, 'attentions', ())
    ]
    assert heads == [10, 10, 10, 5, 5, 5, 4, 4, 4]
    assert refiner.blocks[0].resnets[0].norm1.num_groups == 10
    assert unet.config.attention_head_dim == [5, 10, 20, 20]
    assert (refiner.decoder, refiner.layers) == ((128, 256, 512, 512), 2)


def test_an_embedding_beside_the_file_is_the_prompt(released, prime_depth_state):
    given = torch.randn(1, 77, 128)
    save_file(
        {'empty_text_embedding': given}, released.file.parent / 'empty_text_embedding.safetensors'
    )
    without = {name: one for name, one in released.tensors.items() if 'cond_stage' not in name}
    conversion = convert(Released(released.file, without, {}))
    torch.testing.assert_close(conversion.files['model.safetensors']['text'], given)


LABEL = 'state_dict.labeller.depth_predictor.conv_out.weight'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({LABEL: None}, r'1 weights missing, 0 unknown.*labels\.conv_out\.weight'),
        ({LABEL: torch.ones(3, 3)}, 'of other shape'),
        ({LABEL: torch.full((3, 32, 3, 3), torch.nan)}, 'not finite'),
        ({'state_dict.labeller.other': torch.ones(3)}, r'1 tensors .* none .*labeller\.other'),
        ({'state_dict.model.diffusion_model.out.2.weight': None}, 'holds no PrimeDepth'),
        ({'cond_stage_model': None}, 'no text encoder, .* as empty_text_embedding'),
        ({'resblocks.1.attn.in_proj_bias': None}, r'1 weights missing.*in_proj_bias'),
        ({'first_stage_model': None}, 'no tensors of first_stage_model'),
        ({'state_dict': None, 'module.a': torch.ones(3)}, 'no tensors of model.diffusion_model'),
    ],
)
def test_what_is_damaged_or_of_something_else_is_refused(released, changes, words):
    tensors = dict(released.tensors)
    for part, value in changes.items():
        if value is None:
            tensors = {name: one for name, one in tensors.items() if part not in name}
        else:
            tensors[part] = value
    with pytest.raises(CheckpointError, match=words):
        convert(Released(released.file, tensors, {}))


@pytest.mark.slow  # reads the file in a process of its own
def test_a_file_becomes_a_folder_that_loads(prime_depth_state, tmp_path):
    path = tmp_path / 'released.ckpt'
    torch.save({'state_dict': prime_depth_state, 'epoch': 3}, path)
    found = convert_file(path, 'prime_depth', tmp_path / 'out')
    assert len(found.unused) == 83  # segmentation, schedule, and the text encoder's outputs
    assert load_model(str(tmp_path / 'out'), 'cpu').parameters > 4e6


def test_images_up_to_the_longest_edge_are_seen_as_they_are(converted_prime_depth, tmp_path):
    folder = shutil.copytree(converted_prime_depth, tmp_path / 'x')
    path = folder / 'marigold_ros.json'
    path.write_text('{"space": "disparity", "longest_edge": 1024}')
    model = load_model(str(folder), 'cpu')
    assert model.processing_size(480, 640, None) == (480, 640)
    assert model.processing_size(352, 1216, None) == (296, 1024)
    assert model.processing_size(480, 640, 768) == (576, 768)
    path.write_text('{"space": "disparity", "longest_edge": -1}')
    with pytest.raises(CheckpointError, match=r'json has longest_edge -1; give'):
        load_model(str(folder), 'cpu')
