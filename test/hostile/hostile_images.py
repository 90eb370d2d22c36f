# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Generators of image files that mean harm; ``size`` is as in `hostile_bags`."""

from __future__ import annotations

from collections.abc import Callable
import struct
import zlib

import cv2
import numpy as np


def slow_jpeg(size: float = 1.0) -> bytes:
    """A progressive JPEG of 1.8 MB whose thousands of scans each go over all of its pixels."""
    side = int(4096 * size**0.5) // 8 * 8
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 1]
    image = cv2.imencode('.jpg', np.zeros((side, side), np.uint8), options)[1].tobytes()
    start = image.index(b'\xff\xda')
    first_scan = image[start : image.index(b'\xff', start + 2)]
    first_end = len(first_scan) + start
    while image[first_end : first_end + 2] == b'\xff\x00':
        first_end = image.index(b'\xff', first_end + 2)
    scans = image[first_end:-2]
    # The last scan, which refines, may come again and again: nothing is left to refine.
    last = scans[scans.rindex(b'\xff\xda') :]
    count = max(int(1_800_000 * size) // len(last), 20)
    return image[:-2] + last * count + b'\xff\xd9'


def large_png(size: float = 1.0) -> bytes:
    """A PNG of 134 megapixels with four channels of 16 bits, from 1 MB."""
    width, height = 11585, int(11585 * size**0.4)
    packer = zlib.compressobj(9)
    row = bytes(1 + width * 8)
    packed = b''.join(packer.compress(row) for _ in range(height)) + packer.flush()

    def part(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

    head = struct.pack('>IIBBBBB', width, height, 16, 6, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + part(b'IHDR', head) + part(b'IDAT', packed) + part(b'IEND', b'')


IMAGES: dict[str, tuple[str, Callable[[float], bytes]]] = {
    'slow_jpeg': ('.jpg', slow_jpeg),
    'large_png': ('.png', large_png),
}
