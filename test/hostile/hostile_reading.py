# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Read a file of a stranger as the commands do, and say how it went.

  python test/hostile/hostile_reading.py FILE     one line of JSON

An error that is not a known one keeps its traceback. `read` serves trials that read many files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
import sys

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import LidarConfig
from marigold_ros.errors import MarigoldError
from marigold_ros.replay.inspection import inspect_bag
from marigold_ros.replay.photos import IMAGE_SUFFIXES, read_image
from marigold_ros.replay.replay_plan import ReplayOptions


@dataclass
class Reading:
    """Images that could be read, and every sentence that was said about the others."""

    images: int = 0
    said: list[str] = field(default_factory=list)


def read(path: Path) -> Reading:
    """Read an image file or a bag: a look at it first, then all of it."""
    reading = Reading()
    if path.suffix in IMAGE_SUFFIXES:
        try:
            reading.images = min(read_image(path).shape[:1][0], 1)
        except MarigoldError as error:
            reading.said.append(str(error))
        return reading
    try:
        reading.said += inspect_bag(path, ReplayOptions())['problems']
        with BagReader(path) as reader:
            for item in bag_frames(reader, reader.choose_topics(), LidarConfig()):
                reading.images += item.frame is not None
                reading.said += {str(item.error or ''), item.warning} - {'', *reading.said}
    except MarigoldError as error:
        reading.said.append(str(error))
    return reading


if __name__ == '__main__':
    print(json.dumps(asdict(read(Path(sys.argv[1])))))
