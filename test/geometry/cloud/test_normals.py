# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Normals: exact on planes, close on a sphere, towards the camera, NaN where unknown."""

from hypothesis import assume, given
from hypothesis import strategies as st
from marigold_ros.geometry.cloud.normals import surface_normals
import numpy as np

K = np.array([[300.0, 0, 79.5], [0, 290.0, 60.2], [0, 0, 1]])
SIZE = (120, 160)


def rays(matrix=K):
    v, u = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(matrix).T


@given(
    degrees=st.floats(0, 85),
    turn=st.floats(0, 360),
    distance=st.floats(0.5, 50),
    skew=st.floats(-20, 20),
)
def test_planes_have_their_own_normal_everywhere(degrees, turn, distance, skew):
    matrix = K.copy()
    matrix[0, 1] = skew
    tilt, turn = np.deg2rad(degrees), np.deg2rad(turn)
    normal = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    along = rays(matrix) @ normal
    assume(along.min() > 0.02)
    found = surface_normals(distance / along, matrix)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found[1:-1, 1:-1], np.broadcast_to(-normal, (118, 158, 3)), atol=3e-3
    )
    assert np.isnan(found[[0, -1]]).all()
    assert np.isnan(found[:, [0, -1]]).all()


def test_normals_are_unknown_at_unknown_depth_and_beside_it():
    depth = np.full(SIZE, 4.0, dtype=np.float32)
    depth[50, 60], depth[80, 20], depth[20, 100], depth[20, 20] = np.nan, np.inf, 0.0, -2.0
    before = depth.copy()
    known = np.isfinite(surface_normals(depth, K)).all(axis=-1)
    np.testing.assert_array_equal(depth, before)
    for v, u in ((50, 60), (80, 20), (20, 100), (20, 20)):
        for dv, du in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
            assert not known[v + dv, u + du]
    assert known[1:-1, 1:-1].sum() == 118 * 158 - 4 * 5
