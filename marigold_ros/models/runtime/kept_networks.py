# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Networks that OpenVINO compiled in an earlier start, found by a checkpoint's files.

Imports no torch: what is kept runs without it. Compilation is that of ``openvino_networks``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import WriteError
from marigold_ros.models.runtime.disk_cache import files_key, load_kept, load_or_compile
import numpy as np

# For which a network stays compiled, the last, 20 MB each: a frame and its sigma, of six cameras.
_SIZES = 12
_LENGTH = 8  # bytes of a length
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


class ConvertedNetwork:
    """
    A network of one argument for any size of it, compiled for each when it first comes.

    That takes a tenth of a second once. A network compiled for any size at once takes half as long
    again for each answer. ``data`` is from :func:`serialized`, ``settings`` :func:`cpu_settings`.
    """

    def __init__(self, data: bytes, settings: dict[str, Any]) -> None:
        self._data, self._settings = data, settings
        size = int.from_bytes(data[:_LENGTH], 'little')
        described, weights = data[_LENGTH : _LENGTH + size], data[_LENGTH + size :]
        self._model = openvino_core().read_model(described, weights)
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def export_model(self) -> BytesIO:
        """Return ``data``."""
        return BytesIO(self._data)

    def __call__(self, arguments: list[np.ndarray]) -> np.ndarray:
        """Answer; not for two threads at once."""
        shape = arguments[0].shape
        if shape not in self._compiled:
            self._model.reshape(list(shape))
            compiled = openvino_core().compile_model(self._model, 'CPU', self._settings)
            self._compiled[shape] = first_answer(compiled)
            if len(self._compiled) > _SIZES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shape)
        return self._compiled[shape](arguments)


def serialized(model: Any) -> bytes:
    """Return a network in OpenVINO's own form, not compiled, as bytes; may raise WriteError."""
    import openvino

    try:
        with TemporaryDirectory() as folder:
            described, weights = (Path(folder) / name for name in ('model.xml', 'model.bin'))
            openvino.serialize(model, described, weights)
            text = described.read_bytes()
            return len(text).to_bytes(_LENGTH, 'little') + text + weights.read_bytes()
    except (OSError, RuntimeError) as error:
        problem = f'OpenVINO could not write temporary files ({error}); free some space'
        raise WriteError(f'{problem}, or set TMPDIR to a folder on another disk') from error


class KeptNetworks:
    """
    The compiled networks of one checkpoint, in the folder ``cache``.

    Whatever decides a network is in ``files``: weights, configuration, source code; they are read
    now, once, and raise OSError. ``precision`` and ``threads`` are as of :func:`cpu_settings`.
    """

    def __init__(
        self, cache: Path, files: Sequence[Path], precision: str | None, threads: int
    ) -> None:
        self._cache, self._settings = cache, cpu_settings(precision, threads)
        self._key = files_key(files, {**self._settings, 'versions': versions()})

    def path(self, shapes: Shapes) -> Path:
        """Return where the network for these shapes of its arguments is kept."""
        sizes = '_'.join('x'.join(map(str, shape)) for shape in shapes)
        return self._cache / f'{self._key}_{sizes}.blob'

    def load(self, shapes: Shapes) -> Callable[[list[np.ndarray]], np.ndarray] | None:
        """Return the network for shapes, or None if it is not kept or is damaged."""
        compiled = load_kept(self.path(shapes), self._import)
        return None if compiled is None else first_answer(compiled)

    def load_or_compile(
        self, shapes: Shapes, compile_it: Callable[[], Any]
    ) -> Callable[[list[np.ndarray]], np.ndarray]:
        """Return the network for shapes, compiled and kept if it was not."""
        return first_answer(load_or_compile(self.path(shapes), self._import, compile_it))

    def load_converted(self, shapes: Shapes) -> ConvertedNetwork | None:
        """Return the network of one argument for any size, or None as ``load``."""
        return load_kept(self.path(shapes), self._converted)

    def load_or_convert(self, shapes: Shapes, convert: Callable[[], Any]) -> ConvertedNetwork:
        """Return the network of one argument for any size, converted and kept if it was not."""
        return load_or_compile(
            self.path(shapes), self._converted, lambda: self._converted(serialized(convert()))
        )

    def _converted(self, data: bytes) -> ConvertedNetwork:
        return ConvertedNetwork(data, self._settings)

    def _import(self, data: bytes) -> Any:
        return openvino_core().import_model(data, 'CPU', self._settings)


def first_answer(compiled: Any) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Return a function of the arguments that gives a compiled network's only answer."""
    return lambda arguments: compiled(arguments)[0]
