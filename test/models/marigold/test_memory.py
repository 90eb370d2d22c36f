# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Short memory: members are split, then tiles, then an error; the user is informed."""

import io
from types import SimpleNamespace

from marigold_ros.config import EngineConfig
from marigold_ros.errors import InputError
from marigold_ros.models import load_model
from marigold_ros.models.marigold import memory
from marigold_ros.models.runtime import usage
import numpy as np
import pytest
import torch
from torch.nn import functional


@pytest.fixture
def model(scaled_checkpoint):
    return load_model(str(scaled_checkpoint), device='cpu')


REFUSALS = (
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 9 bytes'),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
)


def refuse_more_than(monkeypatch, network, method: str, limit: int, error=REFUSALS[0]):
    """Let a network run out of memory when it gets more than some members."""
    real, sizes = getattr(network, method), []

    def wrapped(batch, *args, **more):
        sizes.append(len(batch))
        if len(batch) > limit:
            raise error
        return real(batch, *args, **more)

    monkeypatch.setattr(network, method, wrapped)
    return sizes


@pytest.mark.parametrize('error', REFUSALS, ids=str)
@pytest.mark.parametrize(('part', 'method'), [('unet', 'forward'), ('autoencoder', 'decode')])
def test_an_ensemble_is_split_until_it_fits(model, image, monkeypatch, part, method, error):
    rgb = image(48, 64)
    whole = model.predict(rgb, 1, 5)
    sizes = refuse_more_than(monkeypatch, getattr(model, part), method, 2, error)
    split = model.predict(rgb, 1, 5)
    np.testing.assert_allclose(split.relative, whole.relative, atol=1e-3)
    assert sizes == [5, 2, 2, 1]
    assert any('memory is short' in note for note in model.description['notes'])
    sizes.clear()
    model.predict(rgb, 1, 5)
    assert sizes == [2, 2, 1], 'what was learnt is kept'
    model.reset()
    sizes.clear()
    model.predict(rgb, 1, 5)
    assert sizes == [5, 2, 2, 1], 'a reset forgets it'


def test_latents_are_kept_where_a_network_writes_each_over_the_last(model, monkeypatch):
    latents = []

    def encode(batch):  # as CUDA graphs do
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        latents.append(functional.avg_pool2d(batch, 8))
        return SimpleNamespace(latents=latents[0].copy_(latents[-1]))

    monkeypatch.setattr(model.autoencoder, 'encode', encode)
    both = model.encode(torch.stack([torch.zeros(3, 48, 64), torch.ones(3, 48, 64)]))
    assert both[0].max() == 0.0 < both[1].min()


def test_a_frame_that_fits_in_no_way_is_an_error_with_the_remedy(model, image, monkeypatch):
    refuse_more_than(monkeypatch, model.unet, 'forward', 0)
    with pytest.raises(InputError, match='does not fit.*lower processing_resolution') as caught:
        model.predict(image(48, 64))
    assert caught.value.cause == 'size'


def test_other_errors_are_not_taken_for_short_memory(model, image, monkeypatch):
    def broken(*args, **more):
        raise RuntimeError('shapes do not match')

    monkeypatch.setattr(model.unet, 'forward', broken)
    with pytest.raises(RuntimeError, match='shapes do not match'):
        model.predict(image(48, 64))


def test_the_autoencoder_runs_in_tiles_as_a_last_resort(model, image, monkeypatch):
    monkeypatch.setattr('marigold_ros.models.marigold.engine.TILE', 8)
    monkeypatch.setattr('marigold_ros.models.marigold.engine.OVERLAP', 4)
    monkeypatch.setattr(memory, 'free_memory', lambda device: 1000)
    rgb = image(120, 160)
    prediction = model.predict(rgb, 1, 2, 160)
    assert prediction.relative.shape == (120, 160)
    assert np.isfinite(prediction.relative).all()
    tiles = [note for note in model.description['notes'] if 'tiles' in note]
    assert len(tiles) == 2, 'encode and decode'


def test_a_tile_that_holds_the_image_changes_nothing(model, image, monkeypatch):
    rgb = image(96, 128)
    whole = model.predict(rgb, 1, 2)
    monkeypatch.setattr('marigold_ros.models.marigold.engine.TILE', 16)
    monkeypatch.setattr(memory, 'free_memory', lambda device: 1000)
    model.reset()
    tile = model.predict(rgb, 1, 2)
    np.testing.assert_allclose(tile.relative, whole.relative, atol=1e-4)
    np.testing.assert_allclose(tile.spread, whole.spread, atol=1e-4)


@pytest.mark.parametrize(('dtype', 'itemsize'), [('float32', 4), ('bfloat16', 2)])
def test_what_fits_is_estimated_before_the_first_frame(
    scaled_checkpoint, image, monkeypatch, dtype, itemsize
):
    model = load_model(str(scaled_checkpoint), device='cpu', dtype=dtype)
    sizes = refuse_more_than(monkeypatch, model.autoencoder, 'decode', 5)
    each = memory.LIVE_MAPS * 8 * 96 * 128 * itemsize  # maps of 8 channels
    monkeypatch.setattr(memory, 'free_memory', lambda device: 2.9 * each / memory.USABLE)
    model.predict(image(96, 128), 1, 5)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize('limit', [1, 3])
def test_members_in_batches_are_those_of_one_batch(model, image, monkeypatch, limit):
    rgb = image(75, 100)
    whole = model.predict(rgb, 2, 4)
    calls = (model.unet, 'forward', limit), (model.autoencoder, 'decode', limit)
    sizes = [refuse_more_than(monkeypatch, *call) for call in calls]
    apart = model.predict(rgb, 2, 4, engine=EngineConfig(batch_limit=limit))
    assert all(max(found) == limit for found in sizes)  # none was refused
    np.testing.assert_allclose(apart.relative, whole.relative, atol=2e-4)
    np.testing.assert_allclose(apart.spread, whole.spread, atol=2e-4)


@pytest.mark.parametrize('size', [(8, 8), (13, 40), (64, 33), (20, 21)])
def test_tiles_of_a_local_function_join_without_seams(size):
    source = torch.rand(2, 3, *size)
    up = lambda x: functional.interpolate(x, scale_factor=8, mode='nearest')  # noqa: E731
    torch.testing.assert_close(memory.tiled(up, source, 12, 4), up(source))
    down = lambda x: functional.avg_pool2d(x, 4)  # noqa: E731
    big = torch.rand(1, 3, 4 * size[0], 4 * size[1])
    torch.testing.assert_close(memory.tiled(down, big, 48, 16), down(big))


@pytest.mark.parametrize(
    ('report', 'expected'),
    [
        ('MemTotal:  9 kB\nMemFree: 1 kB\nMemAvailable:   7 kB\n', 7 * 1024),
        ('MemTotal:  9 kB\n', None),
        ('MemAvailable: much\n', None),
        (None, None),
    ],
)
def test_free_memory_is_what_the_system_reports(monkeypatch, report, expected):
    def read(path, encoding):
        if report is None:
            raise FileNotFoundError(path)
        return io.StringIO(report)

    monkeypatch.setattr(usage, 'open', read, raising=False)
    assert usage.free_memory(torch.device('cpu')) == expected


def test_after_a_failure_the_next_frame_is_tried_whole_again():
    plan, short = memory.MemoryPlan(torch.device('cpu'), lambda _text: None), [True]

    def stage(*count):
        if short[0]:
            raise torch.OutOfMemoryError
        return count

    with pytest.raises(InputError, match='does not fit'):
        plan.run('stage', (1, 2), 4, stage, in_tiles=stage)
    short[0] = False
    assert plan.run('stage', (1, 2), 4, stage, in_tiles=stage) == (4,)


@pytest.mark.parametrize(('widths', 'wide'), [((8,), 8), ((8, 16), 16), ((8, 16, 64), 16)])
def test_an_autoencoder_is_estimated_by_the_width_of_its_second_level(widths, wide):
    autoencoder = SimpleNamespace(config=SimpleNamespace(block_out_channels=widths))
    assert memory.autoencoder_bytes(autoencoder, (10, 20), 2) == 6 * wide * 200 * 2
