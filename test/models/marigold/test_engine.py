# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The engine against diffusers' own pipeline with the same weights and the same noise."""

import json
import shutil

from diffusers import MarigoldDepthPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.config import EngineConfig
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.models import load_model
from marigold_ros.models.image_sizes import size_by_area
from marigold_ros.models.marigold.denoiser import denoise, start_noise
from marigold_ros.models.marigold.ensemble import merge_members, merge_reference
from marigold_ros.models.marigold.schedule import ddim_schedule
from marigold_ros.models.protocol import PredictOptions
import numpy as np
import pytest
from safetensors.torch import load_file
import torch


@pytest.fixture(scope='module')
def model(scaled_checkpoint):
    return load_model(str(scaled_checkpoint), device='cpu')


@pytest.fixture(scope='module')
def reference(scaled_checkpoint):
    pipe = MarigoldDepthPipeline.from_pretrained(
        scaled_checkpoint, text_encoder=None, tokenizer=None
    )
    stored = load_file(scaled_checkpoint / 'empty_text_embedding.safetensors')
    pipe.empty_text_embedding = stored['empty_text_embedding']
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 8 + 2, width // 8 + 2, 3))
    return (np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] * 255).astype(np.uint8)


@pytest.mark.parametrize('steps', [1, 2, 4])
@pytest.mark.parametrize(
    ('size', 'resolution'), [((96, 128), 128), ((75, 133), 96), ((50, 41), 0), ((120, 90), 200)]
)
def test_a_single_prediction_is_the_reference_pipelines(model, reference, steps, size, resolution):
    rgb = image(*size)
    expected = reference(
        rgb,
        num_inference_steps=steps,
        processing_resolution=resolution,
        generator=torch.Generator('cpu').manual_seed(7),
    ).prediction[0, :, :, 0]
    got = model.predict(
        rgb, denoising_steps=steps, processing_resolution=resolution, seed=7, reference_exact=True
    )
    assert got.relative.shape == size
    np.testing.assert_allclose(got.relative, expected, atol=2e-4)


@pytest.mark.parametrize(('seed', 'size'), [(1, (96, 128)), (5, (96, 128)), (5, (50, 41))])
def test_an_exact_ensemble_is_the_reference_pipelines(model, reference, seed, size):
    rgb = image(*size, seed=3)
    output = reference(
        rgb,
        num_inference_steps=2,
        ensemble_size=3,
        batch_size=3,
        processing_resolution=128,
        output_uncertainty=True,
        generator=torch.Generator('cpu').manual_seed(seed),
    )
    got = model.predict(rgb, 2, 3, 128, seed=seed, reference_exact=True)
    np.testing.assert_allclose(got.relative, output.prediction[0, :, :, 0], atol=1e-3)
    np.testing.assert_allclose(got.spread, output.uncertainty[0, :, :, 0], atol=1e-3)


def test_exact_members_one_by_one_are_the_reference(scaled_checkpoint, reference):
    # The reference's merge amplifies the last bit, so that the batches have to be the same.
    model = load_model(str(scaled_checkpoint), device='cpu')
    rgb = image(96, 128, seed=3)
    expected = reference(
        rgb,
        num_inference_steps=2,
        ensemble_size=3,
        processing_resolution=128,
        generator=torch.Generator('cpu').manual_seed(1),
    ).prediction[0, :, :, 0]
    got = model.predict(
        rgb, 2, 3, 128, seed=1, reference_exact=True, engine=EngineConfig(batch_limit=1)
    ).relative
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_the_last_step_keeps_no_noise(model):
    # A network that answers v = -x0* at zero SNR: the truth is x0*, whatever the noise.
    class Oracle(torch.nn.Module):
        def forward(self, stacked, t, encoder_hidden_states, return_dict):
            return (-torch.full_like(stacked[:, :4], 0.5),)

    noise = start_noise('gaussian', 1, (4, 16, 16), seed=0)
    schedule = ddim_schedule(model.scheduler, 1)
    arguments = (Oracle(), model.text, torch.zeros(1, 4, 16, 16), noise, schedule)
    clean = denoise(*arguments)
    noisy = denoise(*arguments, reference_exact=True)
    assert torch.allclose(clean, torch.full_like(clean, 0.5), atol=1e-5)
    residual = (noisy - 0.5 * model.scheduler.final_alpha_cumprod.sqrt()).std() / noise.std()
    assert residual == pytest.approx(0.029, abs=0.001)


def test_the_seed_decides_the_depth(model):
    rgb = image(60, 80)
    first, again, other = (model.predict(rgb, seed=s).relative for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@settings(max_examples=min(20, settings().max_examples))
@given(st.integers(1, 90), st.integers(1, 90))
def test_every_size_of_image_gets_an_answer_of_its_size(model, height, width):
    relative = model.predict(np.zeros((height, width, 3), np.uint8)).relative
    assert relative.shape == (height, width)
    assert relative.dtype == np.float32
    assert np.isfinite(relative).all()
    assert relative.min() >= 0.0
    assert relative.max() <= 1.0


@given(st.integers(16, 4000), st.integers(16, 4000))
def test_the_processing_size_keeps_the_stated_area(model, height, width):
    h, w = model.processing_size(height, width, None)
    assert h % 8 == 0
    assert w % 8 == 0
    if max(height, width) / min(height, width) < 4:
        assert h * w == pytest.approx(96 * 128, rel=0.15)


def test_the_longest_edge_rule_is_marigolds(model):
    assert model.processing_size(480, 640, 768) == (576, 768)
    assert model.processing_size(720, 1280, 768) == (432, 768)
    assert model.processing_size(480, 640, 0) == (480, 640)
    assert model.processing_size(375, 1242, 768) == (231, 768)  # rounded down
    assert model.processing_size(480, 640, np.uint8(64)) == (48, 64)


def test_the_stated_area_is_met_as_nearly_as_multiples_of_eight_do():
    assert size_by_area(480, 640, 442368) == (576, 768)
    assert size_by_area(375, 1242, 3072) == (32, 104)  # 30.5 and 100.9
    assert [size_by_area(*size, 3072) for size in ((1, 2000), (2000, 1))] == [(8, 2480), (2480, 8)]


@pytest.mark.parametrize(
    'arguments',
    [
        {'denoising_steps': 0},
        {'denoising_steps': 51},
        {'ensemble_size': 0},
        {'ensemble_size': 21},
        {'processing_resolution': -1},
        {'denoising_steps': 1.5},
        {'denoising_steps': True},
        {'ensemble_size': '4'},
        {'processing_resolution': 64.0},
        {'seed': -1},
        {'seed': 2**63},
        {'seed': 0.5},
    ],
)
def test_settings_out_of_range_are_refused_by_name(model, arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        model.predict(image(16, 16), **arguments)


@pytest.mark.parametrize('value', [0, 128, 255])
def test_a_constant_image_gets_a_finite_answer(model, value):
    answer = model.predict(np.full((40, 50, 3), value, np.uint8), 1, 3)
    assert np.isfinite(answer.relative).all()
    assert np.isfinite(answer.spread).all()


def test_an_image_of_one_pixel_gets_one_value(model):
    for resolution in (None, 0, 64):
        answer = model.predict(np.full((1, 1, 3), 9, np.uint8), processing_resolution=resolution)
        assert answer.relative.shape == (1, 1)


@pytest.mark.slow  # an image of 33 megapixels
def test_an_8k_image_is_answered_at_its_size(model):
    answer = model.predict(np.zeros((4320, 7680, 3), np.uint8), processing_resolution=64)
    assert answer.relative.shape == (4320, 7680)


def test_an_image_too_thin_for_the_resolution_is_refused(model):
    with pytest.raises(InputError, match='500x1.*no pixel left'):
        model.predict(np.zeros((1, 500, 3), np.uint8), processing_resolution=64)


def test_strided_images_are_taken_as_they_are(model):
    rgb = image(40, 50)
    expected = model.predict(rgb).relative
    strided = np.zeros((80, 100, 3), np.uint8)
    strided[::2, ::2] = rgb
    assert np.array_equal(model.predict(strided[::2, ::2]).relative, expected)


def test_numpy_numbers_are_numbers(model):
    rgb = image(40, 50)
    expected = model.predict(rgb, 2, 1, 48, seed=3).relative
    got = model.predict(rgb, np.int64(2), np.int32(1), np.int16(48), seed=np.uint8(3))
    assert np.array_equal(got.relative, expected)


def test_a_disparity_checkpoint_differs_in_its_space_only(scaled_checkpoint, tmp_path, model):
    folder = tmp_path / 'disparity'
    shutil.copytree(scaled_checkpoint, folder)
    for name, key in (('model_index.json', 'prediction_type'), ('marigold_ros.json', 'space')):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), key: 'disparity'}))
    rgb = image(40, 50)
    answer = load_model(str(folder), device='cpu').predict(rgb)
    assert answer.space == 'disparity'
    assert np.array_equal(answer.relative, model.predict(rgb).relative)


def test_bfloat16_answers_nearly_the_same(scaled_checkpoint, model):
    rgb, half = image(64, 96), load_model(str(scaled_checkpoint), device='cpu', dtype='bfloat16')
    several = half.predict(rgb, 1, 3)
    assert several.relative.dtype == several.spread.dtype == np.float32
    difference = half.predict(rgb, 1, 1).relative - model.predict(rgb, 1, 1).relative
    assert np.abs(difference).mean() < 0.02


@pytest.mark.parametrize(
    ('name', 'merge'), [('fitted', merge_members), ('reference', merge_reference)]
)
def test_the_references_merge_may_be_chosen(model, name, merge):
    members = torch.rand(4, 1, 30, 40)
    found = model.merge(members, 4, PredictOptions(engine=EngineConfig(merge=name)))
    assert torch.equal(found, torch.cat(merge(members), dim=1))


@given(st.integers(2, 10), st.integers(0, 1000))
def test_affinely_related_members_merge_without_loss(count, seed):
    rng = np.random.default_rng(seed)
    truth = torch.from_numpy(rng.random((1, 1, 40, 50), dtype=np.float32))
    truth = (truth - truth.min()) / (truth.max() - truth.min())
    scale = torch.from_numpy(rng.uniform(0.3, 0.7, (count, 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(0.0, 0.3, (count, 1, 1, 1)).astype(np.float32))
    merged, spread = merge_members(truth * scale + shift)
    low, high = shift.quantile(0.5), (scale + shift).quantile(0.5)
    assert torch.allclose(merged, low + truth * (high - low), atol=1e-4)
    assert spread.max() < 1e-4
