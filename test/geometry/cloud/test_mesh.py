# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Meshes of planes, whose every triangle lies in the plane, and of steps, which stay apart."""

import math

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.geometry.cloud.mesh import mesh_of_depth
import numpy as np
import pytest

K = np.array([[60.0, 0, 19.5], [0, 60.0, 14.5], [0, 0, 1]])
SHAPE = (30, 40)
RGB = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


def plane_depth(normal, distance):
    """Depth of the plane normal · p = distance at each pixel."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(SHAPE)], -1)
    return distance / (rays @ normal)


def areas(mesh):
    """Normals of the triangles, as long as their areas."""
    a, b, c = (mesh.points[mesh.faces[:, i]].astype(float) for i in range(3))
    return np.cross(b - a, c - a) / 2


tilts = st.floats(-1.2, 1.2)


@given(tilts, tilts, st.floats(0.5, 50.0))
@settings(max_examples=min(25, settings().max_examples))
def test_triangles_of_a_plane_lie_in_it_and_face_the_camera(right, down, distance):
    normal = np.array([right, down, 1.0]) / math.hypot(right, down, 1.0)
    mesh = mesh_of_depth(plane_depth(normal, distance), K, RGB)
    assert len(mesh.points) == RGB.shape[0] * RGB.shape[1]
    assert len(mesh.faces) == 2 * (SHAPE[0] - 1) * (SHAPE[1] - 1)
    np.testing.assert_allclose(mesh.points @ normal, distance, rtol=1e-4)
    size = np.linalg.norm(areas(mesh), axis=1)
    np.testing.assert_allclose(
        areas(mesh) / size[:, None], -normal * np.ones((len(size), 1)), atol=5e-2
    )


@pytest.mark.parametrize(('block', 'around'), [(2.0, 6.0), (6.0, 2.0)])
def test_no_triangle_joins_two_surfaces(block, around):
    depth = np.full(SHAPE, around)
    depth[10:20, 10:25] = block  # with edges on all four sides
    mesh = mesh_of_depth(depth, K, RGB)
    corners = mesh.points[mesh.faces][..., 2]
    assert (corners.min(1) == corners.max(1)).all()
    # Of two of the squares around it, at its corners, one triangle is beside it.
    inside, around_it = 2 * 9 * 14, 2 * (11 * 16 - 9 * 14)
    assert np.count_nonzero(corners[:, 0] == block) == inside
    assert len(corners) == 2 * 29 * 39 - around_it + 2


def test_most_of_a_ramp_between_two_surfaces_is_left_out():
    depth = np.full(SHAPE, 2.0)
    depth[:, 20:] = 12.0
    mesh = mesh_of_depth(cv2.blur(depth, (4, 1)), K, RGB)
    found = np.unique(mesh.points[:, 2])
    assert {2.0, 12.0} <= set(found)
    assert not ((found > 2.0) & (found < 9.0)).any()


@pytest.mark.parametrize('hole', [np.nan, np.inf, 0.0, -1.0])
def test_a_hole_stays_one(hole):
    depth = np.full(SHAPE, 2.0)
    depth[10, 10] = hole
    mesh = mesh_of_depth(depth, K, RGB)
    assert len(mesh.points) == depth.size - 1
    assert len(mesh.faces) == 2 * (SHAPE[0] - 1) * (SHAPE[1] - 1) - 6
    assert mesh.faces.max() < len(mesh.points)


def test_large_images_are_thinned_out_evenly():
    steep = np.array([0.94, 0.0, 0.34])  # up to 88 degrees from the rays
    mesh = mesh_of_depth(plane_depth(steep, 2.0), K, RGB, most_points=300)
    assert len(mesh.points) == 15 * 20
    np.testing.assert_array_equal(mesh.rgb, RGB[::2, ::2].reshape(-1, 3))
    assert len(mesh.faces) == 2 * 14 * 19


def test_image_and_depth_must_agree():
    with pytest.raises(InputError, match='sizes must agree'):
        mesh_of_depth(np.ones((3, 4)), K, RGB)
