# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Generators of bags that mean harm: each writes one into a folder and returns its path.

``BAGS`` has them by name. ``size`` scales what a file claims or unpacks to, so that a quick test
needs little of the disk; 1 is the whole attack.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import sqlite3
import struct

from hostile_images import large_png, slow_jpeg
import lz4.frame
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.frame import Camera
from marigold_ros.message_codec import camera_info_fields, encode_cloud, encode_image
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2.storage_mcap import zstd
from rosbags.typesys import get_typestore, Stores

START = 1_700_000_000_000_000_000
IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
CLOUD = 'sensor_msgs/msg/PointCloud2'
MAGIC = b'\x89MCAP0\r\n'
IMAGES = 6  # in every bag that holds any
_STORE = get_typestore(Stores.ROS2_HUMBLE)
_PERIOD = 100_000_000  # ns
_PACKERS = {'': bytes, 'lz4': lz4.frame.compress, 'zstd': zstd.compress}
Message = tuple[str, str, bytes, int]  # topic, type, serialised, log time in ns


def write_good(path: Path, storage: str = 'mcap', pixels: int = 96) -> Path:
    """Write a small sound bag of six images with camera_info, scan and transform."""
    rng = np.random.default_rng(0)
    K = np.array([[pixels, 0, pixels / 2], [0, pixels, pixels / 3], [0, 0, 1.0]])
    info = camera_info_fields(Camera(K, pixels, pixels * 2 // 3))
    dtype = [(name, '<f4') for name in ('x', 'y', 'z', 'ring')]
    identity = {'rotation': {'w': 1.0}}
    transform = {'header': {'frame_id': 'camera'}, 'child_frame_id': 'lidar'}
    with BagWriter(path, storage) as bag:
        static = {'transforms': [{**transform, 'transform': identity}]}
        bag.write('/tf_static', 'tf2_msgs/msg/TFMessage', static, START)
        for number in range(IMAGES):
            stamp = START + number * _PERIOD
            rgb = rng.integers(0, 255, (pixels * 2 // 3, pixels, 3), np.uint8)
            points = np.zeros((1, 200), dtype)
            for name in ('x', 'y', 'z'):
                points[name] = rng.uniform(-2, 2, 200) if name != 'z' else rng.uniform(2, 9, 200)
            header = {'header': {'frame_id': 'camera'}}
            scan = {'header': {'frame_id': 'lidar'}, **vars(encode_cloud(points))}
            bag.write('/points', CLOUD, scan, stamp)
            bag.write('/camera_info', 'sensor_msgs/msg/CameraInfo', {**header, **info}, stamp)
            bag.write('/image', IMAGE, {**header, **vars(encode_image(rgb, 'rgb8'))}, stamp)
    return path


def good_messages(folder: Path) -> list[Message]:
    """Return the messages of a sound bag."""
    with BagReader(write_good(folder / 'made')) as reader:
        return list(reader.raw(list(reader.topics)))


# MCAP, record by record.


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack('<I', len(data)) + data


def record(code: int, *parts: bytes) -> bytes:
    """Return one record of an MCAP file."""
    data = b''.join(parts)
    return struct.pack('<BQ', code, len(data)) + data


def definition(msgtype: str) -> str:
    """Return the definition of a message type with all that it needs."""
    return _STORE.generate_msgdef(msgtype, 2)[0]


@dataclass
class Mcap:
    """An MCAP file in the making; ``chunks`` holds what its index says."""

    definitions: dict[str, tuple[str, str]] = field(default_factory=dict)  # others are true ones
    qos: str = ''
    compression: str = 'zstd'
    data: bytes = MAGIC + record(1, _text('ros2'), _text('hostile'))
    summary: list[bytes] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    topics: dict[str, int] = field(default_factory=dict)

    def add_topics(self, topics: Iterable[tuple[str, str]]) -> None:
        """Add topics with their types."""
        schemas: dict[str, int] = {}
        first = len(self.summary)
        for topic, msgtype in topics:
            if msgtype not in schemas:
                schemas[msgtype] = len(schemas) + 1
                usual = 'ros2msg', definition(msgtype)
                encoding, text = self.definitions.get(msgtype, usual)
                number = struct.pack('<H', schemas[msgtype])
                about = number, _text(msgtype), _text(encoding), _text(text)
                self.summary.append(record(3, *about))
            number = self.topics[topic] = len(self.topics) + 1
            metadata = _text('offered_qos_profiles') + _text(self.qos)
            head = struct.pack('<HH', number, schemas[msgtype])
            about = head, _text(topic), _text('cdr'), _text(metadata)
            self.summary.append(record(4, *about))
        self.data += b''.join(self.summary[first:])  # and before the chunks

    def add_chunk(
        self, messages: Sequence[Message], pad: int = 0, states: int | None = None
    ) -> None:
        """Add a chunk that unpacks to ``pad`` bytes more, or states a size of its own."""
        body = b''.join(self.message(*one) for one in messages)
        for topic, _, _, _ in messages:
            self.counts[self.topics[topic]] = self.counts.get(self.topics[topic], 0) + 1
        packed = _zeros_after(body, pad) if pad else _PACKERS[self.compression](body)
        size = len(body) + (pad + 9 if pad else 0) if states is None else states
        first, last = messages[0][3], messages[-1][3]
        at = len(self.data)
        parts = struct.pack('<QQQI', first, last, size, 0), _text(self.compression)
        chunk = record(6, *parts, struct.pack('<Q', len(packed)), packed)
        self.data += chunk
        offsets: dict[int, int] = {}
        for number in dict.fromkeys(self.topics[m[0]] for m in messages):
            offsets[number] = len(self.data)
            entries = b''.join(
                struct.pack('<QQ', m[3], 0) for m in messages if self.topics[m[0]] == number
            )
            self.data += record(7, struct.pack('<H', number), _text(entries))
        index = b''.join(struct.pack('<HQ', *item) for item in offsets.items())
        self.chunks.append(
            record(
                8,
                struct.pack('<QQQQ', first, last, at, len(chunk)),
                _text(index),
                struct.pack('<Q', len(self.data) - at - len(chunk)),
                _text(self.compression),
                struct.pack('<QQ', len(packed), size),
            )
        )

    def message(self, topic: str, msgtype: str, data: bytes, log_ns: int) -> bytes:
        """Return the record of a message."""
        return record(5, struct.pack('<HIQQ', self.topics[topic], 0, log_ns, log_ns), data)

    def write(self, path: Path) -> Path:
        """Write the file, with index and statistics."""
        counts = b''.join(struct.pack('<HQ', *item) for item in self.counts.items())
        total = sum(self.counts.values())
        about = total, 1, len(self.topics), 0, 0, len(self.chunks), START, START + 10**9
        statistics = record(11, struct.pack('<QHIIIIQQ', *about), _text(counts))
        data, start = self.data, len(self.data)
        data += b''.join([*self.summary, *self.chunks, statistics])
        footer = record(2, struct.pack('<QQI', start, 0, 0))
        path.write_bytes(data + footer + MAGIC)
        return path


def _zeros_after(body: bytes, count: int) -> bytes:
    """Compress ``body`` and one record of ``count`` zeros after it, without holding them."""
    packer = zstd.ZstdCompressor(level=1)
    packed = [packer.compress(body + struct.pack('<BQ', 0x80, count))]
    block = bytes(1 << 20)
    packed += [packer.compress(block) for _ in range(count >> 20)]
    packed.append(packer.compress(block[: count & 0xFFFFF]))
    return b''.join([*packed, packer.flush()])


def mcap_of(messages: Sequence[Message], per_chunk: int = 3, **arguments: object) -> Mcap:
    """Put messages together as an MCAP file."""
    file = Mcap(**arguments)  # type: ignore[arg-type]
    file.add_topics({m[0]: m[1] for m in messages}.items())
    for first in range(0, len(messages), per_chunk):
        file.add_chunk(messages[first : first + per_chunk])
    return file


# The attacks.


def chunk_bomb(folder: Path, size: float = 1.0) -> Path:
    """A chunk that unpacks to 7 GB, as it states."""
    messages = good_messages(folder)
    file = mcap_of(messages)
    file.add_chunk(messages[-3:], pad=int(7e9 * size))
    return file.write(folder / 'chunk_bomb.mcap')


def lying_chunk(folder: Path, size: float = 1.0) -> Path:
    """A chunk that states 100 kB and unpacks to 7 GB."""
    messages = good_messages(folder)
    file = mcap_of(messages)
    file.add_chunk(messages[-3:], pad=int(7e9 * size), states=100_000)
    return file.write(folder / 'lying_chunk.mcap')


def _compressed_bag(folder: Path, mode: str, suffix: str = '') -> Path:
    bag = write_good(folder / f'{mode.lower()}_bomb', 'sqlite3')
    path = bag / 'metadata.yaml'
    text = path.read_text(encoding='utf-8')
    lines = [line for line in text.splitlines() if 'compression' not in line]
    lines = [line.replace('.db3', f'.db3{suffix}') for line in lines]
    lines += ['  compression_format: zstd', f'  compression_mode: {mode}']
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return bag


def message_bomb(folder: Path, size: float = 1.0) -> Path:
    """Messages, compressed one by one, of which the last image unpacks to 7 GB."""
    bag = _compressed_bag(folder, 'MESSAGE')
    with sqlite3.connect(bag / f'{bag.name}.db3') as database:
        rows = database.execute('SELECT id, data FROM messages ORDER BY id').fetchall()
        for number, data in rows[:-1]:
            update = 'UPDATE messages SET data = ? WHERE id = ?'
            database.execute(update, (zstd.compress(data), number))
        bomb = _zeros_after(rows[-1][1], int(7e9 * size))
        database.execute('UPDATE messages SET data = ? WHERE id = ?', (bomb, rows[-1][0]))
    database.close()
    return bag


def file_bomb(folder: Path, size: float = 1.0) -> Path:
    """A compressed database that unpacks to 7 GB of a temporary file."""
    bag = _compressed_bag(folder, 'FILE', '.zstd')
    file = bag / f'{bag.name}.db3'
    packed = _zeros_after(file.read_bytes(), int(7e9 * size))
    file.with_suffix('.db3.zstd').write_bytes(packed)
    file.unlink()
    return bag


def _database(path: Path, change: str) -> Path:
    bag = write_good(path.with_suffix(''), 'sqlite3')
    file = (bag / f'{bag.name}.db3').rename(path)
    with sqlite3.connect(path) as database:
        database.executescript(change)
    database.close()
    return file


_ENDLESS = 'WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT {} FROM n'


def recursive_view(folder: Path, size: float = 1.0) -> Path:
    """A database whose ``schema`` is a view that counts for ever."""
    view = f'CREATE VIEW schema AS {_ENDLESS.format("max(x) AS schema_version")}'
    return _database(folder / 'recursive_view.db3', f'DROP TABLE schema; {view}')


def endless_definitions(folder: Path, size: float = 1.0) -> Path:
    """A database whose message definitions are a view without end."""
    columns = "x AS id, 'a' AS topic_type, 'ros2msg' AS encoding, '' AS type_description_hash"
    view = _ENDLESS.format(f"{columns}, '' AS encoded_message_definition")
    change = f'DROP TABLE message_definitions; CREATE VIEW message_definitions AS {view}'
    return _database(folder / 'endless_definitions.db3', change)


def generated_messages(folder: Path, size: float = 1.0) -> Path:
    """A database that computes the data of its messages, 900 MB each."""
    columns = 'id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER'
    data = f'data AS (zeroblob({int(9e8 * size)}))'
    change = (
        f'CREATE TABLE other({columns}, {data});'
        'INSERT INTO other(id, topic_id, timestamp) SELECT id, topic_id, timestamp FROM messages;'
        'DROP TABLE messages; ALTER TABLE other RENAME TO messages'
    )
    return _database(folder / 'generated_messages.db3', change)


def _defined(
    name: str, more: str, encoding: str = 'ros2msg', of: str = IMAGE
) -> Callable[..., Path]:
    def write(folder: Path, size: float = 1.0) -> Path:
        text = more if encoding == 'ros2idl' else definition(IMAGE)
        if encoding == 'ros2msg':
            head, line, rest = text.partition('=' * 80)
            text = f'{head}{more}\n{line}{rest}'
        messages = good_messages(folder)
        file = mcap_of(messages, definitions={IMAGE: (encoding, text)})
        return file.write(folder / f'{name}.mcap')

    return write


def _struct(body: str) -> str:
    return f'module sensor_msgs {{ module msg {{ {body} struct Image {{ uint8 a; }}; }}; }};'


_LINE = '=' * 80
_NESTED = '\n'.join(
    f'{_LINE}\nMSG: own_msgs/A{n}\n' + (f'A{n + 1}[1000] a' if n < 5 else 'string[1000] a')
    for n in range(6)
)


def many_channels(folder: Path, size: float = 1.0) -> Path:
    """60 000 channels."""
    messages = good_messages(folder)
    file = mcap_of(messages)
    others = ((f'/t{n}', 'std_msgs/msg/Empty') for n in range(int(60_000 * size)))
    file.qos = '- history: 1\n  depth: 10\n  reliability: 1\n  durability: 2\n'
    file.qos += ''.join(
        f'  {name}:\n    sec: 0\n    nsec: 0\n'
        for name in ('deadline', 'lifespan', 'liveliness_lease_duration')
    )
    file.qos += '  liveliness: 1\n  avoid_ros_namespace_conventions: false\n'
    file.add_topics(others)
    return file.write(folder / 'many_channels.mcap')


def many_fields(folder: Path, size: float = 1.0) -> Path:
    """Scans with 200 000 fields each."""
    fields = [
        {'name': f'f{n}', 'offset': 0, 'datatype': 7, 'count': 1}
        for n in range(int(200_000 * size))
    ]
    bag = write_good(folder / 'many_fields')
    with BagReader(bag) as reader:
        messages = list(reader.raw(list(reader.topics)))
    with BagWriter(folder / 'fields') as writer:
        for topic, msgtype, data, log_ns in messages:
            if msgtype != CLOUD:
                writer.write_raw(topic, msgtype, data, log_ns)
                continue
            cloud = {'height': 1, 'width': 1, 'fields': fields, 'point_step': 16, 'row_step': 16}
            writer.write(topic, msgtype, {'header': {}, **cloud, 'data': bytes(16)}, log_ns)
    return folder / 'fields'


def same_chunk(folder: Path, size: float = 1.0) -> Path:
    """An index that names the same large chunk 20 000 times."""
    messages = good_messages(folder)
    file = mcap_of(messages)
    file.add_chunk(messages[-3:], pad=int(2e8 * size))
    file.chunks += file.chunks[-1:] * 20_000
    return file.write(folder / 'same_chunk.mcap')


def overlapping_chunks(folder: Path, size: float = 1.0) -> Path:
    """Three chunks of the same time, 250 MB each, that every look for a topic unpacks again."""
    messages = good_messages(folder)
    file = Mcap()
    file.add_topics({m[0]: m[1] for m in messages}.items())
    for _ in range(3):
        file.add_chunk(messages, pad=int(2.5e8 * size))
    return file.write(folder / 'overlapping_chunks.mcap')


def many_chunks(folder: Path, size: float = 1.0) -> Path:
    """Sixty chunks of 250 MB, one after the other."""
    messages = good_messages(folder)
    file = mcap_of(messages)
    for number in range(1, 61):
        later = [(*m[:3], m[3] + number * 10**10) for m in messages[-3:]]
        file.add_chunk(later, pad=int(2.5e8 * size))
    return file.write(folder / 'many_chunks.mcap')


def long_qos(folder: Path, size: float = 1.0) -> Path:
    """Profiles of quality of service as 4 MB of nested YAML."""
    messages = good_messages(folder)
    file = mcap_of(messages, qos='[' * int(4e6 * size))
    return file.write(folder / 'long_qos.mcap')


def _metadata(name: str, text: Callable[[str, float], str]) -> Callable[..., Path]:
    def write(folder: Path, size: float = 1.0) -> Path:
        path = write_good(folder / name) / 'metadata.yaml'
        path.write_text(text(path.read_text(encoding='utf-8'), size), encoding='utf-8')
        return path.parent

    return write


def _aliases(text: str, size: float) -> str:
    laughs = ['a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]']
    for n in range(1, 12):
        laughs.append(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 9)}]')
    return '\n'.join([*laughs, text.replace('version: 8', 'version: *a11')])


def _merged(text: str, size: float) -> str:
    laughs = ['a0: &a0 {x0: 1}']
    for n in range(1, 30):
        laughs.append(f'a{n}: &a{n} {{<<: [{", ".join([f"*a{n - 1}"] * 9)}], x{n}: 1}}')
    return '\n'.join([*laughs, text])


def _comment(text: str, size: float) -> str:
    comment = f'# {"a" * int(300_000 * size)}'
    return f'{text.replace("version: 8", "version: 99")}\n{comment}\n'


def ros1_bomb(folder: Path, size: float = 1.0) -> Path:
    """A bag of ROS 1 whose one chunk, of bzip2, unpacks to 3 GB: to pack more takes a minute."""

    def packed(data: bytes) -> bytes:
        packer, block = bz2.BZ2Compressor(), bytes(1 << 20)
        parts = [packer.compress(data)]
        parts += [packer.compress(block) for _ in range(int(3e9 * size) >> 20)]
        return b''.join([*parts, packer.flush()])

    store = get_typestore(Stores.ROS1_NOETIC)
    path = folder / 'ros1_bomb.bag'
    bag = Writer1(path)
    bag.set_compression(Writer1.CompressionFormat.BZ2)
    bag.compressor = packed
    with bag:
        connection = bag.add_connection('/image', IMAGE, typestore=store)
        stamp = store.types['builtin_interfaces/msg/Time'](1, 0)
        header = store.types['std_msgs/msg/Header'](0, stamp, 'camera')
        pixels = np.zeros(12, np.uint8)
        image = store.types[IMAGE](header, 2, 2, 'rgb8', 0, 6, pixels)
        bag.write(connection, START, store.serialize_ros1(image, IMAGE))
    return path


def _of_images(name: str, data: Callable[[float], bytes]) -> Callable[..., Path]:
    def write(folder: Path, size: float = 1.0) -> Path:
        image = {'header': {}, 'format': 'jpeg', 'data': data(size)}
        with BagWriter(folder / name) as bag:
            for number in range(2):
                bag.write('/image/compressed', COMPRESSED, image, START + number * _PERIOD)
        return folder / name

    return write


BAGS: dict[str, Callable[..., Path]] = {
    'recursive_view': recursive_view,
    'endless_definitions': endless_definitions,
    'generated_messages': generated_messages,
    'chunk_bomb': chunk_bomb,
    'lying_chunk': lying_chunk,
    'message_bomb': message_bomb,
    'file_bomb': file_bomb,
    'ros1_bomb': ros1_bomb,
    'same_chunk': same_chunk,
    'overlapping_chunks': overlapping_chunks,
    'many_chunks': many_chunks,
    'string_array': _defined('string_array', 'string[200000000] names'),
    'number_array': _defined('number_array', 'uint8[60000000000] numbers'),
    'nested_arrays': _defined('nested_arrays', f'own_msgs/A0[1000] a\n{_NESTED}'),
    'recursive_type': _defined('recursive_type', f'own_msgs/A a\n{_LINE}\nMSG: own_msgs/A\nA a\n'),
    'empty_elements': _defined(
        'empty_elements', f'own_msgs/A[] a\n{_LINE}\nMSG: own_msgs/A\nuint8[0] a\n'
    ),
    'type_fields': _defined('type_fields', '\n'.join(f'uint8 f{n}' for n in range(200_000))),
    'shifted_constant': _defined(
        'shifted_constant', _struct('const long A = 1 << 60000000000;'), 'ros2idl'
    ),
    'powers': _defined('powers', _struct(f'const long A = {"9" * 5000};'), 'ros2idl'),
    'many_channels': many_channels,
    'many_fields': many_fields,
    'long_qos': long_qos,
    'yaml_aliases': _metadata('yaml_aliases', _aliases),
    'yaml_merges': _metadata('yaml_merges', _merged),
    'yaml_depth': _metadata('yaml_depth', lambda text, size: '[' * 100_000),
    'yaml_comment': _metadata('yaml_comment', _comment),
    'slow_jpeg': _of_images('slow_jpeg', slow_jpeg),
    'large_png': _of_images('large_png', large_png),
}
