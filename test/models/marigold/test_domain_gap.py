# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The domain gap: 0.5 at the limit of training images, and rising with their distance."""

from __future__ import annotations

from dataclasses import asdict
import json
import math

from marigold_ros.errors import CheckpointError
from marigold_ros.evaluation.corruptions import corrupt
from marigold_ros.models import EMBEDDED, load_model
from marigold_ros.models.marigold.domain_gap import (
    FILE,
    image_features,
    read_training_features,
    TrainingFeatures,
)
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def tiny():
    return load_model('tiny', device='cpu')


def test_features_are_those_of_each_image_alone_and_finite_for_constant_ones():
    latent = torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    together = image_features(latent)
    assert together.shape == (3, 12)
    assert torch.allclose(together[1:2], image_features(latent[1:2]))
    assert torch.allclose(together[:, :4], latent.mean((2, 3)))
    down, across = (np.abs(np.diff(latent.numpy(), axis=axis)).mean((2, 3)) for axis in (2, 3))
    spread = np.concatenate([latent.numpy().std((2, 3)), down + across], axis=1)
    np.testing.assert_allclose(together[:, 4:], np.log(spread), atol=1e-5)
    assert torch.isfinite(image_features(torch.zeros(1, 4, 8, 8))).all()


def test_a_file_is_read_as_it_was_written_missing_is_unknown_and_damaged_is_named(tmp_path):
    assert read_training_features(tmp_path) is None
    written = TrainingFeatures((1.0, 2.0, 3.0, 4.0), tuple(map(tuple, np.eye(4))), 9.5, 200)
    (tmp_path / FILE).write_text(json.dumps(asdict(written)))
    assert read_training_features(tmp_path) == written
    for wrong in (
        {'limit': -1.0},
        {'limit': 0.0},
        {'mean': [0.0]},
        {'mean': [[0.0]] * 4},
        {'covariance': np.zeros((4, 4)).tolist()},
    ):
        (tmp_path / FILE).write_text(json.dumps({**asdict(written), **wrong}))
        with pytest.raises(CheckpointError, match=f'{FILE} holds no mean'):
            read_training_features(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(asdict(written)))
    with pytest.raises(CheckpointError, match='of 4 features.* has 12'):
        read_training_features(tmp_path, 12)


def test_the_gap_is_half_at_the_limit_and_four_fifths_at_twice_the_squared_distance():
    known = TrainingFeatures((1.0, 2.0), ((4.0, 0.0), (0.0, 9.0)), 2.5, 100)
    # Two deviations in one feature, one in the other: (4 + 1) / 2.
    assert known.gap(np.array([1.0 + 4.0, 2.0 - 3.0])) == pytest.approx(0.5)
    assert known.gap(np.array([1.0, 2.0 + 3.0 * 10**0.5])) == pytest.approx(0.8)
    assert known.gap(np.array([1.0, 2.0])) == 0.0


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


def test_each_image_has_its_own_gap(tiny):
    images = [make_sample(700).rgb, make_sample(701).rgb // 8]
    together = tiny.predict_together(images, [tiny.new_stream() for _ in images])
    alone = [tiny.predict(image).domain_gap for image in images]
    assert [one.domain_gap for one in together] == pytest.approx(alone, abs=0.02)


def test_without_statistics_of_its_autoencoder_the_gap_is_unknown():
    assert (EMBEDDED / 'tiny' / FILE).is_file()
    other_vae = load_model('tiny', device='cpu', vae=str(EMBEDDED / 'tiny' / 'vae'))
    for model in (load_model('tiny-diffusion', device='cpu'), other_vae):
        prediction = model.predict(np.zeros((64, 96, 3), np.uint8), denoising_steps=1)
        assert math.isnan(prediction.domain_gap)
