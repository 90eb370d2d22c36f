# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training steps against those of Marigold and E2E-FT: loss, gradients, weights.

The originals are written out in plain torch from their papers and released code: noise, schedule,
targets, masks, losses and loop use nothing of the package. Letters: B images, H, W image, h, w
latent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
import math
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_training.data.augment import Augmentation
from marigold_training.data.layouts import VKITTI_DEPTH
from marigold_training.data.mixture import Batch, make_batch, make_example
from marigold_training.data.pairs import Pair
from marigold_training.data.targets import TargetRule
from marigold_training.objectives.losses import OBJECTIVES
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import TrainedNetworks
from marigold_training.run.loop import Trainer
from marigold_training.run.recipe import read_recipe
from marigold_training.run.stages import Stage
import numpy as np
import pytest
import torch

SEED, STEPS, ACCUMULATION, ROWS = 7, 3, 2, (0, 1)
FAR = 80.0
RECIPES = Path(__file__).resolve().parents[3] / 'training' / 'recipes'
RECIPE_OF = {'latent': 'marigold_v1_0.yaml', 'e2e': 'e2e.yaml'}
LARGE, SIZE = (64, 128), (40, 80)  # stored; as trained, with a centre of 1.6 px on a border
RATE = 3e-5
KINDS = ('annealed', 'multi_resolution', 'gaussian')
LATENT_SCALE = 0.18215
TRAINED_STEPS = 1000
Networks = tuple[torch.nn.Module, torch.nn.Module, torch.Tensor]  # autoencoder, U-Net, text


@dataclass(frozen=True)
class RawBatch:
    """
    Images (B, 3, H, W) uint8, depth (B, 1, H, W) in metres as stored, the generators of rows.

    They are to be mirrored or not, and resized to ``size``.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    generators: list[torch.Generator]
    mirrored: bool
    size: tuple[int, int]


def cumulative_alphas() -> torch.Tensor:
    """Square roots of betas rise linearly from sqrt(0.00085) to sqrt(0.012)."""
    roots = torch.linspace(
        math.sqrt(0.00085), math.sqrt(0.012), TRAINED_STEPS, dtype=torch.float32
    )
    return torch.cumprod(1.0 - roots * roots, 0)


def to_latent(autoencoder: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    moments = autoencoder.quant_conv(autoencoder.encoder(image))
    return moments[:, : moments.shape[1] // 2] * LATENT_SCALE


def in_symmetric_range(rgb: torch.Tensor) -> torch.Tensor:
    return (rgb.double() / 255.0 * 2.0 - 1.0).float()


def normalised(depth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Map each image's percentiles 2 and 98 to -1 and 1; pixels without depth alike."""
    mapped = []
    for image, mask in zip(depth, known, strict=True):
        low, high = np.quantile(image[mask].double().numpy(), (0.02, 0.98))
        mapped.append(((image - low) / (high - low) * 2.0 - 1.0).clip(-1.0, 1.0))
    return torch.stack(mapped).float()


def prepared(raster: torch.Tensor, batch: RawBatch) -> torch.Tensor:
    """Mirror, then resize to the nearest pixel."""
    flipped = raster.flip(-1) if batch.mirrored else raster
    return torch.nn.functional.interpolate(flipped, batch.size, mode='nearest-exact')


def pyramid(shape: tuple[int, ...], strength: float, rng: torch.Generator) -> torch.Tensor:
    """Noise (1, C, h, w): normal, and coarser and coarser on top, of deviation one."""
    total = torch.randn(shape, generator=rng)
    height, width = shape[-2:]
    for level in range(10):
        ratio = 2.0 + 2.0 * torch.rand(1, generator=rng).item()
        height = max(1, int(height / ratio**level))
        width = max(1, int(width / ratio**level))
        coarse = torch.randn((*shape[:2], height, width), generator=rng)
        resized = torch.nn.functional.interpolate(
            coarse, shape[-2:], mode='bilinear', align_corners=False
        )
        total = total + resized * strength**level
        if min(height, width) == 1:
            break
    return total / total.std()


def published_marigold(networks: Networks, batch: RawBatch, far: float, kind: str) -> torch.Tensor:
    """
    Squared error of the velocity at random timesteps.

    ``kind`` is the noise: annealed, multi_resolution or gaussian; ``far`` ends known depth.
    """
    autoencoder, unet, text = networks
    known = (batch.depth > 1e-5) & (batch.depth < far)
    image = prepared(in_symmetric_range(batch.rgb), batch)
    target = prepared(normalised(batch.depth, known), batch)
    known = prepared(known.float(), batch).bool()
    with torch.no_grad():
        image, clean = (
            to_latent(autoencoder, image),
            to_latent(autoencoder, target.repeat(1, 3, 1, 1)),
        )
    alphas, timesteps, noises = cumulative_alphas(), [], []
    for rng in batch.generators:
        timesteps.append(torch.randint(TRAINED_STEPS, (1,), generator=rng))
        share = timesteps[-1].item() / TRAINED_STEPS if kind == 'annealed' else 1.0
        shape = (1, *clean.shape[1:])
        plain = kind == 'gaussian'
        noises.append(
            torch.randn(shape, generator=rng) if plain else pyramid(shape, 0.9 * share, rng)
        )
    timestep, noise = torch.cat(timesteps), torch.cat(noises)
    signal = alphas[timestep].sqrt()[:, None, None, None]
    deviation = (1.0 - alphas[timestep]).sqrt()[:, None, None, None]
    noisy = signal * clean + deviation * noise
    velocity = signal * noise - deviation * clean
    output = unet(
        torch.cat([image, noisy], 1), timestep, text.repeat(len(image), 1, 1), return_dict=False
    )[0]
    cells = torch.nn.functional.unfold((~known).float(), 8, stride=8).sum(1) == 0
    cells = cells.reshape(len(image), 1, *clean.shape[-2:]).expand_as(clean)
    return ((output[cells] - velocity[cells]) ** 2).mean()


def published_e2e(networks: Networks, batch: RawBatch, far: float) -> torch.Tensor:
    """Absolute error in metres after each image's least-squares scale and shift."""
    autoencoder, unet, text = networks
    stored = prepared(batch.depth, batch)
    known = (stored > 1e-5) & (stored < far)
    with torch.no_grad():
        image = to_latent(autoencoder, prepared(in_symmetric_range(batch.rgb), batch))
    last = torch.full((len(image),), TRAINED_STEPS - 1)
    velocity = unet(
        torch.cat([image, torch.zeros_like(image)], 1),
        last,
        text.repeat(len(image), 1, 1),
        return_dict=False,
    )[0]
    clean = -(1.0 - cumulative_alphas()[-1]).sqrt() * velocity
    decoded = autoencoder.decoder(autoencoder.post_quant_conv(clean / LATENT_SCALE))
    predicted = decoded.mean(1, keepdim=True).clamp(-1.0, 1.0)
    errors = []
    for own, depth, mask in zip(predicted, stored, known, strict=True):
        low, high = np.quantile(depth[mask].double().numpy(), (0.02, 0.98))
        truth = depth[mask].clamp(float(low), float(high)).double()
        values = own[mask].double()
        # The normal equations of scale and shift.
        n, p, pp = len(values), values.sum(), (values * values).sum()
        t, pt = truth.sum(), (values * truth).sum()
        scale = (n * pt - p * t) / (n * pp - p * p)
        shift = (pp * t - p * pt) / (n * pp - p * p)
        errors.append((scale * values + shift - truth).abs())
    return torch.cat(errors).mean().float()


def published_training(
    weights: Iterable[torch.nn.Parameter],
    loss: Callable[[RawBatch], torch.Tensor],
    batches: list[list[RawBatch]],
    rate: float,
    decay: float = 0.0,
    clip: float = 0.0,
) -> None:
    """
    Take a step for each list of micro-batches.

    The rate falls exponentially to 1 % at the last step's end; ``decay`` chooses AdamW.
    """
    weights = list(weights)
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    optimizer = kind(weights, lr=rate, weight_decay=decay, eps=1e-8, betas=(0.9, 0.999))
    for number, parts in enumerate(batches):
        optimizer.param_groups[0]['lr'] = rate * 0.01 ** (number / len(batches))
        optimizer.zero_grad()
        for part in parts:
            (loss(part) / len(parts)).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()


@pytest.fixture
def networks() -> TrainedNetworks:
    """Random networks in the shape of Stable Diffusion 2, and its schedule."""
    torch.manual_seed(11)
    autoencoder = AutoencoderKL(
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
        scaling_factor=LATENT_SCALE,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
    )
    schedule = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        prediction_type='v_prediction',
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    text = torch.randn(1, 2, 16)
    return TrainedNetworks(autoencoder, unet, schedule, text, 'depth', 'annealed', 0.9)


def raw_batch(objective: str, number: int) -> RawBatch:
    """Draw images, depth with holes, sky and far hills, and this batch's random generators."""
    height, width = LARGE if objective == 'latent' else SIZE
    rng = np.random.default_rng(number)
    rgb = rng.integers(0, 256, (len(ROWS), 3, height, width), dtype=np.uint8)
    slope = np.linspace(0, 1, height)[:, None] + np.linspace(0, 1, width)
    depth = 2.0 + 20.0 * slope * rng.uniform(0.5, 1.0, (len(ROWS), 1, 1, 1))
    depth += rng.normal(0.0, 0.5, depth.shape)
    depth[..., 20:24, 3:30] = 0.0
    depth[..., :9, 40:] = 655.35
    depth[..., 9:12, 40:60] = rng.uniform(80.0, 400.0)
    depth = torch.from_numpy(depth.astype(np.float32))
    generators = Draws(SEED, number, ROWS).generators
    return RawBatch(torch.from_numpy(rgb), depth, generators, number % 2 == 1, SIZE)


def own_batch(objective: str, number: int) -> Batch:
    """Return the same images and depth as the package's batch under the published rule."""
    raw, examples = raw_batch(objective, number), []
    recipe = read_recipe(RECIPES / RECIPE_OF[objective])
    rule = TargetRule(**recipe.get('targets', {}))
    entry = next(entry for entry in recipe['sources'] if entry['kind'] == 'vkitti')
    how = Augmentation(flip=float(raw.mirrored))
    stored = replace(VKITTI_DEPTH, sky_above=entry.get('sky_above'))
    for rgb, depth in zip(raw.rgb.numpy(), raw.depth.numpy(), strict=True):
        pair = Pair(rgb.transpose(1, 2, 0), stored.apply(depth[0]))
        examples.append(make_example(pair, SIZE, 'depth', how, np.random.default_rng(0), rule))
    return make_batch(examples, 'planted', ROWS)


class Batches(torch.utils.data.Dataset):
    """The package's batches by number."""

    def __init__(self, objective: str) -> None:
        self.objective = objective

    def __getitem__(self, number: int) -> Batch:
        return own_batch(self.objective, number)


def published_loss(networks: TrainedNetworks, objective: str, noise: str, raw: RawBatch):
    parts = networks.autoencoder, networks.unet, networks.text
    if objective == 'e2e':
        return published_e2e(parts, raw, FAR)
    return published_marigold(parts, raw, FAR, noise)


def gradients(networks: TrainedNetworks, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(networks.unet.parameters())))


def assert_close(own: list[torch.Tensor], wanted: list[torch.Tensor], limit: float) -> None:
    for mine, theirs in zip(own, wanted, strict=True):
        assert (mine - theirs).abs().max() <= limit


CASES = [*(('latent', noise) for noise in KINDS), ('e2e', 'gaussian')]


@pytest.mark.parametrize(('objective', 'noise'), CASES)
def test_loss_and_gradients_are_those_of_the_original(networks, objective, noise):
    networks.noise = noise
    networks.choose_trained(('unet',))
    for number in range(3):
        draws = Draws(SEED, number, ROWS)
        own = networks(OBJECTIVES[objective].loss, own_batch(objective, number), draws)
        wanted = published_loss(networks, objective, noise, raw_batch(objective, number))
        assert own.item() == pytest.approx(wanted.item(), abs=1e-6)
        theirs = gradients(networks, wanted)
        assert max(part.abs().max() for part in theirs) > 1e-2
        # Loss and gradients of e2e are in metres, several of them.
        assert_close(gradients(networks, own), theirs, 1e-5 * max(1.0, wanted.item()))


@pytest.mark.parametrize(('objective', 'noise'), [('latent', 'annealed'), ('e2e', 'gaussian')])
def test_weights_after_three_accumulated_steps_are_those_of_the_original(
    networks, objective, noise, accelerator, tmp_path
):
    networks.noise = noise
    start = {name: value.clone() for name, value in networks.unet.state_dict().items()}
    how = {'weight_decay': 1e-2, 'clip': 1.0} if objective == 'e2e' else {}
    stage = Stage(
        'golden',
        objective,
        STEPS,
        batch_size=len(ROWS),
        accumulation=ACCUMULATION,
        learning_rate=RATE,
        warmup=0,
        decay_from=0.0,
        gradient_checkpointing=True,
        **how,
    )
    trainer = Trainer(networks, [stage], [Batches(objective)], tmp_path, accelerator, seed=SEED)
    assert trainer.run()
    own = {name: value.clone() for name, value in networks.unet.state_dict().items()}
    networks.checkpoint_gradients(False)
    networks.unet.load_state_dict(start)
    numbers = np.arange(STEPS * ACCUMULATION).reshape(STEPS, ACCUMULATION)
    published_training(
        networks.unet.parameters(),
        lambda raw: published_loss(networks, objective, noise, raw),
        [[raw_batch(objective, number) for number in step] for step in numbers.tolist()],
        RATE,
        decay=how.get('weight_decay', 0.0),
        clip=how.get('clip', 0.0),
    )
    wanted = networks.unet.state_dict()
    moved = max((wanted[name] - start[name]).abs().max() for name in start)
    assert moved > RATE  # the steps did something
    assert_close(list(own.values()), [wanted[name] for name in own], 1e-4)
    differences = torch.cat([(own[name] - wanted[name]).flatten() for name in own])
    assert differences.square().mean().sqrt() < 0.01 * moved
