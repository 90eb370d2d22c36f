# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sound points: clean scans are kept whole, gross outliers are found, whatever the order."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.fusion import sound_points as module
from marigold_ros.geometry.fusion.work_grid import work_grid
from marigold_ros.geometry.measured_points import merge_points
from marigold_ros.kernels.neighbours import sorted_in_tiles
import numpy as np
import pytest
from scipy.spatial import cKDTree

SHAPE = (480, 640)
SEEDS = st.integers(0, 10_000)


def anywhere(rng, count=2000):
    """Draw distinct pixels anywhere in the image."""
    v, u = np.divmod(rng.choice(SHAPE[0] * SHAPE[1], count, replace=False), SHAPE[1])
    return u, v


def scan_lines(rng, count=2000):
    """Return the pixels of sixteen scan lines."""
    v, u = np.meshgrid(np.linspace(150, 470, 16).astype(int), np.arange(0, 640, 5), indexing='ij')
    return u.ravel(), v.ravel()


def clustered(rng, count=2000):
    """Draw half of the pixels in a small block, which makes very many close pairs."""
    u, v = anywhere(rng, count)
    dense = np.arange(count // 2)
    u[dense], v[dense] = 100 + dense % 40, 200 + dense // 40
    return u, v


def room(u, v):
    """Return depth of a floor and a wall with a box in front of it."""
    floor = 400.0 / np.maximum(v - 160.0, 1.0)
    box = (np.abs(u - 320) < 90) & (np.abs(v - 240) < 80)
    return np.where(box, 2.0, np.minimum(floor, 6.0 + 0.002 * u)).astype(np.float32)


def sound_points(u, v, z):
    return module.sound_points(u, v, z, work_grid(SHAPE))


def corrupt(z, share, rng):
    wrong = rng.random(len(z)) < share
    factor = np.exp(rng.choice((-1, 1), len(z)) * rng.uniform(0.4, 1.2, len(z)))
    return np.where(wrong, z * factor, z).astype(np.float32), wrong


@pytest.mark.parametrize('pattern', [anywhere, scan_lines, clustered])
@given(seed=SEEDS)
def test_a_clean_scan_is_kept(pattern, seed):
    rng = np.random.default_rng(seed)
    u, v = pattern(rng)
    z = room(u, v) * (1 + 0.01 * rng.normal(size=len(u)))
    assert sound_points(u, v, z).mean() > 0.995


@pytest.mark.parametrize('pattern', [anywhere, scan_lines, clustered])
@given(seed=SEEDS, share=st.floats(0.1, 0.15))
def test_gross_outliers_are_found_and_clean_points_kept(pattern, seed, share):
    rng = np.random.default_rng(seed)
    u, v = pattern(rng)
    z, wrong = corrupt(room(u, v), share, rng)
    sound = sound_points(u, v, z)
    assert (~sound[wrong]).mean() > 0.6
    assert sound[~wrong].mean() > 0.95


@pytest.mark.parametrize(('count', 'share'), [(500, 0.1), (500, 0.3), (5000, 0.01), (5000, 0.3)])
@given(seed=SEEDS)
def test_wrong_points_are_found_however_many_there_are(seed, count, share):
    rng = np.random.default_rng(seed)
    u, v = anywhere(rng, count)
    z, wrong = corrupt(room(u, v), share, rng)
    sound = sound_points(u, v, z)
    assert sound[wrong].mean() < 0.35
    assert sound[~wrong].mean() > 0.94


def test_wrong_points_do_not_pass_for_the_edges_of_a_cluttered_scene():
    missed, lost = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        u, v = anywhere(rng, 500)
        z = 4.0 * np.exp(rng.uniform(-0.25, 0.25, (12, 16)))[v // 40, u // 40]
        assert sound_points(u, v, z).all()
        z, wrong = corrupt(z, 0.1, rng)
        sound = sound_points(u, v, z)
        missed.append(np.mean(sound[wrong]))
        lost.append(np.mean(~sound[~wrong]))
    assert np.mean(missed) < 0.12
    assert np.mean(lost) < 0.03


@pytest.mark.parametrize(('many', 'left_out'), [(4, False), (9, True)])
@pytest.mark.parametrize('depth', [0.5, 8.0])
def test_few_points_are_left_out_only_if_more_are_wrong_than_in_a_clean_scan(
    many, left_out, depth
):
    v, u = (part.ravel() for part in np.mgrid[30:480:50, 30:640:67])
    wrong = (u // 67 % 3 == 1) & (v // 50 % 3 == 1)  # far from each other
    wrong &= np.cumsum(wrong) <= many
    sound = sound_points(u, v, np.where(wrong, depth, 2.0))
    np.testing.assert_array_equal(sound, ~wrong if left_out else True)


@given(seed=SEEDS, factor=st.sampled_from([0.3, 0.5, 2.0, 3.0]))
def test_of_a_wall_one_wrong_point_is_left_out_alone(seed, factor):
    rng = np.random.default_rng(seed)
    u, v = anywhere(rng, 1000)
    z, wrong = np.full(1000, 4.0), rng.integers(1000)
    z[wrong] *= factor
    np.testing.assert_array_equal(sound_points(u, v, z), np.arange(1000) != wrong)


@given(seed=SEEDS, column=st.integers(0, 31), distance=st.sampled_from([1.0, 2.0]))
def test_a_pole_is_kept_beside_wrong_points(seed, column, distance):
    v, u = (part.ravel() for part in np.mgrid[0:480:15, 0:640:20])
    pole = u == 20 * column
    clean, draws = np.where(pole, distance, 8.0), np.random.default_rng(seed)
    kept, dropped = [], []
    # A pole has but 30 points in one draw, of which three may be amid wrong ones.
    for _ in range(5):
        z, wrong = corrupt(clean, 0.05, draws)
        sound = sound_points(u, v, z)
        kept.append(sound[pole & ~wrong])
        dropped.append(~sound[wrong & ~pole])
    assert np.concatenate(kept).mean() > 0.9
    assert np.concatenate(dropped).mean() > 0.6


@given(seed=SEEDS, scale=st.sampled_from([0.25, 4.0, 64.0]))
def test_only_ratios_of_depth_count(seed, scale):
    rng = np.random.default_rng(seed)
    u, v = anywhere(rng, 500)
    z = corrupt(room(u, v), 0.15, rng)[0].astype(np.float64)
    np.testing.assert_array_equal(sound_points(u, v, scale * z), sound_points(u, v, z))


@pytest.mark.parametrize('count', [0, 1, 8, 9, 50])
def test_points_in_one_place_or_in_a_row_are_kept(count):
    along = np.arange(count)
    for u, v in ((along, 0 * along), (0 * along, 0 * along), (along, along)):
        assert sound_points(u, v, np.full(count, 3.0)).all()


@given(seed=SEEDS)
def test_among_very_many_points_gross_outliers_are_found_and_edges_kept(seed):
    rng = np.random.default_rng(seed)
    u, v = anywhere(rng, 60_000)
    clean = room(u, v)
    z, wrong = corrupt(clean, 0.1, rng)
    sound = sound_points(u, v, z)
    assert (~sound[wrong]).mean() > 0.9
    assert sound[~wrong].mean() > 0.99
    assert sound_points(u, v, clean).mean() > 0.995


def both(rng, spacing, landmarks=60):
    """Merge a sensor that sees the lower half, 2 to 4 m away, with landmarks anywhere."""

    def points(u, v):
        return SparseDepth(u, v, np.where(v < 240, 8.0 + u / 20, 2.0 + u / 320))

    v, u = (part.ravel() for part in np.mgrid[240:480:spacing, 0:640:spacing])
    dense, few = points(u, v), points(*anywhere(rng, landmarks))
    found, _ = merge_points([dense, few], AlignmentConfig())
    return found


@pytest.mark.parametrize('spacing', [1, 2, 6, 14])
@given(seed=SEEDS)
def test_where_a_source_is_alone_the_others_do_not_judge_it(spacing, seed):
    found = both(np.random.default_rng(seed), spacing)
    sound = module.sound_of_sources(found, work_grid(SHAPE))
    assert np.count_nonzero(~sound[found.v < 240 - 4 * spacing]) <= 2
    assert sound.mean() > 0.98


@pytest.mark.parametrize('others', [0, 1, 2])
def test_a_source_of_hardly_a_point_leaves_the_others_as_they_are(others):
    rng = np.random.default_rng(3)
    u, v = anywhere(rng)
    z, _ = corrupt(room(u, v), 0.1, rng)
    part = (np.arange(len(z)) < others).astype(int)
    found = module.sound_of_sources(SparseDepth(u, v, z, part=part), work_grid(SHAPE))
    assert not found.all()
    np.testing.assert_array_equal(found[others:], sound_points(u, v, z)[others:])


@pytest.mark.parametrize('spacing', [2, 6])
def test_wrong_points_are_found_where_sources_meet_and_where_one_is_alone(spacing):
    kept = {'meet': [], 'alone': []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = both(rng, spacing)
        wrong = (found.part == 1) & (rng.random(len(found)) < 0.3)
        z = found.z * np.exp(np.where(wrong, rng.choice((-1.5, 1.5), len(found)), 0.0))
        damaged = SparseDepth(found.u, found.v, z, part=found.part)
        sound = module.sound_of_sources(damaged, work_grid(SHAPE))
        assert sound[~wrong].mean() > 0.99
        kept['meet'].extend(sound[wrong & (found.v > 245)])
        kept['alone'].extend(sound[wrong & (found.v < 235)])
    assert np.mean(kept['meet']) < 0.05
    assert np.mean(kept['alone']) < 0.6  # as of a few landmarks without another source


@given(seed=st.integers(0, 10_000), count=st.integers(2, 300), radius=st.floats(1.0, 40.0))
def test_pairs_within_a_radius_are_those_of_a_tree(seed, count, radius):
    rng = np.random.default_rng(seed)
    v, u = np.divmod(rng.choice(300 * 400, count, replace=False), 400)
    log_depth = rng.choice([1.0, 1.05, 2.0, 3.0], count)
    pairs = cKDTree(np.stack([u, v], axis=1)).query_pairs(radius, output_type='ndarray')
    agree = pairs[np.abs(np.diff(log_depth[pairs], axis=1)[:, 0]) < 0.1]
    expected = np.bincount(agree.ravel(), minlength=count) >= 2
    tiles = sorted_in_tiles(u, v, max(radius, 1.0))
    found = module.clearly_sound(u, v, log_depth, radius, tiles)
    np.testing.assert_array_equal(found, expected)
