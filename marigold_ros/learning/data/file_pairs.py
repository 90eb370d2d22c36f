# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Pairs of an image file and a depth file: what the file-based kinds of sources share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.learning.data.decode import decode_depth, decode_image
from marigold_ros.learning.data.listing import Entry, match, read_list
from marigold_ros.learning.data.pairs import Pair
from marigold_ros.learning.data.storage import open_storage, Storage
from marigold_ros.learning.data.verify import implausible, verify
from marigold_ros.learning.parallel import never, Stop
import numpy as np


@dataclass(frozen=True)
class DepthRule:
    """
    How stored numbers become metres.

    Parameters
    ----------
    per_metre : float
        Whole numbers per metre; floating-point files are metres already.
    near, far : float, metres
        Depth outside is unknown.
    sky_above : float or None, metres
        From here on it is sky; None: there is no sky.
    usual_near : float, metres
        The data set's maps have their medians from here on, if that is more than ``near``.

    """

    per_metre: float
    near: float
    far: float
    sky_above: float | None = None
    usual_near: float = 0.0

    def __post_init__(self) -> None:
        if not self.per_metre > 0.0:
            raise ConfigurationError(
                f'depth_scale is {self.per_metre}; give the numbers per metre, such as 1000 for mm'
            )
        if not 0.0 <= self.near < self.far:
            raise ConfigurationError(
                f'min_depth is {self.near} and max_depth {self.far}; give metres, min below max'
            )
        if self.sky_above is not None and not self.sky_above >= self.near:
            raise ConfigurationError(
                f'sky_above is {self.sky_above}; give metres, not below min_depth {self.near}'
            )

    def metres(self, stored: np.ndarray) -> np.ndarray:
        """Return (H, W) float32 metres with zeros, NaN and distances as they are stored."""
        if stored.dtype.kind == 'f':
            return stored
        return stored.astype(np.float32) / np.float32(self.per_metre)

    def apply(self, metres: np.ndarray) -> np.ndarray:
        """Return (H, W) float32, NaN where unknown, inf for the sky."""
        known = (metres > self.near) & (metres < self.far)
        depth = np.where(known, metres, np.float32(np.nan))
        if self.sky_above is not None:
            depth[metres >= self.sky_above] = np.inf
        return depth


class FilePairs:
    """
    Images and depth maps in files.

    Parameters
    ----------
    name : str
        Of the source.
    data, folder : Path, str
        The folder or tar ``data/folder`` holds the files; what was verified is noted below
        ``data/verified``.
    images, depths : str
        Patterns of the files, used where there is no list; see listing.py.
    rule : DepthRule
    listed : str or None
        A list of files relative to ``data``, its names relative to the folder.
    crop : (height, width) or None
        Cut out at the bottom, in the middle.

    """

    def __init__(
        self,
        name: str,
        data: Path,
        folder: str,
        images: str,
        depths: str,
        rule: DepthRule,
        listed: str | None = None,
        crop: tuple[int, int] | None = None,
    ) -> None:
        self.name, self.rule, self.crop = name, rule, crop
        self.stamps = data / 'verified'
        self.storage: Storage = open_storage(data / folder)
        self.problems: Sequence[str] = ()
        if listed is None:
            self.entries, self.problems = match(self.storage.names, images, depths)
            self._looked_for = f"no files like '{images}' with '{depths}' in {data / folder}"
        else:
            self.entries = read_list(data / listed)
        if not self.entries and not self.problems:
            raise InputError(f'{self._looked_for}; check the folder or give a list', cause='empty')

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.entries)

    def read(self, index: int) -> Pair:
        """Return one pair; raises InputError naming the file where it is broken."""
        rgb, metres = self._image(index), self._metres(index)
        self._same_size(self.entries[index], rgb, metres)
        top, left, height, width = self._window(rgb.shape[:2], self.entries[index][0])
        cut = np.s_[top : top + height, left : left + width]
        return Pair(np.ascontiguousarray(rgb[cut]), self.rule.apply(metres[cut]))

    def check(self, index: int) -> list[str]:
        """Say in words all that is wrong with a pair."""
        problems, arrays = [], []
        for load in (self._image, self._metres):
            try:
                arrays.append(load(index))
            except InputError as error:
                problems.append(str(error))
        if problems:
            return problems
        try:
            self._same_size(self.entries[index], *arrays)
            self._window(arrays[0].shape[:2], self.entries[index][0])
        except InputError as error:
            return [str(error)]
        usual = max(self.rule.near, self.rule.usual_near), self.rule.far
        wrong = implausible(arrays[1], usual, self.rule.sky_above)
        return [f'{self._path(self.entries[index][1])} {wrong}'] if wrong else []

    def fingerprint(self) -> str:
        """Return a hash of the list, of how depth is read, and of every file's size and time."""
        digest = hashlib.sha256()
        facts = [self.name, str(self.storage.path.resolve()), asdict(self.rule), self.crop]
        digest.update(json.dumps(facts).encode())
        for name in self._files():
            digest.update(f'{name} {self.storage.state(name)}\n'.encode())
        return digest.hexdigest()

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """Read all pairs once; raises InputError naming every broken file."""
        verify(self, workers, stop)

    def _files(self) -> Iterator[str]:
        for entry in self.entries:
            yield from entry

    def _path(self, name: str) -> str:
        return str(self.storage.path / name)

    def _image(self, index: int) -> np.ndarray:
        name = self.entries[index][0]
        return decode_image(self.storage.read(name), self._path(name))

    def _metres(self, index: int) -> np.ndarray:
        name = self.entries[index][1]
        return self.rule.metres(decode_depth(self.storage.read(name), self._path(name)))

    def _same_size(self, entry: Entry, rgb: np.ndarray, metres: np.ndarray) -> None:
        if rgb.shape[:2] != metres.shape:
            raise InputError(
                f'{self._path(entry[1])} is {metres.shape[0]}x{metres.shape[1]} and its image '
                f'{entry[0]} is {rgb.shape[0]}x{rgb.shape[1]}; both must be of one size',
                cause='size',
            )

    def _window(self, size: tuple[int, int], name: str) -> tuple[int, int, int, int]:
        """Top, left, height and width of what is kept."""
        if self.crop is None:
            return 0, 0, *size
        height, width = self.crop
        if size[0] < height or size[1] < width:
            raise InputError(
                f'{self._path(name)} is {size[0]}x{size[1]}, smaller than the {height}x{width} '
                'that is cut out; check the data set, or set crop to false',
                cause='size',
            )
        return size[0] - height, (size[1] - width) // 2, height, width
