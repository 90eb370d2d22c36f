# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Open a bag: a folder with or without metadata.yaml, or one of its files, complete or truncated.

Nothing is repaired silently: what is missing ends the reading with an error after everything
readable. For files that a power cut or a full disk truncated, the readers of rosbags are kept and
only their way of opening is replaced: an MCAP file without footer is read record by record, a
database row by row until a page fails.
"""

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import struct
from typing import Any

from marigold_ros.errors import BagError
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from rosbags.typesys import get_typestore, Stores

STORAGE_SUFFIXES = ('.mcap', '.db3')
_REMEDIES = {'.bag': '`rosbag reindex`', '.mcap': '`mcap recover`', '.db3': '`ros2 bag reindex`'}
_COMPRESSED = '.zstd'
_MCAP_MAGIC = b'\x89MCAP0\r\n'
_RECORD_HEAD = struct.Struct('<BQ')  # operation code, length of what follows
_DATA_END = (0x02, 0x0F)  # footer, end of the data section


class DamagedMcap(McapReader):
    """An .mcap file up to its last complete record."""

    messages = McapReader.messages_scan  # in the order of the recording: there is no index

    def _open(self) -> None:
        file: Any = self.bio
        if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise BagError(f'{str(self.path)!r} does not begin as an .mcap file')
        size = file.seek(0, 2)
        self.data_start = end = len(_MCAP_MAGIC)
        while end + _RECORD_HEAD.size <= size:
            file.seek(end)
            code, length = _RECORD_HEAD.unpack(file.read(_RECORD_HEAD.size))
            if code in _DATA_END or end + _RECORD_HEAD.size + length > size:
                break
            end += _RECORD_HEAD.size + length
        self.data_end = end
        self.meta_scan()
        statistics: Any = self.statistics
        counts = statistics.channel_message_counts
        self.connections = [c._replace(msgcount=counts.get(c.id, 0)) for c in self.connections]


class DamagedDatabase(Sqlite3Reader):
    """A .db3 file up to its first page that cannot be read."""

    def _open(self) -> None:
        database: Any = self.dbconn
        # SQLite then takes the number of pages from the size of the file.
        database.execute('PRAGMA writable_schema=ON')
        counts = Counter(row[0] for row in self._rows('topic_id'))
        columns = 'SELECT id, name, type, serialization_format FROM topics ORDER BY id'
        undefined = MessageDefinition(MessageDefinitionFormat.NONE, '')
        self.connections = []
        for number, topic, msgtype, encoding in database.execute(columns):
            extra = ConnectionExtRosbag2(encoding, [])
            self.connections.append(
                Connection(number, topic, msgtype, undefined, '', counts[number], extra, self)
            )

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield messages in the order of the recording, which needs no index."""
        wanted = {c.id: c for c in connections}
        for number, stamp_ns, data in self._rows('topic_id, timestamp, data'):
            if number in wanted:
                yield wanted[number], stamp_ns, data

    def _rows(self, columns: str) -> Iterator[Any]:
        """Yield rows of the table of messages until one cannot be read."""
        database: Any = self.dbconn
        query = f'SELECT {columns} FROM messages NOT INDEXED ORDER BY id'
        try:
            yield from database.execute(query)
        except Exception:  # the library's database module has errors of its own
            return


@dataclass(frozen=True)
class OpenBag:
    """An open reader, what is lost of the bag in words (empty: nothing), and other notes."""

    reader: AnyReader
    lost: str = ''
    notes: tuple[str, ...] = ()


def open_bag(path: Path) -> OpenBag:
    """
    Open the readable part of a bag: a folder (ROS 2), a .mcap or .db3 file, or a ROS 1 .bag file.

    Raises BagError for a missing path, and for one of which nothing can be read.
    """
    if not path.exists():
        raise BagError(f'{path} does not exist; give the folder or file of a bag')
    if path.suffix == _COMPRESSED:
        raise BagError(
            f'{path} is one compressed file of a bag; give the folder with its metadata.yaml, or '
            'decompress it with `zstd -d`'
        )
    if path.is_file() and not set(path.suffixes) & set(_REMEDIES):
        instead = 'photos and videos are for `python -m marigold_ros predict`'
        if path.name == 'metadata.yaml':
            instead = f'give its folder, {path.parent}'
        raise BagError(f'{path} is no bag, which is a folder, .mcap, .db3 or .bag file; {instead}')
    note, bag, parts = '', [path], [path]
    missing: list[str] = []
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        bag = parts = _storage_files(path)
        note = f'{path.name} has no metadata.yaml; `ros2 bag reindex` writes it'
    elif path.is_dir():
        parts, missing = _listed_files(path)
    try:
        logs = _logs(path.glob('*.db3') if path.is_dir() else bag)
        return OpenBag(_opened(bag), _lost_text(path, logs), (note,) if note else ())
    except Exception as error:  # a damaged file can fail anywhere in the library
        if not parts:
            raise _unreadable(path, error) from error
        why = ' '.join(str(error).split())
        note = note or f'{path.name} is read without its metadata.yaml, which is invalid ({why})'
        return _open_parts(path, parts, missing, note)


def _opened(paths: list[Path], cut: set[Path] | None = None) -> AnyReader:
    reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
    for one in reader.readers:
        if cut and one.path in cut:
            kind = DamagedMcap if one.path.suffix == '.mcap' else DamagedDatabase
            one.storage = kind(one.path)  # type: ignore[union-attr]
    reader.open()
    return reader


def _open_parts(path: Path, parts: list[Path], missing: list[str], note: str) -> OpenBag:
    """Open storage files as one bag; the ``note`` is for files that are all complete."""
    usable, cut, lost = [], set(), [f'{name} is missing' for name in missing]
    first_error: Exception | None = None
    for part in parts:
        try:
            _opened([part]).close()
            usable.append(part)
        except Exception as error:
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
    """Return the command that repairs a bag whose recording was cut off."""
    inner = path.iterdir() if path.is_dir() else ()
    known = {p.suffix for p in (path, *inner)} & set(_REMEDIES)
    tools = ' or '.join(_REMEDIES[suffix] for suffix in sorted(known, reverse=True))
    return f'if recording was cut off, repair it with {tools or "`ros2 bag reindex`"}'


def _lost_text(path: Path, lost: list[str]) -> str:
    return f'{path} is incomplete: {", ".join(lost)}; {remedy(path)}' if lost else ''


def _is_partly_readable(part: Path) -> bool:
    try:
        reader = _opened([part], {part})
    except Exception:  # a damaged file can fail anywhere in the library
        return False
    has_messages = any(connection.msgcount for connection in reader.connections)
    reader.close()
    return has_messages


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
    files = [p for p in folder.iterdir() if p.suffix in STORAGE_SUFFIXES]
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
    names = list(dict.fromkeys(re.findall(r'[^\s/"\']+\.(?:mcap|db3)(?=["\']?\s)', text)))
    there = [folder / name for name in names if (folder / name).is_file()]
    return there, [name for name in names if not (folder / name).is_file()]


def _unreadable(path: Path, error: Exception | None) -> BagError:
    why = ' '.join(str(error).split()) if error else 'nothing in it can be read'
    return BagError(f'cannot read {path} as a bag ({why}); {remedy(path)}')
