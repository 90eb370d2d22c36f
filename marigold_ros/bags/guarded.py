# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Storage readers of the rosbags library, behind limits of size; importing this installs them there.

Decision: messages are read in this process, for speed, so whatever the library unpacks or computes
while it reads is bounded here: chunks and messages before they are unpacked, databases by their
tables. What it does while it opens a bag is bounded by `marigold_ros.bags.limited`.
"""

from bz2 import BZ2Decompressor
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from copy import copy
import heapq
from io import BufferedReader
from itertools import groupby
from pathlib import Path
import struct
from time import monotonic
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import apsw
from lz4.frame import LZ4FrameDecompressor
from marigold_ros.bags.limited import allowed_seconds
from marigold_ros.errors import shown
from rosbags.highlevel import AnyReader, anyreader
from rosbags.interfaces import Connection
from rosbags.rosbag1 import reader as rosbag1_reader
from rosbags.rosbag2 import reader as rosbag2_reader
from rosbags.rosbag2 import ReaderError, storage_mcap
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, Msg, msgsrc, zstd
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

MOST_UNPACKED = 1 << 28  # bytes of a chunk or message: of an image, 89 megapixels in 8-bit colour
_MOST_AT_ONCE = 1 << 29  # bytes of chunks that overlap in time
_MOST_IN_ALL = 1 << 32  # bytes of chunks while a bag is open, which may be read several times
_MOST_TIMES = 200  # its size, where that is more
RECORD_HEAD = struct.Struct('<BQ')  # operation code, length of what follows
CHUNK = 0x06
# Of types that it did not find rosbag2 writes no definition, in the encoding '' or 'unknown'.
_DEFINED = """CREATE TEMP VIEW message_definitions AS
    SELECT * FROM main.message_definitions WHERE encoding IN ('ros2msg', 'ros2idl')"""
_PROFILE_AT = 17  # in an .mcap file: after its magic bytes, and code and length of the header
_PROFILE = b'\x04\x00\x00\x00ros2'  # as long as an empty profile and library


def _checked(size: int) -> int:
    """Return how many bytes to unpack at most, one more than are stated."""
    if size > MOST_UNPACKED:
        raise ReaderError(f'{size / 1e6:.0f} MB in one piece, above {MOST_UNPACKED / 1e6:.0f} MB')
    return size + 1


def _unpacked(decompressor: Any, data: bytes) -> bytes:
    """Unpack a message or chunk that does not state its size."""
    unpacked: bytes = decompressor.decompress(data, max_length=MOST_UNPACKED + 1)
    _checked(len(unpacked))
    if not decompressor.eof:
        raise ReaderError('compressed data that ends too early')
    return unpacked


# The library then compares the size with the stated one.
storage_mcap.DECOMPRESSORS.update(
    {
        '': lambda data, size: data[: _checked(size)],
        'lz4': lambda data, size: LZ4FrameDecompressor().decompress(data, _checked(size)),
        'zstd': lambda data, size: zstd.ZstdDecompressor().decompress(data, _checked(size)),
    }
)
rosbag1_reader.decompressors.update(
    {
        'bz2': lambda data: _unpacked(BZ2Decompressor(), data),
        'lz4': lambda data: _unpacked(LZ4FrameDecompressor(), data),
    }
)
rosbag2_reader.zstd = SimpleNamespace(  # type: ignore[assignment]
    decompress=lambda data: _unpacked(zstd.ZstdDecompressor(), data), open=zstd.open
)


_get_msgdef = storage_mcap.get_msgdef
storage_mcap.get_msgdef = lambda schema: _get_msgdef(
    None if schema is not None and schema.encoding == 'unknown' else schema
)


class Chunks:
    """Chunks of one file: those that could not be read, by where they are, and their size."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)  # type: ignore[call-arg]  # of the library's reader
        self.damage: dict[int, str] = {}
        self._most = max(_MOST_IN_ALL, _MOST_TIMES * Path(path).stat().st_size)
        self._unpacked = 0

    def unpack(self, size: int) -> None:
        """Count what is unpacked; raises ReaderError where it is out of proportion."""
        self._unpacked += _checked(size)  # a false size counts for its own chunk only
        if self._unpacked > self._most:
            raise ReaderError(f'reading it unpacks more than {self._most / 1e9:.1f} GB')


class GuardedBag1(Chunks, rosbag1_reader.Reader):
    """A .bag file of ROS 1 by its index; chunks that cannot be read are left out."""

    def read_chunk(self) -> rosbag1_reader.Chunk:
        """Read the header of a chunk, whose content will be counted."""
        chunk = super().read_chunk()

        def unpack(data: bytes) -> bytes:
            unpacked = chunk.decompressor(data)
            self.unpack(len(unpacked))
            return unpacked

        return chunk._replace(decompressor=unpack)

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Any:
        """Yield messages by log time, of the sound chunks."""
        some, *_ = connections = list(connections)
        by_time = heapq.merge(*(self.indexes[c.id] for c in connections))
        for at, entries in groupby(by_time, key=lambda entry: entry.chunk_pos):
            part = copy(self)
            part.indexes = {some.id: list(entries)}  # each message names its own connection
            try:
                yield from rosbag1_reader.Reader.messages(part, [some], start, stop)
            except Exception as error:  # a damaged chunk can fail anywhere in the library
                self.damage[at] = reason(error)


class _McapFile(BufferedReader):
    """An .mcap file as if it had the profile of ROS 2: the schemas say what it holds."""

    def read(self, size: int | None = -1, /) -> bytes:
        at, data = self.tell(), super().read(size)
        return _PROFILE + data[len(_PROFILE) :] if at == _PROFILE_AT else data


class GuardedMcap(Chunks, McapReader):
    """An .mcap file by its index; chunks that cannot be read are left out."""

    def _open(self) -> None:
        file: Any = self.bio
        file = self.bio = _McapFile(file.detach())
        try:
            super()._open()
        except KeyError as error:
            raise ReaderError(f'its schemas or QoS are not of ROS 2: {error}') from error
        for chunk in self.chunks:
            file.seek(chunk.chunk_start_offset)
            head = file.read(RECORD_HEAD.size)
            if head != RECORD_HEAD.pack(CHUNK, chunk.chunk_length - RECORD_HEAD.size):
                raise ReaderError('its index does not fit its chunks')
        if len({chunk.chunk_start_offset for chunk in self.chunks}) < len(self.chunks):
            raise ReaderError('its index names a chunk twice')
        ends = [(c.message_end_time, -c.uncompressed_size) for c in self.chunks]
        starts = [(c.message_start_time, c.uncompressed_size) for c in self.chunks]
        at_once = 0
        for _, size in sorted(ends + starts):
            at_once += size if abs(size) <= MOST_UNPACKED else 0
            if at_once > _MOST_AT_ONCE:
                raise ReaderError('too many of its chunks overlap in time')

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Any:
        """Yield messages by log time, of the sound chunks; as recorded where none is indexed."""
        if not self.chunks:
            yield from self.messages_scan(connections, start, stop)
            return
        wanted = {c.id: c for c in connections}
        first = 0 if start is None else start
        last = storage_mcap.MAXSIZE if stop is None else stop
        # An option of rosbag2 leaves out which messages a chunk holds.
        chunks = [
            self._messages_of(chunk, wanted)
            for chunk in self.chunks
            if chunk.message_end_time >= first
            and chunk.message_start_time < last
            and (not chunk.channel_count or chunk.channel_count.keys() & wanted.keys())
        ]
        for log_ns, offset, connection, data in heapq.merge(*chunks):
            if offset and connection is not None and data is not None and first <= log_ns < last:
                yield connection, log_ns, data

    def _messages_of(self, chunk: ChunkInfo, wanted: dict[int, Connection]) -> Iterator[Msg]:
        """Yield the wanted messages of a chunk, of any time: its index counts them."""
        file: Any = self.bio
        missing = sum(chunk.channel_count.get(number, 0) for number in wanted)
        try:
            messages = msgsrc(chunk, wanted, 0, storage_mcap.MAXSIZE, file)
            yield next(messages)  # its time, before anything is unpacked
            self.unpack(chunk.uncompressed_size)
            for message in messages:
                missing -= 1
                yield message
            if missing > 0:
                raise ReaderError('it lacks messages that its index counts')
        except Exception as error:  # a damaged chunk can fail anywhere in the library
            self.damage[chunk.chunk_start_offset] = reason(error)


class GuardedDatabase(Sqlite3Reader):
    """A .db3 file that has nothing but ordinary tables."""

    def __init__(self, path: Any) -> None:
        super().__init__(Path(quote(str(path))))  # the library puts it into a URI

    def open(self) -> None:
        """Open and check the database."""
        try:
            super().open()
        except ReaderError as error:
            raise ReaderError(unquote(str(error))) from error
        database: Any = self.dbconn
        database.set_progress_handler(None)

    def _open(self) -> None:
        self.check_tables()
        super()._open()

    def check_tables(self) -> None:
        """Raise ReaderError where reading a table would run a program of the file."""
        database: Any = self.dbconn
        tables = "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')"
        for kind, name in database.execute(tables).fetchall():
            query = "SELECT hidden FROM pragma_table_xinfo(?, 'main')"
            columns = database.execute(query, (name,))
            if kind != 'table' or any(hidden for (hidden,) in columns):
                raise ReaderError(f'its table {name[:40]!r} is computed and not stored')


class GuardedFolder(rosbag2_reader.DirectoryReader):
    """A folder with a metadata.yaml, which may name other QoS than its files."""

    STORAGE_PLUGINS = {'mcap': GuardedMcap, 'sqlite3': GuardedDatabase}

    def open(self) -> None:
        """Open the files; the library takes those messages whose QoS are the same."""
        super().open()  # `ros2 bag reindex` writes other ones
        known = {(c.topic, c.msgtype): c.ext for c in self.connections}
        for file in self.storages:
            file.connections = [
                c._replace(ext=known.get((c.topic, c.msgtype), c.ext)) for c in file.connections
            ]
        held = message_counts(c for file in self.storages for c in file.connections)
        more = (held - message_counts(self.connections)).total()
        # Nothing else says how messages are compressed.
        if more and not self.metadata.compression_mode:
            self.close()
            raise ReaderError(f'its files hold {more} messages more than it states')

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Any:
        """Yield messages by log time, of files that may overlap and be listed in any order."""
        files = [self._messages_of(file, connections, start, stop) for file in self.storages]
        for connection, log_ns, data in heapq.merge(*files, key=lambda message: message[1]):
            if connection is not None:
                yield connection, log_ns, data

    def _messages_of(self, file: Any, *wanted: Any) -> Iterator[Any]:
        yield None, file.metadata.start_time, b''  # its time, before anything is unpacked
        part = copy(self)
        part.storages = [file]
        yield from rosbag2_reader.DirectoryReader.messages(part, *wanted)


def _limit(connection: apsw.Connection) -> None:
    """Keep a database from running programs of its own, or for ever, and hide missing types."""
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    for limit, value in (
        (apsw.SQLITE_LIMIT_LENGTH, MOST_UNPACKED),
        (apsw.SQLITE_LIMIT_SQL_LENGTH, 1_000_000),
        (apsw.SQLITE_LIMIT_EXPR_DEPTH, 50),
    ):
        connection.limit(limit, value)
    file = Path(connection.filename)
    deadline = monotonic() + allowed_seconds(file.stat().st_size if file.is_file() else 0)
    connection.set_progress_handler(lambda: monotonic() > deadline, 100_000)
    with suppress(apsw.Error):  # of a damaged one
        connection.execute(_DEFINED)


def message_counts(connections: Iterable[Connection]) -> Counter[tuple[str, str]]:
    """Return the number of messages by topic and type."""
    counts = Counter[tuple[str, str]]()
    for c in connections:
        counts[c.topic, c.msgtype] += c.msgcount
    return counts


def damage_of(reader: AnyReader) -> list[str]:
    """Return in words what could not be read so far."""
    inners = [getattr(one, 'storage', one) for one in reader.readers]
    files = [one for inner in inners for one in getattr(inner, 'storages', [inner])]
    causes = Counter(
        text for one in files if isinstance(one, Chunks) for text in one.damage.values()
    )
    return [f'{count} chunks ({text})' for text, count in causes.items()]


def reason(error: BaseException) -> str:
    """Return an error of the library in one short line, by its type where it has no text."""
    if isinstance(error, MemoryError):
        return 'it states more bytes than there is memory for'
    return shown(' '.join(str(error).split()) or type(error).__name__, 200)


anyreader.Reader1 = GuardedBag1  # type: ignore[misc]
apsw.connection_hooks.append(_limit)
rosbag2_reader.Reader.STORAGE_PLUGINS = {
    'dir': GuardedFolder,
    '.mcap': GuardedMcap,
    '.db3': GuardedDatabase,
}
