# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Augmentation: depth follows its image, and the generator determines the result."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_training.data.augment import (
    augment_image,
    Augmentation,
    change_light,
    compress_jpeg,
    crop,
    flip,
    hue_rotation,
    NORMAL,
    rotate,
)
from marigold_training.data.pairs import Pair
from marigold_training.recipe_keys import read_fields
import numpy as np
import pytest

NOTHING = Augmentation(flip=0.0)
ALL = Augmentation(flip=1.0, crop=1.0, colour=1.0, grey=0.5, lens=1.0, sensor=1.0, jpeg=1.0)
SEEDS = st.integers(0, 2**32)
SIDES = st.integers(3, 40)


def planted(height: int, width: int) -> Pair:
    """Brightness is depth, and each pixel is one of its own."""
    depth = np.arange(height * width, dtype=np.float32).reshape(height, width)
    rgb = np.stack([depth // 256, depth % 256, depth % 7], axis=-1).astype(np.uint8)
    return Pair(rgb, depth)


def belongs_together(pair: Pair) -> bool:
    brightness = pair.rgb[..., 0].astype(np.float32) * 256 + pair.rgb[..., 1]
    return pair.rgb.shape[:2] == pair.depth.shape and bool((brightness == pair.depth).all())


def image(height: int = 24, width: int = 40) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


@given(SIDES, SIDES, st.floats(0.3, 4.0), SEEDS)
def test_depth_follows_its_image_through_crop_and_mirror(height, width, aspect, seed):
    rng = np.random.default_rng(seed)
    pair = crop(planted(height, width), ALL, aspect, rng)
    assert belongs_together(pair)
    assert belongs_together(flip(pair, ALL, rng))
    rows, columns = pair.depth.shape
    assert min(rows, columns) >= 1
    # The nearest whole pixels to the ratio.
    assert abs(columns - aspect * rows) <= 0.5 + 0.5 * aspect + 1.0


def test_depth_turns_with_its_image():
    """Half a turn moves every pixel to one place; a little leaves corners without depth."""
    whole = planted(24, 31)
    half = rotate(replace(whole, labels=np.stack([whole.depth] * 2, -1)), 180.0)
    np.testing.assert_array_equal(half.depth, whole.depth[::-1, ::-1])
    np.testing.assert_array_equal(half.labels[..., 1], half.depth)
    assert belongs_together(half)
    blocks = image(48, 80)
    turned = rotate(Pair(blocks, blocks[..., 0].astype(np.float32)), 5.0)
    known = ~np.isnan(turned.depth)
    assert 0.8 < known.mean() < 0.99
    assert (turned.rgb[0, -1] == 0).all() or (turned.rgb[-1, -1] == 0).all()
    assert np.median(np.abs(turned.rgb[..., 0] - turned.depth)[known]) == 0.0


def test_rotation_is_drawn_to_both_sides_and_costs_no_draw_when_off():
    whole = planted(30, 40)
    seen = [
        crop(whole, replace(NOTHING, rotation=5.0), 4 / 3, np.random.default_rng(seed)).depth
        for seed in range(20)
    ]
    left = [np.isnan(one[0, 5]) for one in seen]
    assert 2 < sum(left) < 18
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    crop(whole, NOTHING, 4 / 3, first)
    second.random()
    assert first.random() == second.random()


def test_without_cropping_the_largest_centred_window_is_kept():
    rng = np.random.default_rng(0)
    whole = planted(30, 40)
    assert np.array_equal(crop(whole, NOTHING, 4 / 3, rng).depth, whole.depth)
    assert np.array_equal(crop(whole, NOTHING, 1.0, rng).depth, whole.depth[:, 5:35])
    assert np.array_equal(crop(whole, NOTHING, 4.0, rng).depth, whole.depth[10:20])


def test_crops_are_of_the_drawn_size_and_reach_all_borders():
    how = replace(ALL, smallest_crop=0.5)
    rng = np.random.default_rng(0)
    crops = [crop(planted(30, 40), how, 4 / 3, rng).depth for _ in range(300)]
    widths = [depth.shape[1] for depth in crops]
    assert (min(widths), max(widths)) == (20, 40)
    assert {0.0} <= {depth[0, 0] for depth in crops}
    assert max(depth[-1, -1] for depth in crops) == 30 * 40 - 1


def test_mirroring_twice_is_nothing():
    pair = planted(5, 8)
    rng = np.random.default_rng(0)
    twice = flip(flip(pair, ALL, rng), ALL, rng)
    assert np.array_equal(twice.rgb, pair.rgb)
    assert flip(pair, NOTHING, rng) is pair


@given(SEEDS)
def test_augmented_images_are_uint8_and_reproducible(seed):
    rgb = image()
    before = rgb.copy()
    changed = augment_image(rgb, ALL, np.random.default_rng(seed))
    assert changed.dtype == np.uint8
    assert changed.shape == rgb.shape
    assert np.array_equal(rgb, before)
    assert np.array_equal(changed, augment_image(rgb, ALL, np.random.default_rng(seed)))


@pytest.mark.parametrize('name', ['colour', 'grey', 'lens', 'sensor', 'jpeg'])
def test_each_chance_alone_changes_the_image(name):
    how = replace(NOTHING, **{name: 1.0})
    rng = np.random.default_rng(1)
    changed = [augment_image(image(), how, rng) for _ in range(10)]
    assert sum(not np.array_equal(each, image()) for each in changed) >= 8


def test_a_chance_that_does_not_come_leaves_every_byte():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    how = replace(NOTHING, sensor=1e-12)
    assert np.array_equal(augment_image(rgb, how, np.random.default_rng(0)), rgb)


def test_a_grey_image_has_equal_channels():
    changed = augment_image(image(), replace(NOTHING, grey=1.0), np.random.default_rng(0))
    assert np.ptp(changed, axis=2).max() == 0


@given(SEEDS)
def test_light_of_zero_width_is_identity_and_never_negative(seed):
    linear = np.random.default_rng(0).random((6, 8, 3), dtype=np.float32)
    same = change_light(linear, 0.0, np.random.default_rng(seed))
    np.testing.assert_allclose(same, linear, atol=1e-5)
    wide = change_light(linear, 1.0, np.random.default_rng(seed))
    assert wide.dtype == np.float32
    assert wide.min() >= 0.0


@pytest.mark.parametrize('angle', [0.0, 0.7, -2.0])
def test_hues_turn_about_grey_by_the_angle(angle):
    turn = hue_rotation(angle)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turn @ np.ones(3), np.ones(3), atol=1e-12)
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(angle))


def test_jpeg_keeps_the_order_of_colours():
    red = np.full((16, 16, 3), (200, 30, 10), np.uint8)
    assert np.abs(compress_jpeg(red, 90).astype(int) - red).max() <= 4


def test_the_table_of_normal_numbers_is_normal():
    assert NORMAL.mean() == pytest.approx(0.0, abs=1e-6)
    assert NORMAL.std() == pytest.approx(1.0, abs=0.01)


def test_unknown_keys_and_chances_out_of_range_are_named():
    known = read_fields(Augmentation, 'augment', {'flip': 0, 'crop': 0.3})
    assert known == Augmentation(flip=0, crop=0.3)
    with pytest.raises(ConfigurationError, match="'colors'.*colour"):
        read_fields(Augmentation, 'augment', {'colors': 1.0})
    for value in (1.5, -0.1, 'often', True, float('nan')):
        with pytest.raises(ConfigurationError, match='augment.jpeg'):
            Augmentation(jpeg=value)
