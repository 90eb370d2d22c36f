# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Averages of weights: exponential over the steps of a run, and linear between two states."""

from collections.abc import Mapping

from marigold_training.objectives.adapters import DOWN
import torch
from torch import nn


class WeightAverage:
    """
    The exponential moving average of networks' weights.

    Without averaging it is the current weights themselves, to save the memory of a copy; they are
    looked up at each access, as wrappers for several processes replace them.
    """

    def __init__(self, networks: nn.Module, wanted: bool) -> None:
        self._networks = networks
        self._average = (
            {name: value.detach().clone() for name, value in networks.state_dict().items()}
            if wanted
            else None
        )

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name."""
        return dict(self._networks.state_dict()) if self._average is None else self._average

    @torch.no_grad()
    def update(self, networks: nn.Module, keep: float, step: int) -> None:
        """Add the weights after a step; a share ``keep`` of the average stays, less at first."""
        if self._average is None:
            return
        # Short at first, to forget the random start.
        keep = min(keep, (1 + step) / (10 + step))
        for name, value in networks.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value.to(self._average[name].dtype), 1.0 - keep)
            else:  # counts of batch norms
                self._average[name].copy_(value)

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Restore saved averages; without averaging, the current weights stay."""
        for name, value in (self._average or {}).items():
            value.copy_(saved[name])


def blend(
    trained: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor], kept: float
) -> dict[str, torch.Tensor]:
    """
    Interpolate between trained and initial weights, with a share ``kept`` of the initial ones.

    This often generalises better after fine-tuning (Wortsman et al., Robust fine-tuning, CVPR
    2022). Of adapters, whose ``B`` starts at zero, ``A`` stays: so their product is interpolated.
    """
    return {
        name: value.lerp(start[name].to(value), kept)
        if value.is_floating_point() and not name.endswith(DOWN)
        else value
        for name, value in trained.items()
    }
