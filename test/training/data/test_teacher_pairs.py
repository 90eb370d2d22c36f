# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Labels of a teacher: its own map comes back as the target, once predicted, never converted."""

from __future__ import annotations

import json
from pathlib import Path
import pickle
import shutil

import cv2
from hypothesis import given, strategies
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.models import load_model
from marigold_ros.processes import Stopped
from marigold_ros.spaces import from_metres, RELATIVE_SPACES
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.data.sources import open_source
from marigold_training.data.targets import normalise
from marigold_training.data.teacher_pairs import stand_in_depth
import numpy as np
import pytest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images in a folder of folders; returns the folder of data."""
    for index in range(3):
        path = tmp_path / 'photos' / f'day_{index % 2}' / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        rgb = make_sample(index, width=64, height=48).rgb
        cv2.imwrite(str(path), rgb[..., ::-1])
    return tmp_path


@pytest.fixture
def labelled(photos, small_checkpoint):
    """Return a function that opens the images as a source."""

    def open_them(**keys: object) -> object:
        entry = {'kind': 'teacher', 'folder': 'photos', 'model': str(small_checkpoint), **keys}
        return open_source({'size': [48, 64], **entry}, photos)

    return open_them


@given(
    values=strategies.lists(strategies.floats(0.0, 1.0), min_size=3, max_size=20, unique=True),
    space=strategies.sampled_from(RELATIVE_SPACES),
)
def test_the_depth_is_affine_to_the_map_in_its_space(values, space):
    values = np.array(values)
    depth = stand_in_depth(values, space)
    assert depth.min() > 0.9
    assert depth.max() < 51.0
    found = from_metres(depth, space)
    low, high = found.min(), found.max()
    ends = values.min(), values.max()
    np.testing.assert_allclose(
        (found - low) * (ends[1] - ends[0]), (values - ends[0]) * (high - low), atol=1e-9
    )


def test_the_target_is_the_teachers_map(labelled, small_checkpoint):
    source = labelled()
    source.prepare()
    model = load_model(str(small_checkpoint))
    for index in range(len(source)):
        pair = source.read(index)
        wanted = model.predict(pair.rgb).relative
        low, high = np.quantile(wanted, (0.02, 0.98))
        target, valid, _ = normalise(pair.depth, source.space)
        assert valid.all()
        # Files have 11 bits; the map of random weights spans a small part of the range.
        tolerance = 50.0 / 1024 / 49 / (high - low)
        np.testing.assert_allclose(
            target, np.clip((wanted - low) / (high - low), 0, 1), atol=tolerance
        )


def test_labelling_resumes_where_it_stopped(labelled, photos):
    answers = iter([False, True])
    with pytest.raises(Stopped):
        labelled().prepare(stop=lambda: next(answers))
    (first,) = photos.glob('labels/*/*.npy')
    time = first.stat().st_mtime_ns
    source = labelled()
    source.prepare()
    assert len(list(photos.glob('labels/*/*.npy'))) == 3
    assert first.stat().st_mtime_ns == time
    assert '_model' not in vars(source)


def test_a_changed_image_is_labelled_again_and_changes_the_fingerprint(labelled, photos):
    source = labelled()
    source.prepare()
    before = source.fingerprint()
    cv2.imwrite(str(photos / 'photos' / 'day_0' / '0.png'), np.zeros((40, 50, 3), np.uint8))
    assert source.fingerprint() != before
    assert source.read(0).depth.shape == (40, 50)


def test_a_teacher_with_other_settings_labels_again(labelled, small_checkpoint, tmp_path):
    teacher = shutil.copytree(small_checkpoint, tmp_path / 'teacher')
    before = labelled(model=str(teacher))
    assert before.space == 'depth'
    metres = {'space': 'depth', 'scale': 3.0, 'shift': 0.5, 'focal_share': 0.9, 'abs_rel': 0.1}
    (teacher / 'metric_scale.json').write_text(json.dumps({**metres, 'max_depth': 100.0}))
    after = labelled(model=str(teacher))
    assert after.space == 'metric'
    assert after.fingerprint() != before.fingerprint()


def test_a_source_reads_alike_in_another_process(labelled):
    source = labelled()
    source.prepare()
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy.read(1).depth, source.read(1).depth)


def test_broken_images_are_named_and_the_others_labelled(labelled, photos):
    (photos / 'photos' / 'day_0' / 'broken.png').write_bytes(b'not an image')
    with pytest.raises(InputError, match=r'1 problem;.*\n.*broken\.png'):
        labelled().prepare()
    assert len(list(photos.glob('labels/*/*.npy'))) == 3


@pytest.mark.parametrize('size', [0, 50, 500])
def test_a_label_that_was_cut_off_is_named(labelled, photos, size):
    source = labelled()
    source.prepare()
    for path in (photos / 'labels').glob('*/*.npy'):
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r'labels/.*\.npy is damaged .*delete it'):
        source.read(0)


def test_a_folder_without_images_is_refused(labelled):
    with pytest.raises(InputError, match=r"no files like '\*\.tif'.*check folder and images"):
        labelled(images='*.tif')


def test_labels_of_another_space_are_refused(photos, small_checkpoint, open_run):
    entry = {'kind': 'teacher', 'folder': str(photos / 'photos'), 'model': str(small_checkpoint)}
    with pytest.raises(
        ConfigurationError, match="space is 'log' and .* predicts depth.*set facts.space"
    ):
        open_run(sources=[{**entry, 'size': [32, 48]}])
