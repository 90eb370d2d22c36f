# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Batches are a function of their number; image and truth belong together."""

from __future__ import annotations

from collections import Counter
import errno
import fcntl
import pickle

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_training.data import mixture as mixture_module
from marigold_training.data.augment import Augmentation, crop
from marigold_training.data.mixture import (
    BatchRule,
    collate,
    make_example,
    Mixture,
    Part,
    resize,
    turns,
)
from marigold_training.data.pairs import Pair
from marigold_training.data.sources import open_source
from marigold_training.data.synthetic_pairs import SyntheticPairs
from marigold_training.data.targets import normalise
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

PLAIN = Augmentation(flip=0.0)


def equal(first, second) -> bool:
    names = ('rgb', 'relative', 'valid', 'sky', 'depth')
    pairs = [(getattr(first, name), getattr(second, name)) for name in names]
    return first.source == second.source and all(
        np.array_equal(a.numpy(), b.numpy(), equal_nan=a.is_floating_point()) for a, b in pairs
    )


def test_a_batch_has_one_source_and_a_size_in_multiples_of_8(planted):
    parts = [
        Part(planted(5, (64, 96), 'wide'), 1.0, (31, 47)),
        Part(planted(5, (48, 48), 'square'), 1.0, (48, 48)),
    ]
    mixture = Mixture(parts, BatchRule(3), 'depth', PLAIN)
    sizes = {'wide': (32, 48), 'square': (48, 48)}
    for number in range(8):
        batch = mixture[number]
        assert batch.rgb.shape == (3, 3, *sizes[batch.source])
        assert batch.rgb.min() >= -1
        assert batch.rgb.max() <= 1
        for row in range(3):
            expected = normalise(batch.depth[row, 0].numpy(), 'depth')
            for got, wanted in zip(
                (batch.relative, batch.valid, batch.sky), expected, strict=True
            ):
                assert np.array_equal(got[row, 0].numpy(), wanted)
        # Brightness shows the depth, so a mixed-up pair would show.
        bright = (batch.rgb.mean(1) + 1) / 2 * 8 + 1
        known = batch.valid[:, 0]
        assert (bright[known] - batch.depth[:, 0][known]).abs().max() < 0.6


def test_every_image_comes_once_before_any_comes_twice(planted, monkeypatch):
    monkeypatch.setattr(mixture_module, 'KEPT_PIXELS', 0)  # or reads do not show visits
    source = planted(7)
    mixture = Mixture([Part(source, 1.0, (32, 48))], BatchRule(3), 'log', PLAIN)
    for number in range(7):
        mixture[number]
    assert Counter(source.read_indices) == dict.fromkeys(range(7), 3)


def test_a_batch_depends_on_its_number_only(planted):
    how = Augmentation(crop=0.5, colour=1.0, grey=0.2, lens=0.5, sensor=0.5, jpeg=0.5)

    def make():
        parts = [Part(planted(5, name=name), w, (32, 48)) for name, w in (('a', 2.0), ('b', 1.0))]
        return Mixture(parts, BatchRule(4, seed=3), 'log', how)

    whole = make()
    asked = [whole[n] for n in range(6)]
    fresh = make()
    assert all(equal(fresh[n], asked[n]) for n in (5, 0, 3))
    # Also where a run resumes beyond the sources that were drawn ahead.
    sources = [whole.plan.visits(n)[0] for n in range(1020, 1040)]
    assert [make().plan.visits(n)[0] for n in range(1020, 1040)] == sources


def test_a_batch_that_another_process_loads_is_the_same(tmp_path):
    """From Python 3.14 on that process gets a pickled copy of the data set."""
    source = SyntheticPairs(tmp_path, height=32, width=48, count=5)
    assert len(pickle.dumps(source)) < 1000  # the images are opened by path
    mixture = Mixture([Part(source, 1.0, (32, 48))], BatchRule(4), 'log', Augmentation(colour=1.0))
    ahead = {'batch_size': 1, 'collate_fn': collate, 'num_workers': 1}
    loaded = DataLoader(mixture, sampler=range(2, 6), **ahead)
    assert all(equal(a, mixture[n]) for n, a in zip(range(2, 6), loaded, strict=True))


def test_processes_share_a_batch_row_by_row(planted):
    how = Augmentation(colour=1.0, sensor=1.0)
    part = [Part(planted(9), 1.0, (32, 48))]
    whole = Mixture(part, BatchRule(4), 'log', how)[2]
    mixtures = [Mixture(part, BatchRule(4, rank=rank, world=2), 'log', how) for rank in (0, 1)]
    shares = [mixture[2] for mixture in mixtures]
    assert [share.rows for share in shares] == [(0, 2), (1, 3)]
    for share in shares:
        assert torch.equal(share.rgb, whole.rgb[list(share.rows)])
    for mixture in mixtures:
        assert torch.equal(mixture.undivided()[2].rgb, whole.rgb)


def test_sparse_depth_keeps_its_points_when_it_is_scaled_down():
    rng = np.random.default_rng(0)
    depth = np.full((96, 128), np.nan, np.float32)
    v, u = rng.integers(0, 96, 400), rng.integers(0, 128, 400)
    depth[v, u] = rng.uniform(1, 50, 400)
    depth[5, 5] = np.inf
    small = resize(Pair(np.zeros((96, 128, 3), np.uint8), depth), (48, 64)).depth
    for row in range(48):
        for column in range(64):
            cell = depth[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
            known = cell[~np.isnan(cell)]
            value = small[row, column]
            assert np.isnan(value) if len(known) == 0 else value in known
    # Four pixels become one: by their centres alone three quarters of the points were lost.
    assert np.count_nonzero(~np.isnan(small)) > 0.9 * len(set(zip(v, u, strict=True)))


def test_colours_are_averaged_over_the_new_pixels():
    rgb = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    small = resize(Pair(rgb, np.ones((32, 48), np.float32)), (8, 16)).rgb
    means = rgb.reshape(8, 4, 16, 3, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 0.5 + 1e-6


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 60))
def test_in_turns_every_source_is_within_one_batch_of_its_share(weights, count):
    share = np.array(weights) / sum(weights)
    chosen = turns(share, count)
    for number in range(1, count + 1):
        seen = np.bincount(chosen[:number], minlength=len(share))
        assert (np.abs(seen - share * number) < len(share)).all()
    assert np.array_equal(turns(share, count + 7)[:count], chosen)


def test_in_turns_each_four_batches_hold_one_of_a_quarter(planted):
    parts = [Part(planted(4, name='a'), 3.0, (32, 48)), Part(planted(4, name='b'), 1.0, (32, 48))]
    mixture = Mixture(parts, BatchRule(1, in_turns=True), 'log', PLAIN)
    names = [mixture[number].source for number in range(12)]
    assert [names[i : i + 4].count('b') for i in (0, 4, 8)] == [1, 1, 1]


def test_mixtures_without_a_valid_batch_are_refused(planted):
    with pytest.raises(ConfigurationError, match='sources is empty'):
        Mixture([], BatchRule(2), 'log', PLAIN)
    with pytest.raises(InputError, match='has no images'):
        Mixture([Part(planted(0), 1.0, (8, 8))], BatchRule(1), 'log', PLAIN)
    with pytest.raises(ConfigurationError, match='weight'):
        Mixture([Part(planted(1), 0.0, (8, 8))], BatchRule(1), 'log', PLAIN)
    with pytest.raises(ConfigurationError, match='multiple of 2'):
        Mixture([Part(planted(1), 1.0, (8, 8))], BatchRule(3, world=2), 'log', PLAIN)


def test_a_cache_is_locked_while_its_files_are_created(tmp_path, monkeypatch):
    created, locked = np.lib.format.open_memmap, []

    def seen(path, **named):
        # Another opening of the file is refused what another process would wait for.
        (name,) = tmp_path.rglob('*.lock')
        with name.open('ab') as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked.append(path.name)
        return created(path, **named)

    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, 'open_memmap', seen)
        SyntheticPairs(tmp_path, height=16, width=24, count=2)
    assert len({name for name in locked if name.endswith('.npy')}) == 3
    SyntheticPairs(tmp_path, height=16, width=24, count=2)  # the lock is free again


def test_recipes_of_different_counts_share_their_rendered_images(tmp_path):
    few = SyntheticPairs(tmp_path, height=16, width=24, count=2)
    rendered = [few.read(index).rgb.copy() for index in range(2)]
    more = SyntheticPairs(tmp_path, height=16, width=24, count=300)
    assert len(more) == 300
    last = more.read(299)
    again = SyntheticPairs(tmp_path, height=16, width=24, count=2)
    for index in range(2):
        assert np.array_equal(again.read(index).rgb, rendered[index])
        assert np.array_equal(few.read(index).rgb, rendered[index])
    again = SyntheticPairs(tmp_path, height=16, width=24, count=300)
    assert np.array_equal(again.read(299).depth, last.depth)
    whole = SyntheticPairs(tmp_path / 'whole', height=16, width=24, count=300)
    assert np.array_equal(whole.read(299).rgb, last.rgb)


def test_a_cache_that_holds_something_else_is_refused_not_overwritten(tmp_path):
    SyntheticPairs(tmp_path, height=16, width=16, count=2)
    (path,) = tmp_path.glob('synthetic/*_rgb.npy')
    np.save(path, np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match='recipe asks for'):
        SyntheticPairs(tmp_path, height=16, width=16, count=2)


def test_a_disk_too_small_for_the_images_ends_the_run_before_they_are_rendered(
    tmp_path, monkeypatch
):
    def full(_file, _start, length):
        assert length > 2 * 16 * 16
        raise OSError(errno.ENOSPC, 'No space left on device')

    pairs = SyntheticPairs(tmp_path, 16, 16, 2)
    monkeypatch.setattr('os.posix_fallocate', full)
    with pytest.raises(MarigoldError, match='could not be written .No space left.*free some'):
        pairs.prepare()


def test_a_full_disk_at_its_creation_does_not_leave_half_a_cache(tmp_path, monkeypatch):
    def full(path, **named):
        path.touch()
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, 'open_memmap', full)
        with pytest.raises(MarigoldError, match='No space left'):
            SyntheticPairs(tmp_path, 16, 16, 2)
    SyntheticPairs(tmp_path, 16, 16, 2).prepare()
    assert not list(tmp_path.glob('synthetic/*.tmp'))


@pytest.mark.parametrize('size', [0, 50, 1000])
def test_a_cache_that_was_cut_off_is_named_and_not_filled_up_with_black(tmp_path, size):
    SyntheticPairs(tmp_path, 16, 16, 2).prepare()
    for kind in ('rgb', 'depth'):
        (path,) = tmp_path.glob(f'synthetic/*_{kind}.npy')
        whole = path.read_bytes()
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=rf'_{kind}\.npy is damaged .*all three'):
            SyntheticPairs(tmp_path, 16, 16, 2)
        path.write_bytes(whole)
    SyntheticPairs(tmp_path, 16, 16, 2).prepare()


def test_a_place_for_images_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'synthetic').write_text('a file in the way')
    with pytest.raises(MarigoldError, match='synthetic could not be written .*another folder'):
        SyntheticPairs(tmp_path, height=16, width=24, count=2)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'kind': 'magic'}, "'magic'; choose one of"),
        ({'size': 96}, 'give .height, width.'),
        ({'size': [0, 96]}, r'size of a source is \[0, 96\]'),
        ({'weight': 'x'}, "weight of a source is 'x'; choose a number"),
        ({'weight': float('inf')}, 'weight of a source is inf'),
        ({'colour': 1}, "source 'synthetic' has 'colour'; known are height"),
        ({'heigth': 16}, "has 'heigth'; did you mean 'height'"),
        ({'known': '1e-3'}, "wrong type in .*'known': '1e-3'.*write 1.0e-3"),
        ({'scene': 'sea'}, "'sea'; choose one of room, street"),
        ({'first_seed': 5}, 'held-out'),
        ({'count': 0}, 'at least one'),
    ],
)
def test_an_invalid_source_is_named(tmp_path, change, words):
    entry = {'kind': 'synthetic', 'height': 16, 'width': 16, 'count': 2, 'size': [16, 16]}
    with pytest.raises(ConfigurationError, match=words):
        open_source(entry | change, tmp_path)


@pytest.mark.parametrize('key', ['height', 'width', 'count', 'first_seed'])
def test_a_fraction_is_refused_and_leaves_the_rendered_images_as_they_are(tmp_path, key):
    sizes = {'height': 16, 'width': 16, 'count': 2, 'first_seed': 1_000_000}
    SyntheticPairs(tmp_path, **sizes).prepare()
    with pytest.raises(ConfigurationError, match=f'{key} of a synthetic .*give a whole number'):
        SyntheticPairs(tmp_path, **{**sizes, key: 4.0 * sizes[key]})
    assert SyntheticPairs(tmp_path, **sizes).read(1).rgb.any()


def test_kept_pairs_make_the_same_batches_and_are_read_once(planted, monkeypatch):
    how = Augmentation(flip=0.5, colour=0.5, sensor=0.5)
    batches = []
    for limit in (0, 1 << 20):
        monkeypatch.setattr(mixture_module, 'KEPT_PIXELS', limit)
        source = planted(3, (64, 90))
        mixture = Mixture([Part(source, 1.0, (44, 60))], BatchRule(2, seed=1), 'log', how)
        batches.append([mixture[number] for number in range(6)])
        assert len(source.read_indices) == (12 if limit == 0 else 3)
    assert all(equal(*pair) for pair in zip(*batches, strict=True))


def test_metres_of_an_enlarged_part_are_those_of_a_nearer_scene():
    """A plane parallel to the image fills it at any distance; its depth follows the crop."""
    pair = Pair(np.zeros((60, 80, 3), np.uint8), np.full((60, 80), 10.0, np.float32))
    how = Augmentation(flip=0.0, crop=1.0, smallest_crop=0.5)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        height = crop(pair, how, 4 / 3, np.random.default_rng(seed)).depth.shape[0]
        depth = make_example(pair, (24, 32), 'metric', how, rng)[4]
        np.testing.assert_allclose(depth, 10.0 * height / 60, rtol=1e-6)
    depth = make_example(pair, (24, 32), 'log', how, np.random.default_rng(0))[4]
    np.testing.assert_array_equal(depth, 10.0)
    # The largest window of an upright image has its width, and is not enlarged.
    upright = Pair(np.zeros((90, 40, 3), np.uint8), np.full((90, 40), 10.0, np.float32))
    whole = make_example(upright, (24, 32), 'metric', Augmentation(), np.random.default_rng(0))
    np.testing.assert_array_equal(whole[4], 10.0)


def test_metres_of_a_teacher_are_scaled_as_those_of_the_truth_beside_them():
    depth = np.full((60, 80), np.nan, np.float32)
    depth[::2] = 10.0
    labels = np.stack([np.full((60, 80), 10.0), np.full((60, 80), 0.5)], -1).astype(np.float32)
    pair = Pair(np.zeros((60, 80, 3), np.uint8), depth, labels)
    how = Augmentation(flip=0.0, crop=1.0, smallest_crop=0.4)
    arrays = make_example(pair, (24, 32), 'metric', how, np.random.default_rng(0))
    scaled, weight = arrays[4], arrays[5]
    assert set(np.unique(weight)) == {0.5, 1.0}
    assert scaled.max() < 9.0
    np.testing.assert_array_equal(scaled, scaled[0, 0])
