# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Several images in one call: each gets the answer that it gets alone."""

from marigold_ros.config import EngineConfig
from marigold_ros.errors import InputError
from marigold_ros.models import load_model
from marigold_ros.models.marigold.stream import Stream
from marigold_ros.models.protocol import PredictOptions
import numpy as np
import pytest

# Random weights amplify the last bits, which differ with the size of the batch.
TOLERANCE = 1e-3


@pytest.fixture
def model(small_checkpoint):
    return load_model(str(small_checkpoint), device='cpu')


def images(image, count: int) -> list[np.ndarray]:
    """Images that differ."""
    return [np.roll(image(48, 64), 9 * i, axis=1) for i in range(count)]


@pytest.mark.parametrize('members', [1, 3])
@pytest.mark.parametrize('noise', ['zeros', 'gaussian'])
@pytest.mark.parametrize('batch_limit', [0, 2])
def test_each_image_gets_the_answer_that_it_gets_alone(model, image, members, noise, batch_limit):
    options = PredictOptions(2, members, engine=EngineConfig(noise=noise, batch_limit=batch_limit))
    rgbs = images(image, 3)
    alone = [model.predict(rgb, **vars(options)) for rgb in rgbs]
    together = model.predict_together(rgbs, [Stream() for _ in rgbs], options)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.relative, other.relative, atol=TOLERANCE)
        assert (one.spread is None) == (other.spread is None) == (members == 1)
        if members > 1:
            np.testing.assert_allclose(one.spread, other.spread, atol=TOLERANCE)
    assert np.abs(together[0].relative - together[1].relative).max() > 20 * TOLERANCE


def test_each_camera_starts_warm_from_its_own_last_frame_unless_its_scene_is_cut(model, image):
    options = PredictOptions(1, engine=EngineConfig(noise='gaussian', warm_start=0.5))
    one, two = images(image, 2)
    drives = [[one, one], [two, two], [two, 255 - two]]
    alone = []
    for drive in drives:
        model.reset()
        alone.append([model.predict(rgb, **vars(options)).relative for rgb in drive][-1])
    streams = [Stream() for _ in drives]
    for rgbs in zip(*drives, strict=True):
        together = model.predict_together(rgbs, streams, options)
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_allclose(expected, found.relative, atol=TOLERANCE)


def test_images_of_different_sizes_are_refused(model, image):
    with pytest.raises(InputError, match='2 sizes of image'):
        model.predict_together([image(48, 64), image(64, 48)], [Stream(), Stream()])
