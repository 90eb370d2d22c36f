# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The published definition of DiffusionDepth on given weights, computed a second time in NumPy.

The oracle follows the paper (Duan et al., ECCV 2024) and the published code: the 1x1 depth
transform, the denoising block with its ReLU, DDIM on a linear schedule.
"""

from marigold_ros.models.diffusion_depth.denoiser import add_noise, DenoisingBlock, refine
from marigold_ros.models.diffusion_depth.latent import DepthLatent, known_cells
import numpy as np
import pytest
import torch

LATENT, HIDDEN, FEATURES = 16, 64, 256  # as published


def windows(x, size, stride, pad, value=0.0):
    """Windows (C, h, w, size, size) of an image (C, H, W)."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=value)
    seen = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return seen[:, ::stride, ::stride]


def convolve(x, weights, name):
    weight = weights[f'{name}.weight']
    size = weight.shape[-1]
    found = np.einsum('chwij,ocij->ohw', windows(x, size, 1, size // 2), weight)
    bias = weights.get(f'{name}.bias')
    return found if bias is None else found + bias[:, None, None]


def relu(x):
    return np.maximum(x, 0.0)


def group_norm(x, weights, name):
    parts = x.reshape(4, -1)
    centred = parts - parts.mean(1, keepdims=True)
    normal = (centred / np.sqrt(centred.var(1, keepdims=True) + 1e-5)).reshape(x.shape)
    scale, shift = (weights[f'{name}.{key}'][:, None, None] for key in ('weight', 'bias'))
    return scale * normal + shift


def encode(depth, weights):
    slopes = weights['encoder.1.weight'][..., 0, 0] @ weights['encoder.0.weight'][:, 0, 0, 0]
    values = np.tanh(slopes[:, None, None] * depth)
    return windows(values, 3, 2, 1, -np.inf).max((-2, -1))


def decode(latent, weights):
    channels, height, width = latent.shape
    weight = weights['decoder.0.weight']  # (inputs, outputs, 4, 4)
    wide = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for y in range(height):
        for x in range(width):
            wide[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += np.einsum(
                'c,coij->oij', latent[:, y, x], weight
            )
    x = wide[:, 1:-1, 1:-1] + weights['decoder.0.bias'][:, None, None]
    mean, var, scale, shift = (
        weights[f'decoder.1.{key}'][:, None, None]
        for key in ('running_mean', 'running_var', 'weight', 'bias')
    )
    x = relu(scale * (x - mean) / np.sqrt(var + 1e-5) + shift)
    share = 1.0 / (1.0 + np.exp(-convolve(x, weights, 'decoder.3')))
    return 1.0 / np.maximum(share, 1e-6) - 1.0


def resize(x, size):
    """Resize bilinearly with the corners' pixel centres aligned."""
    for axis, new in zip((1, 2), size, strict=True):
        place = np.linspace(0.0, x.shape[axis] - 1.0, new)
        low = np.minimum(place.astype(int), x.shape[axis] - 2)
        share = (place - low)[None, :, None] if axis == 1 else (place - low)[None, None]
        near, far = np.take(x, low, axis), np.take(x, low + 1, axis)
        x = near * (1.0 - share) + far * share
    return x


def predict_noise(latent, timestep, features, weights, fuse=True):
    condition = features + weights['time.weight'][timestep][:, None, None]
    if condition.shape[1:] != latent.shape[1:]:
        condition = resize(condition, latent.shape[1:])
    x = latent
    for index in (0, 3):
        x = convolve(x, weights, f'noise.{index}')
        x = relu(group_norm(x, weights, f'noise.{index + 1}'))
    x = condition + x
    for index in range(2 if fuse else 0):
        x = convolve(x, weights, f'fuse.{index}')
    for index in (0, 3):
        x = convolve(x, weights, f'predict.{index}')
        x = relu(group_norm(x, weights, f'predict.{index + 1}'))
    return x


def remaining():
    """Share of the signal's variance at each of 1000 timesteps."""
    return np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


def ddim(latent, features, weights, steps, fuse=True):
    kept = remaining()
    stride = 1000 // steps
    for timestep in range((steps - 1) * stride, -1, -stride):
        here = kept[timestep]
        there = kept[timestep - stride] if timestep >= stride else 1.0
        noise = predict_noise(latent, timestep, features, weights, fuse)
        clean = (latent - np.sqrt(1.0 - here) * noise) / np.sqrt(here)
        latent = np.sqrt(there) * clean + np.sqrt(1.0 - there) * noise
    return latent


def numbers(module):
    return {key: value.double().numpy() for key, value in module.state_dict().items()}


def spread(module, seed=0):
    """Give a module in double precision weights that leave no part of it without effect."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval().requires_grad_(False)
    for name, value in module.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 2.0, generator=generator)
        elif value.is_floating_point():
            value.add_(0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return module


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def sparse_truth(shape, seed=0, far=80.0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.05, rng.uniform(1.0, far, shape), 0.0)


@pytest.mark.parametrize('size', [(12, 16), (11, 15)])
def test_sparse_truth_is_encoded_as_published(size):
    latent, truth = spread(DepthLatent(LATENT)), sparse_truth((2, 1, *size), far=5.0)
    found = latent.encode(torch.from_numpy(truth)).numpy()
    for one, depth in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, encode(depth, numbers(latent)), atol=1e-5)


def test_a_latent_is_decoded_to_metres_as_published():
    latent, given = spread(DepthLatent(LATENT)), draw(2, LATENT, 6, 9)
    found = latent.decode(given).numpy()
    assert found.shape == (2, 1, 12, 18)
    for one, x in zip(found, given.numpy(), strict=True):
        np.testing.assert_allclose(one, decode(x, numbers(latent)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('fuse', 'shape'), [(True, (4, 5)), (False, (8, 10))])
def test_one_refinement_is_the_published_block(fuse, shape):
    """With Swin: features at a quarter and two convolutions; with ResNet: a plain sum."""
    block = spread(DenoisingBlock(FEATURES, HIDDEN, LATENT, fuse))
    features, latent = draw(2, FEATURES, *shape), draw(2, LATENT, 8, 10, seed=1)
    timesteps = torch.tensor([950, 3])
    found = block(latent, timesteps, features).numpy()
    assert (found >= 0.0).all()
    assert (found > 0.0).any()
    for row in range(2):
        expected = predict_noise(
            latent[row].numpy(), int(timesteps[row]), features[row].numpy(), numbers(block), fuse
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_twenty_ddim_steps_follow_the_published_schedule():
    block = spread(DenoisingBlock(32, 16, LATENT, fuse=False))
    features, noise = draw(1, 32, 8, 10), draw(1, LATENT, 8, 10, seed=1)
    found = refine(block, noise, features, 20)[0].numpy()
    expected = ddim(noise[0].numpy(), features[0].numpy(), numbers(block), 20, fuse=False)
    # Relative: the first step divides the noise by 0.011.
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_refined_latent_carries_gradients_to_every_step():
    block = DenoisingBlock(16, 8, 8, fuse=False)
    features = torch.rand(1, 16, 4, 5, requires_grad=True)
    refine(block, torch.randn(1, 8, 4, 5), features, 20).square().mean().backward()
    reached = block.time.weight.grad.abs().sum(1).nonzero().ravel().tolist()
    assert reached == list(range(0, 1000, 50))
    assert features.grad.abs().sum() > 0


def test_noise_is_mixed_in_as_the_schedule_has_it():
    latent, noise = draw(3, LATENT, 4, 5), draw(3, LATENT, 4, 5, seed=1)
    timesteps = torch.tensor([0, 500, 999])
    kept = remaining()[timesteps.numpy()][:, None, None, None]
    expected = np.sqrt(kept) * latent.numpy() + np.sqrt(1.0 - kept) * noise.numpy()
    np.testing.assert_allclose(add_noise(latent, noise, timesteps).numpy(), expected, atol=1e-5)


def test_a_cell_with_a_known_pixel_is_known():
    known = sparse_truth((2, 1, 16, 20)) > 0
    cells = known_cells(torch.from_numpy(known)).numpy()
    expected = np.stack([windows(one.astype(float), 3, 2, 1).max((-2, -1)) for one in known])
    np.testing.assert_array_equal(cells, expected)
