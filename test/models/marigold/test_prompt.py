# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A Marigold whose decoder sees points: identities, planted points, input checks."""

from contextlib import suppress
import shutil

from diffusers import AutoencoderTiny
from marigold_ros.config import AlignmentConfig, PipelineConfig, RuntimeConfig
from marigold_ros.errors import AlignmentError, CheckpointError, ConfigurationError
from marigold_ros.frame import Frame, SparseDepth, SparseInput
from marigold_ros.models import load_model
from marigold_ros.models.locate import write_sums
from marigold_ros.models.marigold.check import check_checkpoint
from marigold_ros.models.marigold.checkpoint import load_networks
from marigold_ros.models.marigold.prompt import load_prompt, PointPrompt, rasterise, spread_points
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch

SHAPE = (72, 96)
SLOPE = (12.0 - 0.06 * np.arange(96) - 0.02 * np.arange(72)[:, None]).astype(np.float32)


@pytest.fixture(scope='module')
def model(prompted_folder):
    return load_model(str(prompted_folder), 'cpu', 'float32')


@pytest.fixture
def folder(prompted_folder, tmp_path):
    """Return a copy without sums, so that its files may be changed."""
    shutil.copytree(prompted_folder, tmp_path / 'copy')
    (tmp_path / 'copy' / 'SHA256SUMS').unlink()
    return tmp_path / 'copy'


@pytest.fixture
def rgb(image):
    return image(*SHAPE)


def points(depth=SLOPE, count=200) -> SparseDepth:
    at = np.random.default_rng(0).choice(SHAPE[0] * SHAPE[1], count, replace=False)
    return SparseDepth(at % SHAPE[1], at // SHAPE[1], depth.ravel()[at])


def seen_depth(model, rgb) -> np.ndarray:
    """Return depth that grows to the side to which the random network happens to see it grow."""
    for depth in (SLOPE, SLOPE[:, ::-1]):
        with suppress(AlignmentError):
            model.predict_prompted(rgb, points(depth))
            return depth
    raise AssertionError('the network sees no slope')


def test_an_untrained_prompt_changes_nothing(small_checkpoint):
    autoencoder, latent = load_networks(small_checkpoint).autoencoder, torch.randn(1, 4, 9, 12)
    raster = rasterise(points(), 'log', SHAPE, SHAPE)
    with torch.no_grad():
        found = PointPrompt((8, 8, 16, 16), 8).decode(autoencoder, latent, raster)
        assert torch.equal(found, autoencoder.decode(latent).sample)


@pytest.mark.parametrize('resolution', [None, 60])
def test_with_an_untrained_prompt_the_plain_map_is_fitted_to_the_points(folder, rgb, resolution):
    weights = load_file(folder / 'prompt' / 'model.safetensors')
    for name in weights:
        if '.5.' in name:  # the last layer of a block
            weights[name].zero_()
    save_file(weights, folder / 'prompt' / 'model.safetensors')
    model, options = (
        load_model(str(folder), 'cpu', 'float32'),
        {'processing_resolution': resolution},
    )
    depth = 4.0 + 20.0 * model.predict(rgb, **options).relative
    found = model.predict_prompted(rgb, points(depth), **options).relative
    # The fit sees a few cells that a plain prediction clips.
    assert np.median(np.abs(found / depth - 1.0)) < 5e-3


def test_without_points_the_map_is_that_of_the_folder_without_its_prompt(model, folder, rgb):
    shutil.rmtree(folder / 'prompt')
    plain = load_model(str(folder), 'cpu', 'float32')
    np.testing.assert_array_equal(model.predict(rgb).relative, plain.predict(rgb).relative)
    assert not hasattr(plain, 'predict_prompted')
    assert plain.sha256 != model.sha256


def test_moving_the_points_moves_the_depth(model, rgb):
    depth = seen_depth(model, rgb)
    first = model.predict_prompted(rgb, points(depth))
    assert (first.space, first.relative.shape) == ('metric', SHAPE)
    bent = depth + np.where(depth > np.median(depth), 6.0, 0.0).astype(np.float32)
    found = model.predict_prompted(rgb, points(bent)).relative
    # More than another scale and shift would.
    x, y = np.log(first.relative).ravel(), np.log(found).ravel()
    assert np.corrcoef(x, y)[0, 1] < 0.99


def test_a_frame_with_points_is_encoded_and_denoised_once(prompted_folder, rgb):
    model, calls = load_model(str(prompted_folder), 'cpu', 'float32'), []
    for name, network in (('encode', model.autoencoder.encoder), ('denoise', model.unet)):
        network.register_forward_hook(lambda *_, name=name: calls.append(name))
    sparse = points(seen_depth(model, rgb))
    calls.clear()
    other = 255 - rgb
    with suppress(AlignmentError):
        model.predict_prompted(other, sparse)
    assert calls == ['encode', 'denoise']
    config = PipelineConfig(alignment=AlignmentConfig(min_points=20))
    inputs = [SparseInput('pointcloud', sparse=sparse)]
    result = FramePipeline(model, config).process(Frame(rgb, inputs=inputs))
    assert calls == ['encode', 'denoise'] * 2
    alone = load_model(str(prompted_folder), 'cpu', 'float32')
    np.testing.assert_array_equal(result.relative, alone.predict(rgb).relative)
    found = model.predict_prompted(rgb, sparse).relative
    np.testing.assert_array_equal(found, alone.predict_prompted(rgb, sparse).relative)
    assert calls == ['encode', 'denoise'] * 2
    model.predict(rgb, denoising_steps=2)
    assert calls[4:] == ['denoise'] * 2


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_the_unit_of_the_points_is_that_of_the_depth(folder, edit, rgb, space):
    edit(folder / 'marigold_ros.json', space=space)
    model = load_model(str(folder), 'cpu', 'float32')
    depth = seen_depth(model, rgb)
    one = model.predict_prompted(rgb, points(depth)).relative
    thousand = model.predict_prompted(rgb, points(1000.0 * depth)).relative
    np.testing.assert_allclose(thousand, 1000.0 * one, rtol=1e-3)


@pytest.mark.slow  # compiles three networks
def test_openvino_runs_the_other_networks(model, rgb, prompted_folder, tmp_path):
    pytest.importorskip('openvino')
    runtime = RuntimeConfig(backend='openvino', cache_dir=str(tmp_path))
    other = load_model(str(prompted_folder), 'cpu', 'float32', runtime=runtime)
    found, own = (m.predict_prompted(rgb, points(seen_depth(model, rgb))) for m in (other, model))
    np.testing.assert_allclose(found.relative, own.relative, rtol=5e-3)


def test_the_nearest_point_of_a_cell_counts_and_outliers_squeeze_no_others():
    sparse = SparseDepth([0, 1, 0, 95], [0, 1, 1, 71], np.array([3.0, 2.0, 4.0, 9.0]))
    value, known = rasterise(sparse, 'depth', SHAPE, (36, 48))[0]
    assert known.nonzero().tolist() == [[0, 0], [35, 47]]
    assert value[0, 0] < -0.9
    wild = points()
    wild.z[7] = 1e4
    value, known = rasterise(wild, 'depth', SHAPE, SHAPE)[0]
    assert np.ptp(value[known > 0].sort().values[:-1].numpy()) > 1.9
    assert value.abs().max() <= 3.0
    alike = points(np.full(SHAPE, 5.0))
    alike.z[7] = 6.0
    torch.testing.assert_close(
        torch.stack(rasterise(alike, 'depth', SHAPE, SHAPE)[0, 0].aminmax()),
        torch.tensor([-1.0, 1.0]),
    )


@pytest.mark.parametrize('size', [(72, 96), (40, 56), (16, 200)])
def test_every_cell_of_every_level_has_the_value_of_points_around_it(size):
    raster = torch.zeros(1, 2, *size)
    assert not spread_points(raster, 4)[-1].any()
    raster[0, :, 5, 9] = torch.tensor([0.3, 1.0])
    levels = spread_points(raster, 4)
    assert [size[1] // level.shape[-1] for level in levels] == [8, 4, 2, 1]
    for level in levels:
        torch.testing.assert_close(level[:, 0], torch.full_like(level[:, 0], 0.3))
        assert level[:, 1].sum() == 1
    raster[0, :, 5, 40] = torch.tensor([-0.7, 1.0])
    value = spread_points(raster, 4)[-1][0, 0]
    torch.testing.assert_close(value[5, [9, 40]], torch.tensor([0.3, -0.7]))
    torch.testing.assert_close(torch.stack(value.aminmax()), torch.tensor([-0.7, 0.3]))


def test_what_has_no_meaning_with_a_prompt_is_refused(model, rgb, prompted_folder):
    for sparse, words in (
        (points(count=2), '2 usable points of 2'),
        (points(np.full(SHAPE, 5.0)), 'at different depths'),
    ):
        with pytest.raises(AlignmentError, match=words):
            model.predict_prompted(rgb, sparse)
    with pytest.raises(ConfigurationError, match='guidance to none'):
        model.predict_guided(rgb, points())
    with pytest.raises(ConfigurationError, match='reference_exact'):
        model.predict_prompted(rgb, points(), reference_exact=True)
    with pytest.raises(CheckpointError, match='vae names another'):
        load_model(str(prompted_folder), 'cpu', vae=str(prompted_folder))
    with pytest.raises(CheckpointError, match='AutoencoderTiny'):
        load_prompt(prompted_folder, AutoencoderTiny())


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda weights: weights.pop('blocks.0.0.bias'), 'blocks.0.0.bias'),
        (lambda weights: weights.update(more=torch.ones(1)), 'more'),
        (lambda weights: weights['blocks.0.0.bias'].fill_(torch.nan), 'not finite'),
    ],
    ids=['missing', 'extra', 'NaN'],
)
def test_weights_that_do_not_belong_to_it_are_refused(folder, change, words):
    path = folder / 'prompt' / 'model.safetensors'
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=words):
        load_model(str(folder), 'cpu')


@pytest.mark.parametrize('width', ['8', True, 10**12, 0, 9, [8], None])
def test_a_width_that_is_not_that_of_the_weights_is_refused(folder, edit, width):
    edit(folder / 'prompt' / 'config.json', width=width)
    with pytest.raises(CheckpointError, match='prompt'):
        load_model(str(folder), 'cpu')


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_sums_and_check_cover_the_prompt_and_a_missing_file_is_named(folder, name):
    write_sums(folder)
    report = check_checkpoint(folder, round_trip_limit=1.0)
    found = {file['path']: file for file in report['files']}['prompt/model.safetensors']
    assert found['verified']
    assert found['parameters'] > 0
    (folder / 'prompt' / name).unlink()
    with pytest.raises(CheckpointError, match=f'prompt/{name}'):
        load_model(str(folder), 'cpu')
