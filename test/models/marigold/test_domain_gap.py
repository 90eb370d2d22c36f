# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The domain gap: 0.5 at the limit of training images, and rising with their distance."""

from __future__ import annotations

from dataclasses import asdict
import json
import math
import time

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import CheckpointError
from marigold_ros.evaluation.corruptions import corrupt
from marigold_ros.models import EMBEDDED, load_model
from marigold_ros.models.marigold.domain_gap import (
    FILE,
    image_features,
    read_training_features,
    summarise,
    to_json,
)
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def tiny():
    return load_model('tiny', device='cpu')


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


def test_features_are_those_of_each_image_alone_and_finite_for_constant_ones():
    latent = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    together = image_features(latent)
    assert together.shape == (3, 12)
    assert torch.allclose(together[1:2], image_features(latent[1:2]))
    assert torch.allclose(together[:, :4], latent.mean((2, 3)))
    assert torch.isfinite(image_features(torch.zeros(1, 4, 8, 8))).all()


def test_a_file_is_read_as_it_was_written_missing_is_unknown_and_damaged_is_named(tmp_path):
    assert read_training_features(tmp_path) is None
    written = summarise(some_features())
    (tmp_path / FILE).write_text(to_json(written))
    assert read_training_features(tmp_path) == written
    for wrong in ({'limit': -1.0}, {'mean': [0.0]}, {'covariance': np.zeros((4, 4)).tolist()}):
        (tmp_path / FILE).write_text(json.dumps({**asdict(written), **wrong}))
        with pytest.raises(CheckpointError, match=f'{FILE} holds no mean'):
            read_training_features(tmp_path)
    (tmp_path / FILE).write_text(to_json(written))
    with pytest.raises(CheckpointError, match='of 4 features.* has 12'):
        read_training_features(tmp_path, 12)


@pytest.mark.slow  # 30 predictions
def test_the_gap_of_tiny_rises_with_night_and_blur_beyond_its_training(tiny):
    images = [make_sample(seed).rgb for seed in range(700, 706)]

    def mean_gap(kind: str, strength: int) -> float:
        changed = [corrupt(x, kind, strength, np.random.default_rng(0)) for x in images]
        return float(np.mean([tiny.predict(image).domain_gap for image in changed]))

    clean = mean_gap('night', 0)
    assert clean < 0.3
    for kind in ('night', 'blur'):
        assert clean < mean_gap(kind, 4) < mean_gap(kind, 5) < 1.0


@pytest.mark.slow  # renders 34 scenes
def test_rooms_are_far_from_streets_and_near_to_rooms(tiny):
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


def test_checkpoints_without_statistics_report_an_unknown_gap():
    assert (EMBEDDED / 'tiny' / FILE).is_file()
    model = load_model('tiny-diffusion', device='cpu')
    prediction = model.predict(np.zeros((64, 96, 3), np.uint8), denoising_steps=1)
    assert math.isnan(prediction.domain_gap)


def test_it_takes_less_than_a_millisecond(tiny):
    latent = torch.randn(1, 8, 18, 24, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        tiny.trained_on.gap(image_features(latent).numpy()[0])
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3
