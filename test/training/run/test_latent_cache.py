# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training on latents from disk equals training on their images."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
import json
import pickle
from types import SimpleNamespace

from marigold_ros.errors import CheckpointError, ConfigurationError, InputError, MarigoldError
from marigold_training.data import record_blocks
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import BatchRule, Mixture, Part
from marigold_training.data.targets import TargetRule
from marigold_training.objectives.losses import OBJECTIVES
from marigold_training.objectives.noise import Draws
from marigold_training.run.latent_cache import LatentMixture
from marigold_training.run.loop import Trainer
from marigold_training.run.stages import Stage
import pytest
import torch

FLIPPED = Augmentation(flip=0.5)


@pytest.fixture(scope='module')
def chain(new_chain):
    """Networks that no test changes."""
    return new_chain().requires_grad_(False)


@pytest.fixture
def mixture(planted):
    parts = [
        Part(planted(11, (40, 60), 'wide'), 2.0, (32, 48)),
        Part(planted(5, (50, 50), 'square'), 1.0, (40, 40)),
    ]
    return Mixture(parts, BatchRule(4, seed=3), 'log', FLIPPED)


@pytest.fixture
def four_a_block(monkeypatch):
    """Latents and masks of a 32x48 image and its mirror image are 816 bytes."""
    monkeypatch.setattr(record_blocks, 'BLOCK_BYTES', 4 * 816)


def cached(mixture, chain, folder, accelerator, **more) -> LatentMixture:
    dataset = LatentMixture(mixture, chain, folder, accelerator)
    assert dataset.fill(chain, accelerator, **more)
    return dataset


@pytest.mark.parametrize('objective', ['latent', 'one_step'])
def test_the_loss_is_that_of_the_images(
    mixture, chain, tmp_path, accelerator, objective, four_a_block
):
    dataset = cached(mixture, chain, tmp_path, accelerator)
    for number in range(8):  # both sources, images that come again, mirrored and not
        draws = [Draws(1, number, mixture.plan.rows) for _ in range(2)]
        batch = dataset[number]
        assert batch.source == mixture[number].source
        loss = OBJECTIVES[objective].loss
        expected = chain(loss, mixture[number], draws[0]).item()
        assert chain(loss, batch, draws[1]).item() == pytest.approx(expected, rel=2e-3)


def test_without_a_chance_of_mirroring_one_half_is_kept(planted, chain, tmp_path, accelerator):
    folders = {}
    for flip in (0.0, 0.5):
        plain = Mixture(
            [Part(planted(6), 1.0, (32, 48))], BatchRule(2), 'log', Augmentation(flip=flip)
        )
        dataset = cached(plain, chain, tmp_path / str(flip), accelerator)
        folders[flip] = sum(path.stat().st_size for path in dataset.caches[0].folder.glob('*.npy'))
        with torch.no_grad():
            expected = chain.encode(plain[0].rgb)
        torch.testing.assert_close(dataset[0].rgb_latent, expected, atol=2e-3, rtol=2e-3)
    assert folders[0.0] < 0.6 * folders[0.5]


def test_a_filling_that_was_killed_goes_on_with_the_next_block(
    mixture, chain, tmp_path, accelerator, monkeypatch, four_a_block
):
    write, written = record_blocks.write_whole, []

    def die_at_the_third(path, data):
        if path.suffix == '.npy':
            if len(written) == 2:
                raise KeyboardInterrupt
            written.append(path)
        write(path, data)

    monkeypatch.setattr(record_blocks, 'write_whole', die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        cached(mixture, chain, tmp_path, accelerator)
    monkeypatch.setattr(record_blocks, 'write_whole', write)
    before = {path: path.stat().st_mtime_ns for path in written}
    for part in mixture.parts:
        part.source.read_indices.clear()
    dataset = cached(mixture, chain, tmp_path, accelerator)
    assert before == {path: path.stat().st_mtime_ns for path in written}
    read = [Counter(part.source.read_indices) for part in mixture.parts]
    assert read == [dict.fromkeys(range(8, 11), 1), dict.fromkeys(range(5), 1)]
    whole = cached(mixture, chain, tmp_path / 'whole', accelerator)
    for number in range(6):
        assert torch.equal(dataset[number].depth_latent, whole[number].depth_latent)
    for part in mixture.parts:
        part.source.read_indices.clear()
    cached(mixture, chain, tmp_path, accelerator)
    assert not any(part.source.read_indices for part in mixture.parts)


def test_filling_that_is_stopped_keeps_its_blocks(
    mixture, chain, tmp_path, accelerator, four_a_block
):
    asked = iter([False, False, True])
    dataset = LatentMixture(mixture, chain, tmp_path, accelerator)
    assert not dataset.fill(chain, accelerator, stop=lambda: next(asked))
    assert [len(cache.missing()) for cache in dataset.caches] == [1, 2]
    assert dataset.fill(chain, accelerator)
    assert dataset[0].rgb_latent.shape == (4, 4, 4, 6)


def test_processes_share_the_blocks_and_the_rows(planted, chain, tmp_path, four_a_block):
    part = [Part(planted(11), 1.0, (32, 48))]

    class Process:
        device, mixed_precision, num_processes, is_main_process = 'cpu', 'no', 2, True
        autocast = staticmethod(nullcontext)

        def __init__(self, rank: int) -> None:
            self.process_index = rank

    shares = []
    for rank in (0, 1):
        mixture = Mixture(part, BatchRule(4, rank=rank, world=2), 'log', FLIPPED)
        dataset = LatentMixture(mixture, chain, tmp_path, Process(rank))
        dataset.fill(chain, Process(rank))
        shares.append(dataset)
    assert Counter(part[0].source.read_indices) == dict.fromkeys(range(11), 1)
    whole = Mixture(part, BatchRule(4), 'log', FLIPPED)[2]
    for share in shares:
        batch = share[2]
        with torch.no_grad():
            expected = chain.encode(whole.rgb[list(batch.rows)])
        torch.testing.assert_close(batch.rgb_latent, expected, atol=2e-3, rtol=2e-3)


def test_latents_are_of_one_autoencoder_space_size_and_source(
    new_chain, planted, chain, tmp_path, accelerator
):
    def folder(
        chain=chain, space='log', size=(32, 48), source=None, precision=accelerator, **rule
    ):
        part = Part(source or planted(3), 1.0, size)
        mixture = Mixture([part], BatchRule(1), space, FLIPPED, TargetRule(**rule))
        return LatentMixture(mixture, chain, tmp_path, precision).caches[0].folder

    other = new_chain()
    other.autoencoder.encoder.conv_in.bias.data[0] += 1e-3
    scaled = new_chain()
    scaled.autoencoder.register_to_config(scaling_factor=0.5)
    found = [
        folder(),
        folder(chain=other),
        folder(chain=scaled),
        folder(space='depth'),
        folder(size=(40, 48)),
        folder(source=planted(4)),
        folder(source=planted(3, (20, 20))),
        folder(precision=SimpleNamespace(mixed_precision='bf16')),
        folder(sky=False),
        folder(unknown='near'),
    ]
    assert len(set(found)) == len(found)
    same = new_chain()
    same.unet.conv_in.bias.data[0] += 1.0  # nothing to the latents
    assert folder(chain=same) == folder() == folder(size=(31, 47))


def test_a_cache_folder_describes_its_content(mixture, chain, tmp_path, accelerator):
    dataset = cached(mixture, chain, tmp_path, accelerator)
    about = json.loads((dataset.caches[1].folder / 'about.json').read_text())
    assert about == {'source': 'square', 'pictures': 5, 'size': [40, 40]}


def test_processes_that_load_get_no_latents_handed_over(mixture, chain, tmp_path, accelerator):
    dataset = cached(mixture, chain, tmp_path, accelerator)
    dataset[0]
    copy = pickle.dumps(dataset)
    assert len(copy) < 20_000
    assert torch.equal(pickle.loads(copy)[5].rgb_latent, dataset[5].rgb_latent)


# what is wrong


@pytest.mark.parametrize('name', ['crop', 'colour', 'grey', 'lens', 'sensor', 'jpeg'])
def test_changes_that_latents_cannot_follow_are_refused(
    planted, chain, tmp_path, accelerator, name
):
    how = Augmentation(**{name: 0.3})
    mixture = Mixture([Part(planted(3), 1.0, (32, 48))], BatchRule(1), 'log', how)
    with pytest.raises(ConfigurationError, match=f'augment.{name} is 0.3.*only be mirrored'):
        LatentMixture(mixture, chain, tmp_path, accelerator)


@pytest.mark.parametrize(
    'more', [{'objective': 'pixel'}, {'objective': 'latent', 'trains': ('unet', 'autoencoder')}]
)
def test_a_stage_whose_latents_change_has_no_cache(more):
    with pytest.raises(ConfigurationError, match='latent_cache.*under latent or one_step'):
        Stage(name='x', steps=1, latent_cache=True, **more)


def test_a_full_disk_is_an_error_before_and_while_filling(
    mixture, chain, tmp_path, accelerator, monkeypatch
):
    with monkeypatch.context() as patch:
        usage = SimpleNamespace(free=10)
        patch.setattr(record_blocks.shutil, 'disk_usage', lambda path: usage)
        with pytest.raises(MarigoldError, match='wide needs .* GB .* free some space'):
            cached(mixture, chain, tmp_path, accelerator)

    def full(path, data):
        path.with_name('half').write_bytes(data[:100])
        raise MarigoldError('No space left on device')

    dataset = LatentMixture(mixture, chain, tmp_path, accelerator)
    with monkeypatch.context() as patch:
        patch.setattr(record_blocks, 'write_whole', full)
        with pytest.raises(MarigoldError, match='No space left'):
            dataset.fill(chain, accelerator)
    assert dataset.caches[0].missing() == [0]


def test_truncated_blocks_are_rewritten_and_damaged_ones_named(
    mixture, chain, tmp_path, accelerator
):
    dataset = cached(mixture, chain, tmp_path, accelerator)
    path = dataset.caches[0].folder / '000000.npy'
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    assert dataset.caches[0].missing() == [0]
    assert dataset.fill(chain, accelerator)
    assert path.read_bytes() == content
    path.write_bytes(b'x' * len(content))
    with pytest.raises(InputError, match='000000.npy is damaged or missing.*delete'):
        dataset.caches[0].read(0, mirrored=False)


def test_latents_beyond_float16_are_refused_not_kept(new_chain, mixture, tmp_path, accelerator):
    chain = new_chain()
    chain.autoencoder.register_to_config(scaling_factor=1e7)
    dataset = LatentMixture(mixture, chain, tmp_path, accelerator)
    with pytest.raises(CheckpointError, match='wide from image 0 on are not finite in float16'):
        dataset.fill(chain, accelerator)
    assert len(dataset.caches[0].missing()) == 1


def test_a_run_that_is_stopped_while_filling_trains_nothing(
    new_chain, planted, tmp_path, accelerator
):
    stage = Stage('a', 'latent', steps=2, batch_size=2, latent_cache=True)
    mixture = Mixture([Part(planted(6), 1.0, (32, 48))], BatchRule(2), 'log', FLIPPED)
    trainer, asked = Trainer(new_chain(), [stage], [mixture], tmp_path, accelerator), iter([True])
    assert not trainer.run(stop=lambda: next(asked, False))
    assert trainer.step == 0
