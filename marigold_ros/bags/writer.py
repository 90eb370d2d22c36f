# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write ROS 2 bags that Humble and later distributions can play.

Decision: metadata version 8, because Humble refuses the YAML list of QoS profiles of version 9.
A bag is written in a hidden sibling folder and renamed when it is complete, so that an
interrupted run leaves no incomplete bag; what a killed one leaves is removed by the next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
import fcntl
from glob import escape
import os
from pathlib import Path
import shutil
import sqlite3
import tempfile
from typing import Any

from marigold_ros.bags.limited import remember
from marigold_ros.bags.storage import PLAN, plan_of
from marigold_ros.errors import BagError, WriteError
import numpy as np
from rosbags.interfaces import (
    Connection,
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import get_typestore, Stores, TypesysError

_STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
_PARTIAL = '.partial_'  # in the hidden names of bags that are being written
_UNSET = QosTime(0, 0)
_NANOSECONDS = 1_000_000_000


def _qos(depth: int, latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_UNSET,
        lifespan=_UNSET,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_UNSET,
        avoid_ros_namespace_conventions=False,
    )


_USUAL, _LATCHED = _qos(10, latched=False), _qos(1, latched=True)


class BagWriter:
    """
    A bag being written; use it in a ``with`` block.

    Parameters
    ----------
    path : path
        Folder to create; it must not exist. It appears when the block ends without an error.
    storage : {'mcap', 'sqlite3'}
        Humble plays mcap only where its storage plugin is installed.
    latched : collection of str
        Topics besides /tf_static whose last message a player offers to late subscribers.

    Raises
    ------
    BagError
        For an existing path, and an unknown storage.
    WriteError
        For a folder that cannot be written, and a disk that is full.

    """

    def __init__(
        self,
        path: str | Path,
        storage: str = 'mcap',
        latched: Collection[str] = (),
    ) -> None:
        self.path = Path(path)
        self._latched = {'/tf_static', *latched}
        if storage not in _STORAGES:
            raise BagError(f"storage is '{storage}'; choose one of {', '.join(_STORAGES)}")
        self._storage = _STORAGES[storage]
        self._typestore = get_typestore(Stores.ROS2_HUMBLE)
        self._connections: dict[tuple[str, str], Connection] = {}
        # While it is open.
        self._partial: Any = None
        self._lock = -1
        self._writer: Any = None

    def __enter__(self) -> BagWriter:
        if os.path.lexists(self.path):
            raise BagError(f'{self.path} exists already; choose another path or remove it')
        if self._storage == StoragePlugin.SQLITE3 and set('%?#') & set(str(self.path)):
            raise BagError(
                f'{self.path} has one of % ? #, with which rosbags writes a database elsewhere; '
                'choose storage mcap, or another path'
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_partial(self.path.parent, escape(self.path.name))
            self._partial = Path(
                tempfile.mkdtemp(prefix=f'.{self.path.name}{_PARTIAL}', dir=self.path.parent)
            )
            self._writer = Writer(
                self._partial / self.path.name, version=8, storage_plugin=self._storage
            )
            self._lock = os.open(self._partial, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # until this process ends, however it does
            self._writer.open()
        except (OSError, WriterError) as error:
            self._discard()
            raise WriteError(
                f'cannot write a bag at {self.path} ({error}); choose a folder you may write to, '
                'with space on its disk'
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._writer.close()
            if kind is None:
                (self._partial / self.path.name).rename(self.path)
                remember(PLAN, self.path, plan_of([self.path]))  # it is no stranger's
        except (OSError, sqlite3.Error) as failure:
            raise _unwritten(self.path, failure) from failure
        finally:
            self._discard()

    def note(self, key: str, value: str) -> None:
        """Add an entry to ``custom_data`` of metadata.yaml, see `BagReader.about`."""
        self._writer.set_custom_data(key, value)

    def write(self, topic: str, msgtype: str, message_fields: Any, stamp_ns: int) -> None:
        """
        Write one message.

        Parameters
        ----------
        topic, msgtype : str
            As '/camera/image_raw' and 'sensor_msgs/msg/Image'.
        message_fields : mapping or message of the rosbags library
            Nested by field; fields that are not named are zero or empty, as in ROS. An inner
            message may be a mapping, or a tuple in the order of its fields; a time may be int
            nanoseconds; a header without ``stamp`` takes ``stamp_ns``.
        stamp_ns : int, nanoseconds
            Log time.

        Raises
        ------
        BagError
            For an unknown type or field, or a value that does not fit its field.

        """
        if msgtype not in self._typestore.fielddefs:
            raise BagError(
                f"message type '{msgtype}' is unknown; name it as sensor_msgs/msg/Image"
            )
        try:
            fields = message_fields
            if isinstance(fields, Mapping) and isinstance(fields.get('header'), Mapping):
                fields = {**fields, 'header': {'stamp': stamp_ns, **fields['header']}}
            message = self._message(msgtype, fields)
            cdr = self._typestore.serialize_cdr(message, msgtype)
        except Exception as error:  # a wrong value can fail anywhere in the serialiser
            raise BagError(
                f'cannot write {msgtype} to {topic} ({error}); check its fields'
            ) from error
        self.write_raw(topic, msgtype, cdr, stamp_ns)

    def write_raw(
        self, topic: str, msgtype: str, cdr: bytes | memoryview, stamp_ns: int, types: Any = None
    ) -> None:
        """
        Write one serialised message; ``types`` defines types of other bags, see `BagReader`.

        Raises BagError where the writer is not open, or the type is unknown.
        """
        if self._writer is None:
            raise BagError(f'bag {self.path} is not open; write inside a with block')
        connection = self._connections.get((topic, msgtype))
        if connection is None:
            profile = _LATCHED if topic in self._latched else _USUAL
            try:
                connection = self._writer.add_connection(
                    topic,
                    msgtype,
                    typestore=types or self._typestore,
                    offered_qos_profiles=[profile],
                )
            except (KeyError, WriterError, TypesysError) as error:
                raise BagError(
                    f"cannot add topic {topic} of type '{msgtype}' ({error}); "
                    'name the type as sensor_msgs/msg/Image'
                ) from error
            self._connections[topic, msgtype] = connection
        try:
            self._writer.write(connection, int(stamp_ns), cdr)
        except (OSError, sqlite3.Error) as error:
            raise _unwritten(self.path, error) from error

    def _message(self, msgtype: str, values: Any) -> Any:
        """Build a message of the rosbags library from nested values."""
        _, definitions = self._typestore.fielddefs[msgtype]
        names = [name for name, _ in definitions]
        if msgtype == 'builtin_interfaces/msg/Time' and isinstance(values, int):
            values = divmod(values, _NANOSECONDS)
        if hasattr(values, '__msgtype__'):
            return values
        if not isinstance(values, Mapping):
            values = dict(zip(names, values, strict=True))
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(f'{msgtype} has no {", ".join(unknown)}; it has {", ".join(names)}')
        arguments = {
            name: self._value(name, field, values.get(name)) for name, field in definitions
        }
        return self._typestore.types[msgtype](**arguments)

    def _value(self, name: str, definition: Any, value: Any) -> Any:
        """Convert the value of a field; None becomes zero, empty, or a message of zeros."""
        kind, detail = definition
        if kind == Nodetype.NAME:
            return self._message(detail, {} if value is None else value)
        if kind == Nodetype.BASE and detail[0] == 'string':
            return '' if value is None else value
        if kind == Nodetype.BASE:
            return _numbers(name, detail[0], 0 if value is None else value).item()
        (element_kind, element), length = detail
        if element_kind == Nodetype.NAME:
            return [self._message(element, item) for item in value or []]
        if element[0] == 'string':
            return [] if value is None else list(value)
        if value is None:
            value = np.zeros(length if kind == Nodetype.ARRAY else 0)
        return _numbers(name, element[0], value)

    def _discard(self) -> None:
        storage = getattr(self._writer, 'storage', None)
        if isinstance(storage, McapWriter) and not storage.bio.closed:
            with suppress(OSError):  # of what a full disk did not take
                storage.bio.close()
        self._writer = None
        if self._partial is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_partial(folder: Path, pattern: str = '*') -> None:
    """Remove what a killed process left in a folder of the bags whose names fit a pattern."""
    for partial in folder.glob(f'.{pattern}{_PARTIAL}*'):
        lock = os.open(partial, os.O_RDONLY)
        with suppress(BlockingIOError):  # it is being written
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def _unwritten(path: Path, error: Exception) -> WriteError:
    return WriteError(
        f'cannot write the bag {path} ({error}): free some space on its disk, and run the same '
        'command again'
    )


def _numbers(name: str, kind: str, value: Any) -> np.ndarray:
    """Return numbers of a field (N,) in its type; raises ValueError where one does not fit it."""
    dtype = np.dtype('u1' if kind == 'char' else kind)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return np.frombuffer(value, dtype)
    given = np.asarray(value).reshape(-1)
    with np.errstate(over='raise', invalid='ignore'):
        numbers = np.ascontiguousarray(given, dtype)
    if dtype.kind != 'f' and given.dtype != dtype and (changed := numbers != given).any():
        raise ValueError(f'{name} has the value {given[changed][0]}, which is no {kind}')
    return numbers
