# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Validation on the data sets of publications: small files in their layouts, planted errors."""

from __future__ import annotations

from dataclasses import replace

import cv2
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction
from marigold_ros.image_sets import image_set
from marigold_ros.image_sets.layouts import LAYOUTS
from marigold_training.families.marigold import FAMILY
from marigold_training.published_sets import PublishedSet, SETS
from marigold_training.run.validation import Validation
import numpy as np
import pytest
import torch

FACTS = {'space': 'depth', 'noise': 'zeros', 'default_processing_pixels': 32 * 48}
FILES = {
    'nyu': ('a/rgb_1.png', 'a/depth_1.png'),
    'kitti': ('day/data/7.png', 'drive/7.png'),
    'eth3d': ('rgb/1.png', 'depth/1.JPG'),
    'scannet': ('s/color/3.png', 's/depth/3.png'),
    'diode': ('in/1.png', 'in/1_depth.npy', 'in/1_mask.npy'),
}
# Pixels (H, W), where truth counts by the published rule, and its range.
SIZES = {
    'nyu': (480, 640),
    'kitti': (375, 1242),
    'eth3d': (40, 60),
    'scannet': (40, 60),
    'diode': (40, 60),
}
RANGES = {
    'nyu': (1e-3, 10.0),
    'kitti': (1e-5, 80.0),
    'eth3d': (1e-5, np.inf),
    'scannet': (1e-3, 10.0),
    'diode': (0.6, 350.0),
}
WINDOWS = {
    'nyu': np.s_[45:471, 41:601],
    # Rows 117 to 321 and columns 43 to 1172 of the lowest 352 rows and the middle 1216 columns.
    'kitti': np.s_[23 + 117 : 23 + 321, 13 + 43 : 13 + 1172],
}


def depth_of(name: str) -> np.ndarray:
    """Return a slope of 1 to 9 m with a hole; what is beyond the range is added by tests."""
    height, width = SIZES[name]
    depth = np.add.outer(np.linspace(1.0, 5.0, height), np.linspace(0.0, 4.0, width))
    depth[5:9, 7:12] = 0.0
    return np.round(depth, 2).astype(np.float32)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, array)
    elif path.suffix == '.JPG':
        path.write_bytes(np.where(array > 0, array, np.inf).astype('<f4').tobytes())
    else:
        assert cv2.imwrite(str(path), array)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Write one image of each data set in its layout; returns the folder."""
    small = {**LAYOUTS, 'eth3d': replace(LAYOUTS['eth3d'], raw_size=SIZES['eth3d'])}
    monkeypatch.setattr(image_set, 'LAYOUTS', small)
    for name, files in FILES.items():
        depth = depth_of(name)
        write(tmp_path / name / files[0], np.full((*depth.shape, 3), 90, np.uint8))
        unit = {'kitti': 256, 'nyu': 1000, 'scannet': 1000}.get(name)
        stored = depth if unit is None else np.round(depth * unit).astype(np.uint16)
        write(tmp_path / name / files[1], stored)
        if name == 'diode':
            write(tmp_path / name / files[2], (depth > 0).astype(np.float32))
        (tmp_path / f'{name}.txt').write_text(' '.join(files) + '\n')
    return tmp_path


def entry(name: str, **more: object) -> dict[str, object]:
    return {'folder': name, 'list': f'{name}.txt', **more}


class Planted:
    """A model that predicts given maps (H, W)."""

    def __init__(self, relative: np.ndarray) -> None:
        self.relative = relative

    def predict(self, rgb: np.ndarray) -> Prediction:
        assert rgb.shape[:2] == self.relative.shape
        return Prediction(self.relative.astype(np.float32), None, 'depth')


def as_seen(name: str, depth: np.ndarray) -> np.ndarray:
    """Cut what the model sees: KITTI's benchmark crop."""
    return depth[23:, 13:1229] if name == 'kitti' else depth


@pytest.mark.parametrize('name', SETS)
def test_figures_are_those_of_the_rule_written_out(data, name):
    depth = depth_of(name).astype(np.float64)
    unit = {'kitti': 256, 'nyu': 1000, 'scannet': 1000}.get(name)
    truth = depth if unit is None else np.round(depth * unit) / unit
    predicted = 0.1 * depth + 0.05 * np.sin(depth * 3.0)
    low, high = RANGES[name]
    counted = np.zeros(depth.shape, bool)
    counted[WINDOWS.get(name, np.s_[:, :])] = True
    counted &= (truth > low) & (truth < high)
    design = np.stack([predicted[counted], np.ones(counted.sum())], axis=1)
    scale, shift = np.linalg.lstsq(design, truth[counted], rcond=None)[0]
    fitted = np.clip(scale * predicted[counted] + shift, low, high)
    abs_rel = np.mean(np.abs(fitted - truth[counted]) / truth[counted])
    table = PublishedSet(name, entry(name), data).score(Planted(as_seen(name, predicted)))
    assert table['abs_rel'] == pytest.approx(abs_rel, rel=1e-4)


def test_all_five_are_prepared_scored_and_select_the_weights(data, new_chain):
    chain = new_chain()
    entries = {name: entry(name, images=1) for name in ('eth3d', 'scannet', 'diode')}

    for best, sign in (('diode.abs_rel', 1), ('eth3d.delta1', -1)):
        validation = Validation({**entries, 'best': best}, FAMILY, FACTS, data)
        assert validation
        validation.prepare()
        sheet = data / 'sheet.png'
        figures = validation.run(chain, chain.state_dict(), torch.device('cpu'), sheet)
        assert set(figures) == set(entries)
        name, metric = best.split('.')
        assert validation.quality(figures) == sign * figures[name]['model'][metric]
        assert sheet.is_file()
    assert Validation(entries, FAMILY, FACTS, data).quality(figures) is None


def test_a_file_that_was_changed_since_it_was_read_is_read_again(data):
    path = data / 'scannet' / FILES['scannet'][1]
    PublishedSet('scannet', entry('scannet'), data).prepare()
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(InputError, match=r'depth/3\.png'):
        PublishedSet('scannet', entry('scannet'), data).prepare()


def test_a_set_without_a_known_pixel_is_named(data):
    write(data / 'eth3d' / FILES['eth3d'][1], np.zeros(SIZES['eth3d'], np.float32))
    own = PublishedSet('eth3d', entry('eth3d'), data)
    with pytest.raises(InputError, match='eth3d: none of 1 images has a pixel of known depth'):
        own.score(Planted(np.zeros(SIZES['eth3d'], np.float32)))


def test_a_broken_file_is_named_before_training(data):
    (data / 'scannet' / FILES['scannet'][1]).write_bytes(b'\x89PNG')
    with pytest.raises(InputError, match=r'(?s)validation\.scannet.*depth/3\.png'):
        Validation({'scannet': entry('scannet')}, FAMILY, FACTS, data).prepare()


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'nyu': 'nyu'}, r"validation\.nyu is 'nyu'; give {folder"),
        ({'nyu': {'folder': 'nyu'}}, 'the data set and its list'),
        ({'nyu': entry('nyu', image=3)}, "has 'image'.*images"),
        ({'nyu': entry('nyu', images=0)}, 'images is 0'),
        ({'nyu': entry('nyu'), 'best': 'kitti.abs_rel'}, "best is 'kitti.abs_rel'.*nyu, a dot"),
        ({'nyu': entry('nyu'), 'best': 'nyu.bias'}, "best is 'nyu.bias'"),
        ({'scenes': 1, 'best': 'scenes.rmse'}, 'one of abs_rel, delta1'),
    ],
)
def test_wrong_entries_are_named(data, given, words):
    with pytest.raises(ConfigurationError, match=words):
        Validation(given, FAMILY, FACTS, data)


def test_a_missing_list_is_named(data):
    with pytest.raises(InputError, match=r"no file .*none\.txt; check 'list' of validation\.nyu"):
        PublishedSet('nyu', {'folder': 'nyu', 'list': 'none.txt'}, data)
