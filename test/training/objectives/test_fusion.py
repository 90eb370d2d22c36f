# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The objective of the fusion network: its least value, what leaves it as it is, the mixture."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.fusion.mixing import LARGEST_CORRECTION, mix_candidates
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_training.data.mixture import FusionBatch
from marigold_training.objectives.fusion import (
    fusion_loss,
    METRES,
    relative_loss,
    SIGMA,
    SQUARED,
    TrainedFusion,
)
import pytest
import torch

SHAPE = (2, 16, 32)
CERTAIN = torch.full(SHAPE, -30.0)  # log of an error of nothing


def drawn(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_a_perfect_prediction_costs_nothing():
    target, linear = drawn(0), drawn(1)
    target[0, :4] = torch.nan
    fused = torch.nan_to_num(target, 9.0)  # anything where the truth is unknown
    assert relative_loss(fused, CERTAIN, linear, target).item() < 1e-3


def test_linear_interpolation_itself_costs_nearly_one_for_each_ratio():
    target = drawn(0)
    linear = target + drawn(1, 0.5)
    cost = relative_loss(linear, CERTAIN, linear, target).item()
    certain = SIGMA * 0.6827 * 6.0  # about log(error / 0.001)
    ratios = 1.0 + METRES + SQUARED
    assert 0.9 * ratios < cost < ratios + certain


@given(factor=st.floats(0.05, 20.0), seed=st.integers(0, 5))
def test_a_factor_on_all_depth_changes_nothing(factor, seed):
    target, fused = drawn(seed, 0.5), drawn(seed + 1, 0.3)  # within the limits
    linear, expected = target + drawn(seed + 2, 0.3), drawn(seed + 3)
    shift = math.log(factor)
    one = relative_loss(target + fused, expected, linear, target)
    other = relative_loss(target + fused + shift, expected, linear + shift, target + shift)
    assert other.item() == pytest.approx(one.item(), rel=2e-3)


def test_unknown_truth_counts_neither_by_cell_nor_by_example():
    target, linear = drawn(0), drawn(1)
    target[:, 8:] = torch.nan
    fused = (linear + drawn(2, 0.2)).requires_grad_()
    whole = relative_loss(fused, CERTAIN, linear, target)
    upper = relative_loss(*(x[:, :8] for x in (fused, CERTAIN, linear, target)))
    assert whole.item() == pytest.approx(upper.item(), rel=1e-5)
    whole.backward()
    assert not fused.grad[:, 8:].any()
    target[1] = torch.nan
    alone = relative_loss(*(x[:1] for x in (fused, CERTAIN, linear, target)))
    assert relative_loss(fused, CERTAIN, linear, target).item() == pytest.approx(alone.item())
    nothing = relative_loss(fused, CERTAIN, linear, torch.full(SHAPE, torch.nan))
    assert nothing.item() == 0.0


def test_the_expected_error_that_costs_least_is_the_68_percent_quantile():
    target = torch.zeros(1, 100, 100)
    fused = torch.linspace(-0.1, 0.1, 10_000).reshape(target.shape)
    linear = drawn(0)[:1, :1, :1].expand(target.shape)
    levels = torch.linspace(0.01, 0.099, 90)
    costs = [
        relative_loss(fused, torch.full_like(target, x.log().item()), linear, target).item()
        for x in levels
    ]
    least = levels[torch.tensor(costs).argmin()].item()
    assert least == pytest.approx(0.06827, abs=0.002)


class Constant(torch.nn.Module):
    """A network with the same outputs everywhere."""

    def __init__(self, outputs: list[float]) -> None:
        super().__init__()
        self.outputs = torch.tensor(outputs).repeat_interleave(4)[None, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outputs.expand(len(x), -1, x.shape[2] // 2, x.shape[3] // 2)


@pytest.fixture
def inputs():
    x = torch.randn(2, len(CHANNELS), 16, 32, generator=torch.Generator().manual_seed(0))
    x[:, CHANNELS.index('has_map')] = torch.tensor([1.0, 0.0])[:, None, None]
    return x


@pytest.mark.parametrize('name', CANDIDATES)
def test_a_share_of_one_gives_the_candidate_and_the_residual_adds_to_it(inputs, name):
    logits = [0.0] * len(CANDIDATES)
    logits[CANDIDATES.index(name)] = 40.0
    residual = math.atanh(0.25 / LARGEST_CORRECTION)
    network = Constant([*logits, residual, -3.0])
    change, log_error, _ = mix_candidates(network, inputs).unbind(1)
    nothing = torch.zeros_like(change)
    expected = 0.25 + (nothing if name == 'linear' else inputs[:, CHANNELS.index(name)])
    seen = slice(1) if name == 'map' else slice(2)  # the second example has no map
    torch.testing.assert_close(change[seen], expected[seen])
    assert (log_error == -3.0).all()


def test_the_map_has_no_share_where_there_is_none(inputs):
    network = Constant([0.0] * (len(CANDIDATES) + 2))
    other = inputs.clone()
    other[:, CHANNELS.index('map')] += 1.0
    before, _, share = mix_candidates(network, inputs).unbind(1)
    after = mix_candidates(network, other)[:, 0]
    assert not share[1].any()
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(after[0], before[0] + 1.0 / len(CANDIDATES))


def test_a_few_steps_lower_the_loss(inputs):
    torch.manual_seed(0)
    chain = TrainedFusion(FusionNetwork((8, 8), (1, 1), (4, 4)))
    linear, smooth = (inputs[:, CHANNELS.index(name)] for name in ('linear', 'smooth'))
    batch = FusionBatch(inputs, linear + smooth, 'planted')
    optimizer = torch.optim.Adam(chain.parameters(), 3e-3)
    costs = []
    for _ in range(60):
        optimizer.zero_grad()
        cost = chain(fusion_loss, batch, None)
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert costs[-1] < 0.5 * costs[0]
