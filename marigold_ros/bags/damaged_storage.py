# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Readers of truncated storage files, as a power cut or a full disk leaves them.

The readers of rosbags are kept and only their way of opening is replaced: an MCAP file without
footer is read record by record, a truncated database row by row until a page fails.
"""

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


class DamagedMcap(McapReader):
    """An .mcap file up to its last complete record."""

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

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yield messages in the order of the recording: there is no index."""
        return self.messages_scan(connections, start, stop)


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
