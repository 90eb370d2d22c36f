# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Noise kinds and the warm start between frames."""

from marigold_ros.config import EngineConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.marigold.denoiser import start_noise
from marigold_ros.models.marigold.stream import ALIKE_NOTE, Stream, ZEROS_NOTE
import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device('cpu')


@pytest.fixture
def model(small_checkpoint):
    return load_model(str(small_checkpoint), device='cpu')


def test_gaussian_noise_is_one_draw_of_all_members():
    expected = torch.randn(3, 4, 5, 6, generator=torch.Generator('cpu').manual_seed(9))
    assert torch.equal(start_noise('gaussian', 3, (4, 5, 6), 9), expected)


@pytest.mark.parametrize('noise', ['gaussian', 'fixed', 'zeros'])
def test_a_kind_of_noise_can_be_chosen(model, image, noise):
    engine = EngineConfig(noise=noise)
    rgb = image(48, 64)
    first, second = (model.predict(rgb, seed=s, engine=engine).relative for s in (1, 2))
    assert np.array_equal(first, second) == (noise != 'gaussian')
    model.reset()
    third = model.predict(rgb, seed=2, engine=engine).relative
    assert np.array_equal(first, third) == (noise == 'zeros')


def test_fixed_noise_is_that_of_the_streams_first_seed(model, image):
    rgb = image(48, 64)
    expected = model.predict(rgb, seed=4).relative
    fixed = EngineConfig(noise='fixed')
    answers = [model.predict(rgb, seed=s, engine=fixed).relative for s in (4, 5, 6)]
    assert all(np.array_equal(answer, expected) for answer in answers)


def frames(image, count: int) -> list[np.ndarray]:
    """One static scene with sensor noise."""
    rng = np.random.default_rng(0)
    still = image(96, 128).astype(int)
    return [
        np.clip(still + rng.integers(-4, 5, still.shape), 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def flicker(model, rgbs: list[np.ndarray], **engine) -> float:
    answers = [model.predict(rgb, 1, seed=i, **engine).relative for i, rgb in enumerate(rgbs)]
    pairs = zip(answers, answers[1:], strict=False)
    return float(np.mean([np.abs(after - before).mean() for before, after in pairs]))


def test_a_warm_start_reduces_flicker_of_a_static_scene(model, image, monkeypatch):
    # What training gives: an answer that follows the image and keeps some of its start.
    def trained(stacked, t, encoder_hidden_states, return_dict):
        rgb_latent, start = stacked.chunk(2, dim=1)
        return (-0.7 * rgb_latent - 0.3 * start,)

    def decode(latent, return_dict):
        return (functional.interpolate(latent[:, :3] / 8.0, scale_factor=8, mode='nearest'),)

    monkeypatch.setattr(model.unet, 'forward', trained)
    monkeypatch.setattr(model.autoencoder, 'decode', decode)
    rgbs = frames(image, 8)
    cold = flicker(model, rgbs)
    model.reset()
    assert flicker(model, rgbs, engine=EngineConfig(warm_start=0.3)) < 0.85 * cold


@pytest.mark.parametrize('grey', [-1.0, 0.0, 1.0])
def test_a_warm_start_mixes_the_last_latent_into_the_noise(grey):
    stream, rgb = Stream(), torch.full((1, 3, 32, 32), grey)
    noise, latent = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    assert torch.equal(stream.warm(noise, rgb, 0.1, 0.15), noise)
    stream.keep(latent)
    # A change by a tenth of the range is no cut.
    found = stream.warm(noise, rgb + 0.2, 0.1, 0.15)
    torch.testing.assert_close(found, 0.9 * noise + 0.1 * latent)


@pytest.mark.parametrize(
    'why', ['cut', 'size', 'members', 'reset', 'off for a frame', 'a cut failed', 'overflow']
)
def test_a_warm_start_begins_anew(why):
    stream, rgb = Stream(), torch.zeros(1, 3, 32, 32)
    noise = torch.randn(2, 4, 4, 4)
    stream.warm(noise, rgb, 0.1, 0.15)
    stream.keep(torch.randn(2, 4, 4, 4))
    if 'cut' in why:
        rgb = rgb + 1.0
    if why == 'a cut failed':  # before it left a latent
        stream.warm(noise, rgb, 0.1, 0.15)
    elif why == 'size':
        noise = torch.randn(2, 4, 5, 4)
    elif why == 'members':
        noise = torch.randn(3, 4, 4, 4)
    elif why == 'reset':
        stream.reset()
    elif why == 'overflow':
        stream.keep(torch.full_like(noise, torch.inf))
    elif why == 'off for a frame':
        stream.warm(noise, rgb, 0.0, 0.15)
        stream.keep(torch.randn(2, 4, 4, 4))
    assert torch.equal(stream.warm(noise, rgb, 0.1, 0.15), noise)


def test_frames_are_independent_unless_a_warm_start_is_asked_for(model, image):
    first = model.predict(image(48, 64)).relative
    model.predict(image(48, 64, seed=1))
    assert np.array_equal(model.predict(image(48, 64)).relative, first)


def test_an_exact_call_heeds_neither_noise_nor_warm_start(model, image):
    rgb = image(48, 64)
    expected = model.predict(rgb, seed=2, reference_exact=True).relative
    engine = EngineConfig(noise='zeros', warm_start=0.5, upsampling='bilateral')
    for _ in range(2):
        answer = model.predict(rgb, seed=2, reference_exact=True, engine=engine)
        assert np.array_equal(answer.relative, expected)


@pytest.mark.parametrize(
    ('noise', 'warm_start', 'members', 'notes'),
    [
        ('zeros', 0.0, 1, set()),
        ('gaussian', 0.1, 2, set()),
        ('zeros', 0.1, 1, {ZEROS_NOTE}),
        ('zeros', 0.0, 2, {ALIKE_NOTE}),
    ],
)
def test_what_zeros_make_useless_is_noted(model, image, noise, warm_start, members, notes):
    engine = EngineConfig(noise=noise, warm_start=warm_start)
    model.predict(image(48, 64), ensemble_size=members, engine=engine)
    assert {ZEROS_NOTE, ALIKE_NOTE} & set(model.description['notes']) == notes


def test_no_number_is_read_from_the_device_before_download(model, image):
    fetched = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if 'local_scalar' in str(function) or 'nonzero' in str(function):
                fetched.append(str(function))
            return function(*args, **(kwargs or {}))

    rgb = image(75, 100)
    engine = EngineConfig(warm_start=0.1, upsampling='bilateral')
    model.predict(rgb, 2, 3, engine=engine)  # schedules and noise are made once
    with Watch():
        model.predict(rgb, 2, 3, engine=engine)
    assert fetched == []


@pytest.mark.parametrize(
    'change', [{'noise': 'pink'}, {'warm_start': 1.0}, {'merge': 'mean'}, {'batch_limit': -1}]
)
def test_options_out_of_range_are_refused_by_name(change):
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        EngineConfig(**change)
