# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The objective of the fusion network: errors relative to linear interpolation of the same points.

A ratio counts an easy scene as much as a difficult one, and is what benchmarks report. The
expected error is the 68 % quantile of the error, by the pinball loss. Letters: B examples, C
channels, h, w cells.
"""

from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.alignment.affine_fit import ONE_SIGMA
from marigold_ros.models.fusion.mixing import mix_candidates
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_training.data.mixture import FusionBatch
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import TrainedModule
import torch

# Weights of the terms beside the relative error.
METRES, SQUARED, SIGMA = 0.25, 0.5, 0.1
# Log ratios beyond count no more, and logs of depth (relative to the points' median) above.
_RATIOS, _FARTHEST = (-2.0, 1.2), 6.0
# Added to the errors of interpolation, relative to depth: below, nothing is to be gained.
_MARGIN, _SQUARED_MARGIN = 0.006, 0.015
_LEAST_ERROR = 1e-3
_CELLS = (1, 2)  # axes of one example


class TrainedFusion(TrainedModule):
    """The fusion network in training."""

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.fusion = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fusion_loss(chain: TrainedFusion, batch: FusionBatch, draws: Draws) -> torch.Tensor:
    """Return :func:`relative_loss` of a batch."""
    change, log_error, _ = mix_candidates(chain.fusion, batch.inputs).unbind(1)
    linear = batch.inputs[:, CHANNELS.index('linear')]
    return relative_loss(linear + change, log_error, linear, batch.target)


def relative_loss(
    fused: torch.Tensor, log_error: torch.Tensor, linear: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """
    Return the mean of the errors' ratios to interpolation, and the pinball loss of their quantile.

    ``fused``, ``linear`` and ``target`` (B, h, w) are log depth, target NaN where unknown;
    ``log_error`` is the log of the expected relative error. A factor on all depth changes nothing.
    """
    known = torch.isfinite(target)
    target = torch.nan_to_num(target)
    count = known.sum(_CELLS).clamp(min=1)

    def mean(value: torch.Tensor) -> torch.Tensor:
        return (value * known).sum(_CELLS) / count  # (B,)

    depth = target.exp()
    typical = mean(depth).clamp(min=1e-6)
    ratio = (fused - target).clamp(*_RATIOS)
    relative = mean(torch.expm1(ratio).abs())
    relative_linear = mean(torch.expm1((linear - target).clamp(*_RATIOS)).abs())
    metres = (fused.clamp(max=_FARTHEST).exp() - depth).abs()
    metres_linear = (linear.exp() - depth).abs()
    squared = (mean(metres.square()) + 1e-8).sqrt()
    squared_linear = mean(metres_linear.square()).sqrt()
    total = (
        relative / (relative_linear + _MARGIN)
        + METRES * mean(metres) / (mean(metres_linear) + _MARGIN * typical)
        + SQUARED * squared / (squared_linear + _SQUARED_MARGIN * typical)
        + SIGMA * mean(_pinball(ratio.detach().abs(), log_error))
    )
    seen = known.any(2).any(1)
    return (total * seen).sum() / seen.sum().clamp(min=1)


def _pinball(error: torch.Tensor, log_error: torch.Tensor) -> torch.Tensor:
    """Return the pinball loss of the logs, which is least at the quantile."""
    beyond = torch.log(error + _LEAST_ERROR) - torch.log(log_error.exp() + _LEAST_ERROR)
    return torch.maximum(ONE_SIGMA * beyond, (ONE_SIGMA - 1.0) * beyond)
