# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What a checkpoint's files say of it, checked before anything is made of it; their names.

``marigold_ros.json`` is that of our own layout. Imports no torch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any

from marigold_ros.errors import brief, CheckpointError
from marigold_ros.models.locate import read_json, require_file
from marigold_ros.spaces import RELATIVE_SPACES
from safetensors import safe_open, SafetensorError

# Of an image at a network, where a checkpoint chooses: 2048x2048.
MOST_PIXELS = 2**22
CONFIG, WEIGHTS, OWN = 'config.json', 'model.safetensors', 'marigold_ros.json'


# Keys that would bring code or another network along.
_ELSEWHERE = (
    'auto_map',
    'backbone',
    '_attn_implementation',
    'attn_implementation',
    'quantization_config',
    'transformers_weights',
)
# Of an architecture: layers, channels, tokens of a vocabulary.
_MOST, _MOST_ENTRIES, _DEEPEST = 2**16, 256, 4
# Of the list of tensors in a file, bytes: some 8000 tensors; Stable Diffusion 2 has 686.
_MOST_HEADER = 2**20
_WORD = re.compile(r'[\w .-]{0,100}')


@dataclass(frozen=True)
class MapFacts:
    """Space of the predictions, and pixels of an image at the network."""

    space: str
    pixels: int


def read_own(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the content of ``marigold_ros.json``, and its path for errors (CheckpointError)."""
    return read_json(folder / OWN), str(folder / OWN)


def map_facts(own: Mapping[str, Any], where: str, pixels: int) -> MapFacts:
    """
    Check the content of ``marigold_ros.json``, named ``where`` in errors (CheckpointError).

    ``pixels`` are those of a checkpoint that says nothing.
    """
    space = own.get('space')
    if space not in RELATIVE_SPACES:
        raise CheckpointError(
            f"{where} has space '{space}'; choose one of {', '.join(RELATIVE_SPACES)}"
        )
    return MapFacts(space, processing_pixels(own, where, pixels))


def processing_pixels(own: Mapping[str, Any], where: str, pixels: int) -> int:
    """Check ``default_processing_pixels``; arguments as in :func:`map_facts`."""
    found = own.get('default_processing_pixels', pixels)
    if type(found) is not int or not 64 <= found <= MOST_PIXELS:
        raise CheckpointError(
            f'{where} has default_processing_pixels {found!r}; give a whole number from 64 to '
            f'{MOST_PIXELS}'
        )
    return found


def check_values(values: Mapping[str, Any], where: Path | str, most: int = _MOST) -> None:
    """
    Check what somebody else's file says of a network before anything is made of it.

    Raises CheckpointError for a name of something elsewhere, a number above ``most`` or below its
    negative, a long list, or anything nested deep.
    """

    def check(key: str, value: Any, depth: int) -> None:
        if isinstance(value, (list, Mapping)):
            if depth == _DEEPEST or len(value) > _MOST_ENTRIES:
                raise CheckpointError(
                    f'{where} has {key} of {len(value)} entries at depth {depth}; at most '
                    f'{_MOST_ENTRIES} down to depth {_DEEPEST - 1} are read: restore the file'
                )
            pairs = value.items() if isinstance(value, Mapping) else ((key, x) for x in value)
            for name, inner in pairs:
                check(str(name), inner, depth + 1)
        elif isinstance(value, str) and not _WORD.fullmatch(value):
            raise CheckpointError(
                f"{where} has {key} '{value[:100]}', and only words are read; restore the file"
            )
        elif isinstance(value, int) and abs(value) > most:
            raise CheckpointError(
                f'{where} has {key} {value}, which is above {most}; restore the file'
            )

    check('values', values, 0)


def refuse_elsewhere(values: Mapping[str, Any], where: Path | str) -> None:
    """Raise CheckpointError if a configuration names code or a network somewhere else."""
    for key in _ELSEWHERE:
        if values.get(key):
            raise CheckpointError(
                f'{where} asks to run code of the checkpoint or of others, or to load another '
                f'network ({key}), which is refused; give a checkpoint that is complete by itself'
            )


def weight_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in safetensors files, unread; raises CheckpointError."""
    found: dict[str, tuple[int, ...]] = {}
    for path in files:
        require_file(path.parent, path.name)
        try:
            with path.open('rb') as file:
                first = file.read(8)
                if first == b'version ':
                    raise SafetensorError('it is a pointer of Git LFS: git lfs pull')
                if int.from_bytes(first, 'little') > _MOST_HEADER:
                    raise SafetensorError(f'its list of tensors has over {_MOST_HEADER} bytes')
            with safe_open(path, framework='np') as held:
                names = held.keys()
                found |= {name: tuple(held.get_slice(name).get_shape()) for name in names}
        except (OSError, SafetensorError) as error:
            raise unreadable(path, error) from error
    return found


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return the error of a file of weights that cannot be loaded."""
    return CheckpointError(
        f'{path} cannot be loaded ({brief(error)}); it is damaged or does not belong to '
        'config.json: restore both files'
    )
