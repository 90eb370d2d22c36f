# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Simulated sensors: every density and pattern, always at known pixels, mostly near the truth."""

from __future__ import annotations

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry.around_points import hull_of
from marigold_training.data.simulated_points import draw_points
import numpy as np

HEIGHT, WIDTH = 96, 128


def scene(unknown=0.0, seed=0):
    """Return depth of a slope with a box in front of it, metres, some of it unknown."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    depth = (4.0 + 20.0 * (1 - v / HEIGHT)).astype(np.float32)
    depth[30:70, 40:80] = 3.0
    depth[np.random.default_rng(seed).random(depth.shape) < unknown] = np.inf
    return depth


@given(seed=st.integers(0, 10**6), unknown=st.sampled_from([0.0, 0.3, 0.9]))
def test_points_are_in_the_image_finite_and_at_least_three(seed, unknown):
    points = draw_points(np.random.default_rng(seed), scene(unknown, seed))
    assert len(points) >= 3
    assert points.u.min() >= 0
    assert points.u.max() < WIDTH
    assert points.v.min() >= 0
    assert points.v.max() < HEIGHT
    assert np.isfinite(points.z).all()
    assert (points.z > 0.05).all()


@given(seed=st.integers(0, 10**6))
def test_a_scene_closer_than_wrong_returns_is_drawn_too(seed):
    points = draw_points(np.random.default_rng(seed), scene() * np.float32(0.01))
    assert len(points) >= 3


def test_a_plane_up_to_its_horizon_is_drawn():
    v = np.arange(HEIGHT, dtype=np.float32)[:, None]
    ground = np.repeat(np.where(v > 16, 64 / np.maximum(v - 16, 1), np.inf), WIDTH, axis=1)
    ground[:40, 60:64] = 3.0  # a pole across it
    for seed in range(400):  # where a warning is an error
        assert len(draw_points(np.random.default_rng(seed), ground)) >= 3


def test_every_density_is_drawn_and_most_points_are_near_the_truth():
    depth, counts, right = scene(), [], []
    for seed in range(400):
        points = draw_points(np.random.default_rng(seed), depth)
        counts.append(len(points))
        right.append(np.mean(np.abs(points.z / depth[points.v, points.u] - 1) < 0.1))
    shares = np.histogram(counts, [3, 30, 300, 3000, HEIGHT * WIDTH + 1])[0] / len(counts)
    assert shares.min() > 0.03
    assert max(counts) > 0.8 * HEIGHT * WIDTH
    assert np.median(right) > 0.95
    assert np.mean(right) > 0.85


def test_holes_among_dense_points_are_drawn_where_nothing_is_far():
    wall = np.full((HEIGHT, WIDTH), 5.0, np.float32)  # no part of it is out of range
    holes = 0
    for seed in range(400):
        points = draw_points(np.random.default_rng(seed), wall)
        empty = np.ones((HEIGHT, WIDTH), np.uint8)
        empty[points.v, points.u] = 0
        inside = hull_of(empty == 0)
        distance = cv2.distanceTransform(empty, cv2.DIST_L2, 3)[inside]
        dense = len(points) > 300 and inside.mean() > 0.5 and np.median(distance) < 3
        holes += dense and distance.max() > 12
    assert holes > 30  # sectors and shadows alone make 15
