# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Folders and tars of images with true depth, evaluated in place of bags.

Five data sets have layout, encoding, valid range and crop of Marigold's own evaluation: a list
names an image, its depth and, for some, a third file. Images are independent of each other and
have neither camera nor LiDAR: they are scored by the protocols ``oracle`` and ``raw``.
"""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Any

from marigold_ros.bags.frames import BagFrame
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Frame
from marigold_ros.image_sets.decode import decode_depth_file, decode_image_file, to_metres
from marigold_ros.image_sets.layouts import FOLDER, Layout, LAYOUTS
from marigold_ros.image_sets.listing import match, split_lines
from marigold_ros.image_sets.storage import open_storage
import numpy as np

# Images are no sequence; stamps this far apart make no pipeline state outlive one.
_APART_NS = 1_000_000_000_000
_LINE = 'a line is an image, its depth and what else the data set has'


@dataclass(frozen=True)
class ImageChoice:
    """
    The images to take of a folder or tar.

    Parameters
    ----------
    dataset : str
        A name of ``LAYOUTS``, or ``FOLDER`` for any images with depth.
    split : str
        File with the list; empty only for ``FOLDER``, whose files are found by the patterns.
    images, depths : str
        Patterns, see `marigold_ros.image_sets.listing`.
    per_metre : float
        Units per metre of ``FOLDER``.
    protocol : str
        Of a publication, by which the images are predicted, in words for the results.

    """

    dataset: str
    split: str = ''
    images: str = '*/image.*'
    depths: str = '*/depth_mm.png'
    per_metre: float = 1000.0
    protocol: str = ''


class ImageSet:
    """
    The images of a folder or uncompressed tar.

    Raises InputError if folder, tar or list are missing or damaged, or hold no images with depth,
    and ConfigurationError if a data set is named without its list.
    """

    def __init__(self, path: Path, choice: ImageChoice) -> None:
        self._storage = open_storage(path)
        self._choice = choice
        is_folder = choice.dataset == FOLDER
        if not is_folder and not choice.split:
            raise ConfigurationError(
                f'--dataset {choice.dataset} needs its list of files: give --split FILE'
            )
        self._layout = Layout(choice.per_metre) if is_folder else LAYOUTS[choice.dataset]
        self._alone: list[str] = []
        self.entries = self._listed() if choice.split else self._found()

    def __len__(self) -> int:
        """Return the number of images, those without depth included."""
        return len(self.entries) + len(self._alone)

    @property
    def by_role(self) -> dict[str, str | None]:
        """The list or the patterns, in the place of topics in the results."""
        split, protocol = Path(self._choice.split).name, self._choice.protocol
        patterns = {'image': self._choice.images, 'truth': self._choice.depths}
        found: dict[str, str | None] = {'dataset': self._choice.dataset}
        found |= {'list': split} if split else patterns
        return found | ({'protocol': protocol} if protocol else {})

    @property
    def state(self) -> str:
        """A hash of names, sizes and times of the files that are used, and of what is missing."""
        files = [(name, self._storage.state(name)) for entry in self.entries for name in entry]
        return hashlib.sha256(repr([files, self._alone]).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return name, size and a hash of the files that are used, as far as they can be read."""
        digest, total = hashlib.sha256(), 0
        for name in (name for entry in self.entries for name in entry):
            with suppress(InputError):  # of its image, in `frames`
                data = self._storage.read(name)
                total += len(data)
                line = f'{hashlib.sha256(data).hexdigest()}  {name}\n'
                digest.update(line.encode('utf-8', 'surrogatepass'))
        name = self._storage.path.resolve().name
        return {'name': name, 'sha256': digest.hexdigest(), 'bytes': total}

    def frames(self) -> Generator[BagFrame, None, None]:
        """Yield every image with its truth, or with the ``error`` that prevents its use."""
        for number, entry in enumerate(self.entries):
            stamp_ns = number * _APART_NS
            try:
                rgb, truth = self._read(entry)
            except InputError as error:
                yield BagFrame(None, None, stamp_ns, error=error)
                continue
            yield BagFrame(Frame(rgb, stamp_ns=stamp_ns), None, stamp_ns, truth)
        for text in self._alone:
            yield BagFrame(None, None, 0, error=InputError(text, cause='missing'))

    def _read(self, entry: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        rgb = decode_image_file(self._storage.read(entry[0]), self._path(entry[0]))
        depth = self._depth(entry)
        if depth.shape != rgb.shape[:2]:
            raise InputError(
                f'{self._path(entry[1])} is {depth.shape[1]}x{depth.shape[0]} px, its image '
                f'{rgb.shape[1]}x{rgb.shape[0]}; depth must be registered to the image',
                cause='size',
            )
        cut = self._window(rgb.shape[:2], entry[0])
        return np.ascontiguousarray(rgb[cut]), depth[cut]

    def _depth(self, entry: tuple[str, ...]) -> np.ndarray:
        """Decode true depth, (H, W) float32 metres, NaN where it is not valid."""
        layout, name = self._layout, self._path(entry[1])
        data = self._storage.read(entry[1])
        if layout.raw_size is not None:
            depth = _raw_depth(data, layout.raw_size, name)
        else:
            depth = to_metres(decode_depth_file(data, name), layout.per_metre)
        if layout.masked:
            mask = decode_depth_file(self._storage.read(entry[2]), self._path(entry[2]))
            if mask.shape != depth.shape:
                raise InputError(
                    f'{self._path(entry[2])} is {mask.shape}, its depth {depth.shape}; a mask '
                    'has a value for each pixel',
                    cause='size',
                )
            valid = mask != 0
        else:
            with np.errstate(invalid='ignore'):
                valid = (depth > layout.low) & (depth < layout.high)
        return np.where(valid & np.isfinite(depth), depth, np.float32(np.nan))

    def _window(self, size: tuple[int, ...], name: str) -> Any:
        if self._layout.crop is None:
            return np.s_[:, :]
        height, width = self._layout.crop
        if size[0] < height or size[1] < width:
            raise InputError(
                f'{self._path(name)} is {size[1]}x{size[0]} px, smaller than the crop of '
                f'{width}x{height} px that the benchmark scores; check the data set',
                cause='size',
            )
        top, left = size[0] - height, (size[1] - width) // 2
        return np.s_[top : top + height, left : left + width]

    def _listed(self) -> list[tuple[str, ...]]:
        columns = 3 if self._layout.masked else 2
        try:
            text = Path(self._choice.split).read_text(encoding='utf-8-sig')
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f'the list {self._choice.split} cannot be read ({error}); check --split'
            ) from error
        lines = split_lines(text, self._choice.split, columns, f'{_LINE}: {columns} names')
        # KITTI lists images that have no depth with None.
        entries = [tuple(words[:columns]) for words in lines if words[1] != 'None']
        if not entries:
            raise InputError(f'the list {self._choice.split} is empty; {_LINE}', cause='empty')
        return entries

    def _found(self) -> list[tuple[str, ...]]:
        images, depths = self._choice.images, self._choice.depths
        entries, self._alone = match(self._storage.names, images, depths)
        if not entries:
            why = f' ({self._alone[0]})' if self._alone else ''
            raise InputError(
                f"{self._storage.path} has no files like '{images}' with '{depths}'{why}; give "
                '--images and --depths, or a list with --split',
                cause='empty',
            )
        return list(entries)

    def _path(self, name: str) -> str:
        return str(self._storage.path / name)


def _raw_depth(data: bytes, size: tuple[int, int], name: str) -> np.ndarray:
    """Read float32 metres without a header; unknown depth is infinite."""
    expected = 4 * size[0] * size[1]
    if len(data) != expected:
        raise InputError(
            f'{name} has {len(data)} bytes; {size[1]}x{size[0]} px of float32 are {expected}: '
            'download it again',
            cause='truncated',
        )
    return np.frombuffer(data, '<f4').reshape(size)
