# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The average of models: closed forms, spaces, contradictions and failing members."""

from dataclasses import replace

from hypothesis import given, settings, strategies
from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction, UNBOUNDED
from marigold_ros.models import load_model
from marigold_ros.models.average.merge import merge
from marigold_ros.models.average.model import AverageModel
from marigold_ros.spaces import from_metres
import numpy as np
import pytest

SHAPE = (48, 64)
numbers = strategies.floats(0.1, 5.0)


def scene(seed=0):
    """Return smooth depth (H, W) of 2 to 30 m."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : SHAPE[0] * 1j, 0 : 1 : SHAPE[1] * 1j]
    waves = sum(
        rng.normal() * np.sin(rng.uniform(1, 6) * x + rng.uniform(1, 6) * y) for _ in '123'
    )
    waves = (waves - waves.min()) / np.ptp(waves)
    return 2.0 * np.exp(waves * np.log(15.0))


def prediction_of(depth, space, **more):
    """Return depth as a model of a space would predict it, from 0 to 1."""
    if space == 'metric':
        return Prediction(depth.astype(np.float32), space='metric')
    values = from_metres(depth, space)
    values = (values - values.min()) / np.ptp(values)
    return Prediction(values.astype(np.float32), space=space, **more)


@given(numbers, strategies.floats(-3, 3))
@settings(max_examples=min(20, settings().max_examples))
def test_a_member_that_differs_by_scale_and_shift_changes_nothing(scale, shift):
    first = prediction_of(scene(), 'log')
    other = Prediction(np.float32(scale) * first.relative + np.float32(shift), space='log')
    found = merge([first, other])
    np.testing.assert_allclose(found.relative, first.relative, atol=2e-5)
    assert found.spread.max() < 4e-5


def test_the_mean_and_deviation_are_those_of_the_fitted_maps():
    rng = np.random.default_rng(1)
    first = prediction_of(scene(), 'log').relative
    others = [5 * first + 2 + rng.normal(0, 0.5, SHAPE).astype(np.float32) for _ in range(2)]
    maps = [first]
    for other in others:
        design = np.stack([other.ravel(), np.ones(other.size)], 1)
        fit, *_ = np.linalg.lstsq(design, first.ravel(), rcond=None)
        maps.append((design @ fit).reshape(SHAPE))
    found = merge([Prediction(one, space='log') for one in (first, *others)])
    np.testing.assert_allclose(found.relative, np.mean(maps, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.spread, np.std(maps, axis=0, ddof=1), atol=1e-5)


@pytest.mark.parametrize('first', ['depth', 'log', 'disparity', 'metric'])
@pytest.mark.parametrize('second', ['depth', 'log', 'disparity', 'metric'])
@pytest.mark.parametrize('size', [1.0, 0.02])
def test_models_of_different_spaces_that_see_the_same_agree(first, second, size):
    depth = size * scene(3)
    alone = prediction_of(depth, first)
    found = merge([alone, prediction_of(depth, second)])
    assert found.space == first
    error = np.abs(found.relative - alone.relative) / np.ptp(alone.relative)
    assert error.max() < 0.03  # the number between the spaces comes from a grid


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_the_units_of_a_map_of_another_space_do_not_count(space):
    depth = scene(3)
    one = prediction_of(depth, space)
    found = merge([prediction_of(depth, 'metric'), replace(one, relative=3 * one.relative + 2)])
    np.testing.assert_allclose(found.relative, depth, rtol=0.05)


def test_the_average_of_independent_errors_is_nearer_to_the_truth():
    depth = scene(4)
    rng = np.random.default_rng(0)
    truth = prediction_of(depth, 'log').relative
    members = [
        Prediction((truth + rng.normal(0, 0.1, SHAPE)).astype(np.float32), space='log')
        for _ in range(4)
    ]

    def error(relative):
        design = np.stack([relative.ravel(), np.ones(relative.size)], 1)
        fit, *_ = np.linalg.lstsq(design, truth.ravel(), rcond=None)
        return np.abs(design @ fit - truth.ravel()).mean()

    alone = [error(one.relative) for one in members]
    assert error(merge(members).relative) < 0.7 * min(alone)


def test_a_member_that_contradicts_the_first_does_not_count():
    first = prediction_of(scene(), 'log')
    found = merge([first, Prediction(1 - first.relative, space='log')])
    np.testing.assert_array_equal(found.relative, first.relative)
    assert found.spread is None
    flat = merge([first, Prediction(np.full(SHAPE, 0.5, np.float32), space='log')])
    assert flat.spread is None


@pytest.mark.parametrize('first', ['log', 'disparity', 'metric'])
def test_a_pixel_of_no_distance_leaves_the_other_model_its_share(first):
    touched = scene(3)
    touched[0, 0] = 0.0
    pair = [prediction_of(touched, 'metric'), prediction_of(scene(3), first)]
    for models in (pair, pair[::-1]):
        found = merge(models)
        assert np.isfinite(found.relative).all()
        assert found.spread is not None


def test_what_the_first_model_states_of_its_metres_is_stated_of_the_average():
    stated = {'relative_error': 0.1, 'focal_share': 0.8, 'censored': UNBOUNDED}
    metres = replace(prediction_of(scene(), 'metric'), domain_gap=0.2, **stated)
    far = prediction_of(scene(), 'log', domain_gap=0.7)  # from what it was trained on
    found = merge([metres, far, prediction_of(scene(), 'depth')])
    assert {name: getattr(found, name) for name in stated} == stated
    assert found.domain_gap == 0.7


def test_metres_are_averaged_as_their_logarithms_and_their_spread_is_in_metres():
    noise = np.random.default_rng(0).normal(0, 0.1, SHAPE)
    depths = scene(), scene() * np.exp(noise)
    metric = merge([prediction_of(depth, 'metric') for depth in depths])
    logs = merge([Prediction(np.log(x).astype(np.float32), space='log') for x in depths])
    np.testing.assert_allclose(metric.relative, np.exp(logs.relative), rtol=1e-5)
    np.testing.assert_allclose(metric.spread, logs.spread * metric.relative, atol=1e-5)
    np.testing.assert_allclose(logs.members.mean(axis=0), logs.relative, rtol=1e-5)
    assert metric.members is None


class Kept:
    """What counts how often it is reset."""

    resets = 0

    def reset(self):
        self.resets += 1


class Member(Kept):
    """A model whose answer, or error, is given."""

    space, device, stream, runtime = 'log', 'cpu', None, None
    new_stream = Kept

    def __init__(self, name, answer):
        self.answer, self.answered_by = answer, name
        self.description = {'name': name}
        self.takes_any_batch = name == 'a'

    def predict_together(self, rgbs, streams, options):
        self.streams = streams
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in rgbs]


def test_a_failing_member_is_left_out_of_the_image(caplog):
    first = prediction_of(scene(), 'log')
    model = AverageModel([Member('a', first), Member('b', RuntimeError('out of memory'))])
    np.testing.assert_array_equal(model.predict(np.zeros(1)).relative, first.relative)
    assert 'b is left out of the average: out of memory' in caplog.text
    short = AverageModel([Member('a', first), Member('b', InputError('no memory', 'size'))])
    np.testing.assert_array_equal(short.predict(np.zeros(1)).relative, first.relative)


def test_each_member_keeps_a_state_of_each_camera():
    members = [Member(name, prediction_of(scene(), 'log')) for name in 'ab']
    model = AverageModel(members)
    cameras = [model.new_stream() for _ in range(2)]
    model.predict_together([np.zeros(1)] * 2, cameras)
    states = [state for member in members for state in member.streams]
    assert len({id(state) for state in states}) == 4
    cameras[0].reset()
    assert [state.resets for state in states] == [1, 0, 1, 0]
    model.reset()
    assert [member.resets for member in members] == [1, 1]
    assert (model.answered_by, model.takes_any_batch) == ('a', False)


def test_a_member_that_fails_at_each_image_does_not_flood_the_log(caplog):
    first = prediction_of(scene(), 'log')
    failing = Member('b', RuntimeError('out of memory'))
    model = AverageModel([Member('a', first), failing])
    for answer in [failing.answer] * 3 + [first] + [failing.answer] * 3:
        failing.answer = answer
        model.predict(np.zeros(1))
    assert caplog.text.count('left out') == 2


def test_maps_in_the_units_of_another_member_never_stand_for_those_of_the_first():
    """A scale that was held from earlier frames made metres of them, wrong by any factor."""
    other = prediction_of(scene(), 'log')
    for error in (RuntimeError('out of memory'), InputError('no memory', 'size')):
        with pytest.raises(type(error), match='memory'):
            AverageModel([Member('a', error), Member('b', other)]).predict(np.zeros(1))


@pytest.mark.parametrize('error', [InputError('no image'), ConfigurationError('no setting')])
def test_what_the_caller_has_wrong_is_no_failure_of_a_member(error):
    model = AverageModel([Member('a', prediction_of(scene(), 'log')), Member('b', error)])
    with pytest.raises(type(error)):
        model.predict(np.zeros(1))


def test_names_with_a_plus_between_them_are_averaged(small_checkpoint, unet_folder, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    runtime = RuntimeConfig(cache_dir=str(tmp_path))
    model = load_model(f'{small_checkpoint}+{unet_folder}', 'cpu', 'float32', runtime=runtime)
    members = [
        load_model(str(folder), 'cpu', 'float32') for folder in (small_checkpoint, unet_folder)
    ]
    expected = merge([member.predict(rgb) for member in members])
    np.testing.assert_array_equal(model.predict(rgb).relative, expected.relative)
    assert model.description['family'] == 'average'
    model.members[1].notes.append('slow')
    assert model.description['notes'][-1] == 'plain: slow'
    count = sum(member.description['parameters'] for member in members)
    assert model.description['parameters'] == count
    for fact in ('path', 'space', 'dtype'):
        assert model.description[fact] == members[0].description[fact]
    assert model.runtime.cache_dir == runtime.cache_dir  # where the fusion network is kept too
    assert [one['sha256'] for one in model.description['members']] == [
        member.description['sha256'] for member in members
    ]


@pytest.mark.parametrize('first', ['prime', 'depth anything'])
def test_prime_depth_and_depth_anything_average_as_their_authors_do(
    converted_prime_depth, relative_folder, first
):
    """Both are disparity: one is fitted to the other by least squares, and they are averaged."""
    folders = [converted_prime_depth, relative_folder][:: 1 if first == 'prime' else -1]
    rgb = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    one, other = (load_model(str(folder), 'cpu').predict(rgb).relative for folder in folders)
    average = load_model('+'.join(map(str, folders)), 'cpu')
    found = average.predict(rgb)
    assert (found.space, average.space) == ('disparity', 'disparity')
    slope, shift = np.polyfit(other.ravel().astype(float), one.ravel().astype(float), 1)
    fitted = slope * other + shift if slope > 0 else one  # a map that contradicts does not count
    np.testing.assert_allclose(found.relative, (one + fitted) / 2, atol=1e-3 * np.ptp(one))


@pytest.mark.parametrize('name', ['tiny+', '+tiny', 'tiny+tiny'])
def test_an_average_needs_different_models_and_takes_no_autoencoder(name):
    with pytest.raises(ConfigurationError, match='names different models'):
        load_model(name, 'cpu')
    with pytest.raises(ConfigurationError, match="vae is 'own', and an average has several"):
        load_model(name, 'cpu', vae='own')


def test_a_folder_with_a_plus_in_its_name_is_a_folder(unet_folder, tmp_path):
    folder = tmp_path / 'a+b'
    folder.symlink_to(unet_folder)
    assert load_model(str(folder), 'cpu').description['family'] == 'unet'
