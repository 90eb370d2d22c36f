# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Uploads: refused by their name and length before they are read, then written to a temporary file.

The body of a request is the file itself, so that nothing is parsed and nothing is held in memory.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

import anyio
from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.models.hub import as_size
from marigold_ros.replay.inspection import check_scorable
from marigold_ros.replay.photos import (
    IMAGE_SUFFIXES,
    open_video,
    read_image,
    UNREAD_REMEDY,
    UNREAD_SUFFIXES,
    VIDEO_SUFFIXES,
)
from marigold_ros.replay.replay_plan import plan_replay, ReplayOptions
from PIL import Image

BAG_SUFFIXES = ('.mcap', '.bag', '.db3')
MOST_PIXELS = 64_000_000
SILENCE_S = 60.0  # a phone that left the network while it sent says nothing any more
_JOINERS = '\u200c\u200d'  # within words of Persian and Hindi, and within emoji
_LONGEST_NAME = 200  # bytes; results add some to it


class Refused(MarigoldError):
    """An upload or request that is not accepted, with the status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Largest uploads, bytes."""

    photo: int = 50_000_000
    other: int = 2_000_000_000  # videos and bags


@dataclass(frozen=True)
class Upload:
    """What an upload is by its name: photo, video or bag."""

    name: str
    kind: str


def check_name(name: str) -> Upload:
    """Return what a file is by its name; raises Refused for names that cannot be used."""
    if not name:
        raise Refused(400, 'the file has no name; send it as ?name=…')
    size = len(name.encode())
    if size > _LONGEST_NAME:
        raise Refused(400, f'the name has {size} bytes and may have {_LONGEST_NAME}; shorten it')
    if not is_one_line(name) or '/' in name or '\\' in name or name.startswith('.'):
        raise Refused(
            400,
            f'{ascii(name)} is not a plain file name; leave out folders, control characters and '
            'a leading dot',
        )
    suffix = Path(name).suffix.lower()
    kinds = {'photo': IMAGE_SUFFIXES, 'video': VIDEO_SUFFIXES, 'bag': BAG_SUFFIXES}
    for kind, suffixes in kinds.items():
        if suffix in suffixes:
            return Upload(name, kind)
    if suffix in UNREAD_SUFFIXES:
        raise Refused(415, f'{name}: {UNREAD_REMEDY}')
    known = ', '.join(s for suffixes in kinds.values() for s in suffixes)
    raise Refused(415, f'{name} is of no known kind; give one of {known}')


def is_one_line(text: str) -> bool:
    """Return whether a text has no control character; spaces of other widths are none."""
    return all(c.isprintable() or category(c) == 'Zs' or c in _JOINERS for c in text)


def check_length(upload: Upload, text: str | None, limits: Limits) -> int:
    """Return the length of an upload from its header; raises Refused before a byte is read."""
    if text is None or not (text.isascii() and text.isdecimal()):
        raise Refused(411, f'{upload.name} comes without its length; send a Content-Length')
    length = int(text) if len(text) < 19 else 10**19
    most = limits.photo if upload.kind == 'photo' else limits.other
    if length > most:
        remedy = 'reduce it' if upload.kind == 'photo' else 'cut it, or start with --max-upload'
        raise Refused(
            413,
            f'{upload.name} has {as_size(length)}, and a {upload.kind} may have {as_size(most)}; '
            f'{remedy}',
        )
    if not length:
        raise Refused(400, f'{upload.name} is empty; choose another file')
    return length


async def receive(chunks: AsyncIterator[bytes], length: int, path: Path) -> None:
    """Write the body of a request to a file; raises Refused if it is not of its length."""
    count = 0
    async with await anyio.open_file(path, 'wb') as file:
        while count <= length:
            chunk = b''
            with anyio.move_on_after(SILENCE_S):
                chunk = await anext(chunks, b'')
            if not chunk:
                break
            count += len(chunk)
            await file.write(chunk)
    if count != length:
        raise Refused(
            400,
            f'{path.name} has {count} bytes where {length} were announced; send it again',
        )


def check_content(upload: Upload, path: Path) -> None:
    """Raise a MarigoldError that names the file if it is not what its name says."""
    try:
        {'photo': _check_photo, 'video': _check_video, 'bag': check_bag}[upload.kind](path)
    except MarigoldError as error:
        # Names in errors can be changed: their spaces are single ones.
        text = str(error).replace(f'{path.parent}/', '')
        text = text if text != str(error) else f'{upload.name}: {text}'
        raise Refused(422, text) from error


def check_bag(path: Path) -> None:
    """Raise BagError if a bag cannot be read, or a few of its images show nothing to score."""
    plan_replay([path], ReplayOptions())
    check_scorable([path], ReplayOptions())


def _check_photo(path: Path) -> None:
    """Check format and size by the header, because small files can hold enormous images."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise InputError(f'it has more than {MOST_PIXELS} pixels; reduce it') from None
    except Exception as error:  # parsers of damaged files raise whatever they meet
        raise InputError('it is no image that can be read; give a JPEG, PNG, TIFF, …') from error
    if width * height > MOST_PIXELS:
        raise InputError(f'it has {width}x{height} pixels, and may have {MOST_PIXELS}; reduce it')
    read_image(path)


def _check_video(path: Path) -> None:
    with open_video(path) as video:
        first = next(video.images, None)
    if first is None:
        raise InputError('it has no image that OpenCV can read; give an MP4')
    if first.shape[0] * first.shape[1] > MOST_PIXELS:
        raise InputError(f'its images have more than {MOST_PIXELS} pixels; reduce it')
