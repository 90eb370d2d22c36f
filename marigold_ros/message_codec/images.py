# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Decode ``sensor_msgs/Image`` and ``CompressedImage`` to RGB images and depth, and encode both.

Decision: 16 bits are divided by 257 and rounded, because stretching to an image's own range lets
brightness jump between frames. The codec of compressed data is found from its first bytes, not
from ``format``, which drivers fill freely; OpenCV decodes a truncated jpeg without an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
import struct
from typing import Any

import cv2
from marigold_ros.errors import InputError
from marigold_ros.message_codec.buffers import as_bytes, check_rows, check_size
from marigold_ros.message_codec.image_files import check_work, JPEG, jpeg_frame, PNG
import numpy as np

_DEPTH_HEADER = struct.Struct('<iff')  # of compressedDepth: kind (0: inverse depth), A, B
_WRITTEN = ('rgb8', 'bgr8', 'mono8', '32FC1', '16UC1')
_MAX_CODE = 65535  # of an unsigned 16-bit pixel
_JPEG_QUALITY = 90
# Metres; the parameter depth_quantization of compressed_depth_image_transport.
_DEPTH_QUANTISATION = 100.0


@dataclass(frozen=True)
class _Layout:
    """How one encoding lies in memory, and how its pixels become RGB of the same bit depth."""

    item: str  # NumPy type without byte order
    channels: int
    convert: Callable[[np.ndarray], np.ndarray] = np.copy
    is_depth: bool = False  # and not an image
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
    'rgb8': _Layout('u1', 3),
    'bgr8': _Layout('u1', 3, _BGR),
    'rgba8': _Layout('u1', 4, _cv(cv2.COLOR_RGBA2RGB)),
    'bgra8': _Layout('u1', 4, _cv(cv2.COLOR_BGRA2RGB)),
    'rgb16': _Layout('u2', 3),
    'bgr16': _Layout('u2', 3, _BGR),
    'rgba16': _Layout('u2', 4, _cv(cv2.COLOR_RGBA2RGB)),
    'bgra16': _Layout('u2', 4, _cv(cv2.COLOR_BGRA2RGB)),
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
    '32FC1': _Layout('f4', 1, is_depth=True),
    '16UC1': _Layout('u2', 1, is_depth=True),
} | {
    f'bayer_{pattern}{bits}': _Layout(f'u{bits // 8}', 1, _cv(code))
    for pattern, code in _BAYER.items()
    for bits in (8, 16)
}
IMAGE_ENCODINGS = frozenset(name for name, layout in _LAYOUTS.items() if not layout.is_depth)
# mono16 too: depth_image_proc takes it for millimetres as well.
_DEPTH_ENCODINGS = ('32FC1', '16UC1', 'mono16')
_IS_DEPTH = ', which is depth and not an image; choose an image topic, or read it as depth'


def check_image(message: Any) -> None:
    """
    Check, without decoding it, that a message holds an image.

    Parameters
    ----------
    message : Image or CompressedImage
        A message with a ``format`` is a CompressedImage.

    Raises
    ------
    InputError
        Cause 'encoding', 'size', 'step', 'truncated', 'empty' or 'unreadable'.

    """
    if hasattr(message, 'format'):
        _check_format(message.format)
        _check_data(as_bytes(message.data, 'compressed image'))
        return
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise InputError(
            f'image has unknown encoding {message.encoding!r}; '
            f'known are {", ".join(sorted(IMAGE_ENCODINGS))}',
            'encoding',
        )
    if layout.is_depth:
        raise InputError(f'image has encoding {message.encoding}{_IS_DEPTH}', 'encoding')
    _check_layout(message, layout)


def _check_format(text: str) -> None:
    if 'compressedDepth' in text or _source_encoding(text) in ('16UC1', '32FC1'):
        raise InputError(f'compressed image has format {text!r}{_IS_DEPTH}', 'encoding')


def to_rgb(message: Any) -> np.ndarray:
    """
    Decode an image.

    Parameters
    ----------
    message : Image or CompressedImage
        With any ``step`` and byte order. For nv12 and nv21 ``height`` is the image's; ``data``
        holds 3/2 as many rows.

    Returns
    -------
    (H, W, 3) uint8
        RGB in memory of its own, contiguous and writable.

    Raises
    ------
    InputError
        As ``check_image``.

    """
    if hasattr(message, 'format'):
        _check_format(message.format)
        return _to_8bit(_decode_compressed(message))
    check_image(message)
    layout = _LAYOUTS[message.encoding]
    return _to_8bit(layout.convert(_pixels(message, layout)))


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
        Along the optical axis; NaN for pixels that are 0, negative, infinite or NaN.

    Raises
    ------
    InputError
        As ``check_image``; cause 'encoding' for an image.

    """
    if hasattr(message, 'format'):
        depth = _decode_compressed_depth(message)
    else:
        if message.encoding not in _DEPTH_ENCODINGS:
            raise InputError(
                f'image has encoding {message.encoding!r}, which is not depth; '
                f'choose a topic with {" or ".join(_DEPTH_ENCODINGS)}',
                'encoding',
            )
        layout = _LAYOUTS[message.encoding]
        _check_layout(message, layout)
        depth = _metres(_pixels(message, layout))
    depth[~((depth > 0) & np.isfinite(depth))] = np.nan
    return depth


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
    dtype = np.dtype(('>' if message.is_bigendian else '<') + layout.item)
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


def _to_8bit(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    # 65535 / 255 = 257; an odd divisor has no ties, so adding its half rounds correctly.
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decode_compressed(message: Any) -> np.ndarray:
    """Return an image as (H, W, 3) RGB of 8 or 16 bits."""
    pixels = _decode(as_bytes(message.data, 'compressed image'))
    if pixels.ndim == 2:
        source = _source_encoding(message.format)
        # image_transport of ROS 2 makes a mosaic grey before it writes a jpeg.
        if source in _LAYOUTS and 'bayer' in source and 'compressed mono' not in message.format:
            return _LAYOUTS[source].convert(pixels)
        return _GRAY(pixels)
    # image_transport writes 'compressed rgb8' where it gave RGB to an encoder that expects BGR.
    if 'compressed rgb' in message.format:
        return np.ascontiguousarray(pixels[..., :3])
    # The same as pixels[..., 2::-1], in contiguous memory and 30 times as fast.
    return _BGR(pixels)


def _decode_compressed_depth(message: Any) -> np.ndarray:
    """Return (H, W) float32 metres of a compressed depth image; invalid pixels are 0 or NaN."""
    data = as_bytes(message.data, 'compressed depth')
    text = message.format
    if 'compressedDepth' not in text:
        return _metres(_decode_16bit(data, text))
    if text.rstrip().endswith('rvl'):
        raise InputError(
            f'compressed depth has format {text!r}; only png can be read; '
            'set the format parameter of compressedDepth to png',
            'encoding',
        )
    if len(data) < _DEPTH_HEADER.size:
        raise InputError(
            f'compressed depth has {len(data)} bytes, its header alone needs '
            f'{_DEPTH_HEADER.size}; check the recording',
            'truncated' if len(data) else 'empty',
        )
    pixels = _decode_16bit(data[_DEPTH_HEADER.size :], text)
    if _source_encoding(text) in ('16UC1', 'mono16'):
        return _metres(pixels)
    _, quant_a, quant_b = _DEPTH_HEADER.unpack(data[: _DEPTH_HEADER.size].tobytes())
    if not (math.isfinite(quant_a) and math.isfinite(quant_b)):
        raise InputError(
            f'compressed depth has quantisation A={quant_a}, B={quant_b}; both must be finite; '
            'check the recording',
            'unreadable',
        )
    shifted = pixels.astype(np.float32) - np.float32(quant_b)
    valid = (pixels > 0) & (shifted > 0)
    return np.divide(quant_a, shifted, out=np.full(pixels.shape, np.nan, np.float32), where=valid)


def _source_encoding(text: str) -> str:
    """Return the encoding before compression that ``format`` states, or ''."""
    return text.split(';')[0].strip() if ';' in text else ''


def _metres(pixels: np.ndarray) -> np.ndarray:
    """Return a float32 copy in metres: uint16 counts millimetres, float32 metres."""
    depth = pixels.astype(np.float32)
    if pixels.dtype.kind == 'u':
        depth /= 1000.0
    return depth


def _decode(data: np.ndarray) -> np.ndarray:
    _check_data(data)
    try:
        pixels, why = cv2.imdecode(data, cv2.IMREAD_UNCHANGED), ''
    except cv2.error as error:
        pixels, why = None, f' ({error.err})'
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f'compressed image of {len(data)} bytes could not be decoded{why}; '
            'check the driver or the recording',
            'unreadable',
        )
    return pixels


def _decode_16bit(data: np.ndarray, text: str) -> np.ndarray:
    pixels = _decode(data)
    if pixels.dtype == np.uint16 and pixels.ndim == 2:
        return pixels
    raise InputError(
        f'compressed image with format {text!r} holds {pixels.dtype} pixels {pixels.shape}; '
        'depth needs one channel of 16 bits (png)',
        'encoding',
    )


def _check_data(data: np.ndarray) -> None:
    """Raise InputError unless ``data`` is a complete jpeg or png of a plausible size."""
    if not len(data):
        raise InputError(
            'compressed image has no data; check the driver or the recording', 'empty'
        )
    content = data.tobytes()
    if content.startswith(PNG):
        complete = content.find(b'IEND', len(PNG)) >= 0
        size = struct.unpack_from('>II', content, 16) if len(content) >= 24 else None
    elif content.startswith(JPEG):
        size, scan = jpeg_frame(content)
        # Within a scan 0xff is always followed by 0, so this can only be the end marker.
        complete = scan >= 0 and content.find(b'\xff\xd9', scan) >= 0
    else:
        raise InputError(
            f'compressed image starts with {content[:4].hex(" ")}, which is neither jpeg nor png '
            '(webp and video are not read); set the format of the driver to jpeg',
            'unreadable',
        )
    if size is None or not complete:
        raise InputError(
            f'compressed image of {len(content)} bytes ends before its image does; '
            'the message is cut short: check the driver or the recording',
            'truncated',
        )
    check_size(size[1], size[0], 'compressed image')
    check_work(content, 'compressed image')


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
    item, channels = _LAYOUTS[encoding].item, _LAYOUTS[encoding].channels
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


def encode_jpeg(rgb: np.ndarray) -> CompressedFields:
    """
    Encode an image (H, W, 3) uint8 as jpeg, as image_transport does.

    Its format is 'rgb8; jpeg compressed bgr8'. Raises InputError, cause 'shape', for others.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(
            f'jpeg got an array {rgb.shape} of {rgb.dtype}; give (H, W, 3) uint8', 'shape'
        )
    check_size(rgb.shape[0], rgb.shape[1], 'jpeg image')
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
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
    header = np.frombuffer(_DEPTH_HEADER.pack(0, quant_a, quant_b), np.uint8)
    data = np.concatenate([header, png.reshape(-1)])
    return CompressedFields('32FC1; compressedDepth png', data)
