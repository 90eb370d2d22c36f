# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A short synthetic drive, copies of it that are changed, and a stand-in for the network."""

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.frame import Prediction
from marigold_ros.synthetic.drive import write_drive
import numpy as np
import pytest


class Ramp:
    """Answers with a ramp: far above, near below; can be sent to another process."""

    def __init__(self):
        self.description = {'name': 'ramp', 'path': '/nowhere', 'space': 'depth'}

    def predict(self, rgb, **options):
        ramp = np.linspace(1, 0, rgb.shape[0], dtype=np.float32)[:, None]
        return Prediction(np.repeat(ramp, rgb.shape[1], axis=1))


@pytest.fixture(scope='session')
def short_drive(tmp_path_factory):
    """Three pictures of 160x120 with LiDAR, true depth and transforms."""
    folder = tmp_path_factory.mktemp('short_drive')
    return write_drive(folder / 'drive', frames=3, width=160, height=120)


@pytest.fixture(scope='session')
def changed_drive(short_drive):
    """
    Give a function that copies the drive, message by message.

    ``change(topic, message, log_ns)`` gives None to leave a message out, and else the topic, what
    its fields become (mapping of name to value) and the time of recording.
    """

    def copy(path, change=lambda *message: (message[0], {}, message[2]), storage='mcap'):
        with BagReader(short_drive) as reader, BagWriter(path, storage) as bag:
            for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
                message = reader.decode(data, msgtype)
                answer = change(topic, message, log_ns)
                if answer is None:
                    continue
                to, fields, at_ns = answer
                if not fields:
                    bag.write_raw(to, msgtype, bytes(data), at_ns)
                    continue
                bag.write(to, msgtype, {**plain(message), **fields}, at_ns)
        return path

    return copy


def plain(message):
    """Give a message of the rosbags library as nested dictionaries."""
    if not hasattr(message, '__dataclass_fields__'):
        return [plain(item) for item in message] if isinstance(message, list) else message
    names = [name for name in message.__dataclass_fields__ if name.islower()]  # no constants
    names = [name for name in names if not name.startswith('__')]
    return {name: plain(getattr(message, name)) for name in names}


@pytest.fixture(scope='session')
def ramp():
    """Give the stand-in for the network."""
    return Ramp()
