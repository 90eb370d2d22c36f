# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Encode arrays as the fields of ``sensor_msgs/Image`` and ``CompressedImage``."""

from dataclasses import dataclass
import math

import cv2
from marigold_ros.errors import InputError
from marigold_ros.message_codec.buffers import check_size
from marigold_ros.message_codec.images import DEPTH_HEADER
import numpy as np

_WRITTEN = {
    'rgb8': ('u1', 3),
    'bgr8': ('u1', 3),
    'mono8': ('u1', 1),
    '32FC1': ('f4', 1),
    '16UC1': ('u2', 1),
}
_MAX_CODE = 65535  # of an unsigned 16-bit pixel
# Metres of quantisation of compressed_depth_image_transport: its parameter depth_quantization.
_DEPTH_QUANTISATION = 100.0


@dataclass(frozen=True)
class ImageFields:
    """The fields of a ``sensor_msgs/Image`` without header; ``data`` is (n,) uint8."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


@dataclass(frozen=True)
class CompressedFields:
    """The fields of a ``sensor_msgs/CompressedImage`` without header; ``data`` is (n,) uint8."""

    format: str
    data: np.ndarray


def encode_image(array: np.ndarray, encoding: str) -> ImageFields:
    """
    Encode an array as an Image without padding.

    Parameters
    ----------
    array : (H, W) or (H, W, 3)
        uint8 for rgb8, bgr8, mono8; float32 for 32FC1; uint16 for 16UC1. It is not converted.
    encoding : str
        One of these five.

    Returns
    -------
    ImageFields
        Little endian; ``data`` is a view of ``array`` where that is contiguous.

    Raises
    ------
    InputError
        Cause 'encoding' or 'shape'.

    """
    if encoding not in _WRITTEN:
        raise InputError(
            f'cannot write encoding {encoding!r}; choose one of {", ".join(_WRITTEN)}', 'encoding'
        )
    item, channels = _WRITTEN[encoding]
    inner = () if channels == 1 else (channels,)
    fits = array.ndim == 2 + len(inner) and array.shape[2:] == inner
    if not fits or array.dtype.newbyteorder('=') != np.dtype(item):
        wanted = '(H, W)' if channels == 1 else f'(H, W, {channels})'
        raise InputError(
            f'{encoding} got an array {array.shape} of {array.dtype}; '
            f'give {wanted} of {np.dtype(item)}',
            'shape',
        )
    height, width = array.shape[:2]
    check_size(height, width, encoding)
    pixels = np.ascontiguousarray(array, dtype=f'<{item}')
    step = width * channels * pixels.itemsize
    return ImageFields(height, width, encoding, 0, step, pixels.reshape(-1).view(np.uint8))


def encode_depth(depth_m: np.ndarray, encoding: str = '32FC1') -> ImageFields:
    """
    Encode depth as an Image by REP 118.

    Parameters
    ----------
    depth_m : (H, W) float, metres
        NaN marks an invalid pixel, +Inf one without return (REP 117).
    encoding : '32FC1' or '16UC1'
        Metres, or millimetres: rounded, and 0 where the value is not finite, not positive or
        above 65.535 m (a value that wraps would turn 80 m into 14.46 m).

    Returns
    -------
    ImageFields

    Raises
    ------
    InputError
        Cause 'encoding' or 'shape'.

    """
    if encoding == '32FC1':
        return encode_image(np.asarray(depth_m, np.float32), encoding)
    if encoding != '16UC1':
        raise InputError(
            f'cannot write depth as {encoding!r}; choose 32FC1 (metres) or 16UC1 (millimetres)',
            'encoding',
        )
    millimetres = np.rint(np.asarray(depth_m, np.float64) * 1000.0)
    inside = (millimetres >= 0) & (millimetres <= _MAX_CODE)  # False for NaN
    return encode_image(np.where(inside, millimetres, 0).astype(np.uint16), encoding)


def encode_jpeg(rgb: np.ndarray, quality: int = 90) -> CompressedFields:
    """
    Encode an image as jpeg, as image_transport does.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    quality : int
        In [1, 100].

    Returns
    -------
    CompressedFields
        Format 'rgb8; jpeg compressed bgr8'.

    Raises
    ------
    InputError
        Cause 'shape' for another array, 'encoding' for another quality.

    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(
            f'jpeg got an array {rgb.shape} of {rgb.dtype}; give (H, W, 3) uint8', 'shape'
        )
    check_size(rgb.shape[0], rgb.shape[1], 'jpeg image')
    if not 1 <= quality <= 100:
        raise InputError(f'jpeg quality is {quality}; choose a value in [1, 100]', 'encoding')
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return CompressedFields('rgb8; jpeg compressed bgr8', data.reshape(-1))


def encode_compressed_depth(depth_m: np.ndarray, depth_max: float = 100.0) -> CompressedFields:
    """
    Encode depth in the format of compressed_depth_image_transport.

    With ``A = q (q + 1)``, ``q = 100`` and ``B = 1 - A / depth_max``, a pixel is the 16-bit
    rounded ``A / depth + B``. Depth below ``A / (65535 - B)`` (0.154 m for 100 m) saturates, as
    in upstream's encoder, which truncates; rounding halves the error.

    Parameters
    ----------
    depth_m : (H, W) float, metres
        Written as 0, no value, where not finite, not positive, or not below ``depth_max``.
    depth_max : float, metres

    Returns
    -------
    CompressedFields
        Format '32FC1; compressedDepth png'.

    Raises
    ------
    InputError
        Cause 'shape' for another array, 'encoding' for a ``depth_max`` that is not positive.

    """
    if depth_m.ndim != 2:
        raise InputError(
            f'compressedDepth got an array {depth_m.shape}; give depth as (H, W)', 'shape'
        )
    check_size(depth_m.shape[0], depth_m.shape[1], 'compressedDepth')
    if not (math.isfinite(depth_max) and depth_max > 0):
        raise InputError(f'depth_max is {depth_max}; give a positive number of metres', 'encoding')
    quant_a = _DEPTH_QUANTISATION * (_DEPTH_QUANTISATION + 1.0)
    quant_b = 1.0 - quant_a / depth_max
    depth = np.asarray(depth_m, np.float32)
    with np.errstate(divide='ignore', over='ignore'):
        inverse = np.float32(quant_a) / depth
    inverse += np.float32(quant_b + 0.5)  # the cast below truncates, so half a code rounds
    np.minimum(inverse, _MAX_CODE, out=inverse)
    valid = (depth > 0) & (depth < depth_max)  # False for NaN
    pixels = np.where(valid, inverse, 0).astype(np.uint16)
    _, png = cv2.imencode('.png', pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    header = np.frombuffer(DEPTH_HEADER.pack(0, quant_a, quant_b), np.uint8)
    data = np.concatenate([header, png.reshape(-1)])
    return CompressedFields('32FC1; compressedDepth png', data)
