# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Features of training images: one in twenty is beyond their limit, and rooms are no streets."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.models import load_model
from marigold_ros.models.marigold.domain_gap import image_features
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.run.training_features import summarise
import numpy as np
import pytest
import torch


def some_features(count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(2.0, 3.0, (count, 4)) @ rng.normal(size=(4, 4))


def test_one_in_twenty_training_images_is_above_one_half():
    features = some_features()
    gaps = np.array([summarise(features).gap(own) for own in features])
    assert np.mean(gaps > 0.5) == pytest.approx(0.05, abs=0.02)
    assert summarise(features).gap(features.mean(axis=0)) == pytest.approx(0.0, abs=1e-6)


def test_few_training_images_do_not_make_others_like_them_unlike():
    features = some_features(1000)
    few = summarise(features[:25])
    assert np.mean([few.gap(own) > 0.5 for own in features[25:]]) < 0.2


def test_copies_of_few_images_do_not_make_the_limit_smaller():
    features = some_features(25)
    copies = np.repeat(features, 8, axis=0)
    copied = summarise(copies, np.repeat(np.arange(25), 8))
    assert copied.limit == pytest.approx(summarise(features).limit, rel=0.25)
    assert summarise(copies).limit < 0.8 * copied.limit


@given(st.floats(0.0, 50.0), st.floats(0.1, 5.0), st.integers(0, 2**32))
def test_the_gap_rises_with_the_distance_and_stays_below_one(near, step, seed):
    features = some_features()
    summary = summarise(features)
    way = np.random.default_rng(seed).normal(size=4)
    middle = features.mean(axis=0)
    gaps = [summary.gap(middle + distance * way) for distance in (near, near + step)]
    assert 0.0 <= gaps[0] < gaps[1] <= 1.0


def test_the_gap_does_not_depend_on_the_unit_of_a_feature():
    features, units = some_features(), np.array([1.0, 10.0, 0.1, 3.0])
    one, other = summarise(features), summarise(features * units)
    assert one.gap(features[7] + 5) == pytest.approx(
        other.gap((features[7] + 5) * units), rel=1e-3
    )


@pytest.mark.slow  # renders 34 scenes
def test_rooms_are_far_from_streets_and_near_to_rooms():
    tiny = load_model('tiny', device='cpu')

    def latents(kind: str, first: int, count: int) -> np.ndarray:
        images = [make_sample(first + i, 96, 64, kind).rgb for i in range(count)]
        image = tiny.preprocess(tiny.upload(images), (64, 96))
        with torch.inference_mode():
            return image_features(tiny.encode(image)).numpy()

    streets = summarise(latents('street', 0, 24))
    gaps = {
        kind: np.mean([streets.gap(own) for own in latents(kind, 100, 5)])
        for kind in ('street', 'room')
    }
    assert gaps['street'] < 0.4 < gaps['room']
