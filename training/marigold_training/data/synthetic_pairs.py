# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Ray-cast rooms and streets, rendered once into a cache on disk.

The cache is two memory-mapped arrays and flags of finished images, so that an interrupted
rendering resumes; other processes open the arrays by path. Image i has seed ``first_seed + i``:
separate ranges of seeds keep splits apart.
"""

import fcntl
from functools import cached_property
from io import BytesIO
import os
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_ros.processes import never, run_jobs, Stop
from marigold_ros.synthetic.scenes.scene import GENERATION, KINDS, make_sample
from marigold_training.data.pairs import Pair
import numpy as np
from tqdm import tqdm

FIRST_TRAINING_SEED = 1_000_000  # held-out scenes have smaller seeds


class SyntheticPairs:
    """
    Rendered images with exact depth.

    Parameters
    ----------
    data : Path
        The cache goes to ``data/synthetic``; recipes of different counts share it.
    height, width : int
        Of the rendered images, px.
    count : int
        Number of images.
    scene : str or None
        'room' or 'street'; None mixes them.
    first_seed : int
        At least a million; smaller seeds are for held-out scenes.
    known : float
        Share of the pixels whose depth is known, always the same ones of an image, as to a LiDAR;
        below 1 the sky is unknown.

    """

    def __init__(
        self,
        data: Path,
        height: int,
        width: int,
        count: int,
        scene: str | None = None,
        first_seed: int = FIRST_TRAINING_SEED,
        known: float = 1.0,
    ) -> None:
        if isinstance(known, bool) or not 0.0 < known <= 1.0:
            raise ConfigurationError(f'known is {known!r}; choose a share above 0, at most 1')
        if scene not in (None, *KINDS):
            raise ConfigurationError(f"scene is '{scene}'; choose one of {', '.join(KINDS)}")
        numbers = {'height': height, 'width': width, 'count': count, 'first_seed': first_seed}
        for key, value in numbers.items():
            if type(value) is not int:  # a cache of a fraction could not be read again
                raise ConfigurationError(
                    f'{key} of a synthetic source is {value!r}; give a whole number (2.0e4 '
                    'is none to YAML: write 20000)'
                )
        if first_seed < FIRST_TRAINING_SEED:
            raise ConfigurationError(
                f'first_seed is {first_seed}; seeds below {FIRST_TRAINING_SEED} are held-out '
                'scenes: choose a larger one'
            )
        if min(height, width, count) < 1:
            raise ConfigurationError(f'{count} images of {height}x{width}; choose at least one')
        self.name = f'synthetic {scene or "mixed"} {height}x{width}'
        self._size, self._scene, self._first_seed = (height, width), scene, first_seed
        stem = f'v{GENERATION}_{scene or "mixed"}_{height}x{width}_{first_seed}'
        self._fingerprint = f'{stem}_{count}' + (f'_{known:g}' if known < 1.0 else '')
        self._known = known
        self._stem, self._count = data / 'synthetic' / stem, count
        self._arrays  # noqa: B018  refuses a cache of another shape now

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images, depth and finished flags, mapped from their files."""
        shape, stem = (self._count, *self._size), self._stem
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            with stem.with_name(f'{stem.name}.lock').open('ab') as lock:
                # Another process would read what this one has only half created.
                fcntl.flock(lock, fcntl.LOCK_EX)
                return (
                    _open(stem.with_name(f'{stem.name}_rgb.npy'), (*shape, 3), np.uint8),
                    _open(stem.with_name(f'{stem.name}_depth.npy'), shape, np.float32),
                    _open(stem.with_name(f'{stem.name}_done.npy'), (self._count,), np.bool_),
                )
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> MarigoldError:
        return MarigoldError(
            f'{self._stem.parent} could not be written ({error.strerror}); choose another folder '
            'of data, or free some space'
        )

    def __getstate__(self) -> dict[str, Any]:
        """Drop the arrays, which would be copied, gigabytes of them."""
        return {key: value for key, value in vars(self).items() if key != '_arrays'}

    def __len__(self) -> int:
        """Return the number of images once all are rendered."""
        return self._count

    def read(self, index: int) -> Pair:
        """Return one pair, rendered if it is not in the cache."""
        rgb, depth, done = self._arrays
        if not done[index]:
            self._store(index, *_render(self._job(index)))
        return Pair(np.asarray(rgb[index]), self._seen(index, np.asarray(depth[index])))

    def _seen(self, index: int, depth: np.ndarray) -> np.ndarray:
        """Return the depth that is known."""
        if self._known == 1.0:
            return depth
        drawn = np.random.default_rng([self._first_seed + index, 5]).random(depth.shape)
        return np.where((drawn < self._known) & np.isfinite(depth), depth, np.float32(np.nan))

    def fingerprint(self) -> str:
        """Return the parameters that determine every image."""
        return self._fingerprint

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Render the missing images, with a progress bar.

        Raises MarigoldError if the disk is too small for them.
        """
        missing = [int(i) for i in np.flatnonzero(~self._arrays[2])]
        if not missing:
            return
        for array in self._arrays:
            try:
                _reserve(array)
            except OSError as error:
                raise self._unwritable(error) from error
        with run_jobs(_render, [self._job(i) for i in missing], workers, stop) as rendered:
            bar = tqdm(rendered, total=len(missing), desc=f'render {self.name}')
            for index, (rgb, depth) in zip(missing, bar, strict=True):
                self._store(index, rgb, depth)

    def _job(self, index: int) -> tuple[int, int, int, str | None]:
        height, width = self._size
        return self._first_seed + index, width, height, self._scene

    def _store(self, index: int, rgb: np.ndarray, depth: np.ndarray) -> None:
        images, maps, done = self._arrays
        images[index], maps[index] = rgb, depth
        done[index] = True


def _open(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Map the first records of a file, which grows where it has fewer: images keep their place."""
    if not path.exists():
        draft = path.with_suffix('.tmp')  # a full disk or a kill may cut it off
        np.lib.format.open_memmap(draft, mode='w+', dtype=dtype, shape=shape)
        os.replace(draft, path)
    try:
        np.load(path, mmap_mode='r')  # r+ fills a file that was cut off with zeros
        array = np.load(path, mmap_mode='r+')
    except (EOFError, ValueError) as error:
        others = path.name.rpartition('_')[0]
        raise InputError(
            f'{path} is damaged ({error}); delete {others}_*.npy, all three, and start again',
            cause='truncated',
        ) from error
    if array.shape[1:] != shape[1:] or array.dtype != dtype:
        raise InputError(
            f'{path.name} holds {array.shape} {array.dtype}, the recipe asks for {shape}; '
            'delete the cache or choose another data folder',
            cause='shape',
        )
    if len(array) < shape[0]:
        _grow(path, shape, np.dtype(dtype))
        array = np.load(path, mmap_mode='r+')
    return array[: shape[0]]


def _reserve(array: np.ndarray) -> None:
    """Reserve a mapped file's space: writing to a page that a full disk lacks ends the process."""
    assert isinstance(array, np.memmap)
    assert array.filename is not None
    with Path(array.filename).open('r+b') as file:
        os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)


def _grow(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Append zeros to a .npy file up to a shape; the header has room for any number of records."""
    header = BytesIO()
    described = {'descr': dtype.str, 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(header, described)
    with path.open('r+b') as file:
        # The data first: what is stopped here is a file that is longer than its header says.
        file.truncate(header.tell() + int(np.prod(shape)) * dtype.itemsize)
        file.write(header.getvalue())


def _render(job: tuple[int, int, int, str | None]) -> tuple[np.ndarray, np.ndarray]:
    seed, width, height, scene = job
    sample = make_sample(seed, width=width, height=height, kind=scene)
    return sample.rgb, sample.depth
