# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Terms of the losses against direct solutions and closed forms."""

from dataclasses import replace
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from marigold_training.data.mixture import Batch, LatentBatch
from marigold_training.objectives.losses import (
    affine_invariant,
    ANCHOR,
    anchored_loss,
    covered,
    e2e_loss,
    fit_least_squares,
    gradient_difference,
    masked_mean,
    near_sky,
    OBJECTIVES,
    pixel_loss,
)
from marigold_training.objectives.noise import Draws
import numpy as np
import pytest
import torch

SEEDS = st.integers(0, 10_000)


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(array, np.float64)) for array in arrays]


@given(SEEDS)
def test_the_affine_fit_equals_numpys_least_squares(seed):
    rng = np.random.default_rng(seed)
    target = rng.random((2, 1, 6, 7))
    noise = 0.1 * rng.random(target.shape)
    predicted = rng.uniform(0.3, 2) * target + rng.normal() + noise
    mask = rng.random(target.shape) < 0.7
    mask[..., 0, :5] = True
    fit = fit_least_squares(*tensors(predicted, target, mask))
    assert fit.usable.all()
    fitted, losses = fit.apply(torch.from_numpy(predicted)).numpy(), []
    for p, t, m, f in zip(predicted, target, mask, fitted, strict=True):
        design = np.stack([p[m], np.ones(m.sum())], 1)
        scale, shift = np.linalg.lstsq(design, t[m], rcond=None)[0]
        np.testing.assert_allclose(f, scale * p + shift, atol=1e-9)
        losses.append(np.abs(scale * p + shift - t)[m])
    loss = affine_invariant(*tensors(predicted, target, mask))
    assert loss.item() == pytest.approx(np.concatenate(losses).mean())


@given(SEEDS)
def test_weights_count_as_shares_of_pixels(seed):
    rng = np.random.default_rng(seed)
    target, noise = rng.random((2, 1, 1, 6, 7))
    predicted, repeats = target + 0.2 * noise, rng.integers(0, 5, target.shape)
    repeats[..., 0, :3] = 4

    def repeated(values):
        return np.repeat(values.ravel(), repeats.ravel())[None, None, None]

    several = tensors(repeated(predicted), repeated(target), np.ones((1, 1, 1, repeats.sum())))
    weighted = tensors(predicted, target, repeats / 4)
    losses = [affine_invariant(*several).item(), affine_invariant(*weighted).item()]
    assert losses[1] == pytest.approx(losses[0])


@pytest.mark.parametrize('slope', [0.0, 0.005, -1.0], ids=['constant', 'flat', 'reversed'])
def test_a_degenerate_fit_is_marked_and_not_penalised(slope):
    target = torch.rand(1, 1, 8, 8)
    predicted = (0.3 + slope * target).requires_grad_()
    mask = torch.ones_like(target)
    fit = fit_least_squares(predicted, target, mask)
    assert not fit.usable.any()
    assert fit.scale.item() >= 1e-3
    loss = affine_invariant(predicted, target, mask)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(predicted.grad, torch.zeros_like(predicted))


def test_a_degenerate_image_does_not_corrupt_its_neighbour():
    target = torch.rand(2, 1, 8, 8)
    predicted = torch.stack([torch.full((1, 8, 8), 0.5), 0.5 * target[1] ** 2])
    mask = torch.ones_like(target)
    alone = affine_invariant(predicted[1:], target[1:], mask[1:])
    assert affine_invariant(predicted, target, mask).item() == pytest.approx(alone.item())


def test_the_gradient_term_ignores_shifts_and_masked_pixels():
    target = torch.rand(1, 1, 16, 16)
    mask = torch.ones_like(target)
    assert gradient_difference(target + 0.3, target, mask).item() == pytest.approx(0, abs=1e-6)
    mask[..., 8:] = 0
    wrong = target.clone()
    wrong[..., 8:] += torch.rand(1, 1, 16, 8)
    for turns in range(4):  # known pixels on each side of the unknown ones
        turned = (x.rot90(turns, (2, 3)) for x in (wrong, target, mask))
        assert gradient_difference(*turned).item() == pytest.approx(0, abs=1e-6)


def test_one_step_adds_the_l1_and_the_mse_of_known_cells():
    target, mask = torch.randn(2, 4, 3, 5), torch.ones(2, 1, 3, 5)
    mask[:, :, 0] = 0.0
    predicted = torch.where(mask > 0, target - 0.5, 100.0)
    chain = SimpleNamespace(one_step=lambda rgb_latent: predicted)
    loss = OBJECTIVES['one_step'].loss(chain, LatentBatch(target, target, mask, 'planted'), None)
    assert loss.item() == pytest.approx(0.5 + 0.25)


def test_l1_gradient_is_the_written_sum_and_keeps_only_near_sky_away():
    batch = lidar_batch(slice(8, 32))
    batch.sky[:, :, :4] = True
    ramp = torch.arange(48.0).expand(2, 1, 32, 48) / 100
    predicted = torch.where(batch.valid, batch.relative + 0.2 + ramp, 0.6)
    predicted[:, :, :2] = 1.5  # farther than the farthest depth
    chain = SimpleNamespace(relative=lambda rgb: predicted, space='log')
    steps = 0.01 + 0.02 + 0.04  # of the ramp, at every 1st, 2nd and 4th pixel
    expected = (0.2 + ramp.mean()) + 0.5 * steps + 0.5 * 0.4 / 2
    loss = OBJECTIVES['l1_gradient'].loss(chain, batch, None)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_pixel_compares_metres_by_their_logarithm():
    batch = lidar_batch(slice(8, 32))
    batch = replace(batch, relative=torch.where(batch.valid, batch.depth, 0.0))
    predicted = 2.0 * batch.depth
    chain = SimpleNamespace(map_and_latent=lambda rgb: (predicted, None), space='metric')
    loss = pixel_loss(chain, batch, None)  # the fit and the gradients see no factor
    assert loss.item() == pytest.approx(0.5 * np.log(2.0), rel=1e-4)


@pytest.mark.parametrize(('factor', 'cost'), [(0.5, np.log(2.0)), (2.0, 0.0)])
def test_sky_nearer_than_the_farthest_metres_of_its_image_costs_their_logarithm(factor, cost):
    batch = lidar_batch(slice(8, 32))
    metres = torch.where(batch.valid, batch.depth, 1.0) * torch.tensor([10.0, 30.0]).view(
        2, 1, 1, 1
    )
    batch = replace(batch, relative=metres, sky=~batch.valid)
    farthest = torch.where(batch.valid, metres, 0.0).amax(dim=(1, 2, 3), keepdim=True)
    predicted = torch.where(batch.sky, factor * farthest, metres)
    logs = (values.log() for values in (predicted, metres))
    chain = SimpleNamespace(space='metric')
    assert near_sky(chain, *logs, batch).item() == pytest.approx(cost, rel=1e-4)


def test_an_autoencoder_is_scored_on_a_draw_of_its_latents():
    batch = lidar_batch(slice(0, 32))
    images = torch.cat([batch.rgb, (2.0 * batch.relative - 1.0).expand(-1, 3, -1, -1)])
    mean, deviation = torch.randn(4, 4, 4, 6), torch.rand(4, 4, 4, 6)
    posterior = SimpleNamespace(mean=mean, std=deviation, kl=lambda: torch.full((4,), 1e5))
    decoded = []

    def decode(latent: torch.Tensor) -> SimpleNamespace:
        decoded.append(latent)
        return SimpleNamespace(sample=images - 0.25)

    coder = SimpleNamespace(encode=lambda x: SimpleNamespace(latent_dist=posterior), decode=decode)
    chain = SimpleNamespace(autoencoder=coder)
    loss = OBJECTIVES['autoencoder'].loss(chain, batch, Draws(0, 3, (0, 1)))
    assert loss.item() == pytest.approx(0.25 + 1e-6 * 1e5, rel=1e-4)
    again = Draws(0, 3, (0, 1))
    noise = torch.cat([again.normal((4, 4, 6)), again.normal((4, 4, 6))])
    torch.testing.assert_close(decoded[0], mean + deviation * noise)


def lidar_batch(rows: slice) -> Batch:
    """Two images whose depth is known on some rows only."""
    rng = np.random.default_rng(4)
    depth = torch.from_numpy(rng.uniform(2, 30, (2, 1, 32, 48)).astype(np.float32))
    valid = torch.zeros(2, 1, 32, 48, dtype=torch.bool)
    valid[..., rows, :] = True
    rgb = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 32, 48)).astype(np.float32))
    relative = torch.where(valid, depth / 30, 1.0)
    return Batch(rgb, relative, valid, torch.zeros_like(valid), depth, 'lidar', (0, 1))


def test_the_anchor_adds_the_distance_to_the_initial_map_where_no_point_is_near(new_chain):
    chain, draws = new_chain(), Draws(0, 0, (0, 1))
    other = new_chain().requires_grad_(False)
    with torch.no_grad():
        other.autoencoder.decoder.conv_out.bias += 0.1
    chain.start = (other,)
    batch = lidar_batch(slice(16, 32))
    with torch.no_grad():
        maps = [c.decode(c.one_step(c.encode(batch.rgb))) for c in (chain, other)]
        loss, plain = (f(chain, batch, draws).item() for f in (anchored_loss, pixel_loss))
    known = batch.valid.float()
    fit = fit_least_squares(maps[1], batch.relative, known)
    far = torch.zeros_like(known)
    far[..., :14, :] = 1.0  # 1/16 of 32 rows is 2
    error = (maps[0] - fit.apply(maps[1]).clamp(0, 1)).abs()
    added = ANCHOR * masked_mean(error, far * fit.usable).item()
    assert loss - plain == pytest.approx(added, rel=1e-3)
    assert added > 1e-3
    assert torch.equal(covered(batch.valid), 1.0 - far)


def test_the_initial_networks_are_no_part_of_the_trained_ones(new_chain):
    chain = new_chain()
    names = set(chain.state_dict())
    chain.start = (new_chain(),)
    assert set(chain.state_dict()) == names


def test_a_flat_prediction_counts_in_the_loss_of_e2e_ft_and_leaves_others_their_gradient():
    """As in its published loss: scale and shift 0, so that only the mean's divisor sees it."""
    torch.manual_seed(0)
    truth = torch.rand(2, 1, 8, 8) * 5 + 1
    valid = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    relative = torch.rand(2, 1, 8, 8)
    relative[0] = 0.5
    relative.requires_grad_()
    chain = SimpleNamespace(relative=lambda rgb: relative)
    batch = SimpleNamespace(valid=valid, counted=valid.float(), depth=truth, rgb=None)
    loss = e2e_loss(chain, batch, None)
    loss.backward()
    ends = [torch.quantile(one, torch.tensor([0.02, 0.98])) for one in truth]
    clamped = torch.stack([one.clamp(*end) for one, end in zip(truth, ends, strict=True)])
    x = torch.stack([relative[1].detach().flatten(), torch.ones(64)], 1).double()
    fitted = x @ torch.linalg.lstsq(x, clamped[1].flatten().double()[:, None]).solution
    error = (fitted[:, 0] - clamped[1].flatten()).abs().sum()
    assert loss.item() == pytest.approx(((error + clamped[0].sum()) / 128).item(), rel=1e-5)
    assert not relative.grad[0].any()
    assert relative.grad[1].any()
