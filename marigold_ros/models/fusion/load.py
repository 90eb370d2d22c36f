# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Find and load a fusion network: beside the weights of a model, in a folder, or embedded."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.models.facts import CONFIG, WEIGHTS
from marigold_ros.models.fusion.checkpoint import load_fusion_network
from marigold_ros.models.fusion.network import FusionNetwork, mix_candidates
from marigold_ros.models.locate import EMBEDDED, FUSION, require_file
from marigold_ros.models.runtime.disk_cache import cache_folder
from marigold_ros.models.runtime.openvino_networks import OpenVinoCompiler
import numpy as np
import torch
from torch import nn

_CPU = torch.device('cpu')


class LoadedFusion:
    """
    A fusion network as ``geometry.fusion.mixing`` calls it, for grids of any size.

    On a CPU OpenVINO runs it where it is installed; otherwise PyTorch does, on a GPU beside the
    model, whose next image would otherwise come first. Threads take turns.
    """

    def __init__(
        self, network: FusionNetwork, folder: Path, cache: Path, device: torch.device
    ) -> None:
        self.folder = folder
        mixing = _Mixing(network).to(device)
        if device.type == 'cpu' and find_spec('openvino'):
            self._run = _compiled(mixing, cache)
        else:
            self._run = partial(mixing.run, device, _stream_beside(device))
        self._turn = Lock()  # calls of OpenVINO at once would take each other's answers

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """Map (18, rows, columns) to four, float32, as ``mixing.FusionModel``."""
        with self._turn:
            return self._run([channels[None]])[0]


class _Mixing(nn.Module):
    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        change, log_error, shares, without_map = mix_candidates(self.network, channels)
        return torch.stack([change, log_error, shares[:, -1], without_map], 1)

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


def _compiled(mixing: nn.Module, cache: Path) -> Callable[[list[np.ndarray]], np.ndarray]:
    """
    Compile for grids of any size, as fast as for one: a second, less where it is in the cache.

    OpenVINO computes in bfloat16 where the CPU does, in half the time: what it states is relative
    to the candidates, so that depth moves by 0.0002 in the mean.
    """
    example = torch.zeros(1, len(CHANNELS), 32, 48)
    compiler = OpenVinoCompiler(None, cache)
    return compiler.compile(mixing, (example,), [(1, len(CHANNELS), -1, -1)])


def fusion_of(model: Any, name: str) -> LoadedFusion | None:
    """
    Load the network that a setting ``alignment.fusion`` names; None if that is ``none``.

    ``auto`` is the folder ``fusion`` of the model's checkpoint, or else the embedded one; any
    other name is a folder. It runs where the model does. Raises CheckpointError if there is no
    such network, or it was made for other inputs.
    """
    if name == 'none':
        return None
    folder = EMBEDDED / FUSION
    if name != 'auto':
        folder = Path(name).expanduser()
    elif path := getattr(model, 'description', {}).get('path'):
        beside = Path(path) / FUSION
        folder = beside if (beside / CONFIG).is_file() else folder
    # A recording has the description of its model alone.
    cache_dir = getattr(getattr(model, 'runtime', None), 'cache_dir', '')
    return load_fusion(folder, cache_dir, torch.device(getattr(model, 'device', _CPU)))


def load_fusion(
    folder: str | Path, cache_dir: str = '', device: torch.device = _CPU
) -> LoadedFusion:
    """
    Load the network of a folder, once unless its weights change; raises CheckpointError.

    ``cache_dir`` is as of ``config.RuntimeConfig``.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no fusion network '{folder}'; choose alignment.fusion auto, none, or a "
            'folder with config.json and model.safetensors'
        )
    changed_ns = require_file(folder, WEIGHTS).stat().st_mtime_ns
    return _load(folder, changed_ns, cache_folder(cache_dir), device)


@lru_cache(maxsize=4)
def _load(folder: Path, _changed_ns: int, cache: Path, device: torch.device) -> LoadedFusion:
    return LoadedFusion(load_fusion_network(folder), folder, cache, device)
