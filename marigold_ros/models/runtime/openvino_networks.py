# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compile modules by OpenVINO, which on a CPU is faster than PyTorch, and keep them on disk.

The answer is that of PyTorch up to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.runtime.disk_cache import files_key, network_key
from marigold_ros.models.runtime.kept_networks import KeptNetworks, openvino_core
from marigold_ros.models.runtime.tracing import tracing
import numpy as np
import torch
from torch import nn

CAPABILITIES = {torch.float32: 'FP32', torch.bfloat16: 'BF16', torch.float16: 'FP16'}


class OpenVinoCompiler:
    """
    Compiles for one shape of the arguments.

    ``precision`` is that of the sums; arguments and answers are float32. Converted networks are
    kept in ``cache``. Their key is the network, or ``files`` that decide it, by which a later
    start finds them without torch.
    """

    def __init__(self, precision: torch.dtype, cache: Path, files: Sequence[Path] = ()) -> None:
        self._precision = str(precision).removeprefix('torch.')
        self._cache, self._kept = cache, None
        if files:
            self._kept = self._kept_by(partial(files_key, files))

    def _kept_by(self, key: Callable[[Mapping[str, Any]], str]) -> KeptNetworks:
        return KeptNetworks(self._cache, key, self._precision, torch.get_num_threads())

    def convert(
        self, module: nn.Module, examples: tuple[torch.Tensor, ...]
    ) -> Callable[[], Callable[[list[np.ndarray]], np.ndarray]]:
        """
        Convert a module for arguments like the examples.

        The function returned compiles it, without the module, to one that answers as it does.
        """
        shapes = tuple(tuple(example.shape) for example in examples)
        kept = self._kept or self._kept_by(partial(network_key, module))
        return kept.load_or_convert(shapes, lambda: convert(module, examples, shapes)).compile


def convert(
    module: nn.Module, examples: tuple[torch.Tensor, ...], shapes: Sequence[Sequence[int]]
) -> Any:
    """
    Trace a module on example arguments and convert it to OpenVINO's model for shapes.

    ``-1`` in a shape is any size. Threads convert one after the other.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with tracing():
        traced = torch.jit.trace(module, examples, check_trace=False)
        # Not openvino.convert_model, which reports each use to a server of its makers.
        frontend = FrontEndManager().load_by_framework('pytorch')
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)
        model = frontend.convert(frontend.load(decoder))
    sizes = [openvino.PartialShape(list(shape)) for shape in shapes]
    model.reshape(dict(zip(model.inputs, sizes, strict=True)))
    return model


def require_openvino(device: torch.device, precision: torch.dtype) -> None:
    """Raise ConfigurationError if OpenVINO is missing, or not for this device and precision."""
    if device.type != 'cpu':
        raise ConfigurationError(
            f"runtime.backend is openvino and device is '{device}'; it runs on the CPU: choose "
            'device cpu, or backend torch'
        )
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            'runtime.backend is openvino, and it is not installed; pip install openvino, or '
            'choose torch'
        ) from error
    offered = openvino_core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    if CAPABILITIES[precision] not in offered:
        name = str(precision).removeprefix('torch.')
        raise ConfigurationError(
            f'dtype is {name}, and on this CPU OpenVINO offers {", ".join(offered)}; choose '
            'float32'
        )
