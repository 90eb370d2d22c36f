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

    Without averaging they are the weights themselves, because a copy would cost memory.

    Parameters
    ----------
    networks : nn.Module
        Whose weights are averaged.
    wanted : bool
        Whether they are.

    """

    def __init__(self, networks: nn.Module, wanted: bool) -> None:
        self._wanted = wanted
        self.weights = {
            name: value.detach().clone() if wanted else value.detach()
            for name, value in networks.state_dict().items()
        }

    @torch.no_grad()
    def update(self, networks: nn.Module, keep: float, step: int) -> None:
        """Take the weights after a step in; ``keep`` of the average stays, less at first."""
        if not self._wanted:
            return
        # Short at first, so that the average does not remember the random start.
        keep = min(keep, (1 + step) / (10 + step))
        for name, value in networks.state_dict().items():
            self.weights[name].lerp_(value.to(self.weights[name].dtype), 1.0 - keep)

    def restore(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Go on from saved averages."""
        for name, value in self.weights.items():
            value.copy_(saved[name])
