# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Find and load a fusion network: beside the weights of a model, in a folder, or embedded.

Imports torch only for what no earlier start converted for OpenVINO.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.models.facts import CONFIG, WEIGHTS
from marigold_ros.models.locate import EMBEDDED, FUSION, local_folder, require_file
from marigold_ros.models.runtime.disk_cache import cache_folder, files_key
from marigold_ros.models.runtime.kept_networks import ConvertedNetwork, KeptNetworks
from marigold_ros.threads import usable_cores
import numpy as np

_REMEDY = 'choose alignment.fusion auto, none, or a folder with config.json and model.safetensors'


class LoadedFusion:
    """
    A fusion network as ``geometry.fusion.mixing`` calls it, for grids of any size.

    On a CPU OpenVINO runs it where it is installed; otherwise PyTorch does, on a GPU beside the
    model, whose next image would otherwise come first. Threads take turns.
    """

    def __init__(self, folder: Path, run: Callable[[list[np.ndarray]], np.ndarray]) -> None:
        self.folder, self._run = folder, run
        self._turn = Lock()  # calls of OpenVINO at once would take each other's answers

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """Map (18, rows, columns) to three, float32, as ``mixing.FusionModel``."""
        with self._turn:
            return self._run([channels[None]])[0]


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
    if not name.strip():  # as a folder it would be the working directory
        raise CheckpointError(f"there is no fusion network '{name}'; {_REMEDY}")
    if name != 'auto':
        folder = local_folder(name) or Path(name)
    elif path := getattr(model, 'description', {}).get('path'):
        beside = Path(path) / FUSION
        folder = beside if (beside / CONFIG).is_file() else folder
    # A recording has the description of its model alone.
    cache_dir = getattr(getattr(model, 'runtime', None), 'cache_dir', '')
    device, threads = str(getattr(model, 'device', 'cpu')), getattr(model, 'threads', None)
    return load_fusion(folder, cache_dir, device, threads)


def load_fusion(
    folder: str | Path, cache_dir: str = '', device: str = 'cpu', threads: int | None = None
) -> LoadedFusion:
    """
    Load the network of a folder, once unless its weights change; raises CheckpointError.

    ``cache_dir`` is as of ``config.RuntimeConfig``. ``threads`` are those of a model that runs
    without torch; what is kept of the network does so too.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise CheckpointError(f"there is no fusion network '{folder}'; {_REMEDY}")
    changed_ns = require_file(folder, WEIGHTS).stat().st_mtime_ns
    require_file(folder, CONFIG)
    return _load(folder, changed_ns, cache_folder(cache_dir), device, threads)


@lru_cache(maxsize=4)
def _load(
    folder: Path, _changed_ns: int, cache: Path, device: str, threads: int | None
) -> LoadedFusion:
    compiles = device == 'cpu' and find_spec('openvino') is not None
    code = (Path(__file__).with_name(name) for name in ('network.py', 'mixing.py'))
    files = [folder / CONFIG, folder / WEIGHTS, *code]
    if compiles and threads is not None:
        any_grid = [(1, len(CHANNELS), -1, -1)]
        key = partial(files_key, files)
        kept = KeptNetworks(cache, key, None, own_threads(threads)).load(any_grid)
        if kept is not None:
            return LoadedFusion(folder, ConvertedNetwork(kept))
    from marigold_ros.models.fusion.checkpoint import load_fusion_network
    from marigold_ros.models.fusion.mixing import compile_mixing, run_by_torch
    import torch

    if threads is not None:  # torch is new here
        torch.set_num_threads(threads)
    if compiles:
        threads = own_threads(torch.get_num_threads())
        network = load_fusion_network(folder)
        return LoadedFusion(folder, compile_mixing(network, cache, files, threads))
    return LoadedFusion(folder, run_by_torch(load_fusion_network(folder), torch.device(device)))


def own_threads(threads: int) -> int:
    """
    Return the threads of the network beside a model with so many: two where there are two cores.

    A frame has two threads anyway, and the second has nothing to do meanwhile.
    """
    return max(threads, min(2, usable_cores()))
