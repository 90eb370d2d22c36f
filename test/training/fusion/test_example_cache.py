# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Examples are drawn once, whatever interrupts it, and varied alike at each repetition."""

from __future__ import annotations

from types import SimpleNamespace

from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction
from marigold_ros.fusion_channels import CHANNELS, level_of
from marigold_ros.geometry.alignment.local_field import median_gap
from marigold_ros.geometry.fusion.work_grid import CELLS, cells_needed
from marigold_ros.processes import Stopped
from marigold_ros.synthetic.scenes.scene import make_sample
from marigold_training.data import record_blocks
from marigold_training.data.mixture import BatchRule
from marigold_training.data.pairs import Pair
from marigold_training.data.synthetic_pairs import SyntheticPairs
from marigold_training.fusion import examples
from marigold_training.fusion.example_cache import ExampleCache, FusionMixture, vary
from marigold_training.fusion.simulated_examples import SimulatedExamples, Simulation
import numpy as np
import pytest
import torch

COUNT = 10


@pytest.fixture(autouse=True)
def _four_a_block(monkeypatch):
    monkeypatch.setattr(record_blocks, 'BLOCK_BYTES', 4 * 16 * 32 * (2 * len(CHANNELS) + 4))


@pytest.fixture
def new_cache(planted_examples, tmp_path):
    return lambda name='planted', folder='cache': ExampleCache(
        planted_examples(COUNT, name), tmp_path / folder
    )


def content(cache: ExampleCache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.glob('*.npy')}


def test_a_cache_holds_each_example_with_its_target_relative_to_the_level(new_cache):
    cache = new_cache()
    cache.fill()
    for index in range(COUNT):
        example = cache.source.draw(index)
        inputs, target = cache.read(index)
        np.testing.assert_allclose(inputs, example.inputs, rtol=1e-3, atol=1e-6)
        part = dict(zip(CHANNELS, example.inputs, strict=True))
        np.testing.assert_array_equal(np.isnan(target), np.isnan(example.target))
        known = ~np.isnan(target)
        expected = (part['linear'] + part['smooth'])[known]
        np.testing.assert_allclose(target[known], expected, atol=1e-6)


def test_drawing_that_was_killed_or_stopped_goes_on_with_the_next_block(new_cache, monkeypatch):
    whole = new_cache(folder='whole')
    whole.fill()
    cache, write = new_cache(), record_blocks.write_whole

    def die_at_the_second(path, data):
        if path.name == '000001.npy':
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(record_blocks, 'write_whole', die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            cache.fill()
    again = new_cache()
    assert again.missing() == [1, 2]
    asked = iter([False, True])
    with pytest.raises(Stopped):
        again.fill(stop=lambda: next(asked))
    last = new_cache()
    last.fill()
    assert last.source.drawn == [8, 9]
    assert last.missing() == []
    assert content(last) == content(whole)


@pytest.mark.slow  # processes that import torch
def test_several_processes_draw_the_same(tmp_path):
    pairs = SyntheticPairs(tmp_path, 32, 48, 4)
    pairs.prepare()
    caches = []
    for workers in (1, 2):
        source = SimulatedExamples(pairs, Simulation((32, 48), CELLS[0]), 6, (0, 0), pairs)
        caches.append(ExampleCache(source, tmp_path / f'{workers}'))
        caches[-1].fill(workers)
    assert content(caches[0]) == content(caches[1])
    assert len(content(caches[0])) > 1


def test_other_examples_have_another_folder(new_cache, planted, tmp_path):
    assert new_cache().folder == new_cache().folder != new_cache('other').folder
    pairs = planted(3)

    def folder(pairs=pairs, size=(32, 48), count=5, seed=(0, 0), others=pairs, **more):
        simulation = Simulation(size, **{'cells': CELLS[0], **more})
        source = SimulatedExamples(pairs, simulation, count, seed, others)
        return ExampleCache(source, tmp_path).folder

    found = [
        folder(),
        folder(pairs=planted(4)),
        folder(size=(64, 48)),
        folder(count=6),
        folder(seed=(0, 1)),
        folder(others=planted(4)),
        folder(model='tiny'),
        folder(cells=CELLS[1]),
    ]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize('cells', CELLS)
def test_points_are_drawn_of_the_density_that_the_grid_is_for(cells, monkeypatch):
    drawn = []
    monkeypatch.setattr(examples, 'inputs_of', lambda rgb, sparse, *_: drawn.append(sparse))
    sample = make_sample(0, 160, 120)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        examples.draw_example(rng, Pair(sample.rgb, sample.depth), cells, sample.depth)
    gaps = [median_gap(one.u, one.v, (120, 160), among=True)[0] for one in drawn]
    found = zip(drawn, gaps, strict=True)
    assert [cells_needed(len(one), gap, (120, 160)) for one, gap in found] == 10 * [cells]


def test_a_model_makes_a_third_of_the_maps(monkeypatch):
    simulated, of_model = Prediction(np.zeros((64, 96))), Prediction(np.ones((64, 96)))
    model, used = SimpleNamespace(predict=lambda rgb: of_model), []
    monkeypatch.setattr(examples, 'draw_map', lambda *given: simulated)
    monkeypatch.setattr(examples, '_loaded', {'tiny': model}.get)
    monkeypatch.setattr(examples, 'inputs_of', lambda *given: used.append(given[2]))
    sample = make_sample(0, 96, 64)
    pair = Pair(sample.rgb, sample.depth)
    for seed in range(40):
        examples.draw_example(np.random.default_rng(seed), pair, None, sample.depth, 'tiny')
    assert 18 <= sum(one is simulated for one in used) <= 34
    assert sum(one is of_model for one in used) == 40 - sum(one is simulated for one in used)


class SparsePairs:
    """Images with depth at one pixel in a hundred."""

    name = 'sparse'

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> Pair:
        depth = np.full((32, 48), np.nan, np.float32)
        depth[::10, ::10] = 5.0
        return Pair(np.zeros((32, 48, 3), np.uint8), depth)

    def fingerprint(self) -> str:
        return 'sparse'


def test_images_of_sparse_depth_are_refused_for_simulation():
    source = SimulatedExamples(
        SparsePairs(), Simulation((32, 48), CELLS[0]), 5, (0,), SparsePairs()
    )
    with pytest.raises(InputError, match='of 100 images of sparse none has depth at 40%'):
        source.draw(0)


def test_variations_change_what_they_should_and_not_the_truth(planted_examples):
    example = planted_examples(1).draw(0)
    target = example.target - level_of(example.inputs)
    before = example.inputs.copy()
    seen = {'level': 0, 'without map': 0}
    rng = np.random.default_rng(0)
    for _ in range(300):
        inputs, truth = vary(example.inputs, target, rng)
        assert truth.shape == inputs.shape[1:] == (16, 32)
        part = dict(zip(CHANNELS, inputs, strict=True))
        known = np.isfinite(truth)
        np.testing.assert_allclose(
            (part['linear'] + part['smooth'])[known], truth[known], atol=1e-5
        )
        seen['level'] += part['level'][0, 0] != before[CHANNELS.index('level'), 0, 0]
        none = not part['has_map'].any()
        assert none == (not part['map'].any()) == (not part['map_proof'].any())
        seen['without map'] += none
    np.testing.assert_array_equal(example.inputs, before)
    shares = {name: count / 300 for name, count in seen.items()}
    assert shares == pytest.approx({'level': 0.3, 'without map': 0.3}, abs=0.08)


def test_a_part_of_an_example_is_seen_as_it_is_or_mirrored(planted_examples):
    example = planted_examples(1).draw(0)
    linear, rng = CHANNELS.index('linear'), np.random.default_rng(0)
    wide = np.concatenate([example.inputs] * 2, axis=1)
    wide[linear] = rng.random(wide[linear].shape)
    found = set()
    for _ in range(100):
        part = vary(wide, wide[linear], rng)[0][linear]
        windows = np.lib.stride_tricks.sliding_window_view(wide[linear], part.shape)
        for mirrored, shown in ((False, part), (True, part[:, ::-1])):
            same = (windows == shown).all(axis=(2, 3))
            found |= {(mirrored, *place) for place in np.argwhere(same).tolist()}
    assert {mirrored for mirrored, *_ in found} == {False, True}


def test_batches_are_a_function_of_their_number_and_divide_among_processes(new_cache):
    caches = [new_cache(), new_cache('other')]
    for cache in caches:
        cache.fill()
    mixture = FusionMixture(caches, [0.75, 0.25], BatchRule(4, seed=1))
    again = FusionMixture(caches, [0.75, 0.25], BatchRule(4, seed=1))
    again[7]
    batch = mixture[3]
    assert torch.equal(batch.inputs, again[3].inputs)
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    parts = [FusionMixture(caches, [0.75, 0.25], BatchRule(4, 1, rank, 2))[3] for rank in range(2)]
    for part in parts:
        assert torch.equal(part.inputs, batch.inputs[list(part.rows)])
        torch.testing.assert_close(part.target, batch.target[list(part.rows)], equal_nan=True)
    sources = [mixture[number].source for number in range(200)]
    assert 0.65 < sources.count('planted') / 200 < 0.85
