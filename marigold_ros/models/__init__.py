# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth models: ``load_model`` returns a ``protocol.DepthModel`` for any checkpoint.

Neither this facade nor ``protocol``, ``registry`` and ``locate`` import torch. A family is one
package here (``marigold/``) and one line in ``registry``; ``runtime/`` makes its networks fast,
``benchmarks/`` times them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
import os
from pathlib import Path
from typing import TYPE_CHECKING

from marigold_ros.config import ModelConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.average.model import AverageModel, is_average, member_names
from marigold_ros.models.locate import EMBEDDED, find_folder, list_checkpoints
from marigold_ros.models.metric_scale import MetricModel, read_metric_scale
from marigold_ros.models.registry import Family, find_family, named
from marigold_ros.models.runtime.disk_cache import use_cache
from marigold_ros.models.runtime.processor import has_bfloat16, has_no_gpu
from marigold_ros.threads import usable_cores

if TYPE_CHECKING:
    from marigold_ros.models.protocol import DepthModel

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # as threads.settle_threads; before torch

__all__ = ['EMBEDDED', 'list_checkpoints', 'load_model', 'use_threads']


def load_model(
    name: str | Path = 'unet',
    device: str = 'auto',
    dtype: str = 'auto',
    vae: str | None = None,
    runtime: RuntimeConfig | None = None,
) -> DepthModel:
    """
    Load a checkpoint.

    Parameters
    ----------
    name : str or Path
        An embedded checkpoint's name, a folder in the layout of diffusers or transformers, or,
        once ``models get`` has fetched it, a published name or a hub id ``owner/model``, either
        with ``@revision``; several with ``+`` between them are averaged.
    device : str
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, …
    dtype : {'auto', 'float32', 'bfloat16', 'float16'}
        Arithmetic; auto is float16 on a GPU, and on a CPU float32, or bfloat16 for large networks
        and OpenVINO where the CPU has it.
    vae : str or None
        Folder or hub id of another autoencoder, such as ``madebyollin/taesd``, in place of the
        checkpoint's own.
    runtime : RuntimeConfig or None
        Backend, memory layout, compilation, warm-up.

    Returns
    -------
    DepthModel
        Ready to predict; ``description['notes']`` holds what its user should know.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, or it is incomplete, damaged or pickled.
    ConfigurationError
        If the device does not exist here, the dtype is unknown, or code cannot be compiled.

    """
    from marigold_ros.models.runtime.devices import choose_backend, choose_device

    runtime = runtime or RuntimeConfig()
    chosen = choose_device(device, runtime.backend)
    if is_average(name := str(name)):
        if vae is not None:
            raise ConfigurationError(
                f"vae is '{vae}', and an average has several models: leave it empty"
            )
        members = [
            load_model(member, device, dtype, None, runtime) for member in member_names(name)
        ]
        return AverageModel(members)
    folder = find_folder(name)
    family = find_family(folder)
    if runtime.compile != 'off':
        use_cache(runtime.cache_dir)
    runtime = choose_backend(runtime, chosen, bool(runtime.warm_up) and family.openvino)
    model = family.load(folder, chosen, dtype, runtime, vae=vae)
    model.warm_up()
    return _with_metric_scale(model, folder)


def load_compiled(
    config: ModelConfig,
    runtime: RuntimeConfig,
    sizes: Sequence[tuple[int, int]],
    load_by_torch: Callable[[], DepthModel],
    processing_resolution: int | None = None,
) -> DepthModel | None:
    """
    Load a model that OpenVINO compiled in an earlier start, without torch.

    Parameters
    ----------
    config, runtime
        As for :func:`load_model`; the backend is ``auto`` where there may be such a model.
    sizes : sequence of (H, W)
        Of the images to expect; networks for all of them must be kept.
    load_by_torch : callable
        Loads the model with torch, for images of another size.
    processing_resolution : int or None
        As in ``predict``, of the images to expect.

    Returns
    -------
    DepthModel or None
        None if torch must load the model, or refuse it.

    """
    auto = runtime.backend == 'auto' and runtime.compile == 'off' and not config.vae
    if not (auto and sizes and find_spec('openvino')) or is_average(config.model):
        return None
    if config.device != 'cpu' and not (config.device == 'auto' and has_no_gpu()):
        return None
    folder = find_folder(config.model)
    family = find_family(folder)
    arithmetic = config.dtype
    if arithmetic == 'auto':
        arithmetic = 'bfloat16' if has_bfloat16() else 'float32'
    if not family.compiled or arithmetic == 'float16':
        return None
    threads, fast = count_threads(config.torch_threads), replace(runtime, backend='openvino')
    model = named(family.compiled)(folder, arithmetic, fast, threads, load_by_torch)
    if not all(model.holds(size, processing_resolution) for size in sizes):
        return None
    return _with_metric_scale(model, folder)


def _with_metric_scale(model: DepthModel, folder: Path) -> DepthModel:
    """Return the model in metres if its folder has a metric scale."""
    scale = read_metric_scale(folder)
    return model if scale is None else MetricModel(model, scale)


def families_of(name: str) -> list[Family]:
    """Return the families of the models of a name, without torch; errors as ``load_model``."""
    members = member_names(name) if is_average(name) else [name]
    return [find_family(find_folder(member)) for member in members]


def use_threads(count: int = 0) -> int:
    """
    Set the number of threads that the model runs on, and return it; 0 is all cores but one.

    The number decides the last bits of sums: a replay is identical to what was published only with
    the same number, so node and commands share this rule.
    """
    import torch

    threads = count_threads(count)
    torch.set_num_threads(threads)
    return threads


def count_threads(count: int = 0) -> int:
    """Return the number of threads that a setting names; 0 is all cores but one."""
    return count or max(1, usable_cores() - 1)
