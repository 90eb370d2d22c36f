# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What is left of storage files whose end is missing: recordings that a power cut or full disk ended.

Decision: read what is whole and tell what is not, instead of only naming a repair tool, because
the frames before the cut are as good as any. The readers of rosbags are kept and only their way of
opening is replaced: an MCAP without footer is walked record by record, a database whose tail is
missing is read in the order of its rows until a page fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterator
import struct
from typing import Any

from marigold_ros.errors import BagError
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

_MCAP_MAGIC = b'\x89MCAP0\r\n'
_RECORD_HEAD = struct.Struct('<BQ')  # operation code, length of what follows
_DATA_END = (0x02, 0x0F)  # footer, end of the data section


class CutMcap(McapReader):
    """An .mcap file up to its last whole record."""

    def _open(self) -> None:
        assert self.bio is not None
        if self.bio.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise BagError(f'{str(self.path)!r} does not begin as an .mcap file')
        size = self.bio.seek(0, 2)
        self.data_start = end = len(_MCAP_MAGIC)
        while end + _RECORD_HEAD.size <= size:
            self.bio.seek(end)
            code, length = _RECORD_HEAD.unpack(self.bio.read(_RECORD_HEAD.size))
            if code in _DATA_END or end + _RECORD_HEAD.size + length > size:
                break
            end += _RECORD_HEAD.size + length
        self.data_end = end
        self.meta_scan()
        assert self.statistics is not None
        counts = self.statistics.channel_message_counts
        self.connections = [c._replace(msgcount=counts.get(c.id, 0)) for c in self.connections]

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield in the order of the recording; without an index nothing else is known."""
        return self.messages_scan(connections, start, stop)


class CutDatabase(Sqlite3Reader):
    """A .db3 file up to its first page that cannot be read."""

    def _open(self) -> None:
        assert self.dbconn is not None
        # Makes SQLite take the size of the file for the number of its pages.
        self.dbconn.execute('PRAGMA writable_schema=ON')
        counts = Counter(row[0] for row in self._rows('topic_id'))
        columns = 'SELECT id, name, type, serialization_format FROM topics ORDER BY id'
        self.connections = [
            Connection(
                number,
                topic,
                msgtype,
                MessageDefinition(MessageDefinitionFormat.NONE, ''),
                '',
                counts[number],
                ConnectionExtRosbag2(encoding, []),
                self,
            )
            for number, topic, msgtype, encoding in self.dbconn.execute(columns)
        ]

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield in the order of the recording, which needs no index."""
        wanted = {c.id: c for c in connections}
        for number, stamp_ns, data in self._rows('topic_id, timestamp, data'):
            if number in wanted:
                yield wanted[number], stamp_ns, data

    def _rows(self, columns: str) -> Iterator[Any]:
        """Rows of the table of messages until one cannot be read."""
        assert self.dbconn is not None
        query = f'SELECT {columns} FROM messages NOT INDEXED ORDER BY id'
        try:
            yield from self.dbconn.execute(query)
        except Exception:  # the library's database module has errors of its own
            return


def cut_storage(path: Any) -> Any:
    """Give the reader of rosbags for what is left of a storage file."""
    return CutMcap(path) if path.suffix == '.mcap' else CutDatabase(path)
