# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Files with random damage for `test/trials/fuzz.py`, by kind and seed: `KINDS`.

A kind makes its sound files once, damages one of them by a seed, and reads it as the commands do.
Another kind is another entry of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
import json
import os
from pathlib import Path
import random
import shutil
import sys
import traceback
from typing import Any

import checkpoint_attacks
import cv2
from hostile_bags import good_messages, IMAGE, IMAGES, mcap_of, write_good
from hostile_reading import read, Reading
from marigold_ros.bags import storage
from marigold_ros.bags.limited import look
from marigold_ros.errors import MarigoldError
from marigold_ros.models import load_model
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import get_typestore, Stores

_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


@dataclass(frozen=True)
class Kind:
    """
    One kind of files.

    Parameters
    ----------
    make : function of a folder
        Writes sound files and returns them: each a file, or a folder of files.
    read : function of a path
        Returns the images that could be read and what was said; raises only unknown errors.
    images : int
        How many a sound file holds; with fewer, something must have been said.
    spoil : function of a copied folder and a random generator, or None
        Damages it; by default one of its files gets random faults.

    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Reading]
    images: int
    spoil: Callable[[Path, np.random.Generator], None] | None = None


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to three random faults."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        size = len(changed)
        # Half of the faults are near an end, where indexes and headers are.
        at = rng.choice((rng.randrange(size), rng.randrange(min(size, 4096))))
        at = rng.choice((at, size - 1 - at))
        count = rng.choice((1, 4, 8, 64, 446, 5000))
        kind = rng.choice(('cut', 'flip', 'zero', 'noise', 'number', 'end', 'twice'))
        if kind == 'cut':
            del changed[at : at + count]
        elif kind == 'flip':
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 'zero':
            changed[at : at + count] = bytes(len(changed[at : at + count]))
        elif kind == 'noise':
            changed[at : at + count] = rng.randbytes(len(changed[at : at + count]))
        elif kind == 'number':
            width = rng.choice((2, 4, 8))
            number = rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
            changed[at : at + width] = number.to_bytes(width, 'little')
        elif kind == 'end':
            del changed[max(at, 1) :]
        else:
            changed[at:at] = changed[at : at + count]
    return bytes(changed)


def _bags(folder: Path) -> list[Path]:
    messages = good_messages(folder)
    inner = folder / 'chunked'
    inner.mkdir()
    database = write_good(folder / 'rows', 'sqlite3')
    store, path = get_typestore(Stores.ROS1_NOETIC), folder / 'ros1.bag'
    ros1 = Writer1(path)
    ros1.set_compression(Writer1.CompressionFormat.LZ4)
    ros1.chunk_threshold = 40_000  # two images
    with ros1:
        connection = ros1.add_connection('/image', IMAGE, typestore=store)
        pixels = np.random.default_rng(0).integers(0, 255, 64 * 96 * 3, np.uint8)
        for number in range(IMAGES):
            stamp = store.types['builtin_interfaces/msg/Time'](1, number * 10**8)
            header = store.types['std_msgs/msg/Header'](0, stamp, 'camera')
            image = store.types[IMAGE](header, 64, 96, 'rgb8', 0, 288, pixels)
            ros1.write(connection, number * 10**8, store.serialize_ros1(image, IMAGE))
    plain = write_good(folder / 'folder')
    return [
        mcap_of(messages).write(inner / 'chunked.mcap'),
        mcap_of(messages, per_chunk=1).write(folder / 'fine.mcap'),
        next(database.glob('*.db3')),
        path,
        plain,
        write_good(folder / 'second', 'sqlite3'),
    ]


def _images(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    rgb = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3), np.uint8), (0, 0), 3)
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    made = []
    for name, options in (
        ('plain.jpg', []),
        ('progressive.jpg', progressive),
        ('plain.png', []),
        ('plain.webp', []),
        ('plain.tiff', []),
        ('plain.bmp', []),
    ):
        made.append(folder / name)
        end = made[-1].suffix
        made[-1].write_bytes(cv2.imencode(end, rgb, options)[1].tobytes())
    return made


def _checkpoints(folder: Path) -> list[Path]:
    made = [folder / name for name in checkpoint_attacks.SOUND]
    for path in made:
        path.mkdir()
        checkpoint_attacks.SOUND[path.name](path)
        (path / 'SHA256SUMS').unlink(missing_ok=True)  # would find all of it
    return made


def _predict(folder: Path) -> Reading:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    try:
        load_model(str(folder), 'cpu').predict(rgb)
    except MarigoldError as error:
        return Reading(0, [str(error)])
    return Reading(1)


KINDS: dict[str, Kind] = {
    'bags': Kind(_bags, read, IMAGES),
    'images': Kind(_images, read, 1),
    'checkpoints': Kind(_checkpoints, _predict, 1, checkpoint_attacks.mutate),
}


def damaged(kind: Kind, sound: Sequence[Path], seed: int, folder: Path) -> Path:
    """Write the damaged copy of one of the sound files that a seed stands for."""
    rng = random.Random(seed)
    source = rng.choice(sound)
    target = folder / source.name
    if kind.spoil is not None:
        shutil.copytree(source, target)
        kind.spoil(target, np.random.default_rng(seed))
        return target
    if source.is_file():
        target.write_bytes(damage(source.read_bytes(), rng))
        return target
    shutil.copytree(source, target)
    file = rng.choice(sorted(target.iterdir()))
    file.write_bytes(damage(file.read_bytes(), rng))
    return target


def outcome(kind: Kind, path: Path) -> tuple[str, Any]:
    """Return 'read', 'said', 'silent' or 'traceback', and what to know about it."""
    try:
        reading = kind.read(path)
    except BaseException:  # noqa: BLE001 - the point of it
        return 'traceback', traceback.format_exc()
    if reading.said:
        return 'said', reading.said
    return ('read' if reading.images >= kind.images else 'silent'), reading.images


def _look_here(function: str, path: Path) -> str:
    module, _, name = function.partition(':')
    return str(getattr(import_module(module), name)(path))


def serve(folder: Path) -> None:
    """
    Read what lines of stdin name by kind and seed; answer each with a line of JSON: outcome,
    details, seconds of a processor.

    Nine of ten bags are opened here and not in a child of their own, many times as fast.
    """
    sound: dict[str, list[Path]] = {}
    for line in sys.stdin:
        name, seed = line.split()
        if name not in sound:
            (folder / name).mkdir()
            sound[name] = KINDS[name].make(folder / name)
        inner = folder / 'damaged'
        inner.mkdir()
        storage.look = _look_here if int(seed) % 10 else look
        kind = KINDS[name]
        path = damaged(kind, sound[name], int(seed), inner)
        before = sum(os.times()[:4])
        found, details = outcome(kind, path)
        seconds = sum(os.times()[:4]) - before
        shutil.rmtree(inner)
        print(json.dumps((found, details, seconds)), flush=True)


if __name__ == '__main__':
    serve(Path(sys.argv[1]))
