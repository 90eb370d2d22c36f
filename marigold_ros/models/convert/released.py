# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Converting a released checkpoint: read, hand to its family, write a folder that loads."""

from collections.abc import Mapping
from dataclasses import dataclass
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.convert.pickles import read_pickle
from marigold_ros.models.registry import FAMILIES, named
from marigold_ros.models.weights import whole_folder
from safetensors.torch import save_file


@dataclass(frozen=True)
class Conversion:
    """
    What a family makes of a released file.

    ``files`` are by their paths in the folder: a mapping of tensors for ``.safetensors``, of
    values for ``.json``, text for others; ``unused`` are names of tensors that nothing reads.
    """

    files: Mapping[str, Any]
    unused: list[str]

    @property
    def tensors(self) -> int:
        """Return the number of tensors that are written."""
        return sum(len(self.files[name]) for name in self.files if name.endswith('.safetensors'))


def convert_file(path: Path, family: str, folder: Path) -> Conversion:
    """
    Convert a released file to a folder, which must be new.

    Raises ConfigurationError for a family without released files or a folder that is there, and
    CheckpointError if the file cannot be read, is of something else, or cannot be written.
    """
    known = {name: one.converter for name, one in FAMILIES.items() if one.converter}
    if family not in known:
        raise ConfigurationError(f"family is '{family}'; choose one of {', '.join(known)}")
    if os.path.exists(folder):  # Path's raises for a name that is too long
        raise ConfigurationError(f'{folder} is there already; name a new folder, or remove it')
    convert = named(known[family])
    # The tensors that were read are as large as what is written: on the same disk.
    with (
        whole_folder(folder, 'convert') as draft,
        TemporaryDirectory(prefix=f'.{folder.name}-', dir=draft.parent) as scratch,
    ):
        conversion: Conversion = convert(read_pickle(path, Path(scratch)))
        write_files(conversion, draft)
    return conversion


def write_files(conversion: Conversion, folder: Path) -> None:
    """Write the files into a folder that is there; raises OSError or SafetensorError."""
    for name, content in conversion.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == '.safetensors':
            save_file({key: value.contiguous() for key, value in content.items()}, path)
        else:
            text = json.dumps(content, indent=2) + '\n' if path.suffix == '.json' else content
            path.write_text(text, encoding='utf-8')
