# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The tensors and plain values of a file of ``torch.save``, read in a child process with limits.

PyTorch reads it with ``weights_only``: what asks for any other function than those that make
tensors is refused before it is called. Nothing but safetensors leaves the child.
"""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import re
from zipfile import is_zipfile

from marigold_ros.bags.limited import run_limited
from marigold_ros.errors import brief, CheckpointError, MarigoldError
from marigold_ros.models.weights import read_weights
from safetensors.torch import save_file
import torch

# Of a file: the tensors of a large network with its optimiser; nesting of its dictionaries.
_MOST_TENSORS, _DEEPEST = 20_000, 8
_PART = 500_000_000  # bytes that are copied at a time
_IMPORTS_S = 60.0  # of a processor, for torch on a busy machine
_TWICE = 2  # as many bytes as in the file, of tensors that share theirs
_GLOBAL = re.compile(r'GLOBAL ([\w.]+)')
Plain = bool | int | float | str


@dataclass(frozen=True)
class Released:
    """Tensors and plain values by their names, with a dot for each level of dictionaries."""

    file: Path
    tensors: dict[str, torch.Tensor]
    values: dict[str, Plain]


def read_pickle(path: Path, scratch: Path) -> Released:
    """
    Read a file of ``torch.save`` by way of safetensors in a folder, which stay in use.

    Raises CheckpointError if it is no such file, is damaged, asks for code, or needs more memory,
    time or disk than a file of its size may.
    """
    if not path.is_file():
        raise CheckpointError(f'{path} is no file; give a released .pt')
    try:
        function = f'{__name__}:unpack'
        text = run_limited(function, path, str(scratch), start_s=_IMPORTS_S)
    except MarigoldError as error:
        raise CheckpointError(f'{path} cannot be converted: {error}') from error
    return Released(path, read_weights(sorted(scratch.glob('*.safetensors'))), json.loads(text))


def unpack(path: Path, folder: str) -> str:
    """Write a file's tensors into safetensors in a folder; returns its plain values as JSON."""
    try:
        with torch.serialization.safe_globals([Namespace]):  # of a training's options
            content = torch.load(
                path, map_location='cpu', weights_only=True, mmap=is_zipfile(path)
            )
        tensors: dict[str, torch.Tensor] = {}
        values: dict[str, Plain] = {}
        for name, value in _leaves(content):
            if name in tensors:
                raise CheckpointError(f'it has {name[:100]} twice; fetch it again')
            if isinstance(value, torch.Tensor):
                tensors[name] = value
            elif isinstance(value, Plain):
                values[name] = value
        _check(path, tensors)
        _write(tensors, Path(folder))
        return json.dumps(values)
    except (MarigoldError, MemoryError):
        raise
    except Exception as error:  # torch raises many kinds
        if "can't allocate memory" in str(error):
            raise MemoryError from error
        code = _GLOBAL.search(str(error))
        if code:
            raise CheckpointError(
                f'it asks to run {code[1][:100]}, and only tensors and plain values are read; ask '
                'its authors for a file without code'
            ) from error
        raise CheckpointError(
            f'it is no whole file of torch.save ({brief(error)[:100]}); give a released .pt, and '
            'fetch it again if it is one'
        ) from error


def _leaves(content: object, name: str = '', depth: int = 0) -> Iterator[tuple[str, object]]:
    if isinstance(content, Namespace):
        content = vars(content)
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        yield name, content
    elif depth < _DEEPEST:
        for key, value in content.items():
            yield from _leaves(value, f'{name}.{key}' if name else str(key), depth + 1)


def _check(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    odd = [
        name for name, one in tensors.items() if one.layout != torch.strided or one.is_quantized
    ]
    size = sum(one.numel() * one.element_size() for one in tensors.values())
    if not tensors:
        raise CheckpointError('it holds no tensors; give the file of the weights')
    if odd or len(tensors) > _MOST_TENSORS or size > _TWICE * path.stat().st_size:
        raise CheckpointError(
            f'it holds {len(tensors)} tensors of {size / 1e6:.1f} MB, of which {len(odd)} are '
            f'sparse or quantised, and has {path.stat().st_size / 1e6:.1f} MB itself; fetch it '
            'again'
        )


def _write(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    part: dict[str, torch.Tensor] = {}
    count = size = 0
    for position, (name, value) in enumerate(tensors.items(), 1):
        part[name] = value.detach().clone(memory_format=torch.contiguous_format)
        size += part[name].nbytes
        if size > _PART or position == len(tensors):
            save_file(part, folder / f'{count:05d}.safetensors')
            part, size, count = {}, 0, count + 1
