# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Jpeg, png and compressedDepth: decoding, writing, and what is refused before decoding."""

import struct
from types import SimpleNamespace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.message_codec import (
    check_image,
    encode_compressed_depth,
    encode_jpeg,
    to_depth,
    to_rgb,
)
import numpy as np
import pytest


def compressed_message(pixels, extension, text, prefix=b''):
    _, data = cv2.imencode(extension, pixels)
    return SimpleNamespace(format=text, data=prefix + data.tobytes())


def random_pixels(seed, shape, dtype):
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high, shape, dtype, endpoint=True)


def smooth_image():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (48, 1)), np.full((48, 64), 90, np.uint8)] + [np.tile(ramp[::-1], (48, 1))],
        axis=-1,
    )


@given(seed=st.integers(0, 99), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_png_colour_is_exact_in_8_and_rounded_in_16_bits(seed, dtype):
    bgr = random_pixels(seed, (5, 7, 3), dtype)
    rgb = to_rgb(compressed_message(bgr, '.png', 'bgr8; png compressed bgr8'))
    expected = bgr if dtype == np.uint8 else np.rint(bgr / 257.0)
    np.testing.assert_array_equal(rgb, expected[..., ::-1])
    assert rgb.dtype == np.uint8
    assert rgb.flags.writeable


@given(seed=st.integers(0, 99), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_grey_png_repeats_its_value(seed, dtype):
    grey = random_pixels(seed, (5, 7), dtype)
    rgb = to_rgb(compressed_message(grey, '.png', 'mono16; png compressed '))
    expected = grey if dtype == np.uint8 else np.rint(grey / 257.0)
    np.testing.assert_array_equal(rgb, np.stack([expected] * 3, axis=-1))


def test_png_with_alpha_loses_only_the_alpha():
    bgra = random_pixels(3, (5, 7, 4), np.uint8)
    rgb = to_rgb(compressed_message(bgra, '.png', 'bgra8; png compressed bgra8'))
    np.testing.assert_array_equal(rgb, bgra[..., 2::-1])


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


def test_written_jpeg_is_read_back_and_says_its_format():
    rgb = smooth_image()
    fields = encode_jpeg(rgb, quality=95)
    assert fields.format == 'rgb8; jpeg compressed bgr8'
    assert np.abs(to_rgb(fields).astype(int) - rgb).mean() < 3


def test_jpeg_with_padding_behind_its_end_is_whole():
    fields = encode_jpeg(smooth_image())
    padded = SimpleNamespace(format='jpeg', data=fields.data.tobytes() + bytes(4096))
    np.testing.assert_array_equal(to_rgb(padded), to_rgb(fields))


def test_16bit_png_depth_is_millimetres():
    millimetres = np.array([[0, 11000, 65535]], np.uint16)
    depth = to_depth(compressed_message(millimetres, '.png', '16UC1; png compressed '))
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


def test_compressed_depth_of_16uc1_is_millimetres():
    millimetres = np.array([[0, 1500, 64000]], np.uint16)
    header = struct.pack('<iff', 0, 0.0, 0.0)
    message = compressed_message(millimetres, '.png', '16UC1; compressedDepth png', header)
    np.testing.assert_allclose(to_depth(message), [[np.nan, 1.5, 64.0]], rtol=1e-6)


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
    ],
)
def test_bad_compressed_depth_is_refused_by_cause(cause_of, text, data, cause):
    assert cause_of(to_depth, SimpleNamespace(format=text, data=data)) == cause


@settings(max_examples=100)
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
    ('encode', 'argument', 'option', 'cause'),
    [
        (encode_jpeg, np.zeros((2, 2), np.uint8), 90, 'shape'),
        (encode_jpeg, np.zeros((2, 2, 3), np.uint8), 0, 'encoding'),
        (encode_compressed_depth, np.zeros((2, 2, 1)), 100.0, 'shape'),
        (encode_compressed_depth, np.zeros((2, 2)), -1.0, 'encoding'),
    ],
)
def test_what_cannot_be_compressed_is_refused(cause_of, encode, argument, option, cause):
    assert cause_of(encode, argument, option) == cause
