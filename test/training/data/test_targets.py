# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""From metres to relative values: planted percentiles, unknown pixels, sky."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from marigold_ros.errors import ConfigurationError
from marigold_ros.spaces import RELATIVE_SPACES
from marigold_training.data.targets import denormalise, normalise, TargetRule
from marigold_training.recipe_keys import read_fields
import numpy as np
import pytest
import torch

TRANSFORMS = {'depth': lambda z: z, 'log': np.log, 'disparity': lambda z: 1.0 / z}
NUMBERS = st.one_of(
    st.floats(0.0625, 500.0, width=32),
    st.sampled_from([0.0, -1.0, np.nan, np.inf, -np.inf, 2.0**-100]),
)
DEPTHS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=NUMBERS)


@pytest.mark.parametrize('space', RELATIVE_SPACES)
def test_sky_and_unknown_pixels_are_far_and_affect_no_other(space):
    depth = np.linspace(1.0, 9.0, 48).reshape(6, 8)
    alone, _, _ = normalise(depth, space)
    wide = np.pad(depth, 2, constant_values=np.inf)
    wide[0], wide[:, 0], wide[-1] = np.nan, 0.0, -4.0
    relative, valid, sky = normalise(wide, space)
    np.testing.assert_array_equal(relative[2:-2, 2:-2], alone)
    far = 0.0 if space == 'disparity' else 1.0
    assert (relative[~valid] == far).all()
    np.testing.assert_array_equal(valid, np.isfinite(wide) & (wide > 0))
    np.testing.assert_array_equal(sky, np.isposinf(wide))


@given(DEPTHS, st.sampled_from(RELATIVE_SPACES))
def test_any_depth_maps_to_0_to_1_with_one_kind_per_pixel(depth, space):
    relative, valid, sky = normalise(depth, space)
    assert relative.dtype == np.float32
    assert relative.min() >= 0.0
    assert relative.max() <= 1.0
    assert not (valid & sky).any()
    assert (valid | sky | ~(np.isfinite(depth) & (depth > 0))).all()


@given(DEPTHS, st.sampled_from(RELATIVE_SPACES))
def test_values_equal_numpys_percentiles_written_out(depth, space):
    relative, valid, _ = normalise(depth, space)
    if not valid.any():
        return
    value = TRANSFORMS[space](np.maximum(depth[valid].astype(np.float64), 1e-3))
    low, high = np.percentile(value, [2, 98])
    if high - low > 1e-5 * max(abs(low), abs(high), 1.0):
        expected = np.clip((value - low) / (high - low), 0, 1)
        np.testing.assert_allclose(relative[valid], expected, atol=1e-6)


@pytest.mark.parametrize('space', RELATIVE_SPACES)
@pytest.mark.parametrize('distance', [0.3, 7.123456, 80.0])
def test_an_image_of_one_distance_is_in_the_middle(space, distance):
    depth = np.full((4, 6), distance, np.float32)
    depth[0, 0] = np.nan
    relative, valid, _ = normalise(depth, space)
    assert (relative[valid] == 0.5).all()


@pytest.mark.parametrize('space', RELATIVE_SPACES)
@pytest.mark.parametrize('nothing', [np.nan, 0.0, np.inf])
def test_an_image_without_depth_has_no_valid_pixel_and_no_nan(space, nothing):
    relative, valid, sky = normalise(np.full((4, 6), nothing), space)
    assert not valid.any()
    assert sky.all() == np.isinf(nothing)
    assert np.isfinite(relative).all()


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ({'skies': True}, "targets has 'skies'; known are sky, unknown, resize"),
        ({'sky': 'no'}, "targets.sky is 'no'; choose one of true, false"),
        ({'unknown': 'stored'}, "targets.unknown is 'stored'; choose one of far, near"),
        ({'resize': 1}, 'targets.resize is 1; choose one of average, nearest'),
    ],
)
def test_a_wrong_target_rule_is_refused(entry, message):
    with pytest.raises(ConfigurationError, match=message):
        read_fields(TargetRule, 'targets', entry)


def test_an_unknown_space_is_named():
    with pytest.raises(ConfigurationError, match="'inverse'.*disparity"):
        normalise(np.ones((2, 2)), 'inverse')


def test_metres_stay_metres():
    depth = np.array([[2.5, np.nan], [np.inf, 80.0]], np.float32)
    relative, valid, sky = normalise(depth, 'metric')
    np.testing.assert_array_equal(relative, [[2.5, 0.0], [0.0, 80.0]])
    np.testing.assert_array_equal(valid, [[True, False], [False, True]])
    np.testing.assert_array_equal(sky, [[False, False], [True, False]])
    both = torch.from_numpy(relative)[None, None]
    found = denormalise(both, torch.from_numpy(depth)[None, None], both > 0, 'metric')
    torch.testing.assert_close(found, both)


@pytest.mark.parametrize('space', RELATIVE_SPACES)
def test_depth_between_the_percentiles_comes_back_in_metres(space):
    depth = np.random.default_rng(0).uniform(2.0, 30.0, (2, 1, 12, 16)).astype(np.float32)
    found = [normalise(one, space) for one in depth]
    relative, valid, _ = (np.stack(part) for part in zip(*found, strict=True))
    found = denormalise(*map(torch.from_numpy, (relative, depth, valid)), space).numpy()
    inside = (relative > 0) & (relative < 1)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(found[inside], depth[inside], rtol=1e-4)
