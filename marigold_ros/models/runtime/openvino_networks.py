# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run the networks of a checkpoint by OpenVINO, which on a CPU is faster than PyTorch.

Same calls as diffusers' own, same answers up to rounding. Each is traced and compiled for the
shapes that it meets, at the first frame of each size, and kept on disk for the next start.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import warnings

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.autoencoder import mean_latent
from marigold_ros.models.runtime.disk_cache import cache_folder, load_or_compile, network_key
import torch
from torch import nn

CAPABILITIES = {torch.float32: 'FP32', torch.bfloat16: 'BF16', torch.float16: 'FP16'}
PRECISIONS = {torch.float32: 'f32', torch.bfloat16: 'bf16', torch.float16: 'f16'}
SHAPES_KEPT = 4  # compiled networks hold a copy of their weights each


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """
    Return the one Core of this process, which lives as long as the process.

    Its plugin for CPUs gives the thread that loads it another stack for signals. Unloaded in
    another thread it would free that stack while in use: the next signal would end the process.
    """
    import openvino

    return openvino.Core()


class CompiledNetwork:
    """
    A module (on the CPU, in float32), compiled for each shape of its arguments.

    ``precision`` is that of the sums; arguments and answers are float32. Compiled networks are
    kept in ``cache``; None keeps none.
    """

    def __init__(
        self, module: nn.Module, precision: torch.dtype, cache: Path | None = None
    ) -> None:
        self._module, self._precision, self._cache = module.eval(), precision, cache
        self._compiled: OrderedDict[tuple, Any] = OrderedDict()

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        """Run; the first call with arguments of new shapes compiles."""
        shapes = tuple(tuple(argument.shape) for argument in arguments)
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(arguments, shapes)
            if len(self._compiled) > SHAPES_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        answer = self._compiled[shapes]([argument.numpy() for argument in arguments])[0]
        return torch.from_numpy(answer)

    def _compile(self, arguments: tuple[torch.Tensor, ...], shapes: tuple) -> Any:
        import openvino

        core = openvino_core()
        settings = {
            'INFERENCE_PRECISION_HINT': PRECISIONS[self._precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'PERFORMANCE_HINT': 'LATENCY',
        }

        def compile_it() -> Any:
            # Inference tensors cannot be traced.
            examples = tuple(argument.clone() for argument in arguments)
            return core.compile_model(convert(self._module, examples, shapes), 'CPU', settings)

        if self._cache is None:
            return compile_it()
        versions = openvino.__version__, core.get_property('CPU', 'FULL_DEVICE_NAME')
        key = network_key(self._module, {**settings, 'shapes': shapes, 'versions': versions})
        path = self._cache / f'{key}.blob'
        return load_or_compile(
            path, lambda data: core.import_model(data, 'CPU', settings), compile_it
        )


def convert(
    module: nn.Module, examples: tuple[torch.Tensor, ...], shapes: Sequence[Sequence[int]]
) -> Any:
    """
    Trace a module on example arguments and convert it to OpenVINO's model for shapes.

    ``-1`` in a shape is any size.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        # Branches on shapes are meant to be fixed.
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(module, examples, check_trace=False)
        # Not openvino.convert_model, which reports each use to a server of its makers.
        frontend = FrontEndManager().load_by_framework('pytorch')
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)
        model = frontend.convert(frontend.load(decoder))
    sizes = [openvino.PartialShape(list(shape)) for shape in shapes]
    model.reshape(dict(zip(model.inputs, sizes, strict=True)))
    return model


class OpenVinoUNet:
    """A U-Net (on the CPU, in float32, taken over) with its constant text (1, L, D)."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text: torch.Tensor,
        precision: torch.dtype,
        cache: Path | None = None,
    ) -> None:
        self.config, self._sinusoid = unet.config, unet.time_proj
        self._network = CompiledNetwork(_WithText(unet, text), precision, cache)

    def __call__(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """Return the output (E, C, h, w); the text is that of construction."""
        # In bfloat16 999 is 1000, and its sine another one.
        moment = self._sinusoid(torch.as_tensor(timestep).reshape(1))
        return (self._network(sample, moment),)


class OpenVinoAutoencoder:
    """An autoencoder (on the CPU, in float32)."""

    def __init__(
        self,
        autoencoder: AutoencoderKL | AutoencoderTiny,
        precision: torch.dtype,
        cache: Path | None = None,
    ) -> None:
        self.config = autoencoder.config
        self._encoder = CompiledNetwork(_Encoder(autoencoder), precision, cache)
        decoder = _Decoder(autoencoder)
        # In float32 PyTorch decodes faster, by a third.
        whole = precision == torch.float32
        self._decoder = decoder if whole else CompiledNetwork(decoder, precision, cache)

    def encode(self, image: torch.Tensor) -> SimpleNamespace:
        """Encode an image (1, 3, H, W) to (1, C, h, w), without a distribution."""
        return SimpleNamespace(latents=self._encoder(image))

    def decode(self, latent: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
        """Decode latents (E, C, h, w) to images (E, 3, H, W)."""
        return (self._decoder(latent),)


class _WithText(nn.Module):
    text: torch.Tensor

    def __init__(self, unet: UNet2DConditionModel, text: torch.Tensor) -> None:
        super().__init__()
        self.unet, self.given = unet, _Given()
        unet.time_proj = self.given
        self.register_buffer('text', text)

    def forward(self, sample: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        """Run with the sines and cosines of the timestep (1, F) in place of its number."""
        self.given.moment = moment
        text = self.text.expand(len(sample), -1, -1)
        return self.unet(sample, 0, encoder_hidden_states=text, return_dict=False)[0]


class _Given(nn.Module):
    """Takes the place of the sinusoid of the timestep."""

    moment: torch.Tensor

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        return self.moment.expand(len(timesteps), -1)


class _Encoder(nn.Module):
    def __init__(self, autoencoder: AutoencoderKL | AutoencoderTiny) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return mean_latent(self.autoencoder, image)


class _Decoder(nn.Module):
    def __init__(self, autoencoder: AutoencoderKL | AutoencoderTiny) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latent, return_dict=False)[0]


def compiled_network(
    module: nn.Module, device: torch.device, precision: torch.dtype, runtime: RuntimeConfig
) -> CompiledNetwork:
    """Prepare a module as the settings say; raises as :func:`require_openvino`."""
    require_openvino(device, precision)
    return CompiledNetwork(module, precision, cache_folder(runtime.cache_dir))


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
