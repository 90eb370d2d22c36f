# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Depth estimators of transformers: what its own pipeline says, and what is refused."""

import json

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry import align
from marigold_ros.models import load_model
import numpy as np
import pytest
import torch
from transformers import pipeline

SIZES = [(121, 163), (90, 240), (201, 77)]


def image_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = np.stack([255 * y, 120 + 80 * np.sin(12 * x), 255 * x], axis=-1)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def by_transformers(folder, rgb):
    """Return depth (H, W) by transformers' own pipeline."""
    from PIL import Image

    estimate = pipeline('depth-estimation', model=str(folder), device='cpu')
    with torch.inference_mode():
        return estimate(Image.fromarray(rgb))['predicted_depth'].numpy()


@pytest.mark.parametrize('size', SIZES)
def test_disparity_is_that_of_transformers_over_one_constant(relative_folder, size):
    model = load_model(str(relative_folder), device='cpu')
    rgb = image_of(*size)
    found, expected = model.predict(rgb), by_transformers(relative_folder, rgb)
    assert found.space == model.space == 'disparity'
    off = np.abs(found.relative * model.unit - expected).max()
    assert off < 1e-4 * (expected.max() - expected.min())


@pytest.mark.parametrize('size', SIZES)
def test_metric_depth_is_that_of_transformers(metric_folder, size):
    model = load_model(str(metric_folder), device='cpu')
    rgb = image_of(*size)
    found, expected = model.predict(rgb), by_transformers(metric_folder, rgb)
    assert found.space == 'metric'
    np.testing.assert_allclose(found.relative, expected, rtol=1e-5)


def test_kin_of_depth_anything_say_what_transformers_says(kin_folder):
    model, rgb = load_model(str(kin_folder), device='cpu'), image_of(90, 130)
    expected = by_transformers(kin_folder, rgb)
    off = np.abs(model.predict(rgb).relative * model.unit - expected).max()
    assert off < 1e-4 * np.ptp(expected)
    assert model.space == {'dpt': 'disparity', 'glpn': 'metric'}[model.kind]


def test_the_constant_is_of_the_checkpoint_and_not_of_the_frame(relative_folder):
    first, again = (load_model(str(relative_folder), device='cpu') for _ in range(2))
    assert first.unit == again.unit
    dark = (image_of(80, 100) // 8).astype(np.uint8)
    for rgb in (image_of(80, 100), dark):
        raw = by_transformers(relative_folder, rgb)
        np.testing.assert_allclose(first.predict(rgb).relative * first.unit, raw, rtol=1e-4)


def test_the_constant_may_be_given(relative_folder):
    (relative_folder / 'marigold_ros.json').write_text('{"disparity_unit": 2.5}')
    assert load_model(str(relative_folder), device='cpu').unit == 2.5


def test_values_beyond_one_take_part_in_the_fit(relative_folder):
    unit = load_model(str(relative_folder), device='cpu').unit / 50
    (relative_folder / 'marigold_ros.json').write_text(json.dumps({'disparity_unit': unit}))
    prediction = load_model(str(relative_folder), device='cpu').predict(image_of(120, 160))
    v, u = np.nonzero(prediction.relative > 1)
    assert len(v) > 5000
    v, u = v[::20], u[::20]
    z = 1 / (0.05 + 0.001 * prediction.relative[v, u])
    config = AlignmentConfig(method='least_squares')
    fit = align(prediction, SparseDepth(u, v, z.astype(np.float32)), config)
    assert fit.state == 'fitted'
    np.testing.assert_allclose(fit.metric[v, u], z, rtol=0.01)


@pytest.mark.parametrize(('longest', 'size'), [(70, (56, 70)), (0, (84, 126)), (None, (98, 140))])
def test_the_longest_side_at_the_network_may_be_chosen(relative_folder, longest, size):
    model = load_model(str(relative_folder), device='cpu')
    found = model.processing_size(88, 124, longest)
    assert found == size
    assert model.predict(image_of(88, 124), processing_resolution=longest).relative.shape == (
        88,
        124,
    )


def changed(folder, name, **values):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ('name', 'values', 'words'),
    [
        ('preprocessor_config.json', {'auto_map': {'x': 'y'}}, 'run code of the checkpoint'),
        ('config.json', {'auto_map': {'x': 'y'}}, 'run code of the checkpoint'),
        ('marigold_ros.json', {'space': 'feet'}, "space 'feet'; choose one of"),
        ('marigold_ros.json', {'disparity_unit': 0}, 'disparity_unit 0; give a positive'),
        ('config.json', {'model_type': 'bert'}, "model_type 'bert'.*choose one of depth_anything"),
    ],
)
def test_what_a_folder_may_not_hold_is_refused(relative_folder, name, values, words):
    changed(relative_folder, name, **values)
    with pytest.raises(CheckpointError, match=words):
        load_model(str(relative_folder), device='cpu')


def test_a_missing_file_is_named(relative_folder):
    (relative_folder / 'preprocessor_config.json').unlink()
    with pytest.raises(CheckpointError, match='preprocessor_config'):
        load_model(str(relative_folder), device='cpu')
