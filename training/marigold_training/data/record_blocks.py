# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Records of equal size on disk, in blocks of many, that are computed once.

Each block is written atomically: a killed run resumes at the next block, processes share them, and
a full disk is an ordinary error, not a crash as with one memory-mapped file.
"""

from collections.abc import Mapping
import hashlib
from io import BytesIO
import json
from pathlib import Path
import shutil
from typing import Any

from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.whole_files import write_whole
import numpy as np

BLOCK_BYTES = 32 << 20


class RecordBlocks:
    """
    Records by index, in files of many.

    Parameters
    ----------
    folder : Path
        Of all caches; the records get a folder of their own in it.
    facts : list
        What determines the records; names the folder, as JSON.
    about : mapping
        Description for people, written beside them; ``source`` names them in errors.
    record : np.dtype
        Of one record.
    count : int
        Number of records.
    remedy : str
        What else to do on a full disk, besides making space.

    """

    def __init__(
        self,
        folder: Path,
        facts: list[Any],
        about: Mapping[str, Any],
        record: np.dtype,
        count: int,
        remedy: str,
    ) -> None:
        self.about, self.record, self.count, self.remedy = about, record, count, remedy
        identity = json.dumps(facts)
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:24]
        self.block = max(1, BLOCK_BYTES // record.itemsize)  # records

    def record_at(self, index: int) -> np.void:
        """Map a record from its file; raises InputError if that is damaged or missing."""
        number, row = divmod(index, self.block)
        path = self._path(number)
        try:
            found: np.void = np.load(path, mmap_mode='r')[row]
            if found.dtype != self.record:
                raise ValueError(f'it holds {found.dtype}')
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise InputError(
                f'{path} is damaged or missing ({error}); delete {self.folder} and start again'
            ) from error
        return found

    def missing(self) -> list[int]:
        """Return the numbers of the incomplete blocks."""
        blocks = -(-self.count // self.block)
        return [number for number in range(blocks) if not self._is_complete(number)]

    def members(self, number: int) -> range:
        """Return the indices of the records in a block."""
        first = number * self.block
        return range(first, min(first + self.block, self.count))

    def write(self, number: int, records: np.ndarray) -> None:
        """Write a block atomically; raises MarigoldError if the disk is full."""
        data = BytesIO()
        np.save(data, records, allow_pickle=False)
        write_whole(self._path(number), data.getvalue())

    def begin(self, blocks: int) -> None:
        """Create the folder; raises MarigoldError without space for so many blocks."""
        write_whole(self.folder / 'about.json', json.dumps(self.about).encode())
        needed = min(blocks * self.block, self.count) * self.record.itemsize
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise MarigoldError(
                f'the cache of {self.about["source"]} needs {needed / 1e9:.1f} GB in '
                f'{self.folder}, where {free / 1e9:.1f} GB are free; free some space, or '
                f'{self.remedy}'
            )

    def _path(self, number: int) -> Path:
        return self.folder / f'{number:06d}.npy'

    def _is_complete(self, number: int) -> bool:
        path, size = self._path(number), len(self.members(number)) * self.record.itemsize
        # A power failure may leave a file that was renamed but not yet written.
        return path.is_file() and path.stat().st_size >= size
