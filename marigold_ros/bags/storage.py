# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Opens what may be a bag: a folder with or without metadata.yaml, one file of it, whole or cut off.

Nothing is repaired silently: what is not there is told, in ``lost`` as damage that ends the
reading with an error once everything readable was given, in ``notes`` where nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
import re

from marigold_ros.bags.salvage import cut_storage
from marigold_ros.errors import BagError
from rosbags.highlevel import AnyReader
from rosbags.typesys import get_typestore, Stores

STORAGE_SUFFIXES = ('.mcap', '.db3')
_REMEDIES = {'.bag': '`rosbag reindex`', '.mcap': '`mcap recover`', '.db3': '`ros2 bag reindex`'}
_PACKED = '.zstd'


@dataclass(frozen=True)
class OpenBag:
    """An opened reader, what of the bag is lost (empty: nothing), and what else is to be told."""

    reader: AnyReader
    lost: str = ''
    notes: tuple[str, ...] = ()


def open_bag(path: Path) -> OpenBag:
    """
    Open a bag as far as it can be read.

    Parameters
    ----------
    path : Path
        A ROS 2 bag's folder, a .mcap or .db3 file, or a ROS 1 .bag file.

    Raises
    ------
    BagError
        For a missing path, and for one of which nothing can be read.

    """
    if not path.exists():
        raise BagError(f'{path} does not exist; give the folder or file of a bag')
    if path.suffix == _PACKED:
        raise BagError(
            f'{path} is one packed file of a bag; give the folder with its metadata.yaml, or '
            'unpack it with `zstd -d`'
        )
    note, whole, parts = '', [path], [path]
    missing: list[str] = []
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        whole = parts = _storage_files(path)
        note = f'{path.name} has no metadata.yaml; `ros2 bag reindex` writes it'
    elif path.is_dir():
        parts, missing = _listed_files(path)
    try:
        logs = _logs(path.glob('*.db3') if path.is_dir() else whole)
        return OpenBag(_opened(whole), _lost_text(path, logs), (note,) if note else ())
    except Exception as error:  # a damaged file can fail anywhere in the library
        if not parts:
            raise _unreadable(path, error) from error
        why = ' '.join(str(error).split())
        note = note or f'{path.name} is read without its metadata.yaml, which does not fit ({why})'
        return _open_parts(path, parts, missing, note)


def _opened(paths: list[Path], cut: set[Path] | None = None) -> AnyReader:
    reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
    for one in reader.readers:
        if cut and one.path in cut:
            one.storage = cut_storage(one.path)  # type: ignore[union-attr]
    reader.open()
    return reader


def _open_parts(path: Path, parts: list[Path], missing: list[str], note: str) -> OpenBag:
    """
    Open storage files as one bag, those that are cut off as far as they go.

    The ``note`` is for files that are all whole; otherwise what is lost says it.
    """
    usable, cut, lost = [], set(), [f'{name} is missing' for name in missing]
    first_error: Exception | None = None
    for part in parts:
        try:
            _opened([part]).close()
            usable.append(part)
        except Exception as error:  # as above
            first_error = first_error or error
            why = ' '.join(str(error).split())
            if part.suffix in STORAGE_SUFFIXES and _is_partly_readable(part):
                usable.append(part)
                cut.add(part)
                lost.append(f'{part.name} is cut off ({why})')
            else:
                lost.append(f'{part.name} cannot be read ({why})')
    if not usable:
        raise _unreadable(path, first_error) from first_error
    try:
        reader = _opened(usable, cut)
    except Exception as error:
        raise _unreadable(path, error) from error
    lost += _logs(usable)
    return OpenBag(reader, _lost_text(path, lost), () if lost else (note,))


def remedy(path: Path) -> str:
    """Say what mends a bag whose recording was cut off."""
    inner = path.iterdir() if path.is_dir() else ()
    known = {p.suffix for p in (path, *inner)} & set(_REMEDIES)
    tools = ' or '.join(_REMEDIES[suffix] for suffix in sorted(known, reverse=True))
    return f'if recording was cut off, repair it with {tools or "`ros2 bag reindex`"}'


def _lost_text(path: Path, lost: list[str]) -> str:
    return f'{path} is not whole: {", ".join(lost)}; {remedy(path)}' if lost else ''


def _is_partly_readable(part: Path) -> bool:
    try:
        reader = _opened([part], {part})
    except Exception:  # what the library meets in the rest of a file may be anything
        return False
    whole = any(connection.msgcount for connection in reader.connections)
    reader.close()
    return whole


def _logs(parts: Iterable[Path]) -> list[str]:
    """Name databases that were left before their journal was written back."""
    logs = [part.with_name(f'{part.name}-wal') for part in parts]
    return [
        f'{log.name} holds messages that are not in the database yet'
        for log in logs
        if log.is_file() and log.stat().st_size > 0
    ]


def _storage_files(folder: Path) -> list[Path]:
    """Storage files of a folder without metadata.yaml, in the order of their numbers."""
    files = [p for p in folder.iterdir() if p.suffix in STORAGE_SUFFIXES]
    names = {re.sub(r'_\d+$', '', p.stem) for p in files}
    if not files:
        raise BagError(
            f'{folder} has no metadata.yaml and no .mcap or .db3 file, so it is no bag; give the '
            'folder or file of one'
        )
    if len(names) > 1:
        raise BagError(
            f'{folder} has no metadata.yaml, and its {len(files)} files belong to {len(names)} '
            f'bags ({", ".join(sorted(names))}); give each file by itself'
        )
    return sorted(files, key=_number)


def _number(path: Path) -> tuple[int, str]:
    found = re.search(r'_(\d+)$', path.stem)
    return (int(found[1]) if found else -1, path.name)


def _listed_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Files that metadata.yaml lists: those that are there, and names of those that are not."""
    # Read as text: what made the library refuse the bag may be this very file.
    text = (folder / 'metadata.yaml').read_text(encoding='utf-8', errors='replace')
    if re.search(r'compression_format: *["\']?\w', text):
        return [], []  # single files do not tell how their messages are compressed
    names = list(dict.fromkeys(re.findall(r'[^\s/"\']+\.(?:mcap|db3)(?=["\']?\s)', text)))
    there = [folder / name for name in names if (folder / name).is_file()]
    return there, [name for name in names if not (folder / name).is_file()]


def _unreadable(path: Path, error: Exception | None) -> BagError:
    why = ' '.join(str(error).split()) if error else 'nothing in it can be read'
    return BagError(f'cannot read {path} as a bag ({why}); {remedy(path)}')
