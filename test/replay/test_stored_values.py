# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Values in files: what is written comes back to the bit, and nothing else is read."""

import json

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from marigold_ros.frame import SparseDepth
from marigold_ros.replay.stored_values import read_values, write_values
import numpy as np
import pytest

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.floats().map(np.float64)
    | st.integers(-9, 9).map(np.int32)
    | arrays.arrays(st.sampled_from([np.float32, np.int64, bool]), arrays.array_shapes(min_side=0))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one, other):
    """Whether two values are equal with their types, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


@given(VALUES)
def test_a_value_comes_back_to_the_bit(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / 'value.npz'
    write_values(path, value)
    assert same(read_values(path), value)


def test_an_object_of_the_package_comes_back(tmp_path):
    points = SparseDepth(np.arange(3), np.arange(3), np.ones(3, np.float32))
    write_values(tmp_path / 'points.npz', {'points': points})
    found = read_values(tmp_path / 'points.npz')['points']
    assert type(found) is SparseDepth
    assert found.kind is points.kind
    assert same(vars(found), vars(points))


@pytest.mark.parametrize('value', [{1, 2}, print, object(), np.array([None])], ids=type)
def test_a_value_of_another_kind_is_refused(value, tmp_path):
    with pytest.raises(TypeError):
        write_values(tmp_path / 'value.npz', value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'tree',
    [
        {'object': ['os', 'PathLike'], 'attributes': {}},
        {'object': ['marigold_ros.__main__', 'main'], 'attributes': {}},
        {'object': ['marigold_ros.replay.stored_values', 'Path'], 'attributes': {}},
        {'object': ['marigold_ros.nowhere', 'Thing'], 'attributes': {}},
        {'array': 'absent'},
        {'other': 1},
    ],
    ids=str,
)
def test_a_file_of_anything_else_is_not_read(tree, tmp_path):
    data = np.frombuffer(json.dumps(tree).encode(), np.uint8)
    np.savez(tmp_path / 'value.npz', tree=data)
    assert read_values(tmp_path / 'value.npz') is None
    assert read_values(tmp_path / 'absent.npz') is None
