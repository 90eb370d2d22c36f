# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Images: ``sensor_msgs/Image`` and ``CompressedImage`` to images and depth.

Decision: an image is always (H, W, 3) uint8 RGB. Images of 16 bits are divided by 257 and
rounded, which maps 0..65535 exactly onto 0..255; stretching to the image's own range was
rejected, since brightness would then jump between frames. ``16UC1`` and ``32FC1`` are depth,
never images; ``8UC1`` and ``8UC3`` are read as mono8 and bgr8, as cv_bridge does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
from marigold_ros.errors import InputError
from marigold_ros.message_codec import compressed
from marigold_ros.message_codec.buffers import as_bytes, byte_order, check_rows, check_size
import numpy as np


@dataclass(frozen=True)
class _Layout:
    """How one encoding lies in memory, and how its pixels become RGB of the same depth."""

    item: str  # NumPy type without byte order
    channels: int
    convert: Callable[[np.ndarray], np.ndarray] | None  # None: depth, not an image
    multiple: int = 1  # the width must be a multiple of this
    rows_per_two: int = 2  # rows in data for every two rows of the image


def _cv(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's
# first two: ROS rggb is OpenCV BG.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_GRAY = _cv(cv2.COLOR_GRAY2RGB)
_BGR = _cv(cv2.COLOR_BGR2RGB)
_UYVY = _Layout('u1', 2, _cv(cv2.COLOR_YUV2RGB_UYVY), multiple=2)
_YUYV = _Layout('u1', 2, _cv(cv2.COLOR_YUV2RGB_YUY2), multiple=2)
_LAYOUTS = {
    'rgb8': _Layout('u1', 3, np.copy),
    'bgr8': _Layout('u1', 3, _BGR),
    'rgba8': _Layout('u1', 4, _cv(cv2.COLOR_RGBA2RGB)),
    'bgra8': _Layout('u1', 4, _cv(cv2.COLOR_BGRA2RGB)),
    'rgb16': _Layout('u2', 3, np.copy),
    'bgr16': _Layout('u2', 3, _BGR),
    'mono8': _Layout('u1', 1, _GRAY),
    'mono16': _Layout('u2', 1, _GRAY),
    '8UC1': _Layout('u1', 1, _GRAY),
    '8UC3': _Layout('u1', 3, _BGR),
    'yuv422': _UYVY,
    'uyvy': _UYVY,  # the newer name of yuv422
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,  # the newer name of yuv422_yuy2
    'nv12': _Layout('u1', 1, _cv(cv2.COLOR_YUV2RGB_NV12), multiple=2, rows_per_two=3),
    'nv21': _Layout('u1', 1, _cv(cv2.COLOR_YUV2RGB_NV21), multiple=2, rows_per_two=3),
    '32FC1': _Layout('f4', 1, None),
    '16UC1': _Layout('u2', 1, None),
} | {
    f'bayer_{pattern}{bits}': _Layout(f'u{bits // 8}', 1, _cv(code))
    for pattern, code in _BAYER.items()
    for bits in (8, 16)
}
IMAGE_ENCODINGS = frozenset(name for name, layout in _LAYOUTS.items() if layout.convert)
# mono16 too: depth_image_proc takes it for millimetres as well.
_DEPTH_ENCODINGS = ('32FC1', '16UC1', 'mono16')


def check_image(message: Any) -> None:
    """
    Check from its header alone that a message holds an image; cheap, nothing is converted.

    Parameters
    ----------
    message : Image or CompressedImage
        A message with a ``format`` is taken for a CompressedImage.

    Raises
    ------
    InputError
        Cause 'encoding', 'size', 'step', 'truncated', 'empty' or 'unreadable'.

    """
    if hasattr(message, 'format'):
        compressed.check_compressed(message)
        return
    layout = _layout(message.encoding)
    if layout.convert is None:
        raise InputError(
            f'image has encoding {message.encoding}, which is depth and not an image; '
            'choose an image topic, or read it as depth',
            'encoding',
        )
    _check_layout(message, layout)


def to_rgb(message: Any) -> np.ndarray:
    """
    Decode an image.

    Parameters
    ----------
    message : Image or CompressedImage
        Honours ``step`` and ``is_bigendian``; 16 bits become 8 by dividing by 257, rounded.
        For nv12 and nv21 ``height`` is the image's; ``data`` holds 3/2 as many rows.

    Returns
    -------
    (H, W, 3) uint8
        RGB; its own memory, contiguous and writable.

    Raises
    ------
    InputError
        As ``check_image``.

    """
    check_image(message)
    if hasattr(message, 'format'):
        pixels, encoding = compressed.decode_image(message)
        pattern = encoding.removeprefix('bayer_')[:4]
        if pixels.ndim == 2 and encoding.startswith('bayer_') and pattern in _BAYER:
            return _to_8bit(_converted(pixels, _cv(_BAYER[pattern]), encoding))
        if pixels.ndim == 2:
            return _to_8bit(_GRAY(pixels))
        return _to_8bit(np.ascontiguousarray(pixels))
    layout = _LAYOUTS[message.encoding]
    assert layout.convert is not None  # check_image refused depth
    return _to_8bit(_converted(_pixels(message, layout), layout.convert, message.encoding))


def to_depth(message: Any) -> np.ndarray:
    """
    Decode a depth image.

    Parameters
    ----------
    message : Image or CompressedImage
        32FC1 in metres, 16UC1 or mono16 in millimetres; compressed: 16-bit PNG in millimetres,
        or the compressedDepth format with PNG (REP 118, image_transport_plugins).

    Returns
    -------
    (H, W) float32, metres
        Along the optical axis. NaN where there is no value: 0, negative, infinite and NaN pixels.

    Raises
    ------
    InputError
        As ``check_image``; cause 'encoding' for an image.

    """
    if hasattr(message, 'format'):
        depth = compressed.decode_depth(message)
    else:
        layout = _layout(message.encoding)
        if message.encoding not in _DEPTH_ENCODINGS:
            raise InputError(
                f'image has encoding {message.encoding}, which is not depth; '
                f'choose a topic with {" or ".join(_DEPTH_ENCODINGS)}',
                'encoding',
            )
        _check_layout(message, layout)
        depth = compressed.metres(_pixels(message, layout))
    depth[~((depth > 0) & np.isfinite(depth))] = np.nan
    return depth


def _layout(encoding: str) -> _Layout:
    if encoding in _LAYOUTS:
        return _LAYOUTS[encoding]
    raise InputError(
        f'image has unknown encoding {encoding!r}; known are {", ".join(sorted(_LAYOUTS))}',
        'encoding',
    )


def _check_layout(message: Any, layout: _Layout) -> None:
    height, width, step = int(message.height), int(message.width), int(message.step)
    check_size(height, width)
    if width % layout.multiple or height * layout.rows_per_two % 2:
        raise InputError(
            f'{message.encoding} image is {width}x{height} px; its sides must be even; '
            'check what the driver writes',
            'size',
        )
    itemsize = np.dtype(layout.item).itemsize
    if step % itemsize:
        raise InputError(
            f'{message.encoding} image has step {step}, not a multiple of {itemsize} bytes; '
            'check the driver',
            'step',
        )
    length = len(as_bytes(message.data, 'image'))
    rows = height * layout.rows_per_two // 2
    check_rows(rows, width * layout.channels * itemsize, step, length, f'{message.encoding} image')


def _pixels(message: Any, layout: _Layout) -> np.ndarray:
    """Return pixels in native byte order; a view of the message where nothing must move."""
    rows = int(message.height) * layout.rows_per_two // 2
    dtype = np.dtype(byte_order(message.is_bigendian) + layout.item)
    pixel_bytes = layout.channels * dtype.itemsize
    pixels: np.ndarray = np.ndarray(
        (rows, int(message.width), layout.channels),
        dtype,
        as_bytes(message.data, 'image'),
        strides=(int(message.step), pixel_bytes, dtype.itemsize),
    )
    if layout.channels == 1:
        pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels, dtype=dtype.newbyteorder('='))


def _converted(
    pixels: np.ndarray, convert: Callable[[np.ndarray], np.ndarray], encoding: str
) -> np.ndarray:
    try:
        return convert(pixels)
    except cv2.error as error:
        raise InputError(
            f'{encoding} image of {pixels.shape[1]}x{pixels.shape[0]} px could not be converted '
            f'({error.err}); check size and encoding',
            'size',
        ) from error


def _to_8bit(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    # 65535 / 255 = 257; an odd divisor has no ties, so adding its half rounds correctly.
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
