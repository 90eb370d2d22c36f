# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Raw and compressed images: every encoding, padding and byte order, and what is refused."""

from array import array
import struct
from types import SimpleNamespace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.message_codec import (
    check_image,
    encode_compressed_depth,
    encode_depth,
    encode_image,
    encode_jpeg,
    IMAGE_ENCODINGS,
    to_depth,
    to_rgb,
)
import numpy as np
import pytest

CHANNELS = {'rgb': [0, 1, 2], 'bgr': [2, 1, 0], 'rgba': [0, 1, 2], 'bgra': [2, 1, 0]}


def image_message(rows, encoding, padding=0, is_bigendian=0, height=None):
    """Lay out rows (R, W) or (R, W, C) with random-looking padding, as a driver would."""
    rows = np.asarray(rows)
    dtype = rows.dtype.newbyteorder('>' if is_bigendian else '<')
    lines = [row.astype(dtype).tobytes() + b'\xa5' * padding for row in rows]
    return SimpleNamespace(
        height=len(rows) if height is None else height,
        width=rows.shape[1],
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=len(lines[0]),
        data=b''.join(lines),
    )


def random_pixels(seed, shape, dtype):
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high, shape, dtype, endpoint=True)


sizes = {'seed': st.integers(0, 99), 'height': st.integers(1, 9), 'width': st.integers(1, 9)}
paddings = st.sampled_from([0, 2, 6, 64])


@pytest.mark.parametrize(('bits', 'divisor'), [(8, 1), (16, 257)])
@given(**sizes, padding=paddings, bigendian=st.booleans(), name=st.sampled_from(sorted(CHANNELS)))
def test_colour_encodings_give_their_rgb_under_any_padding(
    bits, divisor, seed, height, width, padding, bigendian, name
):
    pixels = random_pixels(seed, (height, width, len(name)), f'u{bits // 8}')
    rgb = to_rgb(image_message(pixels, f'{name}{bits}', padding, bigendian))
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable
    np.testing.assert_array_equal(rgb, np.rint(pixels[..., CHANNELS[name]] / divisor))


@pytest.mark.parametrize(
    ('encoding', 'dtype', 'divisor'),
    [('mono8', 'u1', 1), ('8UC1', 'u1', 1), ('mono16', 'u2', 257)],
)
@given(**sizes, padding=paddings, bigendian=st.booleans())
def test_grey_images_repeat_their_value(
    encoding, dtype, divisor, seed, height, width, padding, bigendian
):
    pixels = random_pixels(seed, (height, width), dtype)
    rgb = to_rgb(image_message(pixels, encoding, padding, bigendian))
    np.testing.assert_array_equal(rgb, np.stack([np.rint(pixels / divisor)] * 3, axis=-1))


def test_8uc3_is_read_as_bgr():
    pixels = random_pixels(0, (4, 5, 3), np.uint8)
    np.testing.assert_array_equal(to_rgb(image_message(pixels, '8UC3')), pixels[..., ::-1])


@settings(max_examples=min(30, settings().max_examples))
@given(
    pattern=st.sampled_from(['rggb', 'bggr', 'gbrg', 'grbg']),
    bits=st.sampled_from([8, 16]),
    bigendian=st.booleans(),
    padding=paddings,
    colour=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_a_mosaic_of_one_colour_gives_that_colour(pattern, bits, bigendian, padding, colour):
    scale = 1 if bits == 8 else 257
    mosaic = np.empty((8, 10), f'u{bits // 8}')
    for index, letter in enumerate(pattern):
        mosaic[index // 2 :: 2, index % 2 :: 2] = colour['rgb'.index(letter)] * scale
    message = image_message(mosaic, f'bayer_{pattern}{bits}', padding, bigendian)
    rgb = to_rgb(message).astype(int)
    # OpenCV leaves a border of one pixel to replication, which is exact for one colour too.
    np.testing.assert_array_equal(rgb, np.broadcast_to(colour, rgb.shape))


def legal_luma(seed, shape):
    """Luma in its limited range; OpenCV clamps what is below it."""
    return np.random.default_rng(seed).integers(16, 236, shape, np.uint8)


def yuv_to_rgb(y, u, v):
    """BT.601 limited range by its definition."""
    y, u, v = 1.164383 * (y - 16.0), u - 128.0, v - 128.0
    rgb = [y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u]
    return np.clip(np.stack(rgb, axis=-1), 0, 255)


@given(
    seed=st.integers(0, 99),
    height=st.integers(1, 6),
    half=st.integers(1, 5),
    padding=paddings,
    encoding=st.sampled_from(['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv']),
)
def test_yuv422_follows_its_definition(seed, height, half, padding, encoding):
    y = legal_luma(seed, (height, 2 * half))
    u, v = random_pixels(seed + 1, (2, height, half), np.uint8)
    chroma = np.empty_like(y)
    chroma[:, ::2], chroma[:, 1::2] = u, v
    order = [chroma, y] if encoding in ('yuv422', 'uyvy') else [y, chroma]
    rgb = to_rgb(image_message(np.stack(order, axis=-1), encoding, padding))
    expected = yuv_to_rgb(y, u.repeat(2, axis=1), v.repeat(2, axis=1))
    assert np.abs(rgb - expected).max() <= 2


@given(
    seed=st.integers(0, 99),
    half_height=st.integers(1, 4),
    half=st.integers(1, 5),
    padding=paddings,
    encoding=st.sampled_from(['nv12', 'nv21']),
)
def test_nv12_and_nv21_follow_their_definition(seed, half_height, half, padding, encoding):
    y = legal_luma(seed, (2 * half_height, 2 * half))
    u, v = random_pixels(seed + 1, (2, half_height, half), np.uint8)
    pair = (u, v) if encoding == 'nv12' else (v, u)
    chroma = np.stack(pair, axis=-1).reshape(half_height, 2 * half)
    message = image_message(np.vstack([y, chroma]), encoding, padding, height=2 * half_height)
    rgb = to_rgb(message)
    expected = yuv_to_rgb(y, *(c.repeat(2, axis=0).repeat(2, axis=1) for c in (u, v)))
    assert rgb.shape == (2 * half_height, 2 * half, 3)
    assert np.abs(rgb - expected).max() <= 2


@given(**sizes, padding=st.sampled_from([0, 4, 60]), bigendian=st.booleans())
def test_32fc1_is_metres_and_what_is_no_depth_is_nan(seed, height, width, padding, bigendian):
    rng = np.random.default_rng(seed)
    depth = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 0.5, 80.25], (height, width))
    depth = depth.astype(np.float32)
    read = to_depth(image_message(depth, '32FC1', padding, bigendian))
    assert read.dtype == np.float32
    expected = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
    np.testing.assert_array_equal(read, expected)


@given(
    **sizes,
    padding=paddings,
    bigendian=st.booleans(),
    encoding=st.sampled_from(['16UC1', 'mono16']),
)
def test_16uc1_is_millimetres_and_zero_is_nan(seed, height, width, padding, bigendian, encoding):
    pixels = random_pixels(seed, (height, width), np.uint16)
    pixels[0, 0] = 0
    read = to_depth(image_message(pixels, encoding, padding, bigendian))
    expected = np.where(pixels > 0, pixels / 1000.0, np.nan)
    np.testing.assert_allclose(read, expected, rtol=1e-6)


def test_16uc1_is_never_wrapped():
    invalid = [80.0, np.nan, np.inf, -np.inf, -0.2, 0.0, 65.5356]
    valid = [65.535, 65.5354, 1.0006, 0.001]
    written = encode_depth(np.array([invalid + valid]), '16UC1').data.view('<u2')
    assert written.tolist() == [0] * len(invalid) + [65535, 65535, 1001, 1]


@given(
    **sizes, encoding=st.sampled_from(['rgb8', 'bgr8', 'mono8']), order=st.sampled_from(['C', 'F'])
)
def test_written_images_are_read_back(seed, height, width, encoding, order):
    shape = (height, width) if encoding == 'mono8' else (height, width, 3)
    pixels = np.array(random_pixels(seed, shape, np.uint8), order=order)
    fields = encode_image(pixels, encoding)
    assert fields.step * fields.height == len(fields.data)
    rgb = to_rgb(fields)
    read_back = {'rgb8': rgb, 'bgr8': rgb[..., ::-1], 'mono8': rgb[..., 0]}[encoding]
    np.testing.assert_array_equal(read_back, pixels)


@given(**sizes)
def test_written_depth_is_read_back(seed, height, width):
    depth = np.random.default_rng(seed).uniform(0.1, 65.0, (height, width)).astype(np.float32)
    depth[0, 0] = np.nan
    np.testing.assert_array_equal(to_depth(encode_depth(depth)), depth)
    rounded = to_depth(encode_depth(depth, '16UC1'))
    np.testing.assert_allclose(rounded, depth, atol=0.000501)


def test_writing_a_contiguous_array_copies_nothing():
    pixels = random_pixels(0, (4, 5, 3), np.uint8)
    assert np.shares_memory(encode_image(pixels, 'rgb8').data, pixels)


@pytest.mark.parametrize(
    ('array', 'encoding', 'cause'),
    [
        (np.zeros((2, 2), np.uint8), 'rgb8', 'shape'),
        (np.zeros((2, 2, 4), np.uint8), 'bgr8', 'shape'),
        (np.zeros((2, 2), np.float64), '32FC1', 'shape'),
        (np.zeros((2, 2), np.int16), '16UC1', 'shape'),
        (np.zeros((0, 2), np.uint8), 'mono8', 'size'),
        (np.zeros((2, 2), np.uint8), 'rgba8', 'encoding'),
    ],
)
def test_arrays_that_do_not_fit_are_refused_not_converted(cause_of, array, encoding, cause):
    assert cause_of(encode_image, array, encoding) == cause


@pytest.mark.parametrize('wrap', [bytes, lambda d: array('B', d), memoryview, bytearray])
def test_every_kind_of_buffer_is_read(wrap):
    pixels = random_pixels(1, (3, 4, 3), np.uint8)
    message = image_message(pixels, 'bgr8', 2)
    message.data = wrap(message.data)
    np.testing.assert_array_equal(to_rgb(message), pixels[..., ::-1])


def test_the_result_never_aliases_the_message():
    data = np.zeros(12, np.uint8)
    message = image_message(np.zeros((2, 2, 3), np.uint8), 'rgb8')
    message.data = data
    assert not np.shares_memory(to_rgb(message), data)
    message = image_message(np.ones((2, 2), np.float32), '32FC1')
    message.data = data = np.frombuffer(message.data, np.uint8).copy()
    assert not np.shares_memory(to_depth(message), data)


@pytest.mark.parametrize('encoding', ['32FC1', '16UC1'])
def test_depth_is_refused_as_a_image_and_images_as_depth(cause_of, encoding):
    pixels = np.ones((2, 2), np.float32 if encoding == '32FC1' else np.uint16)
    assert cause_of(to_rgb, image_message(pixels, encoding)) == 'encoding'
    assert cause_of(to_depth, image_message(np.ones((2, 2), np.uint8), 'mono8')) == 'encoding'


@pytest.mark.parametrize(
    ('decode', 'read', 'other'), [(to_rgb, 'rgb8', '32FC1'), (to_depth, '32FC1', 'rgb8')]
)
def test_an_unknown_encoding_is_answered_with_those_that_can_be_read(decode, read, other):
    with pytest.raises(InputError, match=read) as error:
        decode(image_message(np.ones((2, 2), np.uint8), 'RGB8'))
    assert other not in str(error.value)


@pytest.mark.parametrize(
    ('change', 'cause'),
    [
        ({'encoding': ''}, 'encoding'),
        ({'height': 0}, 'size'),
        ({'width': 0}, 'size'),
        ({'height': 2**32 - 1}, 'size'),
        ({'width': 40000, 'step': 120000}, 'size'),
        ({'step': 0}, 'step'),
        ({'step': 11}, 'step'),
        ({'step': 2**32 - 1}, 'truncated'),
        ({'height': 5}, 'truncated'),
        ({'data': b''}, 'truncated'),
        ({'data': None}, 'unreadable'),
        ({'encoding': 'mono16', 'step': 13}, 'step'),
        ({'encoding': 'nv12', 'height': 3}, 'size'),
        ({'encoding': 'yuyv', 'width': 3}, 'size'),
    ],
)
def test_malformed_images_are_refused_by_cause_from_the_header(cause_of, change, cause):
    message = image_message(np.zeros((4, 4, 3), np.uint8), 'rgb8')
    vars(message).update(change)
    for function in (check_image, to_rgb):
        assert cause_of(function, message) == cause


any_image = st.builds(
    SimpleNamespace,
    height=st.integers(0, 2**32 - 1) | st.integers(0, 6),
    width=st.integers(0, 2**32 - 1) | st.integers(0, 6),
    step=st.integers(0, 2**32 - 1) | st.integers(0, 40),
    is_bigendian=st.booleans(),
    data=st.binary(max_size=200),
    encoding=st.sampled_from([*sorted(IMAGE_ENCODINGS), '32FC1', '16UC1', 'nonsense']),
)


@settings(max_examples=4 * settings().max_examples)
@given(any_image)
def test_any_header_either_decodes_or_raises_input_error(message):
    for function in (to_rgb, to_depth):
        try:
            decoded = function(message)
        except InputError:
            continue
        assert decoded.shape[:2] == (message.height, message.width)


def compressed_message(pixels, extension, text, prefix=b''):
    _, data = cv2.imencode(extension, pixels)
    return SimpleNamespace(format=text, data=prefix + data.tobytes())


def smooth_image():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (48, 1)), np.full((48, 64), 90, np.uint8)] + [np.tile(ramp[::-1], (48, 1))],
        axis=-1,
    )


@pytest.mark.parametrize(
    ('channels', 'text'),
    [
        (3, 'bgr8; png compressed bgr8'),
        (1, 'mono16; png compressed '),
        (4, 'bgra8; png compressed bgra8'),
    ],
)
@given(seed=st.integers(0, 99), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_png_is_exact_in_8_and_rounded_in_16_bits_without_alpha(channels, text, seed, dtype):
    pixels = random_pixels(seed, (5, 7, channels), dtype)
    rgb = to_rgb(compressed_message(pixels, '.png', text))
    expected = np.rint(pixels / (1 if dtype == np.uint8 else 257))
    np.testing.assert_array_equal(rgb, np.broadcast_to(expected[..., 2::-1], (5, 7, 3)))
    assert rgb.dtype == np.uint8
    assert rgb.flags.writeable


@pytest.mark.parametrize(
    'text', ['', 'jpeg', 'rgb8; jpeg compressed bgr8', 'png', 'rgb8; jpeg compressed rgb8']
)
def test_jpeg_is_known_by_its_data_whatever_format_says(text):
    rgb = smooth_image()
    # image_transport gives RGB to an encoder that expects BGR, and says so.
    written = rgb if text.endswith('rgb8') else rgb[..., ::-1]
    message = compressed_message(written, '.jpg', text)
    assert np.abs(to_rgb(message).astype(int) - rgb).mean() < 3


def test_a_compressed_mosaic_is_demosaiced():
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[::2, ::2] = 200
    rgb = to_rgb(compressed_message(mosaic, '.png', 'bayer_rggb8; png compressed bayer_rggb8'))
    np.testing.assert_array_equal(rgb, np.broadcast_to((200, 0, 0), rgb.shape))


def test_a_mosaic_that_was_compressed_as_grey_stays_grey():
    # compressed_image_transport of ROS 2 makes mosaics mono8 before it writes them as jpeg.
    grey = np.zeros((8, 8), np.uint8)
    grey[::2, ::2] = 200
    rgb = to_rgb(compressed_message(grey, '.png', 'bayer_rggb8; jpeg compressed mono8'))
    np.testing.assert_array_equal(rgb, np.stack([grey] * 3, axis=-1))


def test_written_jpeg_is_read_back_and_says_its_format():
    rgb = smooth_image()
    fields = encode_jpeg(rgb)
    assert fields.format == 'rgb8; jpeg compressed bgr8'
    assert np.abs(to_rgb(fields).astype(int) - rgb).mean() < 3


def test_jpeg_with_padding_behind_its_end_is_whole():
    fields = encode_jpeg(smooth_image())
    padded = SimpleNamespace(format='jpeg', data=fields.data.tobytes() + bytes(4096))
    np.testing.assert_array_equal(to_rgb(padded), to_rgb(fields))


@pytest.mark.parametrize(
    ('text', 'header'),
    [
        ('16UC1; png compressed ', b''),
        ('16UC1; compressedDepth png', struct.pack('<iff', 0, 0.0, 0.0)),
        ('mono16; compressedDepth png', struct.pack('<iff', 0, 0.0, 0.0)),
    ],
)
def test_compressed_16uc1_is_millimetres(text, header):
    millimetres = np.array([[0, 11000, 65535]], np.uint16)
    depth = to_depth(compressed_message(millimetres, '.png', text, header))
    np.testing.assert_allclose(depth, [[np.nan, 11.0, 65.535]], rtol=1e-6)


@given(seed=st.integers(0, 99), depth_max=st.sampled_from([10.0, 100.0]))
def test_compressed_depth_is_decoded_by_the_published_formula(seed, depth_max):
    inverse = random_pixels(seed, (4, 6), np.uint16)
    inverse[0, 0] = 0
    quant_a = 100.0 * 101.0
    quant_b = 1.0 - quant_a / depth_max
    header = struct.pack('<iff', 0, quant_a, quant_b)
    message = compressed_message(inverse, '.png', '32FC1; compressedDepth png', header)
    expected = np.where(inverse > 0, quant_a / (inverse - quant_b), np.nan)
    np.testing.assert_allclose(to_depth(message), expected, rtol=1e-5)


@given(seed=st.integers(0, 99), depth_max=st.sampled_from([10.0, 100.0, 250.0]))
def test_compressed_depth_is_exact_to_half_a_code(seed, depth_max):
    depth = np.random.default_rng(seed).uniform(0.5, 1.2 * depth_max, (5, 8))
    fields = encode_compressed_depth(depth, depth_max)
    assert fields.format == '32FC1; compressedDepth png'
    kind, quant_a, quant_b = struct.unpack('<iff', fields.data[:12].tobytes())
    assert kind == 0
    read = to_depth(fields)
    inside = depth < depth_max
    np.testing.assert_array_equal(np.isfinite(read), inside)
    codes = quant_a / read[inside] - quant_a / depth[inside]
    assert np.abs(codes).max() < 0.51


def test_compressed_depth_keeps_invalid_and_saturates_near():
    depth = np.array([[np.nan, np.inf, -np.inf, 0.0, -1.0, 100.0, 0.01, 5.0]])
    read = to_depth(encode_compressed_depth(depth))
    assert np.isnan(read[0, :6]).all()
    assert read[0, 6] == pytest.approx(10100 / (65535 + 100), rel=1e-4)
    assert read[0, 7] == pytest.approx(5.0, abs=0.002)


def jpeg_bytes():
    return encode_jpeg(smooth_image()).data.tobytes()


def png_bytes(pixels=None):
    _, data = cv2.imencode('.png', smooth_image() if pixels is None else pixels)
    return data.tobytes()


def forged_png():
    data = bytearray(png_bytes())
    data[16:24] = struct.pack('>II', 30000, 30000)
    return bytes(data)


def forged_jpeg():
    data = bytearray(jpeg_bytes())
    start = data.index(b'\xff\xc0')
    data[start + 5 : start + 9] = struct.pack('>HH', 30000, 30000)
    return bytes(data)


@pytest.mark.parametrize(
    ('text', 'data', 'cause'),
    [
        ('jpeg', b'', 'empty'),
        ('jpeg', b'not an image at all', 'unreadable'),
        ('jpeg', jpeg_bytes()[:20], 'truncated'),
        ('jpeg', jpeg_bytes()[:-200], 'truncated'),
        ('png', png_bytes()[:20], 'truncated'),
        ('png', png_bytes()[:-30], 'truncated'),
        ('png', forged_png(), 'size'),
        ('jpeg', forged_jpeg(), 'size'),
        ('16UC1; png compressed ', png_bytes(), 'encoding'),
        ('32FC1; compressedDepth png', png_bytes(), 'encoding'),
        ('h264', b'\x00\x00\x00\x01\x67\x42', 'unreadable'),
    ],
)
def test_bad_images_are_refused_by_cause_before_decoding(cause_of, text, data, cause):
    for function in (check_image, to_rgb):
        assert cause_of(function, SimpleNamespace(format=text, data=data)) == cause


@pytest.mark.parametrize(
    ('text', 'data', 'cause'),
    [
        ('32FC1; compressedDepth png', b'', 'empty'),
        ('32FC1; compressedDepth png', b'12345', 'truncated'),
        ('32FC1; compressedDepth png', bytes(12), 'empty'),
        ('32FC1; compressedDepth rvl', bytes(40), 'encoding'),
        ('32FC1; compressedDepth png', bytes(12) + png_bytes(), 'encoding'),
        (
            '32FC1; compressedDepth png',
            struct.pack('<iff', 0, np.nan, 0.0) + png_bytes(np.ones((2, 2), np.uint16)),
            'unreadable',
        ),
        ('16UC1; png compressed ', png_bytes(), 'encoding'),
        # Depth that was made grey for people.
        ('16UC1; png compressed ', png_bytes(smooth_image()[..., 0]), 'encoding'),
        ('32FC1; compressedDepth png', bytes(12) + png_bytes(smooth_image()[..., 0]), 'encoding'),
    ],
)
def test_bad_compressed_depth_is_refused_by_cause(cause_of, text, data, cause):
    assert cause_of(to_depth, SimpleNamespace(format=text, data=data)) == cause


@settings(max_examples=2 * settings().max_examples)
@given(
    image=st.sampled_from([jpeg_bytes(), png_bytes()]),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 3000),
    text=st.sampled_from(['jpeg', '32FC1; compressedDepth png', 'bayer_rggb8; png']),
)
def test_damaged_data_either_decodes_or_raises_input_error(image, damage, cut, text):
    data = bytearray(image[:cut])
    for position, value in damage:
        if position < len(data):
            data[position] = value
    for function in (to_rgb, to_depth):
        try:
            function(SimpleNamespace(format=text, data=bytes(data)))
        except InputError:
            continue


@pytest.mark.parametrize(
    ('encode', 'arguments', 'cause'),
    [
        (encode_jpeg, [np.zeros((2, 2), np.uint8)], 'shape'),
        (encode_compressed_depth, [np.zeros((2, 2, 1))], 'shape'),
        (encode_compressed_depth, [np.zeros((2, 2)), -1.0], 'encoding'),
    ],
)
def test_what_cannot_be_compressed_is_refused(cause_of, encode, arguments, cause):
    assert cause_of(encode, *arguments) == cause
