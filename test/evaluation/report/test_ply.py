# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""PLY files, read back by their own header."""

from marigold_ros.errors import InputError
from marigold_ros.evaluation.report.cloud import write_ply
import numpy as np
import pytest

TYPES = {'float': '<f4', 'uchar': 'u1'}


def read_ply(path):
    """Read vertices as the header describes them."""
    head, _, body = path.read_bytes().partition(b'end_header\n')
    lines = head.decode('ascii').splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    count = int(lines[2].removeprefix('element vertex '))
    properties = [line.split()[1:] for line in lines[3:]]
    dtype = np.dtype([(name, TYPES[kind]) for kind, name in properties])
    assert len(body) == count * dtype.itemsize
    return np.frombuffer(body, dtype)


def test_points_and_colours_come_back(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 7, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert write_ply(tmp_path / 'cloud.ply', points, rgb) == 35
    vertices = read_ply(tmp_path / 'cloud.ply')
    for index, (axis, colour) in enumerate(zip('xyz', ('red', 'green', 'blue'), strict=True)):
        np.testing.assert_array_equal(vertices[axis], points[..., index].ravel())
        np.testing.assert_array_equal(vertices[colour], rgb[..., index].ravel())


def test_points_that_are_not_finite_are_left_out(tmp_path):
    points = np.array([[1, 2, 3], [np.nan, 0, 1], [0, np.inf, 1], [4, 5, 6]], np.float32)
    assert write_ply(tmp_path / 'cloud.ply', points, np.zeros((4, 3), np.uint8)) == 2
    np.testing.assert_array_equal(read_ply(tmp_path / 'cloud.ply')['z'], [3, 6])


def test_an_empty_cloud_is_a_file_as_well(tmp_path):
    assert write_ply(tmp_path / 'cloud.ply', np.zeros((0, 3)), np.zeros((0, 3), np.uint8)) == 0
    assert len(read_ply(tmp_path / 'cloud.ply')) == 0


def test_shapes_that_disagree_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'\(4, 3\)'):
        write_ply(tmp_path / 'cloud.ply', np.zeros((4, 3)), np.zeros((5, 3), np.uint8))
