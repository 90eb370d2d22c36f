# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Make the networks of a checkpoint run faster without changing their answer.

A missing compiler is an error when the model is loaded. Compiled code is kept on disk, so that
only the first start compiles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TYPE_CHECKING

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.light_imports import prepare_compiler
from marigold_ros.models.runtime.compiled_networks import (
    choose_compiler,
    CompiledAutoencoder,
    CompiledUNet,
)
from marigold_ros.models.runtime.upsampling import merge_upsampling
from marigold_ros.models.weights import count_parameters
import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel


def prepare_networks(
    unet: UNet2DConditionModel,
    autoencoder: AutoencoderKL | AutoencoderTiny,
    text: torch.Tensor,
    device: torch.device,
    dtype: torch.dtype,
    runtime: RuntimeConfig,
) -> tuple[Any, Any]:
    """
    Move networks to their device and prepare them as the runtime settings say, in place.

    Those of another runtime take their place with the same calls. ``text`` (1, L, D) is the
    empty-prompt embedding, on the device and in the arithmetic. Raises ConfigurationError if there
    is no compiler for code to be compiled, or the runtime is missing or cannot run it.
    """
    if device.type == 'cpu':  # not timed on a GPU
        merge_upsampling(autoencoder)
    if runtime.converted:
        compiler = choose_compiler(device, dtype, runtime)
        set_channels_last((autoencoder,), runtime.channels_last)
        # In float32 PyTorch decodes faster than OpenVINO, by a third.
        decoder = runtime.backend != 'openvino' or dtype != torch.float32
        parameters = count_parameters(unet, autoencoder)
        return (
            CompiledUNet(unet, text.float().cpu(), compiler),
            CompiledAutoencoder(autoencoder, compiler, decoder, parameters),
        )
    # Not diffusers' own `to`, which warns of a cast that is meant.
    for network in (unet, autoencoder):
        torch.nn.Module.to(network, device, dtype)
    set_channels_last((unet, autoencoder), runtime.channels_last)
    for network in (unet, autoencoder.encoder, autoencoder.decoder):
        compile_network(network, device, runtime)
    return unet, autoencoder


def compile_network(
    network: torch.nn.Module, device: torch.device, runtime: RuntimeConfig
) -> None:
    """Compile a network in place, if the settings ask for it; raises ConfigurationError."""
    if runtime.compile != 'off':
        _require_compiler(device)
        prepare_compiler()
        network.compile(**compile_arguments(runtime.compile, device))


def set_channels_last(networks: Iterable[torch.nn.Module], channels_last: bool) -> None:
    """Set the memory layout of networks' weights, in place: channels last, or contiguous."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    how: dict[str, Any] = {'memory_format': layout}
    # Weights made in inference mode would never carry gradients again.
    with torch.inference_mode(False):
        for network in networks:
            torch.nn.Module.to(network, **how)


def compile_arguments(mode: str, device: torch.device) -> dict[str, Any]:
    """
    Return torch.compile's arguments for a device: shapes are static, weights are constants.

    Frozen weights let Inductor lay them out once for oneDNN on a CPU; CUDA graphs avoid kernel
    launches, most of the time of small networks, on a GPU.
    """
    if device.type == 'cuda':
        return {'dynamic': False, 'mode': 'reduce-overhead' if mode == 'auto' else mode}
    options: dict[str, Any] = {'freezing': True}
    if mode == 'max-autotune':
        options['max_autotune'] = True
    return {'dynamic': False, 'options': options}


def _require_compiler(device: torch.device) -> None:
    if device.type == 'cuda':
        if not torch.utils._triton.has_triton():
            raise ConfigurationError(
                'runtime.compile needs Triton on a GPU, which is not installed; pip install '
                'triton, or set runtime.compile to off'
            )
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigurationError(
            'runtime.compile needs a C++ compiler and none was found; install g++, or set '
            'runtime.compile to off'
        ) from error
