# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Batches: right sizes, picture and truth belong together, the same source gives the same."""

from marigold_ros.learning.data import batches, Bucket, normalise_log_depth, PictureCache
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cache')
    caches = [
        PictureCache(folder, Bucket(64, 96, 4), first_seed=0),
        PictureCache(folder, Bucket(48, 144, 4, 'street'), first_seed=100),
    ]
    for cache in caches:
        cache.fill(workers=1)
    return caches


@pytest.mark.parametrize('scale', [0.5, 0.75, 1.0])
def test_a_batch_comes_from_one_bucket_in_multiples_of_eight(caches, scale):
    data = batches(caches, 3, scale, np.random.default_rng(0))
    shapes = {tuple(next(data)[0].shape) for _ in range(12)}
    sizes = {
        tuple(8 * round(side * scale / 8) for side in (c.bucket.height, c.bucket.width))
        for c in caches
    }
    assert {shape[-2:] for shape in shapes} == sizes
    assert {shape[:2] for shape in shapes} == {(3, 3)}


def test_the_truth_of_a_batch_is_that_of_its_pictures(caches):
    rgb, relative, sky = next(batches(caches[:1], 4, 1.0, np.random.default_rng(1)))
    known = [torch.from_numpy(normalise_log_depth(np.asarray(d))) for d in caches[0].depth]
    for row in relative[:, 0]:
        assert any(torch.equal(row, k) or torch.equal(row, k.flip(-1)) for k in known)
    assert torch.equal(relative[sky], torch.ones(int(sky.sum())))
    assert rgb.min() >= -1
    assert rgb.max() <= 1


def test_the_same_seed_gives_the_same_batches(caches):
    first, again = (batches(caches, 2, 0.5, np.random.default_rng(7)) for _ in range(2))
    for _ in range(3):
        for a, b in zip(next(first), next(again), strict=True):
            assert torch.equal(a, b)


def test_an_interrupted_rendering_goes_on_where_it_stopped(tmp_path):
    cache = PictureCache(tmp_path, Bucket(16, 24, 5), first_seed=0)
    cache.fill(workers=1, limit=2)
    assert len(cache.ready()) == 2
    again = PictureCache(tmp_path, Bucket(16, 24, 5), first_seed=0)
    again.fill(workers=1)
    whole = PictureCache(tmp_path / 'whole', Bucket(16, 24, 5), first_seed=0)
    whole.fill(workers=1)
    assert np.array_equal(again.rgb, whole.rgb)
    assert np.array_equal(again.depth, whole.depth)
