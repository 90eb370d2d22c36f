# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training noise: its statistics, and independence of the division among processes."""

from marigold_ros.errors import ConfigurationError
from marigold_training.objectives.noise import check_noise, Draws, KINDS, training_noise
import pytest
import torch
from torch.nn import functional

SHAPE = (4, 24, 32)


def draw(kind: str, strength: float = 0.9, part: float = 1.0, rows=range(16), seed: int = 0):
    draws = Draws(seed, 7, rows)
    return training_noise(draws, SHAPE, kind, strength, torch.full((len(rows),), part))


@pytest.mark.parametrize('row', range(4))
def test_the_pyramid_is_the_sum_of_its_generators_levels(row):
    generator = Draws(0, 7, [row]).generators[0]
    total = torch.randn(SHAPE, generator=generator)
    height, width, weight = 24, 32, 1.0
    for level in range(10):
        factor = (2 + 2 * float(torch.rand(1, generator=generator))) ** level
        height, width = max(1, int(height / factor)), max(1, int(width / factor))
        coarse = torch.randn(1, 4, height, width, generator=generator)
        total = total + weight * functional.interpolate(coarse, (24, 32), mode='bilinear')[0]
        weight *= 0.9
        if min(height, width) == 1:
            break
    torch.testing.assert_close(draw('multi_resolution', rows=[row])[0], total / total.std())


@pytest.mark.parametrize('kind', KINDS)
def test_a_batch_divided_among_processes_has_the_same_noise(kind):
    whole = draw(kind, rows=[0, 1, 2, 3])
    assert torch.equal(whole[[0, 2]], draw(kind, rows=[0, 2]))
    assert torch.equal(whole[[1, 3]], draw(kind, rows=[1, 3]))


def test_timesteps_are_each_images_own_and_in_range():
    timesteps = Draws(3, 5, range(200)).timesteps(10)
    assert set(timesteps.tolist()) == set(range(10))
    assert torch.equal(timesteps[[17, 4]], Draws(3, 5, [17, 4]).timesteps(10))


def test_other_seeds_batches_and_images_have_other_noise():
    first = Draws(0, 0, [0]).normal(SHAPE)
    for other in (Draws(1, 0, [0]), Draws(0, 1, [0]), Draws(0, 0, [1])):
        assert not torch.equal(first, other.normal(SHAPE))


def test_a_latent_of_one_cell_still_gets_noise():
    noise = training_noise(Draws(0, 0, [0]), (4, 1, 1), 'annealed', 0.9, torch.ones(1))
    assert torch.isfinite(noise).all()


def test_unknown_kinds_and_strengths_are_named():
    with pytest.raises(ConfigurationError, match="'pink'.*annealed"):
        check_noise('pink', 0.9)
    with pytest.raises(ConfigurationError, match='noise_strength is 1'):
        draw('annealed', strength=1.0)
    with pytest.raises(ConfigurationError, match="noise_strength is '9e-1'"):
        check_noise('annealed', '9e-1')
