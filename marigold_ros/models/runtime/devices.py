# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Choose device, backend and arithmetic: asked for by name, never silently replaced."""

from dataclasses import replace
from importlib.util import find_spec

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.runtime.onnx_networks import gpu_providers
from marigold_ros.models.runtime.processor import has_bfloat16, LARGE
import torch

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def choose_device(name: str, backend: str = 'torch') -> torch.device:
    """
    Return a device; one that is named and missing raises ConfigurationError.

    ``auto`` is a GPU if there is one, and the backend runs on it.
    """
    if name == 'auto':
        gpu = torch.cuda.is_available() and (backend != 'onnxruntime' or bool(gpu_providers()))
        return torch.device('cuda' if gpu else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"device is '{name}'; choose auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == 'cpu':
        return device
    count = torch.cuda.device_count() if device.type == 'cuda' else 0
    if (device.index or 0) >= count:
        raise ConfigurationError(
            f"device is '{name}', and this machine offers torch {count} CUDA devices; choose auto "
            'or cpu, or install a torch build for your GPU'
        )
    return device


def choose_backend(
    runtime: RuntimeConfig, device: torch.device, may_compile: bool
) -> RuntimeConfig:
    """
    Return the settings with the backend that ``auto`` stands for.

    OpenVINO compiles for each image size: ``auto`` is OpenVINO on a CPU where it is installed and
    nothing waits for that, and otherwise PyTorch.
    """
    if runtime.backend != 'auto':
        return runtime
    fast = may_compile and device.type == 'cpu' and runtime.compile == 'off'
    return replace(runtime, backend='openvino' if fast and find_spec('openvino') else 'torch')


def choose_dtype(
    name: str, device: torch.device, parameters: int = 0, backend: str = 'torch'
) -> torch.dtype:
    """
    Return a dtype; ``auto`` is float16 on a GPU and otherwise float32.

    On a CPU with bfloat16 of its own (AVX512-BF16, AMX) ``auto`` is that for OpenVINO, and for
    networks from 100 million parameters on, which become twice as fast; ONNX Runtime has none.
    """
    if name == 'auto':
        if device.type == 'cuda':
            return torch.float16
        worth = parameters >= LARGE or backend == 'openvino'
        half = worth and backend != 'onnxruntime' and has_bfloat16()
        return torch.bfloat16 if half else torch.float32
    if name not in DTYPES:
        raise ConfigurationError(f"dtype is '{name}'; choose auto, {', '.join(DTYPES)}")
    return DTYPES[name]
