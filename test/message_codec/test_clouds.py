# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Clouds of any layout against struct.unpack, planar scans, and what is refused."""

import struct
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.message_codec import (
    encode_cloud,
    has_field,
    scan_to_points,
    to_organised,
    to_points,
)
import numpy as np
import pytest

LETTERS = {1: 'b', 2: 'B', 3: 'h', 4: 'H', 5: 'i', 6: 'I', 7: 'f', 8: 'd'}
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}


@st.composite
def clouds(draw):
    """Make a cloud of random layout and its values, packed number by number."""
    kinds = {axis: draw(st.sampled_from([7, 8])) for axis in 'xyz'}
    kinds |= {'ring': draw(st.sampled_from([2, 4, 5])), 'intensity': draw(st.sampled_from([2, 7]))}
    order = draw(st.permutations(list(kinds)))
    endian = draw(st.sampled_from('<>'))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    offset, fields = 0, []
    for name in order:
        offset += draw(st.integers(0, 3))
        fields.append(SimpleNamespace(name=name, offset=offset, datatype=kinds[name], count=1))
        offset += SIZES[kinds[name]]
    point_step = offset + draw(st.integers(0, 5))
    row_step = width * point_step + draw(st.integers(0, 9))
    data = bytearray(b'\x5a' * (row_step * height))
    values = draw(
        st.lists(
            st.tuples(*[st.integers(0, 100)] * 5), min_size=height * width, max_size=height * width
        )
    )
    for index, row in enumerate(values):
        start = index // width * row_step + index % width * point_step
        for field, value in zip(fields, row, strict=True):
            struct.pack_into(endian + LETTERS[field.datatype], data, start + field.offset, value)
    message = SimpleNamespace(
        height=height,
        width=width,
        fields=fields,
        is_bigendian=endian == '>',
        point_step=point_step,
        row_step=row_step,
        data=bytes(data),
    )
    return message, {name: [row[i] for row in values] for i, name in enumerate(order)}


@given(clouds())
def test_any_layout_gives_the_packed_numbers(cloud):
    message, values = cloud
    wanted = ('x', 'y', 'z', 'ring', 'intensity')
    expected = np.array([values[name] for name in wanted], np.float32).T
    np.testing.assert_array_equal(to_points(message, wanted), expected)
    organised = to_organised(message, ('z', 'x'))
    assert organised.shape == (message.height, message.width, 2)
    np.testing.assert_array_equal(organised.reshape(-1, 2), expected[:, [2, 0]])


def simple_cloud(points):
    """Make an unorganised little-endian cloud of x y z."""
    points = np.asarray(points, '<f4')
    fields = [
        SimpleNamespace(name=name, offset=4 * i, datatype=7, count=1)
        for i, name in enumerate('xyz')
    ]
    return SimpleNamespace(
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=points.tobytes(),
    )


def test_invalid_points_stay_only_in_organised_clouds():
    points = [[1, 2, 3], [np.nan, 0, 0], [4, 5, np.inf], [6, 7, 8]]
    message = simple_cloud(points)
    np.testing.assert_array_equal(to_points(message), [[1, 2, 3], [6, 7, 8]])
    np.testing.assert_array_equal(to_organised(message)[0], np.array(points, np.float32))


def test_has_field_tells_what_is_there():
    assert has_field(simple_cloud([[1, 2, 3]]), 'x')
    assert not has_field(simple_cloud([[1, 2, 3]]), 'ring')


def test_a_field_with_count_zero_is_a_single_number():
    message = simple_cloud([[1, 2, 3]])
    for field in message.fields:
        field.count = 0
    np.testing.assert_array_equal(to_points(message), [[1, 2, 3]])


@pytest.mark.parametrize('row_step', [0, 6, 72])
def test_rows_without_padding_are_read_whatever_row_step_says(row_step):
    points = np.arange(18.0).reshape(2, 3, 3)
    message = simple_cloud(points.reshape(6, 3))
    message.height, message.width, message.row_step = 2, 3, row_step
    np.testing.assert_array_equal(to_organised(message), points)


@pytest.mark.parametrize(
    ('change', 'cause'),
    [
        ({'fields': []}, 'fields'),
        ({'point_step': 11}, 'fields'),
        ({'point_step': 0}, 'fields'),
        ({'point_step': 2**32 - 1}, 'step'),
        ({'data': b'1234'}, 'truncated'),
        ({'data': b''}, 'truncated'),
        ({'width': 2**32 - 1}, 'truncated'),
        ({'height': 2, 'row_step': 4}, 'step'),
        ({'height': 2**32 - 1, 'row_step': 2**32 - 1}, 'truncated'),
        ({'width': 0, 'data': b''}, 'empty'),
        ({'width': 0, 'data': b'', 'fields': []}, 'empty'),
        ({'data': np.full(9, np.nan, '<f4').tobytes()}, 'empty'),
    ],
)
def test_malformed_clouds_are_refused_by_cause(cause_of, change, cause):
    message = simple_cloud(np.ones((3, 3)))
    vars(message).update(change)
    assert cause_of(to_points, message) == cause


def test_missing_and_unknown_fields_are_refused(cause_of):
    message = simple_cloud([[1, 2, 3]])
    assert cause_of(to_points, message, ('x', 'ring')) == 'fields'
    message.fields[0].datatype = 9
    assert cause_of(to_points, message) == 'fields'


def sizes(low, high):
    """Draw small numbers, and any that a header can hold."""
    return st.integers(low, high) | st.integers(0, 2**32 - 1)


any_field = st.builds(
    SimpleNamespace,
    name=st.sampled_from('xyz'),
    offset=sizes(0, 16),
    datatype=st.integers(0, 10),
    count=sizes(0, 3),
)
any_cloud = st.builds(
    SimpleNamespace,
    height=sizes(0, 3),
    width=sizes(0, 5),
    fields=st.lists(any_field, min_size=3, max_size=3, unique_by=lambda field: field.name),
    is_bigendian=st.just(False),
    point_step=sizes(0, 40),
    row_step=sizes(0, 200),
    data=st.binary(max_size=200),
)


@settings(max_examples=4 * settings().max_examples)
@given(any_cloud)
def test_any_cloud_either_decodes_or_raises_input_error(message):
    try:
        points = to_points(message)
    except InputError:
        return
    assert points.shape[1] == 3


ORGANISED = np.dtype({'names': ['x', 'y', 'z', 'rgb'], 'formats': ['<f4'] * 4})
PADDED = np.dtype(
    {
        'names': ['x', 'y', 'z', 'rgb', 'sigma'],
        'formats': ['<f4'] * 5,
        'offsets': [0, 4, 8, 16, 20],
        'itemsize': 32,
    }
)


def as_message(fields):
    named = [
        SimpleNamespace(name=n, offset=o, datatype=t, count=c) for n, o, t, c in fields.fields
    ]
    return SimpleNamespace(**{**vars(fields), 'fields': named})


@pytest.mark.parametrize('dtype', [ORGANISED, PADDED])
def test_written_clouds_keep_height_and_width_and_are_read_back(dtype):
    cloud = np.zeros((3, 5), dtype)
    rng = np.random.default_rng(0)
    for name in dtype.names:
        cloud[name] = rng.uniform(-5, 5, cloud.shape)
    cloud['x'][1, 2] = np.nan
    fields = encode_cloud(cloud)
    assert (fields.height, fields.width, fields.is_dense) == (3, 5, False)
    assert fields.point_step == dtype.itemsize
    assert fields.row_step == 5 * dtype.itemsize
    assert len(fields.data) == 3 * fields.row_step
    assert np.shares_memory(fields.data, cloud)
    read = to_organised(as_message(fields), dtype.names)
    for index, name in enumerate(dtype.names):
        np.testing.assert_array_equal(read[..., index], cloud[name])


@pytest.mark.parametrize(
    ('array', 'cause'),
    [
        (np.zeros((2, 2), np.float32), 'shape'),
        (np.zeros(4, ORGANISED), 'shape'),
        (np.zeros((2, 2), [('x', '>f4')]), 'fields'),
        (np.zeros((2, 2), [('x', '<f4', 3)]), 'fields'),
        (np.zeros((2, 2), [('x', '<i8')]), 'fields'),
    ],
)
def test_arrays_that_are_no_cloud_are_refused(cause_of, array, cause):
    assert cause_of(encode_cloud, array) == cause


def scan(ranges, **changes):
    return SimpleNamespace(
        **{
            'angle_min': -np.pi / 2,
            'angle_increment': np.pi / 2,
            'range_min': 0.1,
            'range_max': 10.0,
            'ranges': np.asarray(ranges, np.float32),
            **changes,
        }
    )


def test_a_planar_scan_lies_at_its_angles():
    points = scan_to_points(scan([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(points, [[0, -1, 0], [2, 0, 0], [0, 3, 0]], atol=1e-6)
    assert points.dtype == np.float32


def test_ranges_outside_the_limits_are_dropped():
    points = scan_to_points(scan([np.inf, 2.0, 11.0]))
    np.testing.assert_allclose(points, [[2, 0, 0]], atol=1e-6)


def test_a_range_of_range_min_is_measured_and_one_of_range_max_is_no_return():
    points = scan_to_points(scan([10.0, 0.5, 10.0], range_min=0.5))
    np.testing.assert_allclose(points, [[0.5, 0, 0]], atol=1e-6)


def test_a_scan_without_returns_or_angles_is_refused(cause_of):
    assert cause_of(scan_to_points, scan([np.inf, np.nan, 0.0])) == 'empty'
    assert cause_of(scan_to_points, scan([1.0], angle_min=np.nan)) == 'shape'
