# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run modules by ONNX Runtime: on the CPU, or on a GPU by TensorRT or CUDA, whichever it offers.

Networks are traced to ONNX for one shape of their arguments. The answer is that of PyTorch up to
rounding.
"""

from collections.abc import Callable, Sequence
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import brief, ConfigurationError
from marigold_ros.models.runtime.tracing import tracing
import numpy as np
import torch
from torch import nn

os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # else its use is reported to its makers
# By preference.
GPU_PROVIDERS = ('TensorrtExecutionProvider', 'CUDAExecutionProvider')
OPSET = 18


class OnnxCompiler:
    """
    Traces for one shape of the arguments, and runs in ``precision``, float32 or on a GPU float16.

    Arguments and answers are float32. TensorRT keeps its engines in ``cache``.
    """

    def __init__(self, device: torch.device, precision: torch.dtype, cache: Path) -> None:
        self._device, self._precision, self._cache = device, precision, cache

    def convert(
        self, module: nn.Module, examples: tuple[torch.Tensor, ...]
    ) -> Callable[[], Callable[[list[np.ndarray]], np.ndarray]]:
        """
        Convert a module for arguments like the examples.

        The function returned loads it, without the module; that one's result answers as it does.
        """
        folder = TemporaryDirectory()  # as long as the function
        path = Path(folder.name) / 'network.onnx'
        export_network(_InPrecision(module, self._precision), examples, path)

        def load() -> Callable[[list[np.ndarray]], np.ndarray]:
            with folder:
                return onnx_session(path, self._providers())

        return load

    def _providers(self) -> list[tuple[str, dict[str, Any]]]:
        if self._device.type == 'cpu':
            return []
        device = {'device_id': self._device.index or 0}
        options = {
            'trt_engine_cache_enable': True,
            'trt_engine_cache_path': str(self._cache),
            'trt_fp16_enable': self._precision == torch.float16,
        }
        own = {'TensorrtExecutionProvider': options}
        return [(name, {**device, **own.get(name, {})}) for name in gpu_providers()]


class _InPrecision(nn.Module):
    """A module, taken over, that computes in one precision between float32."""

    def __init__(self, module: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.module, self.precision = module.to(precision), precision

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        return self.module(*(one.to(self.precision) for one in arguments)).float()


def export_network(
    module: nn.Module,
    examples: tuple[torch.Tensor, ...],
    path: Path,
    names: Sequence[str] | None = None,
    answer: str | None = None,
) -> None:
    """
    Write a module as ONNX for the shapes of example arguments.

    Weights of more than 2 GB in all are written to files beside ``path``. ``names`` are those of
    the arguments, ``answer`` that of the result. Raises ConfigurationError for an operation that
    ONNX lacks. Threads export one after the other.
    """
    with tracing():
        try:
            torch.onnx.export(
                module.eval(),
                examples,
                str(path),
                input_names=names,
                output_names=None if answer is None else [answer],
                opset_version=OPSET,
                # The newer exporter takes seven times as long and forbids what modules keep.
                dynamo=False,
            )
        except RuntimeError as error:
            raise ConfigurationError(
                f'this model cannot be written as ONNX ({brief(error)}); run it by torch'
            ) from error


def onnx_session(
    path: Path, providers: Sequence[tuple[str, dict[str, Any]]] = ()
) -> Callable[[list[np.ndarray]], np.ndarray]:
    """
    Load a network; the function returned maps a list of arrays to its only answer.

    One of ``providers`` must run it, or, where there are none, the CPU; ConfigurationError if none
    does.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads slow down every other process.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path, options, providers=[*providers, ('CPUExecutionProvider', {})]
    )
    wanted = [name for name, _ in providers]
    if wanted and not set(wanted) & set(session.get_providers()):
        raise ConfigurationError(
            f'ONNX Runtime cannot start {" or ".join(wanted)}; install the versions of CUDA and '
            'cuDNN that it was built for, or choose device cpu'
        )
    names = [one.name for one in session.get_inputs()]
    return lambda arguments: session.run(None, dict(zip(names, arguments, strict=True)))[0]


def gpu_providers() -> list[str]:
    """Return what runs networks on a GPU in the ONNX Runtime that is installed, best first."""
    try:
        from onnxruntime import get_available_providers
    except ImportError:
        return []
    offered = get_available_providers()
    return [name for name in GPU_PROVIDERS if name in offered]


def require_onnxruntime(device: torch.device, precision: torch.dtype) -> None:
    """Raise ConfigurationError if it is missing, or not for this device and precision."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError(
            f'runtime.backend is onnxruntime, and {error.name} is not installed; pip install onnx '
            'onnxruntime (for a GPU: onnx onnxruntime-gpu), or choose torch'
        ) from error
    if device.type != 'cpu' and not gpu_providers():
        raise ConfigurationError(
            f"device is '{device}', and this ONNX Runtime offers "
            f'{", ".join(onnxruntime.get_available_providers())}; pip install onnxruntime-gpu, or '
            'choose device cpu'
        )
    allowed = {torch.float32} if device.type == 'cpu' else {torch.float32, torch.float16}
    if precision not in allowed:
        raise ConfigurationError(
            f'dtype is {str(precision).removeprefix("torch.")}, in which ONNX Runtime runs no '
            f'networks on {device.type}; choose float32'
        )
