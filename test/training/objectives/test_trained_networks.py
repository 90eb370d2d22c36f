# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The objectives against diffusers' schedulers, planted latents and the networks they train."""

from dataclasses import replace

from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.schedule import marigold_scheduler
from marigold_training.data.mixture import Batch
from marigold_training.data.targets import normalise
from marigold_training.distillation import Student
from marigold_training.networks.small_networks import small_autoencoder, small_unet, TEXT_SHAPE
from marigold_training.objectives.losses import latent_loss, OBJECTIVES, pixel_loss
from marigold_training.objectives.noise import Draws, training_noise
from marigold_training.objectives.trained_networks import as_image, latent_mask, TrainedNetworks
import numpy as np
import pytest
import torch

H, W = 32, 40
NETWORKS = ('autoencoder', 'unet', 'student')
OF_IMAGES = [name for name, one in OBJECTIVES.items() if issubclass(TrainedNetworks, one.of)]


def scheduler_of(kind: str, zero_snr: bool = True) -> DDIMScheduler:
    return DDIMScheduler.from_config(
        marigold_scheduler().config, prediction_type=kind, rescale_betas_zero_snr=zero_snr
    )


def ddpm_of(scheduler: DDIMScheduler) -> DDPMScheduler:
    """Build what the original trains with, of the same configuration."""
    names = 'beta_start', 'beta_end', 'beta_schedule', 'prediction_type', 'rescale_betas_zero_snr'
    return DDPMScheduler(**{name: scheduler.config[name] for name in names})


def new_chain(scheduler: DDIMScheduler | None = None, **options) -> TrainedNetworks:
    torch.manual_seed(0)
    autoencoder = small_autoencoder(channels=(8, 8, 16, 16), latent_channels=4)
    unet = small_unet(channels=(16, 32), latent_channels=4)
    text = torch.zeros(TEXT_SHAPE)
    chain = TrainedNetworks(autoencoder, unet, scheduler or marigold_scheduler(), text, **options)
    chain.student = Student(width=8).build(levels=4, latent_channels=4, seed=0)
    return chain


@pytest.fixture(scope='module')
def frozen():
    """A chain that no test changes."""
    return new_chain().requires_grad_(False)


def make_batch(depth: np.ndarray, space: str = 'log', seed: int = 0) -> Batch:
    """Batch with random images and the depth (B, H, W) given."""
    depth = depth.astype(np.float32)
    relative, valid, sky = (
        torch.from_numpy(np.stack(values))[:, None]
        for values in zip(*(normalise(d, space) for d in depth), strict=True)
    )
    rgb = torch.rand(
        len(depth), 3, *depth.shape[1:], generator=torch.Generator().manual_seed(seed)
    )
    rows = tuple(range(len(depth)))
    return Batch(
        rgb * 2 - 1, relative, valid, sky, torch.from_numpy(depth)[:, None], 'planted', rows
    )


def random_depth(seed: int = 0, images: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 30.0, (images, H, W))


def draws(batch: Batch, number: int = 0) -> Draws:
    return Draws(5, number, batch.rows)


def backward(chain: TrainedNetworks, name: str, batch: Batch) -> torch.Tensor:
    """Run an objective backward with only its own networks trainable; returns the loss."""
    chain.requires_grad_(False)
    chain.start = (new_chain(),)
    for network in OBJECTIVES[name].trains:
        getattr(chain, network).requires_grad_(True)
    loss = chain(OBJECTIVES[name].loss, batch, draws(batch))
    loss.backward()
    return loss


def gradients(chain: TrainedNetworks, name: str) -> dict[str, torch.Tensor]:
    """Return the gradients by weight: all weights of the objective's networks, and no other."""
    found = {key: p.grad for key, p in chain.named_parameters() if p.grad is not None}
    trained = {
        f'{network}.{key}'
        for network in OBJECTIVES[name].trains
        for key, _ in getattr(chain, network).named_parameters()
    }
    assert set(found) == trained
    return found


# latent


@pytest.mark.parametrize('kind', ['v_prediction', 'epsilon', 'sample'])
def test_noisy_latents_and_targets_equal_the_originals(kind):
    chain = new_chain(scheduler_of(kind), noise='annealed')
    batch = make_batch(random_depth(images=4))
    with torch.no_grad():
        rgb_latent, target = chain.encode(batch.rgb), chain.encode(as_image(batch.relative))
    ddpm, again = ddpm_of(chain.scheduler), draws(batch)
    timestep = again.timesteps(1000)
    expected = training_noise(again, target.shape[1:], 'annealed', 0.9, timestep / 1000)
    answers = {
        'v_prediction': ddpm.get_velocity(target, expected, timestep),
        'epsilon': expected,
        'sample': target,
    }

    def predict(image, noisy, asked):
        torch.testing.assert_close(image, rgb_latent)
        torch.testing.assert_close(noisy, ddpm.add_noise(target, expected, timestep))
        assert torch.equal(asked, timestep)
        return answers[kind] + 0.5

    chain.predict = predict
    assert latent_loss(chain, batch, draws(batch)).item() == pytest.approx(0.25, rel=1e-4)


@given(st.integers(0, 10_000))
def test_an_unknown_pixel_masks_its_latent_cell_only(seed):
    rng = np.random.default_rng(seed)
    depth = np.ones((2, H, W))
    holes = rng.random(depth.shape) < rng.choice([0.0, 0.002, 0.02, 1.0])
    depth[holes] = np.nan
    depth[:, :8][~holes[:, :8]] = np.inf  # sky is known
    mask = latent_mask(make_batch(depth), (H // 8, W // 8))
    for b in range(2):
        for i in range(H // 8):
            for j in range(W // 8):
                hole = holes[b, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].any()
                assert mask[b, 0, i, j] == (0.0 if hole else 1.0)


@pytest.mark.parametrize('name', ['latent', 'one_step', 'pixel'])
def test_a_batch_without_known_pixels_has_zero_gradients(name):
    chain = new_chain()
    loss = backward(chain, name, make_batch(np.full((2, H, W), np.nan)))
    assert loss.item() == 0.0
    for key, gradient in gradients(chain, name).items():
        assert not gradient.any(), key


@pytest.mark.parametrize('kind', ['v_prediction', 'epsilon', 'sample'])
def test_one_step_of_the_right_answer_is_the_sample_itself(kind):
    chain = new_chain(scheduler_of(kind, zero_snr=False))
    x0 = torch.randn(2, 4, 6, 8)
    ddpm, last = ddpm_of(chain.scheduler), torch.tensor([999, 999])
    signal = ddpm.alphas_cumprod[999].sqrt()
    # The noise that makes the noisy latent zero.
    noise = -x0 * signal / (1 - signal**2).sqrt()
    answer = {'v_prediction': ddpm.get_velocity(x0, noise, last), 'epsilon': noise, 'sample': x0}[
        kind
    ]
    chain.predict = lambda rgb_latent, noisy, timestep: answer
    torch.testing.assert_close(chain.one_step(torch.zeros_like(x0)), x0, atol=1e-4, rtol=1e-4)


# one step


def test_epsilon_at_pure_noise_is_refused():
    chain = new_chain(scheduler_of('epsilon'))
    with pytest.raises(ConfigurationError, match='epsilon'):
        chain.one_step(torch.zeros(1, 4, 4, 4))


# pixels


@pytest.mark.parametrize(
    'depth',
    [
        pytest.param(np.inf, id='sky', marks=pytest.mark.slow),
        pytest.param(3.0, id='constant', marks=pytest.mark.slow),
        pytest.param(np.nan, id='unknown'),
    ],
)
def test_uniform_images_give_finite_losses_and_gradients(depth):
    batch = make_batch(np.full((1, H, W), depth))
    for name in OF_IMAGES:
        chain = new_chain()
        assert torch.isfinite(backward(chain, name, batch)), name
        for key, gradient in gradients(chain, name).items():
            assert torch.isfinite(gradient).all(), (name, key)


@pytest.mark.parametrize(
    ('space', 'beyond', 'before'), [('log', 1.2, 0.8), ('disparity', -0.2, 0.2)]
)
def test_sky_has_to_be_far_and_may_be_farther(space, beyond, before):
    batch = make_batch(np.full((1, H, W), np.inf), space)
    chain = new_chain(space=space)
    chain.one_step = lambda rgb_latent: chain.encode(as_image(batch.relative))
    chain.decode = lambda latent: torch.full((1, 1, H, W), beyond)
    assert pixel_loss(chain, batch, draws(batch)).item() == pytest.approx(0.0, abs=1e-6)
    chain.decode = lambda latent: torch.full((1, 1, H, W), before)
    assert pixel_loss(chain, batch, draws(batch)).item() == pytest.approx(0.5 * 0.2, abs=1e-6)


@pytest.mark.parametrize('trained', [False, True], ids=['frozen', 'trained along'])
def test_the_pixel_loss_is_the_sum_of_its_terms(trained):
    depth = np.full((1, H, W), 9.0)
    depth[..., : W // 2] = 1.0
    batch = make_batch(depth, 'depth')
    chain = new_chain(space='depth')
    chain.autoencoder.requires_grad_(trained)
    predicted = 0.25 + 0.5 * batch.relative  # relative is 0 and 1 in halves
    chain.decode = lambda latent: predicted
    x0 = torch.zeros(1, 4, H // 8, W // 8)
    chain.one_step = lambda rgb_latent: x0
    with torch.no_grad():
        latent = chain.encode(as_image(batch.relative)).abs().mean().item()
    # Differences at the border between the halves: 0.5, in one of so many columns at each scale.
    gradient = sum(0.5 / (W // 2**k - 1) for k in range(3))
    expected = 0.0 + 0.5 * 0.25 + 0.5 * gradient + (0.0 if trained else 0.1 * latent)
    assert pixel_loss(chain, batch, draws(batch)).item() == pytest.approx(expected, rel=1e-4)


# which networks


@pytest.mark.parametrize('name', OF_IMAGES)
@pytest.mark.parametrize('checkpointing', [False, True])
def test_each_objective_trains_its_networks_only(name, checkpointing):
    chain = new_chain()
    chain.checkpoint_gradients(checkpointing)
    backward(chain, name, make_batch(random_depth()))
    found = gradients(chain, name)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    # A network whose first and last layers are reached is reached throughout.
    ends = {
        'autoencoder': ('encoder.conv_in', 'decoder.conv_out'),
        'unet': ('conv_in', 'conv_out'),
        'student': ('encoder.layers.0', f'decoder.layers.{len(chain.student.decoder.layers) - 1}'),
    }
    for network in OBJECTIVES[name].trains:
        for layer in ends[network]:
            assert found[f'{network}.{layer}.weight'].abs().sum() > 0


@pytest.mark.parametrize('name', ['pixel', 'latent', 'one_step'])
def test_losses_through_the_decoder_train_the_autoencoder_and_those_on_latents_never(name):
    chain = new_chain()
    batch = make_batch(random_depth())
    chain(OBJECTIVES[name].loss, batch, draws(batch)).backward()
    for layer in (chain.autoencoder.encoder.conv_in, chain.autoencoder.decoder.conv_out):
        gradient = layer.weight.grad
        assert (gradient is None) == (name in ('latent', 'one_step'))
        assert gradient is None or gradient.abs().sum() > 0


@pytest.mark.parametrize('name', OF_IMAGES)
def test_losses_of_divided_rows_average_to_that_of_the_batch(frozen, name):
    batch = make_batch(random_depth(images=4))

    def of(rows: list[int]) -> float:
        names = 'rgb', 'relative', 'valid', 'sky', 'depth'
        part = replace(
            batch, rows=tuple(rows), **{key: getattr(batch, key)[rows] for key in names}
        )
        return frozen(OBJECTIVES[name].loss, part, Draws(5, 0, rows)).item()

    halves = (of([0, 2]) + of([1, 3])) / 2
    # Means are over known pixels, of which the halves have not equally many.
    assert halves == pytest.approx(of([0, 1, 2, 3]), rel=1e-2)


# the rest


def test_decoding_averages_channels_without_clamping():
    chain = new_chain()
    latent = 30.0 * torch.randn(1, 4, 4, 5)
    with torch.no_grad():
        decoded = chain.decode(latent)
        scale = chain.autoencoder.config.scaling_factor
        image = chain.autoencoder.decode(latent / scale).sample
    torch.testing.assert_close(decoded, (image.mean(1, keepdim=True) + 1) / 2)
    assert decoded.shape == (1, 1, 32, 40)
