# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Depth estimators of transformers: what its own pipeline says, and what is refused."""

from importlib import import_module
import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

from marigold_ros.config import AlignmentConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError, InputError
from marigold_ros.frame import Camera, Frame, SparseDepth
from marigold_ros.geometry import align
from marigold_ros.models import load_model
from marigold_ros.models.depth_anything.kinds import KINDS, NOT_DEPTH
from marigold_ros.models.depth_anything.processors import (
    DepthProProcessor,
    PROCESSORS,
    TipsProcessor,
)
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from small_estimators import DPT_HEAD, small_dinov2, write_estimator
import torch
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook
from transformers import (
    AutoModelForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    pipeline,
    ZoeDepthForDepthEstimation,
)
from transformers.modeling_outputs import DepthEstimatorOutput
from transformers.models.auto import modeling_auto

SIZES = [(121, 163), (90, 240), (201, 77)]


def image_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = np.stack([255 * y, 120 + 80 * np.sin(12 * x), 255 * x], axis=-1)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def by_transformers(folder, rgb):
    """Return depth (H, W) by transformers' own pipeline."""
    from PIL import Image

    estimate = pipeline('depth-estimation', model=str(folder), device='cpu')
    with torch.inference_mode():
        return estimate(Image.fromarray(rgb))['predicted_depth'].numpy()


@pytest.mark.parametrize('size', SIZES)
def test_disparity_is_that_of_transformers_over_one_constant(relative_folder, size):
    model = load_model(str(relative_folder), device='cpu')
    rgb = image_of(*size)
    found, expected = model.predict(rgb), by_transformers(relative_folder, rgb)
    assert found.space == model.space == 'disparity'
    off = np.abs(found.relative * model.unit - expected).max()
    assert off < 1e-4 * (expected.max() - expected.min())


@pytest.mark.parametrize('size', SIZES)
def test_metric_depth_is_that_of_transformers(metric_folder, size):
    model = load_model(str(metric_folder), device='cpu')
    rgb = image_of(*size)
    found, expected = model.predict(rgb), by_transformers(metric_folder, rgb)
    assert found.space == 'metric'
    np.testing.assert_allclose(found.relative, expected, rtol=1e-5)


@pytest.fixture
def torchvision(monkeypatch):
    """Give transformers' processors the three functions of torchvision that they call."""

    def resize(image, size, interpolation, antialias=True):
        size, batch = tuple(size), image if image.ndim == 4 else image[None]
        found = functional.interpolate(batch, size, mode=interpolation, antialias=antialias)
        return found if image.ndim == 4 else found[0]

    def normalize(image, mean, std, inplace=False):
        mean, std = (torch.as_tensor(value)[:, None, None] for value in (mean, std))
        return (image - mean) / std

    modes = SimpleNamespace(BILINEAR='bilinear', BICUBIC='bicubic', LANCZOS='lanczos')
    stand_in = SimpleNamespace(resize=resize, normalize=normalize, InterpolationMode=modes)
    stand_in.grayscale_to_rgb = lambda image: image
    module = ModuleType('torchvision.transforms.v2')
    module.functional = stand_in
    monkeypatch.setitem(sys.modules, 'torchvision.transforms.v2', module)
    modes_by_number = {2: modes.BILINEAR, 3: modes.BICUBIC}
    backends = import_module('transformers.image_processing_backends')
    monkeypatch.setattr(backends, 'tvF', stand_in, raising=False)
    monkeypatch.setattr(backends, 'pil_torch_interpolation_mapping', modes_by_number)
    zoedepth = import_module('transformers.models.zoedepth.image_processing_pil_zoedepth')
    monkeypatch.setattr(zoedepth, 'tvF', stand_in, raising=False)
    depth_pro = import_module('transformers.models.depth_pro.image_processing_depth_pro')
    named = {number: SimpleNamespace(value=mode) for number, mode in modes_by_number.items()}
    monkeypatch.setattr(depth_pro, 'pil_torch_interpolation_mapping', named)
    tips = import_module('transformers.models.tipsv2_dpt.image_processing_tipsv2_dpt')
    return {
        'depth_pro': depth_pro.DepthProImageProcessor,
        'tipsv2_dpt': tips.Tipsv2DptImageProcessor,
        'zoedepth': zoedepth.ZoeDepthImageProcessorPil,
    }


def test_kin_of_depth_anything_say_what_transformers_says(kin_folder, torchvision):
    model = load_model(str(kin_folder), device='cpu')
    kind = json.loads((kin_folder / 'config.json').read_text())['model_type']
    if kind in torchvision:
        values = json.loads((kin_folder / 'preprocessor_config.json').read_text())
        processor = torchvision[kind](**values)
        network = AutoModelForDepthEstimation.from_pretrained(kin_folder)
    for size in SIZES:
        rgb = image_of(*size)
        if kind in torchvision:
            with torch.inference_mode():
                outputs = network(**processor(images=[rgb], return_tensors='pt'))
            expected = processor.post_process_depth_estimation(outputs, [size])[0]
            expected = expected['predicted_depth'].numpy()
        else:
            expected = by_transformers(kin_folder, rgb)
        assert np.ptp(expected) > 1e-3 * np.abs(expected).max()
        off = np.abs(model.predict(rgb).relative * model.unit - expected).max()
        assert off < 1e-4 * np.ptp(expected), size
    spaces = {'dpt': 'disparity', 'prompt_depth_anything': 'depth'}
    assert model.space == spaces.get(model.kind, 'metric')


def test_what_a_file_of_a_processor_leaves_out_is_as_of_transformers(torchvision):
    for kind, theirs in torchvision.items():
        for name, value in PROCESSORS[kind]({}).values.items():
            assert getattr(theirs, name, value) == value, (kind, name)


def test_every_depth_estimator_of_transformers_is_known_or_refused_by_name(tmp_path):
    listed = set(modeling_auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES)
    assert listed == set(KINDS) | set(NOT_DEPTH)
    (tmp_path / 'config.json').write_text('{"model_type": "chmv2"}')
    with pytest.raises(CheckpointError, match='predicts the height of trees'):
        load_model(str(tmp_path), device='cpu')


def test_depth_pro_in_metres_is_that_of_the_cameras_focal_length(kin_folders):
    """As the original with ``f_px``: depth is f_px over width and canonical inverse depth."""
    folder, rgb, focal = kin_folders / 'depth_pro', image_of(90, 130), 71.0
    network = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    with torch.inference_mode():
        canonical = network(functional.interpolate(pixels, (128, 128), mode='bilinear'))
    inverse = canonical.predicted_depth[:, None] * (130 / focal)
    expected = 1 / functional.interpolate(inverse, (90, 130), mode='bilinear')[0, 0].numpy()
    K = np.array([[focal, 0, 64.5], [0, focal, 44.5], [0, 0, 1]])
    pipeline = FramePipeline(load_model(str(folder), device='cpu'))
    known = pipeline.predict(Frame(rgb, camera=Camera(K, 130, 90)))
    near = expected < 5000.0
    assert near.mean() > 0.9
    np.testing.assert_allclose(known.relative[near], expected[near], rtol=1e-4)
    assert pipeline.predict(Frame(rgb)).relative.mean() != pytest.approx(known.relative.mean())


def test_zoedepth_averages_with_the_mirrored_image_where_it_is_asked_to(
    kin_folders, tmp_path, monkeypatch
):
    folder, rgb = shutil.copytree(kin_folders / 'zoedepth', tmp_path / 'zoe'), image_of(90, 130)
    plain = load_model(str(folder), device='cpu')
    (folder / 'marigold_ros.json').write_text('{"flip": true}')
    model, real, answers = load_model(str(folder), device='cpu'), ZoeDepthForDepthEstimation, []
    forward = real.forward

    def over_the_last(*given, **named):  # as CUDA graphs do
        outputs = forward(*given, **named)
        answers.append(outputs.predicted_depth)
        outputs['predicted_depth'] = answers[0].copy_(answers[-1])
        return outputs

    with monkeypatch.context() as patch:
        patch.setattr(real, 'forward', over_the_last)
        found = model.predict(rgb).relative
    mirrored = plain.predict(np.ascontiguousarray(rgb[:, ::-1])).relative[:, ::-1]
    expected = (plain.predict(rgb).relative + mirrored) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_two_domains_are_chosen_image_by_image_and_by_torch_alone(kin_folders):
    folder = str(kin_folders / 'zoedepth of two domains')
    with pytest.raises(ConfigurationError, match='chooses one of its heads'):
        load_model(folder, device='cpu', runtime=RuntimeConfig(backend='openvino'))
    model, batches = load_model(folder, device='cpu'), []
    with pytest.raises(ConfigurationError, match='chooses one of its heads'):
        model.as_network(90, 130)

    def count(module, _given, outputs):
        if isinstance(module, ZoeDepthForDepthEstimation):
            batches.append(len(outputs.predicted_depth))

    with register_module_forward_hook(count):
        model.predict_together([image_of(90, 130)] * 2, [model.new_stream()] * 2)
    assert batches == [1, 1]


def test_values_beyond_one_take_part_in_the_fit(relative_folder):
    unit = load_model(str(relative_folder), device='cpu').unit / 50
    (relative_folder / 'marigold_ros.json').write_text(json.dumps({'disparity_unit': unit}))
    prediction = load_model(str(relative_folder), device='cpu').predict(image_of(120, 160))
    v, u = np.nonzero(prediction.relative > 1)
    assert len(v) > 5000
    v, u = v[::20], u[::20]
    z = 1 / (0.05 + 0.001 * prediction.relative[v, u])
    config = AlignmentConfig(method='least_squares')
    fit = align(prediction, SparseDepth(u, v, z.astype(np.float32)), config)
    assert fit.state == 'fitted'
    np.testing.assert_allclose(fit.metric[v, u], z, rtol=0.01)


def test_the_longest_side_at_the_network_may_be_chosen(relative_folder):
    model = load_model(str(relative_folder), device='cpu')
    for longest, size in ((70, (56, 70)), (0, (84, 126)), (None, (98, 140)), (4, (14, 14))):
        assert model.processing_size(88, 124, longest) == size
        found = model.predict(image_of(88, 124), processing_resolution=longest)
        assert found.relative.shape == (88, 124)


@pytest.mark.parametrize('longest', [-1, 70.5, 'large'])
def test_a_resolution_that_is_no_number_of_pixels_is_refused(relative_folder, longest):
    model = load_model(str(relative_folder), device='cpu')
    with pytest.raises(ConfigurationError, match='processing_resolution.*whole number'):
        model.predict(image_of(88, 124), processing_resolution=longest)


def test_a_network_that_takes_its_tokens_for_a_square_has_no_choice_of_size(kin_folders):
    # Transformers would take 4x9 cells for 6x6, and fail where their number is no square.
    model = load_model(str(kin_folders / 'dpt'), device='cpu')
    with pytest.raises(ConfigurationError, match='dpt has no choice of size'):
        model.predict(image_of(64, 144), processing_resolution=0)


def changed(folder, name, **values):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ('name', 'values', 'words'),
    [
        ('preprocessor_config.json', {'auto_map': {'x': 'y'}}, 'run code of the checkpoint'),
        ('preprocessor_config.json', {'image_mean': [0.5, 0.5]}, '3 elements.*restore'),
        ('config.json', {'auto_map': {'x': 'y'}}, 'run code of the checkpoint'),
        ('config.json', {'model_type': 'bert'}, "model_type 'bert'.*choose one of depth_anything"),
        ('marigold_ros.json', {'space': 'feet'}, "space 'feet'; choose one of"),
        ('marigold_ros.json', {'disparity_unit': 0}, 'disparity_unit 0; give a positive'),
        ('marigold_ros.json', {'disparity_unit': True}, 'disparity_unit True; give a positive'),
        ('marigold_ros.json', {'flip': True}, 'flip True; only zoedepth takes true'),
    ],
)
def test_what_a_folder_may_not_hold_is_refused(relative_folder, name, values, words):
    changed(relative_folder, name, **values)
    with pytest.raises(CheckpointError, match=words):
        load_model(str(relative_folder), device='cpu')


def test_what_a_folder_lacks_is_named(relative_folder):
    path = relative_folder / 'model.safetensors'
    weights = load_file(path)
    for value, words in ((torch.nan, 'is not finite'), (0.0, 'of 0 on a test image.*damaged')):
        for name in ('head.conv3.weight', 'head.conv3.bias'):
            weights[name] = torch.full_like(weights[name], value)
        save_file(weights, path, {'format': 'pt'})
        with pytest.raises(CheckpointError, match=words):
            load_model(str(relative_folder), device='cpu')
    weights.pop('head.conv3.weight')
    save_file(weights, path, {'format': 'pt'})
    with pytest.raises(CheckpointError, match=r'1 weights missing.*head.conv3'):
        load_model(str(relative_folder), device='cpu')
    path.rename(path.with_name('model-00001-of-00002.safetensors'))
    shard = 'model-00002-of-00002.safetensors'
    changed(relative_folder, 'model.safetensors.index.json', weight_map={'head': shard})
    with pytest.raises(CheckpointError, match=f'names {shard}.*not in its folder; copy it'):
        load_model(str(relative_folder), device='cpu')
    (relative_folder / 'preprocessor_config.json').unlink()
    with pytest.raises(CheckpointError, match='preprocessor_config'):
        load_model(str(relative_folder), device='cpu')


@pytest.mark.parametrize('kind', ['depth_pro', 'tipsv2_dpt', 'zoedepth'])
@pytest.mark.parametrize(
    ('name', 'value'),
    [
        *(('size', one) for one in (384, {'shortest_edge': 384}, {'height': 384, 'width': '512'})),
        *(('resample', one) for one in (1, [2])),
        ('do_rescale', False),
    ],
)
def test_what_images_cannot_be_brought_to_is_refused(kin_folders, tmp_path, kind, name, value):
    folder = shutil.copytree(kin_folders / kind, tmp_path / kind)
    changed(folder, 'preprocessor_config.json', **{name: value})
    with pytest.raises(CheckpointError, match=f'has {name} .*; known here is'):
        load_model(str(folder), device='cpu')


@pytest.mark.parametrize('kind', ['glpn', 'zoedepth'])
def test_an_image_too_thin_for_the_network_is_refused_as_such(kin_folders, kind):
    model = load_model(str(kin_folders / kind), device='cpu')
    for call in (model.predict, lambda rgb: model.processing_size(*rgb.shape[:2], None)):
        with pytest.raises(InputError, match='of 900x15 has no size .*; crop it') as caught:
            call(image_of(15, 900))
        assert caught.value.cause == 'shape'


def test_rows_of_pixels_are_no_channels_however_few_they_are(kin_folders):
    model, row = load_model(str(kin_folders / 'dpt'), device='cpu'), image_of(1, 200)
    few, many = (
        model.processor(images=[np.repeat(row, count, axis=0)], return_tensors='pt')
        for count in (3, 12)
    )
    torch.testing.assert_close(few['pixel_values'], many['pixel_values'], rtol=0, atol=0.02)
    for size in ((1, 64), (64, 1), (3, 200)):
        assert model.predict(image_of(*size)).relative.shape == size


def test_a_dpt_on_dinov2_is_metric_and_its_padding_is_cut_off(tmp_path):
    """As published for NYUv2 and KITTI; transformers' own pipeline leaves the padding."""
    backbone = small_dinov2(apply_layernorm=False)
    config = DPTConfig(backbone_config=backbone, **DPT_HEAD)
    torch.manual_seed(0)
    network = DPTForDepthEstimation(config).eval()
    network.head.head[-2].weight.data.abs_()
    mean, deviation = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    processor = {
        'image_processor_type': 'DPTImageProcessor',
        'do_pad': True,
        'do_rescale': False,
        'do_resize': False,
        'image_mean': mean,
        'image_std': deviation,
        'size_divisor': 14,
    }
    write_estimator(tmp_path, network, processor)
    model, rgb = load_model(str(tmp_path), device='cpu'), image_of(100, 121)
    found = model.predict(rgb)
    padded = np.pad((rgb - np.array(mean)) / np.array(deviation), ((6, 6), (2, 3), (0, 0)))
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        depth = network(pixels).predicted_depth[:, None]
    expected = functional.interpolate(depth, (112, 126), mode='bicubic')[0, 0, 6:106, 2:123]
    assert found.space == 'metric'
    np.testing.assert_allclose(found.relative, expected, atol=1e-4 * np.ptp(expected.numpy()))
    with pytest.raises(ConfigurationError, match='has no choice of size'):
        model.predict(rgb, processing_resolution=70)
    whole = image_of(112, 126)
    with torch.inference_mode():
        exported = model.as_network(112, 126)(torch.from_numpy(whole).permute(2, 0, 1)[None] / 255)
    exported = functional.interpolate(exported, (112, 126), mode='bicubic')[0, 0]
    own = model.predict(whole).relative
    np.testing.assert_allclose(exported, own, atol=1e-4 * np.ptp(own))


@pytest.mark.parametrize('kind', [DepthProProcessor, TipsProcessor])
@pytest.mark.parametrize('wanted', [True, False])
def test_our_own_processors_normalise_each_channel_by_the_values_of_the_file(kind, wanted):
    mean, deviation = [0.1, 0.2, 0.3], [0.5, 0.25, 0.125]
    values = {'image_mean': mean, 'image_std': deviation, 'do_normalize': wanted}
    processor = kind({'size': {'height': 16, 'width': 24}, **values})
    rgb = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    expected = (rgb / 255 - mean) / deviation if wanted else rgb / 255
    found = processor([rgb])['pixel_values'][0].permute(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_depth_pro_reaches_from_a_tenth_of_a_millimetre_to_ten_kilometres():
    inverse = torch.tensor([[[-1.0, 0.0, 0.5, 1e6]]])
    (found,) = DepthProProcessor({}).post_process_depth_estimation(
        DepthEstimatorOutput(predicted_depth=inverse), [(1, 4)]
    )
    torch.testing.assert_close(found['predicted_depth'], torch.tensor([[1e4, 1e4, 2.0, 1e-4]]))
