# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The contract that every model family keeps, on a small checkpoint of each."""

import gc
import shutil
import weakref

from marigold_ros.config import AlignmentConfig, EngineConfig
from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry import align
from marigold_ros.models import load_model
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.spaces import SPACES
import numpy as np
import pytest

KIN = (
    'depth_pro',
    'dpt',
    'glpn',
    'prompt_depth_anything',
    'tipsv2_dpt',
    'zoedepth',
    'zoedepth of two domains',
)
RELEASED = ('resnet', 'swin', 'mpvit')
NAMES = (
    'marigold',
    'marigold, prompted',
    'unet',
    'prime_depth',
    'prime_depth, converted',
    'diffusion_depth',
    *(f'diffusion_depth, {one}' for one in RELEASED),
    'depth_anything',
    'depth_anything, metric',
    'average',
    *KIN,
)


# Kin of a family that is in every run.
KINDRED = {
    *('prime_depth, converted', 'diffusion_depth, swin', 'diffusion_depth, mpvit'),
    *('depth_anything, metric', 'dpt', 'glpn', 'tipsv2_dpt', 'zoedepth of two domains'),
}


@pytest.fixture(
    scope='module',
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in KINDRED)) for name in NAMES],
)
def name(
    request,
    small_checkpoint,
    prompted_folder,
    unet_folder,
    prime_depth_folder,
    converted_prime_depth,
    diffusion_depth_folder,
    released_folders,
    depth_anything_folders,
    kin_folders,
):
    """Return the folder, or the name, of a model of each family."""
    folders = {
        'marigold': small_checkpoint,
        'marigold, prompted': prompted_folder,
        'unet': unet_folder,
        'prime_depth': prime_depth_folder,
        'prime_depth, converted': converted_prime_depth,
        'diffusion_depth': diffusion_depth_folder,
        **{f'diffusion_depth, {one}': released_folders / one for one in RELEASED},
        'depth_anything': depth_anything_folders[0],
        'depth_anything, metric': depth_anything_folders[1],
        'average': f'{small_checkpoint}+{unet_folder}',
    }
    return str(folders.get(request.param, kin_folders / request.param))


@pytest.fixture(scope='module')
def model(name):
    """Load a model of each family."""
    return load_model(name, device='cpu', dtype='float32')


def view(shift=0, height=96, width=128):
    """Return an image that moves to the left by some pixels."""
    y, x = np.mgrid[0:height, shift : width + shift]
    image = np.stack([255 * y / height, 127 + 100 * np.sin(x / 11), 2 * (x % 100)], axis=-1)
    return image.astype(np.uint8)


@pytest.mark.parametrize(
    'settings',
    [
        *({'denoising_steps': 2}, {'ensemble_size': 2}, {'processing_resolution': 64}),
        {'engine': EngineConfig(noise='gaussian')},
    ],
    ids=str,
)
def test_options_are_refused_before_an_image_as_at_one(model, settings):
    def refused(call):
        try:
            call()
        except ConfigurationError as error:
            return str(error)
        return None

    before = refused(lambda: model.check_options(PredictOptions(**settings)))
    assert before == refused(lambda: model.predict(view(), **settings))


@pytest.mark.parametrize('size', [(96, 128), (101, 67), (64, 233)])
def test_a_prediction_has_the_size_of_its_image_and_is_finite(model, size):
    prediction = model.predict(view(0, *size))
    assert prediction.relative.shape == size
    assert prediction.relative.dtype == np.float32
    assert prediction.space == model.space
    assert prediction.space in SPACES
    assert np.isfinite(prediction.relative).all()


def test_the_same_image_and_seed_give_the_same_answer_after_a_reset(model):
    first = model.predict(view(), seed=3).relative
    model.predict(view(40), seed=3)
    model.reset()
    np.testing.assert_array_equal(model.predict(view(), seed=3).relative, first)


def test_a_model_that_is_let_go_is_freed_at_once(name):
    model = load_model(name, device='cpu', dtype='float32')
    model.predict(view())
    gc.collect()
    gc.disable()
    try:
        held = weakref.ref(model)
        del model
        assert held() is None
    finally:
        gc.enable()


def test_a_loaded_model_lives_without_its_files(model, name, tmp_path):
    """As `scp` of the next weights writes them over; a shorter file would kill the process."""
    copies = [tmp_path / str(i) for i, _ in enumerate(name.split('+'))]
    for folder, copied in zip(name.split('+'), copies, strict=True):
        shutil.copytree(folder, copied)
    loaded = load_model('+'.join(map(str, copies)), device='cpu', dtype='float32')
    for file in tmp_path.rglob('*.safetensors'):
        with file.open('rb+') as written:
            written.write(bytes(file.stat().st_size))
    model.reset()
    expected = model.predict(view(), seed=3).relative
    np.testing.assert_array_equal(loaded.predict(view(), seed=3).relative, expected)


def test_the_image_is_not_changed(model):
    for step in (1, -1):  # read-only as messages, or turned round as BGR
        rgb = view()[..., ::step]
        rgb.flags.writeable = step < 0
        model.predict(rgb)
        np.testing.assert_array_equal(rgb, view()[..., ::step])


def test_cameras_predicted_together_keep_their_own_answers(model):
    images = [view(), view(30), view(60)]
    together = model.predict_together(images, [model.new_stream() for _ in images])
    for rgb, found in zip(images, together, strict=True):
        alone = model.predict_together([rgb], [model.new_stream()])[0].relative
        assert np.abs(found.relative - alone).max() < 1e-3 * max(1.0, np.ptp(alone))


def test_a_fit_holds_over_the_next_frames_without_a_jump(model):
    """A map divided by its own frame's range would jump with what enters the view."""
    bright = view(2)
    bright[:20] = 255
    maps = [model.predict(rgb) for rgb in (view(0), view(1), bright)]
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, 128, 200), rng.integers(40, 96, 200)
    relative = maps[0].relative[v, u].astype(np.float64)
    metric = maps[0].space == 'metric'
    stretched = (relative - relative.min()) / np.ptp(relative)
    if metric:
        depth = relative
    else:
        depth = 1 / (0.1 + 0.2 * stretched) if model.space == 'disparity' else 4 + 4 * stretched
    config = AlignmentConfig(method='least_squares', min_points=20)
    fit = align(maps[0], SparseDepth(u, v, depth.astype(np.float32)), config)
    assert fit.state == 'fitted', fit.reason
    for prediction in maps[1:]:
        held = align(prediction, None, config, fit)
        assert held.state == ('fitted' if metric else 'held')
        assert np.nanmedian(np.abs(np.log(held.metric / fit.metric))) < 0.2


@pytest.mark.parametrize(
    'rgb', [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)], ids=['grey', 'float']
)
def test_what_is_no_image_is_refused(model, rgb):
    with pytest.raises(InputError, match='an image is'):
        model.predict(rgb)


def test_a_missing_device_is_refused(depth_anything_folders):
    with pytest.raises(MarigoldError, match='cuda:7'):
        load_model(str(depth_anything_folders[0]), device='cuda:7')


def test_the_description_names_what_reports_need(model):
    facts = model.description
    for key in ('name', 'path', 'sha256', 'space', 'parameters', 'device', 'dtype', 'notes'):
        assert key in facts
    assert facts['space'] == model.space
