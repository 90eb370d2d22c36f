# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Pairs of an image file and a depth file: the base of the layouts in layouts.py."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
import hashlib
from itertools import chain
import json
from pathlib import Path

from marigold_ros.errors import ConfigurationError, counted, InputError
from marigold_ros.image_sets.decode import (
    decode_depth_file,
    decode_image_file,
    SATURATED,
    to_metres,
)
from marigold_ros.image_sets.listing import Entry, match, split_lines
from marigold_ros.image_sets.storage import open_storage, Storage
from marigold_ros.processes import never, run_jobs, Stop
from marigold_ros.whole_files import write_whole
from marigold_training.data.pairs import Pair
import numpy as np
from tqdm import tqdm

LISTED = 20  # broken files in one message
UNIT_FACTOR = 10.0  # a median this far outside the usual range has another unit


def read_list(path: Path) -> list[Entry]:
    """
    Read a list of files: image and depth on each line; further words are ignored.

    Raises InputError if the list is missing or empty, or a line names no depth.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise InputError(f"list {path} cannot be read ({error.strerror}); check 'list'") from error
    except UnicodeDecodeError as error:
        raise InputError(f'list {path} is not a text file: {error}', cause='encoding') from error
    lines = split_lines(text, path, 2, "a line is 'image depth'")
    if not lines:
        raise InputError(f"list {path} is empty; a line is 'image depth'", cause='empty')
    return [(image.removeprefix('./'), depth.removeprefix('./')) for image, depth, *_ in lines]


@dataclass(frozen=True)
class DepthRule:
    """
    Conversion of stored depth values to metres.

    Parameters
    ----------
    per_metre : float
        Stored integers per metre; floating-point files hold metres.
    near, far : float, metres
        Depth outside is unknown.
    sky_above : float or None, metres
        Depth from here on is sky; None: there is no sky.
    usual_near : float, metres
        Least usual median of a map, if above ``near``.

    """

    per_metre: float
    near: float
    far: float
    sky_above: float | None = None
    usual_near: float = 0.0

    def __post_init__(self) -> None:
        if not self.per_metre > 0.0:
            raise ConfigurationError(
                f'depth_scale is {self.per_metre}; use integers per metre, such as 1000 for mm'
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
        """Scale stored values to (H, W) float32 metres, NaN where saturated short of the sky."""
        farthest = SATURATED / self.per_metre
        is_sky = self.sky_above is not None and farthest >= self.sky_above
        return to_metres(stored, self.per_metre, farthest if is_sky else np.nan)

    def apply(self, metres: np.ndarray) -> np.ndarray:
        """Mask metres (H, W) float32: NaN where unknown, inf for the sky."""
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
        ``data/folder`` is the folder or tar of the files; stamps go to ``data/verified``.
    images, depths : str
        Patterns of the files, used without a list; see listing.py.
    rule : DepthRule
    listed : str or None
        List of files, relative to ``data``; its names are relative to the folder.
    crop : (height, width) or None
        Window to cut out, bottom centre.
    count : int or None
        Number of pairs that there must be.
    chosen : callable
        Takes the name of a file; returns whether it counts, without a list.

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
        count: int | None = None,
        chosen: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.name, self.rule, self.crop = name, rule, crop
        self.stamps = data / 'verified'
        self.storage: Storage = open_storage(data / folder)
        self.problems: Sequence[str] = ()
        if listed is None:
            names = filter(chosen, self.storage.names)
            self.entries, self.problems = match(names, images, depths)
        else:
            self.entries = read_list(data / listed)
        if not self.entries:
            raise InputError(
                f"no files like '{images}' with '{depths}' in {data / folder}; check the folder, "
                'images and depths, or give a list',
                cause='empty',
            )
        if count is not None and len(self.entries) != count:
            raise InputError(
                f'{name} has {len(self.entries)} pairs and count of the recipe is {count}; '
                'complete the files or the list, or leave count out to train on what is there',
                cause='count',
            )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.entries)

    def read(self, index: int) -> Pair:
        """Return one pair; raises InputError naming a broken file."""
        rgb, metres = self._image(index), self._metres(index)
        self._same_size(self.entries[index], rgb, metres)
        top, left, height, width = self._window(rgb.shape[:2], self.entries[index][0])
        cut = np.s_[top : top + height, left : left + width]
        return Pair(np.ascontiguousarray(rgb[cut]), self.rule.apply(metres[cut]))

    def check(self, index: int) -> list[str]:
        """Return all problems of a pair, in words."""
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
        if not wrong and np.isnan(self.rule.apply(arrays[1])).all():
            near, far = self.rule.near, self.rule.far
            wrong = f'has no depth between {near:g} and {far:g} m, which counts; check the unit'
        return [f'{self._path(self.entries[index][1])} {wrong}'] if wrong else []

    def fingerprint(self) -> str:
        """Return a hash of the list, the rules of depth, and every file's size and time."""
        digest = hashlib.sha256()
        facts = [self.name, str(self.storage.path.resolve()), asdict(self.rule), self.crop]
        # Caches from before saturated values were unknown hold them as depth.
        digest.update(json.dumps([*facts, SATURATED]).encode())
        for name in chain.from_iterable(self.entries):
            digest.update(f'{name} {self.storage.state(name)}\n'.encode())
        return digest.hexdigest()

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Verify all pairs, unless a stamp records an earlier success.

        Raises InputError naming the first 20 broken files, and Stopped once ``stop`` returns true.
        """
        stamp = self.stamps / f'{self.fingerprint()[:24]}.txt'
        if stamp.exists():
            return
        problems = list(self.problems)
        with run_jobs(self.check, range(len(self)), workers, stop) as results:
            for found in tqdm(results, total=len(self), desc=f'verify {self.name}'):
                problems += found
        raise_problems(problems, self.name)
        write_whole(stamp, f'{self.name}: {len(self)} pairs are complete\n'.encode())

    def _path(self, name: str) -> str:
        return str(self.storage.path / name)

    def _image(self, index: int) -> np.ndarray:
        name = self.entries[index][0]
        return decode_image_file(self.storage.read(name), self._path(name))

    def _metres(self, index: int) -> np.ndarray:
        name = self.entries[index][1]
        return self.rule.metres(decode_depth_file(self.storage.read(name), self._path(name)))

    def _same_size(self, entry: Entry, rgb: np.ndarray, metres: np.ndarray) -> None:
        if rgb.shape[:2] != metres.shape:
            raise InputError(
                f'{self._path(entry[1])} is {metres.shape[0]}x{metres.shape[1]} and its image '
                f'{entry[0]} is {rgb.shape[0]}x{rgb.shape[1]}; both must have the same size',
                cause='size',
            )

    def _window(self, size: tuple[int, int], name: str) -> tuple[int, int, int, int]:
        """Top, left, height and width of the crop."""
        if self.crop is None:
            return 0, 0, *size
        height, width = self.crop
        if size[0] < height or size[1] < width:
            raise InputError(
                f'{self._path(name)} is {size[0]}x{size[1]}, smaller than the {height}x{width} '
                'crop; check the data set, or set crop to false',
                cause='size',
            )
        return size[0] - height, (size[1] - width) // 2, height, width


def raise_problems(problems: Sequence[str], name: str) -> None:
    """Raise InputError listing the problems, if any."""
    if not problems:
        return
    error = InputError(
        f'{name}: {counted(len(problems), "problem")}; repair the files or remove them from the '
        'list:'
    )
    more = [f'and {len(problems) - LISTED} more'] if len(problems) > LISTED else []
    error.listed = (*problems[:LISTED], *more)
    raise error


def implausible(
    metres: np.ndarray, usual: tuple[float, float], sky_above: float | None = None
) -> str:
    """
    Return what is wrong with a depth map as a whole, empty if nothing.

    Parameters
    ----------
    metres : (H, W) float
        As stored: 0 or not finite is unknown.
    usual : (near, far), metres
        The data set's usual range.
    sky_above : float or None, metres
        Depth from here on is sky.

    """
    if np.isnan(metres).all():
        return 'is NaN everywhere; depth is metres where it is known'
    known = np.isfinite(metres) & (metres > 0)
    if sky_above is not None:
        known &= metres < sky_above
    if not known.any():
        return 'has no depth: all of it is zero, not finite or sky'
    near, far = usual
    median = float(np.median(metres[known]))
    limits = f'the usual range is {near:g} to {far:g} m; check the unit'
    if not near / UNIT_FACTOR <= median <= far * UNIT_FACTOR:
        return f'has a median of {median:.4g} m, beyond ten times the usual: {limits}'
    if not (known & (metres < far)).any():
        return f'has no depth within range, its median is {median:.4g} m: {limits}'
    return ''
