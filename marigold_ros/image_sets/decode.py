# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Decoding of image and depth files from bytes; truncated or unsuitable files are refused.

A PNG or JPEG is bounded by its header. Files of strangers in other formats are decoded in a child
process with limits first (`try_image`, `try_video`).
"""

from collections.abc import Callable
from contextlib import suppress
import io
from pathlib import Path

import cv2
from marigold_ros.errors import InputError
from marigold_ros.message_codec.image_files import check_work, PNG, unturned
import numpy as np

PNG_END = b'IEND\xaeB`\x82'
JPEG, JPEG_SCAN, JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
SATURATED = 65535  # of 16-bit depth: capped by its writer, or its mark of unknown depth
_MOST_VIDEO_PIXELS = 7680 * 4320  # codecs keep up to 16 images


def decode_image_file(data: bytes, name: str) -> np.ndarray:
    """
    Decode an image to (H, W, 3) uint8, ignoring EXIF and TIFF rotation, which depth lacks.

    Raises InputError naming ``name`` if the bytes are truncated or not an image.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.cvtColor(to_8_bit(_decode(data, name, flags), name), cv2.COLOR_BGR2RGB)


def to_8_bit(bgr: np.ndarray, what: str, say: Callable[[str], object] | None = None) -> np.ndarray:
    """Return the upper 8 of the bits that an image uses; ``say`` reports fewer than its 16."""
    if bgr.dtype == np.uint16:
        largest = int(bgr.max())
        bits = max(8, largest.bit_length())
        if say and bits < 16:
            say(f'its 16-bit values end at {largest}, so they are taken for {bits}-bit ones')
        return np.right_shift(bgr, bits - 8).astype(np.uint8)
    if bgr.dtype != np.uint8:
        text = f'{what} holds {bgr.dtype} values, and a photo has 8 or 16 bits; convert it'
        raise InputError(text, 'encoding')
    return bgr


def decode_depth_file(data: bytes, name: str) -> np.ndarray:
    """
    Decode depth to (H, W), uint16 or float32.

    ``data`` is a 16-bit PNG, a TIFF, an EXR where OpenCV was built with it, or an .npy; ``name``
    is the file's, for its suffix and messages. Raises InputError if the bytes are truncated, or
    hold colours or 8-bit values.
    """
    if name.lower().endswith('.npy'):
        try:
            # np.load would also take an archive of arrays.
            depth = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        except Exception as error:  # a damaged header can fail anywhere in NumPy
            raise InputError(
                f'{name} is cut off or not an .npy file ({error})', 'truncated'
            ) from error
    else:
        depth = _decode(data, name, cv2.IMREAD_UNCHANGED)
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2:
        raise InputError(f'{name} has shape {depth.shape}; depth is (H, W)', cause='shape')
    if depth.dtype.kind == 'f':
        return depth.astype(np.float32)
    if (depth.dtype.kind, depth.dtype.itemsize) != ('u', 2):
        raise InputError(
            f'{name} holds {depth.dtype}; depth must be unsigned 16-bit integers or floating '
            'point',
            cause='encoding',
        )
    return depth.astype(np.uint16, copy=False)  # of either byte order


def _decode(data: bytes, name: str, flags: int) -> np.ndarray:
    if is_cut_off(data):
        raise InputError(f'{name} is cut off after {len(data)} bytes; fetch it again', 'truncated')
    check_work(data, name)
    with suppress(cv2.error):
        image = cv2.imdecode(np.frombuffer(unturned(data), np.uint8), flags)
        if image is not None:
            return image
    if name.lower().endswith('.exr'):
        raise InputError(
            f'{name}: OpenCV lacks OpenEXR, or the file is damaged; convert it to .npy or float '
            'TIFF, or set OPENCV_IO_ENABLE_OPENEXR=1 with an OpenCV built with OpenEXR'
        )
    raise InputError(f'{name} is damaged or not an image; fetch it again')


def to_metres(stored: np.ndarray, per_metre: float, saturated: float = np.nan) -> np.ndarray:
    """Return metres, float32, of integers ``per_metre``; floating-point values are metres."""
    if stored.dtype.kind == 'f':
        return stored
    metres = stored.astype(np.float32) / np.float32(per_metre)
    metres[stored == SATURATED] = saturated
    return metres


def is_cut_off(data: bytes) -> bool:
    """Return whether a PNG or JPEG lacks its end, which old decoders fill up with grey."""
    if data.startswith(PNG):
        return data.rfind(PNG_END) < 0
    if data.startswith(JPEG):
        # From the last scan on: a thumbnail in the header has its own end.
        return data.find(JPEG_END, max(0, data.rfind(JPEG_SCAN))) < 0
    return not data


def try_image(path: Path) -> None:
    """Decode an image file."""
    cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)


def try_video(path: Path) -> None:
    """Decode the first image of a video file; raises InputError if images are too large."""
    path.open('rb').close()  # raises where it may not be read, which OpenCV does not name
    capture = cv2.VideoCapture(str(path))
    width, height = (
        int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if width * height > _MOST_VIDEO_PIXELS:
        raise InputError(
            f'its images have {width}x{height} px, and those of a video may have '
            f'{_MOST_VIDEO_PIXELS} in all; reduce them'
        )
    capture.read()
