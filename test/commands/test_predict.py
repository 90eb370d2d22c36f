# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images in, three files each out."""

import json

import cv2
from marigold_ros.__main__ import main
from marigold_ros.commands.predict import read_image, unique_names, write_prediction
from marigold_ros.config import PipelineConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction
import numpy as np
import pytest


class RedChannelModel:
    description = {'name': 'ramp', 'path': '/nowhere'}

    def __init__(self):
        self.calls = []

    def predict(self, rgb, **options):
        self.calls.append(options)
        return Prediction(rgb[..., 0].astype(np.float32) / 255)


@pytest.fixture
def model(monkeypatch):
    replacement = RedChannelModel()
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: replacement)
    return replacement


@pytest.fixture
def image(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    path = tmp_path / 'street – ü.png'
    path.write_bytes(cv2.imencode('.png', rgb[..., ::-1])[1].tobytes())
    return path, rgb


def test_metric_depth_is_stored_in_millimetres_as_ros_has_it(tmp_path):
    depth = np.linspace(0.5, 80, 240, dtype=np.float32).reshape(12, 20)
    write_prediction(tmp_path, 'view', Prediction(depth, space='metric'))
    np.testing.assert_array_equal(np.load(tmp_path / 'view_relative.npy'), depth)
    stored = cv2.imread(str(tmp_path / 'view_relative.png'), cv2.IMREAD_UNCHANGED)
    expected = np.minimum(depth * 1000, 65535)
    np.testing.assert_allclose(stored, expected, atol=0.51)
    colour = cv2.imread(str(tmp_path / 'view_color.png'))
    assert len(np.unique(colour.reshape(-1, 3), axis=0)) > 100


def test_the_three_files_hold_the_prediction(model, image, tmp_path, capsys):
    path, rgb = image
    out = tmp_path / 'out'
    assert main(['predict', str(path), '--out', str(out)]) == 0
    relative = np.load(out / f'{path.stem}_relative.npy')
    assert relative.dtype == np.float32
    assert (relative == rgb[..., 0].astype(np.float32) / 255).all()
    data = np.fromfile(out / f'{path.stem}_relative.png', np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert np.abs(stored / 65535 - relative).max() <= 0.5 / 65535 + 1e-7
    colour = cv2.imdecode(np.fromfile(out / f'{path.stem}_color.png', np.uint8), cv2.IMREAD_COLOR)
    assert colour.shape == rgb.shape
    near = colour[np.unravel_index(relative.argmin(), relative.shape)].astype(int)
    assert near[2] > near[0]  # red above blue
    assert 'ms' in capsys.readouterr().out


def test_unreadable_images_are_told_and_the_others_done(model, image, tmp_path, capsys):
    path, _ = image
    (tmp_path / 'text.jpg').write_text('no image')
    (tmp_path / 'empty.png').write_bytes(b'')
    bad = [str(tmp_path / name) for name in ('text.jpg', 'empty.png', 'missing.png')]
    out = tmp_path / 'out'
    assert main(['predict', *bad, str(path), '--out', str(out), '--json']) == 1
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith('error: ') for line in errors)
    report = json.loads(captured.out)
    assert [entry['input'] for entry in report['failed']] == bad
    assert len(report['pictures'][0]['files']) == 3
    assert len(list(out.iterdir())) == 3


def test_settings_reach_the_model_and_unset_ones_stay_none(model, image, tmp_path):
    path, _ = image
    call = ['predict', str(path), '--out', str(tmp_path)]
    main(call)
    main([*call, '--set', 'denoising_steps=4', '--set', 'processing_resolution=0'])
    main([*call, '--set', 'profile=balanced', '--set', 'engine.merge=reference'])
    first, second, third = model.calls
    assert first == PipelineConfig().prediction
    assert (second['denoising_steps'], second['processing_resolution']) == (4, 0)
    assert (third['ensemble_size'], third['options'].merge) == (3, 'reference')


def test_images_of_one_name_do_not_overwrite_each_other():
    assert unique_names(['a/x.png', 'b/x.jpg', 'x_2.png', 'x.png']) == ['x', 'x_2', 'x_2_2', 'x_3']


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match='check the path'):
        read_image(tmp_path / 'none.png')
