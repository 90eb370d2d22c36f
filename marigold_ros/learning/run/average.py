# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Exponential moving average of weights: what is exported is steadier than the last step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class WeightAverage:
    """
    The averaged weights of networks.

    Without averaging they are the weights themselves, because a copy would cost memory: those of
    the moment, for wrappers of several processes move them.

    Parameters
    ----------
    networks : nn.Module
        Whose weights are averaged.
    wanted : bool
        Whether they are.

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
        """Take the weights after a step in; ``keep`` of the average stays, less at first."""
        if self._average is None:
            return
        # Short at first, so that the average does not remember the random start.
        keep = min(keep, (1 + step) / (10 + step))
        for name, value in networks.state_dict().items():
            self._average[name].lerp_(value.to(self._average[name].dtype), 1.0 - keep)

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Go on from saved averages."""
        for name, value in self.weights.items():
            value.copy_(saved[name])


def blend(
    trained: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor], kept: float
) -> dict[str, torch.Tensor]:
    """
    Give weights between those trained and those at the start, of which ``kept`` in [0, 1] stays.

    Networks that were trained on from the same weights often are better there, above all on
    images unlike the last ones (Wortsman et al., Robust fine-tuning, CVPR 2022).
    """
    return {
        name: value.lerp(start[name].to(value), kept) if value.is_floating_point() else value
        for name, value in trained.items()
    }
