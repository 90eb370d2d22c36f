# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a fusion network by torch, or compile it for grids of any size."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, reduce
from pathlib import Path
from typing import Any

from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.models.runtime.disk_cache import files_key
from marigold_ros.models.runtime.kept_networks import ConvertedNetwork, KeptNetworks
from marigold_ros.models.runtime.openvino_networks import convert
import numpy as np
import torch
from torch import nn
from torch.nn import functional

# Largest correction of log depth beside the candidates.
LARGEST_CORRECTION = 0.8
Run = Callable[[list[np.ndarray]], np.ndarray]


def run_by_torch(network: FusionNetwork, device: torch.device) -> Run:
    """Return a function that runs a network, taken over, on a device, beside the model there."""
    return partial(_Mixing(network).to(device).run, device, _stream_beside(device))


def compile_mixing(network: FusionNetwork, cache: Path, files: list[Path], threads: int) -> Run:
    """
    Compile for grids of any size, each when it first comes: a tenth of a second.

    OpenVINO computes in bfloat16 where the CPU does, in half the time: what it states is relative
    to the candidates, so that depth moves by 0.0002 in the mean. ``files`` decide the network.
    """
    example, any_grid = torch.zeros(1, len(CHANNELS), 32, 48), [(1, len(CHANNELS), -1, -1)]
    kept = KeptNetworks(cache, partial(files_key, files), None, threads)
    return ConvertedNetwork(
        kept.load_or_convert(any_grid, lambda: convert(_Mixing(network), (example,), any_grid))
    )


def mix_candidates(
    network: nn.Module, channels: torch.Tensor, typical: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """
    Map the channels (B, 18, rows, columns) to what ``geometry.fusion.mixing.FusionModel`` states.

    The four cells that the network packs into channels stay there until they are mixed, which
    takes a third less time: three answers are unpacked in place of eight, and rows of cells are
    not copied. ``typical`` is added to the log of the expected error.
    """
    *logits, of_map, residual, log_error = network(channels).float().split(4, 1)
    taken = [CHANNELS.index(name) for name in (*CANDIDATES[1:], 'has_map')]
    *others, in_map, has_map = functional.pixel_unshuffle(channels[:, taken], 2).split(4, 1)
    most = reduce(torch.maximum, logits)
    first, *odds = (torch.exp(logit - most) for logit in logits)
    total = sum(odds, first)
    points = sum(odd * other for odd, other in zip(odds, others, strict=True)) / total
    share = has_map * torch.sigmoid(of_map - most - torch.log(total))
    correction = LARGEST_CORRECTION * torch.tanh(residual)
    change = points + share * (in_map - points)
    answers = (change + correction, log_error + typical, share)
    return functional.pixel_shuffle(torch.cat(answers, 1), 2)


class _Mixing(nn.Module):
    """Mixes candidates by a network, which is taken over."""

    typical: torch.Tensor

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # In bfloat16 what is about 0 is more exact: the typical error is added afterwards.
        bias = network.head.state_dict()['bias'].clone()
        self.register_buffer('typical', bias[-4:].clone().reshape(4, 1, 1))
        bias[-4:] = 0.0
        network.head.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        return mix_candidates(self.network, channels, self.typical)

    def run(self, device: torch.device, stream: Any, arguments: list[np.ndarray]) -> np.ndarray:
        beside = nullcontext() if stream is None else torch.cuda.stream(stream)
        with beside, torch.inference_mode():
            batch = torch.from_numpy(arguments[0]).to(device)
            answer = self(batch.contiguous(memory_format=torch.channels_last))
            return np.asarray(answer.cpu().numpy())


def _stream_beside(device: torch.device) -> Any:
    """Return a stream of a GPU that goes before the others there; None on other devices."""
    if device.type != 'cuda':
        return None
    stream = torch.cuda.Stream(device, priority=-1)
    stream.wait_stream(torch.cuda.current_stream(device))  # which brings the weights
    return stream
