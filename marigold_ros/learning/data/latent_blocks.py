# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Latents of one source on disk, in blocks that are each put in their place in one rename.

A block that is there is whole, a run killed while filling goes on with the next, processes share
the blocks, and a full disk is an error of writing. One large mapped file was rejected: a disk that
fills up under it kills the process without a word.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
import json
from pathlib import Path
import shutil
from typing import Any

from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.learning.data.mixture import in_multiples, Part
from marigold_ros.learning.data.sources.whole_file import write_whole
import numpy as np

BLOCK_BYTES = 32 << 20


class LatentBlocks:
    """
    Latents of all images of one source at one size.

    Parameters
    ----------
    part : Part
        Source and size.
    folder : Path
        Of all caches.
    facts : list
        What decides the latents besides the part.
    views : int
        1 keeps images as they are, 2 their mirror images as well.
    channels, factor : int
        Of a latent, and pixels along a side of its cell.

    """

    def __init__(
        self, part: Part, folder: Path, facts: list[Any], views: int, channels: int, factor: int
    ) -> None:
        self.count, self.views = len(part.source), views
        height, width = in_multiples(part.size)
        self.about = {
            'source': part.source.name,
            'pictures': self.count,
            'size': [height, width],
        }
        identity = json.dumps([facts, self.about, part.source.fingerprint()])
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:24]
        shape = height // factor, width // factor
        self.record = np.dtype(
            [
                ('rgb', np.float16, (views, channels, *shape)),
                ('depth', np.float16, (views, channels, *shape)),
                ('mask', np.bool_, shape),
            ]
        )
        self.block = max(1, BLOCK_BYTES // self.record.itemsize)  # images

    def read(self, index: int, mirrored: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return an image's latents (C, h, w) float16 and mask (1, h, w) bool.

        Raises
        ------
        InputError
            If the file is damaged or gone.

        """
        number, row = divmod(index, self.block)
        path = self._path(number)
        try:
            record = np.load(path, mmap_mode='r')[row]
            rgb, depth = (record[name][int(mirrored)] for name in ('rgb', 'depth'))
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise InputError(
                f'{path} is damaged or gone ({error}); delete {self.folder} and start again'
            ) from error
        mask = record['mask'][None]
        return rgb, depth, mask[..., ::-1] if mirrored else mask

    def missing(self) -> list[int]:
        """Numbers of the blocks that are not whole."""
        blocks = -(-self.count // self.block)
        return [number for number in range(blocks) if not self._is_whole(number)]

    def images(self, number: int) -> range:
        """Tell which images a block holds."""
        first = number * self.block
        return range(first, min(first + self.block, self.count))

    def write(self, number: int, records: np.ndarray) -> None:
        """Put a block in its place; raises MarigoldError where the disk is full."""
        data = BytesIO()
        np.save(data, records, allow_pickle=False)
        write_whole(self._path(number), data.getvalue())

    def begin(self, blocks: int) -> None:
        """
        Make the folder, with a note of what it is for.

        Raises
        ------
        MarigoldError
            If there is no space for so many blocks.

        """
        write_whole(self.folder / 'about.json', json.dumps(self.about).encode())
        needed = min(blocks * self.block, self.count) * self.record.itemsize
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise MarigoldError(
                f'the latents of {self.about["source"]} need {needed / 1e9:.1f} GB in '
                f'{self.folder}, where {free / 1e9:.1f} GB are free; free some space, or set '
                'latent_cache to false'
            )

    def _path(self, number: int) -> Path:
        return self.folder / f'{number:06d}.npy'

    def _is_whole(self, number: int) -> bool:
        path, size = self._path(number), len(self.images(number)) * self.record.itemsize
        # Losing power may leave a file that was renamed and not yet written.
        return path.is_file() and path.stat().st_size >= size
