# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Open a bag: a folder with or without metadata.yaml, or one of its files, complete or truncated.

Nothing is repaired silently: what is missing ends the reading with an error after everything
readable. A file that cannot be opened whole is read by its sound parts (`damaged`), and every bag
is opened in a child process with limits first.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
import json
from pathlib import Path
import re
from typing import Any

from marigold_ros.bags.damaged import DamagedBag1, DamagedDatabase, DamagedMcap
from marigold_ros.bags.guarded import reason
from marigold_ros.bags.limited import LimitError, look
from marigold_ros.errors import BagError, MarigoldError
from rosbags.highlevel import AnyReader
from rosbags.typesys import get_typestore, Stores

PLAN = f'{__name__}:find_plan'
STORAGE_SUFFIXES = ('.mcap', '.db3')
# `ros2 bag reindex` opens no damaged database, and leaves a write-ahead log where it is.
_DUMP = '`sqlite3 OLD.db3 .dump | sed s/^ROLLBACK/COMMIT/ | sqlite3 NEW.db3`'
_REMEDIES = {'.bag': '`rosbag reindex`', '.mcap': '`mcap recover`', '.db3': _DUMP}
_COMPRESSED = '.zstd'
_ENDINGS = 'metadata.yaml', '.mcap', '.db3', '.mcap.zstd', '.db3.zstd', '.bag'
_MOST_METADATA = 1_000_000  # bytes; of 200 topics in 1000 files it is a third
_ALIAS = re.compile(rb'(?:^|[\s\[,:])[&*]\w')


@dataclass(frozen=True)
class OpenBag:
    """An open reader, what is lost of the bag in words (empty: nothing), and other notes."""

    reader: AnyReader
    lost: str = ''
    notes: tuple[str, ...] = ()


def bag_files(path: Path) -> list[Path]:
    """Return the files of a bag, sorted by name; all files of a folder that has none of a bag."""
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.is_file())
    return [p for p in found if p.name.endswith(_ENDINGS)] or found


def check_given_once(paths: Iterable[str | Path]) -> None:
    """Refuse a bag that is given twice, by its folder and a file in it too; raises BagError."""
    given: dict[Path, str | Path] = {}
    for path in paths:
        place = Path(path).resolve()
        if place in given:
            raise BagError(f'{path} is given twice; its images would count double: give it once')
        given[place] = path
    for place, path in given.items():
        if place.parent in given and place.is_file():
            raise BagError(f'{path} is a file of {given[place.parent]}; give one of them')


def open_bag(path: Path) -> OpenBag:
    """
    Open the readable part of a bag: a folder (ROS 2), a .mcap or .db3 file, or a ROS 1 .bag file.

    Raises BagError for a missing path, for one of which nothing can be read, and for one that
    needs more memory, time or disk to open than a file of its size may take.
    """
    _check_kind(path)
    try:
        plan = json.loads(look(PLAN, path))
    except MarigoldError as error:
        text = str(error)
        if isinstance(error, LimitError):
            text = f'cannot open {path}: {text}'
        raise BagError(text) from error
    cut = {Path(name) for name in plan['cut']}
    try:
        reader = _opened([Path(name) for name in plan['files']], cut)
    except Exception as error:  # it has changed since
        raise _unreadable(path, error) from error
    return OpenBag(reader, plan['lost'], tuple(plan['notes']))


def plan_of(files: list[Path], lost: str = '', note: str = '', cut: Iterable[Path] = ()) -> str:
    """Return how a bag can be opened, as JSON: its files, those to read by their sound parts."""
    notes = [note] if note else []
    plan = {'files': files, 'cut': list(cut), 'lost': lost, 'notes': notes}
    return json.dumps(plan, default=str)


def check_exists(path: Path) -> None:
    """Raise BagError where there is nothing, or nothing that this user may see."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BagError(f'{path} does not exist; give the folder or file of a bag') from error
    except OSError as error:
        raise BagError(f'{path} cannot be read ({error.strerror})') from error


def _check_kind(path: Path) -> None:
    check_exists(path)
    if path.suffix == _COMPRESSED:
        raise BagError(
            f'{path} is one compressed file of a bag; give the folder with its metadata.yaml, or '
            'decompress it with `zstd -d`'
        )
    if path.is_file() and path.suffix not in _REMEDIES:
        instead = 'photos and videos are for `python -m marigold_ros predict`'
        for suffix in set(path.suffixes) & set(_REMEDIES):  # as in a.bag.active
            instead = f'if its recording was cut off, rename it so that it ends in {suffix}'
        if path.name == 'metadata.yaml':
            instead = f'give its folder, {path.parent}'
        raise BagError(f'{path} is no bag, which is a folder, .mcap, .db3 or .bag file; {instead}')


def find_plan(path: Path) -> str:
    """
    Return the `plan_of` a bag, by opening it; called in a child process.

    Raises BagError where nothing can be read.
    """
    note, bag, parts = '', [path], [path]
    missing: list[str] = []
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        bag = parts = _storage_files(path)
        note = f'{path.name} has no metadata.yaml; `ros2 bag reindex` writes it for files NAME_N'
    elif path.is_dir():
        parts, missing = _listed_files(path)
    try:
        _check_metadata(path)
        logs = _logs(path.glob('*.db3') if path.is_dir() else bag)
        _opened(bag).close()
        return plan_of(bag, _lost_text(path, logs), note)
    except Exception as error:  # a damaged file can fail anywhere in the library
        if not parts:
            raise _unreadable(path, error) from error
        why = reason(error)
        note = note or f'{path.name} is read without its metadata.yaml, which is invalid ({why})'
        return _plan_parts(path, parts, missing, note)


def _check_metadata(path: Path) -> None:
    """Raise BagError for a metadata.yaml that would unfold to far more than it is."""
    file = path / 'metadata.yaml'
    if not file.is_file():
        return
    text = file.read_bytes()
    if len(text) > _MOST_METADATA:
        raise BagError(f'its {len(text)} bytes are more than {_MOST_METADATA}')
    if _ALIAS.search(text):
        raise BagError('it has YAML aliases, which rosbag2 does not write')


def _opened(paths: list[Path], cut: set[Path] | None = None) -> AnyReader:
    reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
    readers: list[Any] = reader.readers  # type: ignore[assignment]
    for number, one in enumerate(readers):
        if not cut or one.path not in cut:
            continue
        if not reader.is2:
            readers[number] = DamagedBag1(one.path)
        else:
            kind = DamagedMcap if one.path.suffix == '.mcap' else DamagedDatabase
            one.storage = kind(one.path)
    reader.open()
    described = [(c.topic, c.msgtype, c.msgcount) for c in reader.connections]
    if not all(tuple(map(type, one)) == (str, str, int) for one in described):
        reader.close()
        raise BagError('a topic has no name, no type or no number of messages')
    return reader


def _plan_parts(path: Path, parts: list[Path], missing: list[str], note: str) -> str:
    """Return how to open storage files as one bag; ``note`` is for files that are complete."""
    usable, cut, lost = [], set(), [f'{name} is missing' for name in missing]
    errors: list[Exception] = []
    for part in parts:
        try:
            _opened([part]).close()
            usable.append(part)
        except Exception as error:
            errors.append(error)
            why = reason(error)
            share = _readable_share(part)
            if share:
                usable.append(part)
                cut.add(part)
                lost.append(f'{part.name} is cut off or damaged ({why}), and {share}')
            else:
                lost.append(f'{part.name} cannot be read ({why})')
    if not usable:
        raise _unreadable(path, errors[0]) from errors[0]
    try:
        _opened(usable, cut).close()
    except Exception as error:
        raise _unreadable(path, error) from error
    lost += _logs(usable)
    return plan_of(usable, _lost_text(path, lost), '' if lost else note, cut)


def remedy(path: Path) -> str:
    """Return the command that repairs a bag whose recording was cut off."""
    inner = path.iterdir() if path.is_dir() else ()
    known = {p.suffix for p in (path, *inner)} & set(_REMEDIES)
    tools = ' or '.join(_REMEDIES[suffix] for suffix in sorted(known, reverse=True))
    return f'if recording was cut off, repair it with {tools or "`ros2 bag reindex`"}'


def _lost_text(path: Path, lost: list[str]) -> str:
    return f'{path} is incomplete: {", ".join(lost)}; {remedy(path)}' if lost else ''


def _readable_share(part: Path) -> str:
    """Return how much of a damaged file can be read, in words; empty for nothing."""
    try:
        reader = _opened([part], {part})
    except Exception:  # a damaged file can fail anywhere in the library
        return ''
    count = sum(connection.msgcount for connection in reader.connections)
    stated = getattr(getattr(reader.readers[0], 'storage', None), 'stated', 0)
    reader.close()
    return f'{count} {f"of {stated} " if stated else ""}messages can be read' if count else ''


def _logs(parts: Iterable[Path]) -> list[str]:
    """Describe databases whose write-ahead log was not written back."""
    logs = [part.with_name(f'{part.name}-wal') for part in parts]
    return [
        f'{log.name} holds messages that are not in the database yet'
        for log in logs
        if log.is_file() and log.stat().st_size > 0
    ]


def _storage_files(folder: Path) -> list[Path]:
    """Return storage files of a folder without metadata.yaml, in the order of their numbers."""
    # Hidden ones, such as ._bag_0.db3 of macOS, hold no messages.
    found = [p for p in folder.iterdir() if not p.name.startswith('.')]
    files = [p for p in found if p.suffix in STORAGE_SUFFIXES]
    names = {re.sub(r'_\d+$', '', p.stem) for p in files}
    if not files:
        raise BagError(
            f'{folder} has no metadata.yaml and no .mcap or .db3 file, so it is no bag; give the '
            'folder or file of one (images with depth: `evaluate --dataset folder`)'
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
    """Return the files that metadata.yaml lists, and the names of those that are missing."""
    # Read as text: the library may have refused the bag because of this very file.
    text = (folder / 'metadata.yaml').read_text(encoding='utf-8', errors='replace')
    if re.search(r'compression_format: *["\']?\w', text):
        return [], []  # single files do not state how their messages are compressed
    # Each on a line of its own, as «- a b.mcap» or «- path: "a b.mcap"».
    lines = (line.strip().removeprefix('- ').removeprefix('path:') for line in text.splitlines())
    paths = (line.strip(' "\'') for line in lines)
    found = (path.rpartition('/')[2] for path in paths if path.endswith(STORAGE_SUFFIXES))
    names = list(dict.fromkeys(found))
    if not names:  # a recorder was killed while it wrote them
        with suppress(BagError):
            return _storage_files(folder), []
    there = [folder / name for name in names if (folder / name).is_file()]
    return there, [name for name in names if not (folder / name).is_file()]


def _unreadable(path: Path, error: Exception) -> BagError:
    return BagError(f'cannot read {path} as a bag ({reason(error)}); {remedy(path)}')
