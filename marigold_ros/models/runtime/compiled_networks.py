# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run the networks of a checkpoint by the runtime that the settings name, OpenVINO or ONNX Runtime.

Same calls as the networks' own, same answers up to rounding. Each is compiled for the shapes that
it meets: at the first frame of each size, or beside it, while PyTorch answers. Families do not
know which runtime it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
import gc
import logging
import os
from pathlib import Path
import threading
import time
from types import SimpleNamespace
from typing import Any, TYPE_CHECKING

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.autoencoder import mean_latent
from marigold_ros.models.runtime.disk_cache import cache_folder
from marigold_ros.models.runtime.onnx_networks import OnnxCompiler, require_onnxruntime
from marigold_ros.models.runtime.openvino_networks import OpenVinoCompiler, require_openvino
from marigold_ros.models.runtime.processor import LARGE
from marigold_ros.models.weights import count_parameters
from marigold_ros.threads import return_memory
import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

SHAPES_KEPT = 4  # compiled networks hold a copy of their weights each
# By how much compilation beside other work yields to it.
_NICENESS = 10
Compiler = OnnxCompiler | OpenVinoCompiler
_beside: ContextVar[bool] = ContextVar('beside', default=False)
log = logging.getLogger(__name__)


@contextmanager
def compiling_beside() -> Iterator[None]:
    """
    Networks made inside do not make a call wait for their compilation, unless the model is large.

    A thread compiles for new shapes, or reads what is kept on disk; until it is done PyTorch
    answers, in float32. With a large one that would take as long.
    """
    token = _beside.set(True)
    try:
        yield
    finally:
        _beside.reset(token)


class CompiledNetwork:
    """
    A module (on the CPU, in float32, taken over), compiled for each shape of its arguments.

    A large one is freed once it is converted if it can be loaded again, see ``free_if_large``.
    ``parameters`` are those of the model that it is a part of, if it is one.
    """

    def __init__(self, module: nn.Module, compiler: Compiler, parameters: int = 0) -> None:
        module.eval()
        self._module, self._compiler = lambda: module, compiler
        self._is_large = max(parameters, count_parameters(module)) >= LARGE
        self._load_again: Callable[[], nn.Module] | None = None
        self._compiled: OrderedDict[tuple, Any] = OrderedDict()
        # Shapes that PyTorch runs: they are compiled beside it, or could not be.
        self._may_use_torch, self._by_torch_now = _beside.get(), set[tuple]()
        self.by_torch = False  # the last answer

    def free_if_large(self, load_again: Callable[[], nn.Module]) -> None:
        """Hold no weights beside those of compiled networks, if that is worth loading them."""
        if self._is_large:
            self._load_again = load_again

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        """Run on float32; the first call with arguments of new shapes compiles."""
        shapes = tuple(tuple(argument.shape) for argument in arguments)
        # In this order, as a thread that has compiled adds before it discards.
        if shapes not in self._by_torch_now and shapes not in self._compiled:
            self._begin(shapes, tuple(argument.cpu() for argument in arguments))
        compiled = self._compiled.get(shapes)
        if compiled is None:
            return self._by_torch(arguments)
        self._compiled.move_to_end(shapes)
        while len(self._compiled) > SHAPES_KEPT:
            self._compiled.popitem(last=False)
        self.by_torch = False
        answer = compiled([argument.cpu().numpy() for argument in arguments])
        return torch.from_numpy(answer).to(arguments[0].device)

    def _begin(self, shapes: tuple, examples: tuple[torch.Tensor, ...]) -> None:
        """Compile now, or in a thread where PyTorch may answer meanwhile."""
        if not self._may_use_torch:
            self._compile(shapes, examples)
            return
        self._by_torch_now.add(shapes)
        if self._is_large:
            log.info('compiling for inputs of %s, which wait', _size(shapes))
            self._try_to_compile(shapes, examples)
        else:
            # Python must not end inside of a compiler, which would abort the process.
            work = shapes, examples
            threading.Thread(target=self._compile_beside, args=work, daemon=False).start()

    def _by_torch(self, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        self.by_torch = True
        module = self._module()
        self._module = lambda: module  # if it was loaded again
        return module(*(argument.float() for argument in arguments))

    def _compile(self, shapes: tuple, examples: tuple[torch.Tensor, ...]) -> None:
        with torch.inference_mode(False):
            module = self._module()
        compile_it = self._compiler.convert(module, examples)
        if self._load_again is not None:
            self._module = self._load_again
            del module
            gc.collect()  # traces lie in circles
            return_memory()
        self._compiled[shapes] = compile_it()

    def _compile_beside(self, shapes: tuple, examples: tuple[torch.Tensor, ...]) -> None:
        """Compile in this thread, at low priority."""
        if hasattr(os, 'setpriority'):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        self._try_to_compile(shapes, examples)

    def _try_to_compile(self, shapes: tuple, examples: tuple[torch.Tensor, ...]) -> None:
        """Compile; a failure leaves PyTorch in place."""
        begun, size = time.monotonic(), _size(shapes)
        try:
            self._compile(shapes, examples)
        except Exception:  # whatever the compiler cannot do
            log.exception('a network was not compiled for inputs of %s; PyTorch goes on', size)
            return
        self._by_torch_now.discard(shapes)
        log.info('compiled in %.1f s for inputs of %s', time.monotonic() - begun, size)


def _size(shapes: tuple) -> str:
    return 'x'.join(map(str, shapes[0]))


def choose_compiler(
    device: torch.device,
    precision: torch.dtype,
    runtime: RuntimeConfig,
    files: Sequence[Path] = (),
) -> Compiler:
    """
    Return the compiler that the settings name; ConfigurationError if it cannot run here.

    ``files``, where they alone decide the network, as of ``OpenVinoCompiler``.
    """
    cache = cache_folder(runtime.cache_dir)
    if runtime.compile != 'off':
        raise ConfigurationError(
            f'runtime.compile is {runtime.compile} and runtime.backend {runtime.backend}, which '
            'compiles by itself; set one of them to its default'
        )
    if runtime.backend == 'onnxruntime':
        require_onnxruntime(device, precision)
        return OnnxCompiler(device, precision, cache)
    require_openvino(device, precision)
    return OpenVinoCompiler(precision, cache, files)


class CompiledUNet:
    """A U-Net (on the CPU, in float32, taken over) with its constant text (1, L, D)."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text: torch.Tensor,
        compiler: Compiler,
    ) -> None:
        self.config, self._sinusoid, self._text = unet.config, unet.time_proj, text
        self._network = CompiledNetwork(_WithText(unet, text), compiler)

    def free_if_large(self, load_again: Callable[[], UNet2DConditionModel]) -> None:
        """Hold no weights beside those of compiled networks; see ``CompiledNetwork``."""
        text = self._text
        self._network.free_if_large(lambda: _WithText(load_again(), text).eval())

    @property
    def by_torch(self) -> bool:
        """Whether PyTorch gave the last answer, while another runtime compiles."""
        return self._network.by_torch

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


class CompiledAutoencoder:
    """An autoencoder (on the CPU, in float32) of a model with so many ``parameters``."""

    def __init__(
        self,
        autoencoder: AutoencoderKL | AutoencoderTiny,
        compiler: Compiler,
        compile_decoder: bool,
        parameters: int,
    ) -> None:
        self.config = autoencoder.config
        self._encoder = CompiledNetwork(_Encoder(autoencoder), compiler, parameters)
        self._decoder: nn.Module | CompiledNetwork = _Decoder(autoencoder)
        if compile_decoder:
            self._decoder = CompiledNetwork(self._decoder, compiler, parameters)

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
        self.given.of_thread.moment = moment
        text = self.text.expand(len(sample), -1, -1)
        return self.unet(sample, 0, encoder_hidden_states=text, return_dict=False)[0]


class _Given(nn.Module):
    """Takes the place of the sinusoid of the timestep; each thread gives its own."""

    def __init__(self) -> None:
        super().__init__()
        self.of_thread = threading.local()

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        return self.of_thread.moment.expand(len(timesteps), -1)


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
