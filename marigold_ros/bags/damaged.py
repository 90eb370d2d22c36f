# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The sound parts of files that were cut off or damaged: records of .mcap and .bag, rows of .db3.

The readers are those of the library with another way of opening: files of records are read from
the next chunk on after damage, and a database row by row.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator
from contextlib import suppress
from copy import copy
from io import BytesIO
import mmap
import os
import re
import struct
from typing import Any

from marigold_ros.bags.guarded import (
    CHUNK,
    GuardedBag1,
    GuardedDatabase,
    GuardedMcap,
    MOST_UNPACKED,
    RECORD_HEAD,
)
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag1.reader import (
    Header,
    IndexData,
    read_bytes,
    read_uint32,
    RecordType,
)
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import decompress

_MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _STATISTICS = 0x02, 0x03, 0x04, 0x05, 0x0B
_NEEDED = (_SCHEMA, _CHANNEL, _MESSAGE, _STATISTICS)
_CODES = {*range(0x01, 0x10), *range(0x80, 0x100)}
_MESSAGE_HEAD = struct.Struct('<HIQ')  # channel, sequence, log time
_CHUNK_HEAD = struct.Struct('<QQQII')  # first and last time, size, checksum, length of the next
# Code and length, these five, and the name of the compression.
_CHUNK_START = re.compile(
    rb'\x06.{8}.{28}(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd).{8}', re.DOTALL
)
_RECORD1 = re.compile(rb'op=[\x05\x07]')  # within the header, in any order
_MOST_LOST_ROWS = 1 << 16  # in one gap of a database


def _is_inside(log_ns: int, start: int | None, stop: int | None) -> bool:
    """Return whether a log time is from ``start`` to before ``stop``."""
    return (start is None or log_ns >= start) and (stop is None or log_ns < stop)


class DamagedMcap(GuardedMcap):
    """The sound records of an .mcap file, in the order of the recording."""

    def _open(self) -> None:
        self._last = -1, (b'', 0)  # where the chunk that was unpacked last lies, and its content
        file: Any = self.bio
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ReaderError('it does not begin as an .mcap file')
        described: dict[bytes, None] = {}
        counts: Counter[int] = Counter()
        self.stated = 0  # number of messages by the file's own statistics
        for code, data in self._records():
            if code == _MESSAGE:
                counts[_MESSAGE_HEAD.unpack_from(data)[0]] += 1
            elif code in (_SCHEMA, _CHANNEL):
                described[RECORD_HEAD.pack(code, len(data)) + data] = None
            elif code == _STATISTICS:
                (self.stated,) = struct.unpack_from('<Q', data)
        # The library reads these records as if they were a summary.
        schemas_first = sorted(described, key=lambda one: one[0])
        self.bio, self.data_end = BytesIO(b''.join(schemas_first) + b'\x02'), 0
        self.read_index()
        self.bio = file
        self.connections = [c._replace(msgcount=counts[c.id]) for c in self.connections]

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield messages in the order of the recording, which needs no index."""
        wanted = {c.id: c for c in connections}
        for code, data in self._records():
            if code != _MESSAGE:
                continue
            channel, _, log_ns = _MESSAGE_HEAD.unpack_from(data)
            if channel in wanted and _is_inside(log_ns, start, stop):
                yield wanted[channel], log_ns, data[_MESSAGE_HEAD.size + 8 :]

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Yield code and content of the sound records, those inside of chunks among them."""
        file: Any = self.bio
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = len(_MAGIC)
            while at + RECORD_HEAD.size <= len(data):
                code, length = RECORD_HEAD.unpack_from(data, at)
                begin, end = at + RECORD_HEAD.size, at + RECORD_HEAD.size + length
                if code == _FOOTER and length == 20:
                    return
                try:
                    if code not in _CODES or end > len(data) or length > MOST_UNPACKED:
                        raise ReaderError(f'no sound record at byte {at}')
                    if code == CHUNK:
                        if at != self._last[0]:
                            self.unpack(_CHUNK_HEAD.unpack_from(data, begin)[2])
                            self._last = at, _content(data[begin:end])
                        yield from _records_of(*self._last[1])
                    elif code in _NEEDED:
                        yield code, data[begin:end]
                    at = end
                except Exception:  # damaged data can fail anywhere in a decompressor
                    at = _next_chunk(data, at + 1)


def _content(chunk: bytes) -> tuple[bytes, int]:
    """Return what a chunk holds, unpacked, and how many bytes it should have."""
    _, _, size, crc, length = _CHUNK_HEAD.unpack_from(chunk)
    compression = chunk[_CHUNK_HEAD.size : _CHUNK_HEAD.size + length].decode()
    data = chunk[_CHUNK_HEAD.size + length + 8 :]
    if compression or crc:
        data = decompress(data, compression, size, crc)
    return data, size


def _records_of(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """
    Yield the records of a chunk that are needed, up to its damage; then raises an error.

    The record before the damage may be a part of it, and is left out.
    """
    at, before = 0, None
    while at < len(data):
        code, length = RECORD_HEAD.unpack_from(data, at)
        at += RECORD_HEAD.size + length
        if code not in _CODES or at > len(data) or (code == _MESSAGE and length < 22):
            raise ReaderError('a chunk with an invalid record')
        if before is not None:
            yield before
        before = (code, data[at - length : at]) if code in _NEEDED else None
    if len(data) != size:
        raise ReaderError(f'a chunk of {len(data)} bytes, not {size}')
    if before is not None:
        yield before


def _next_chunk(data: mmap.mmap, at: int) -> int:
    """Return where the next chunk begins whose lengths agree, or the end of the file."""
    for found in _CHUNK_START.finditer(data, at):
        _, length = RECORD_HEAD.unpack_from(data, found.start())
        (packed,) = struct.unpack('<Q', found[0][-8:])
        if packed + len(found[0]) - RECORD_HEAD.size == length:
            return found.start()
    return len(data)


class DamagedBag1(GuardedBag1):
    """The sound chunks of a .bag file, with an index made of what they hold."""

    def open(self) -> None:
        """Read every chunk once."""
        file = self.bio = self.path.open('rb')
        if file.readline(100) != b'#ROSBAG V2.0\n':
            self.close()
            raise ReaderError('it does not begin as a .bag file')
        found: dict[int, list[IndexData]] = defaultdict(list)
        described: list[Connection] = []  # within chunks, and after them
        size = os.fstat(file.fileno()).st_size
        at = file.tell()
        while at < size:
            try:
                file.seek(at)
                code = Header.read(file).get_uint8('op')
                file.seek(at)
                if code == RecordType.CHUNK:
                    described += self._index_chunk(at, found)
                elif code == RecordType.CONNECTION:
                    described.append(self.read_connection())
                else:
                    Header.read(file)
                    file.seek(read_uint32(file), os.SEEK_CUR)
                at = file.tell()
            except Exception:  # damaged data can fail anywhere in a decompressor
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    at = _next_record(data, at + 1)
        self.indexes = {c.id: sorted(found[c.id]) for c in described}
        self.connections = [
            c._replace(msgcount=len(found[c.id]), owner=self)
            for c in {c.id: c for c in described}.values()
        ]

    def _index_chunk(self, at: int, found: dict[int, list[IndexData]]) -> list[Connection]:
        """Add the messages of a chunk if all of it is sound; returns its connections."""
        file: Any = self.bio
        chunk = self.read_chunk()
        file.seek(chunk.datapos)
        part = copy(self)
        content = part.bio = BytesIO(chunk.decompressor(read_bytes(file, chunk.datasize)))
        size = len(content.getvalue())
        entries: list[tuple[int, IndexData]] = []
        connections: list[Connection] = []
        while (offset := content.tell()) < size:
            header = Header.read(content)
            code = header.get_uint8('op')
            if code == RecordType.MSGDATA:
                entry = IndexData(header.get_time('time'), at, offset)
                entries.append((header.get_uint32('conn'), entry))
            content.seek(read_uint32(content), os.SEEK_CUR)
            if code == RecordType.CONNECTION:
                content.seek(offset)
                connections.append(part.read_connection())
        self.chunks[at] = chunk
        for number, entry in entries:
            found[number].append(entry)
        return connections


def _next_record(data: mmap.mmap, at: int) -> int:
    """Return where the next chunk or connection of a .bag file begins, or the end of the file."""
    for found in _RECORD1.finditer(data, at):
        for start in range(max(at, found.start() - 64), found.start()):
            with suppress(Exception):  # whatever lies there
                header = Header.read(BytesIO(data[start : start + 4096]))
                if {'size', 'compression'} <= header.keys() or {'conn', 'topic'} <= header.keys():
                    return start
    return len(data)


class DamagedDatabase(GuardedDatabase):
    """The rows of a .db3 file that can be read, in the order of the recording."""

    def _open(self) -> None:
        database: Any = self.dbconn
        # SQLite then takes the number of pages from the size of the file.
        database.execute('PRAGMA writable_schema=ON')
        self.check_tables()
        counts = Counter(row[1] for row in self._rows('topic_id'))
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
        for _, number, log_ns, data in self._rows('topic_id, timestamp, data'):
            known = number in wanted and isinstance(log_ns, int)
            if known and _is_inside(log_ns, start, stop):
                yield wanted[number], log_ns, data

    def _rows(self, columns: str) -> Iterator[Any]:
        """Yield the rows of the table of messages, over gaps of pages that cannot be read."""
        database: Any = self.dbconn
        query = f'SELECT id, {columns} FROM messages WHERE id > ? ORDER BY id'
        last, gap = -1, 1
        while gap <= _MOST_LOST_ROWS:
            try:
                for row in database.execute(query, (last,)):
                    if row[0] <= last:  # damaged pages can lead in a circle
                        raise ReaderError('rows out of order')
                    yield row
                    last, gap = row[0], 1
                return
            except Exception:  # the library's database module has errors of its own
                last, gap = last + gap, 2 * gap
