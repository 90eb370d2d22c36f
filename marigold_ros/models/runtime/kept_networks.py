# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Networks that an earlier start converted for OpenVINO.

Imports no torch: what is kept runs without it. Conversion is that of ``openvino_networks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
import mmap
from pathlib import Path
import sys
from typing import Any

from marigold_ros.models.runtime.disk_cache import DIGEST, load_kept, load_or_make
import numpy as np

# For which a network stays compiled, the last, 20 MB each: a frame and its sigma, of six cameras.
_SIZES = 12
_LENGTH = 8  # bytes of a length
_FORM = 1  # of a file, as a part of its key
PRECISIONS = {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16'}
Shapes = Sequence[Sequence[int]]  # of a network's arguments; -1 is any size
# OpenVINO imports this where it can, reports each import to its makers, and fails without a home.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """
    Return the one Core of this process, which lives as long as the process.

    Its plugin for CPUs gives the thread that loads it another stack for signals. Unloaded in
    another thread it would free that stack while in use: the next signal would end the process.
    """
    import openvino

    return openvino.Core()


def cpu_settings(precision: str | None, threads: int) -> dict[str, Any]:
    """Return OpenVINO's settings; ``precision`` is one of PRECISIONS, None what is fastest."""
    hint = {} if precision is None else {'INFERENCE_PRECISION_HINT': PRECISIONS[precision]}
    return {'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY', **hint}


def versions() -> tuple[str, ...]:
    """Return what else decides a compiled network: the libraries that made it, the CPU."""
    import openvino

    processor = openvino_core().get_property('CPU', 'FULL_DEVICE_NAME')
    libraries = map(version, ('torch', 'diffusers', 'transformers'))
    return openvino.__version__, *libraries, processor


@dataclass(frozen=True)
class Converted:
    """
    A network in OpenVINO's form, not compiled, for the shapes of its arguments.

    ``settings`` are :func:`cpu_settings`. ``data`` is the file that it was read from, mapped, in
    which its weights lie: None if it has none.
    """

    model: Any
    settings: dict[str, Any]
    data: mmap.mmap | None = None

    def compile(self) -> Callable[[list[np.ndarray]], np.ndarray]:
        """Return a function of the arguments that gives the network's only answer."""
        compiled = openvino_core().compile_model(self.model, 'CPU', self.settings)
        if self.data is not None and hasattr(mmap, 'MADV_DONTNEED'):
            # Compiled networks hold their own copy. What is used all the same is read again.
            self.data.madvise(mmap.MADV_DONTNEED)
        return partial(_first_answer, compiled, self.data)


def _first_answer(
    compiled: Any, _in_use: mmap.mmap | None, arguments: list[np.ndarray]
) -> np.ndarray:
    return compiled(arguments)[0]


class ConvertedNetwork:
    """
    A network of one argument for any size of it, compiled for each when it first comes.

    That takes a tenth of a second once. A network compiled for any size at once takes half as long
    again for each answer.
    """

    def __init__(self, network: Converted) -> None:
        # No method, which would hold the network in a circle.
        self._compiled = lru_cache(_SIZES)(partial(_compile_for, network))

    def __call__(self, arguments: list[np.ndarray]) -> np.ndarray:
        """Answer; not for two threads at once."""
        return self._compiled(arguments[0].shape)(arguments)


def _compile_for(
    network: Converted, shape: tuple[int, ...]
) -> Callable[[list[np.ndarray]], np.ndarray]:
    network.model.reshape(list(shape))
    return network.compile()


class KeptNetworks:
    """
    The networks of one checkpoint, in the folder ``cache``: converted, and compiled at each start.

    Compiled ones would take twice the space, and hold all of it in memory. ``key`` is called once
    with what else decides a network, as :func:`files_key` of weights, configuration and source
    code. ``precision`` and ``threads`` are as of :func:`cpu_settings`.
    """

    def __init__(
        self,
        cache: Path,
        key: Callable[[Mapping[str, Any]], str],
        precision: str | None,
        threads: int,
    ) -> None:
        self._cache, self._settings = cache, cpu_settings(precision, threads)
        self._half = precision in ('bfloat16', 'float16')
        self._key = key({**self._settings, 'form': _FORM, 'versions': versions()})

    def path(self, shapes: Shapes) -> Path:
        """Return where the network for these shapes of its arguments is kept."""
        sizes = '_'.join('x'.join(map(str, shape)) for shape in shapes)
        return self._cache / f'{self._key}_{sizes}.blob'

    def load(self, shapes: Shapes) -> Converted | None:
        """Return the network for shapes, or None if it is not kept or is damaged."""
        kept: Converted | None = load_kept(self.path(shapes), self._read)
        return kept

    def load_or_convert(self, shapes: Shapes, convert: Callable[[], Any]) -> Converted:
        """Return the network for shapes, converted and kept if it was not."""
        made: Converted = load_or_make(
            self.path(shapes),
            self._read,
            lambda: Converted(convert(), self._settings),
            partial(_save, self._half),
        )
        return made

    def _read(self, data: mmap.mmap) -> Converted:
        """Read what :func:`_save` wrote, before a digest, without copying the weights."""
        import openvino

        end = len(data) - DIGEST - _LENGTH
        begin = end - int.from_bytes(data[end : end + _LENGTH], 'little')
        weights = openvino.Tensor(np.frombuffer(data, np.uint8, begin), shared_memory=True)
        model = openvino_core().read_model(data[begin:end], weights)
        return Converted(model, self._settings, data)


def _save(half: bool, network: Converted, folder: Path) -> Path:
    """
    Write weights, description and its length into one file; weights in float16 if ``half``.

    Of weights that become bfloat16 when they are compiled, float16 loses nothing that is left.
    """
    import openvino

    described, weights = folder / 'model.xml', folder / 'model.bin'
    openvino.save_model(network.model, described, compress_to_fp16=half)
    text = described.read_bytes()
    with weights.open('ab') as file:
        file.write(text + len(text).to_bytes(_LENGTH, 'little'))
    return weights
