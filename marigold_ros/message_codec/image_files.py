# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What headers state of image files, before anything is decoded.

Small files can hold enormous images, and a JPEG can go over its pixels thousands of times.
"""

from contextlib import suppress
import struct

from marigold_ros.errors import InputError

PNG, JPEG = b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff'
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette becomes colours
_MOST_BYTES = 1 << 28  # decoded: 89 megapixels in 8-bit colour, 134 of 16-bit depth
_MOST_SCANNED = 1 << 30  # pixels of all scans together: ten scans of 100 megapixels
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_TIFF_ORDER = {b'II*\0': '<', b'MM\0*': '>'}
_ORIENTATION = 274, 3, 1  # tag, type (16 bits) and number of values


def check_work(content: bytes, what: str) -> None:
    """
    Raise InputError (cause 'size') for a PNG or JPEG that takes too much to decode.

    Of other content, and of one without its header, nothing is said.
    """
    scans, pixel_bytes, size = 1, 3, None
    if content.startswith(PNG) and len(content) >= 26:
        width, height, depth, colour = struct.unpack_from('>IIBB', content, 16)
        size = width, height
        pixel_bytes = _PNG_CHANNELS.get(colour, 4) * (2 if depth == 16 else 1)
    elif content.startswith(JPEG):
        size, _ = jpeg_frame(content)
        # Within a scan 0xff is always followed by 0.
        scans = content.count(bytes([0xFF, _START_OF_SCAN]))
    if size is None:
        return
    width, height = size
    if width * height * pixel_bytes > _MOST_BYTES:
        raise InputError(
            f'{what} states {width}x{height} px of {pixel_bytes} bytes, more than {_MOST_BYTES} '
            'bytes in all; reduce it',
            'size',
        )
    if width * height * scans > _MOST_SCANNED:
        raise InputError(
            f'{what} goes over its {width}x{height} px {scans} times, more than {_MOST_SCANNED} '
            'px in all; save it without progressive scans',
            'size',
        )


def jpeg_frame(content: bytes) -> tuple[tuple[int, int] | None, int]:
    """Return (width, height) or None, and where the first scan starts or -1."""
    size, at = None, 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _START_OF_SCAN:
            return size, at
        if marker in _START_OF_FRAME:
            size = struct.unpack_from('>HH', content, at + 5)[::-1]
        at += 2 + struct.unpack_from('>H', content, at + 2)[0]
    return size, -1


def unturned(content: bytes) -> bytes:
    """Return a TIFF with orientation 1, as OpenCV turns TIFFs despite its flags; others as is."""
    order = _TIFF_ORDER.get(content[:4])
    if order is None:
        return content
    with suppress(struct.error):  # of a TIFF that is cut off
        (at,) = struct.unpack_from(f'{order}I', content, 4)
        (count,) = struct.unpack_from(f'{order}H', content, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            if struct.unpack_from(f'{order}HHI', content, entry) == _ORIENTATION:
                return content[: entry + 8] + struct.pack(f'{order}H', 1) + content[entry + 10 :]
    return content
