# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A run that is stopped and resumed ends as one that was not; what it exports opens."""

from pathlib import Path

from diffusers import MarigoldDepthPipeline
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.learning.data import Bucket, PictureCache
from marigold_ros.learning.loop import learning_rate, read_stages, Stage, Trainer
from marigold_ros.learning.networks import (
    marigold_scheduler,
    small_autoencoder,
    small_unet,
    TEXT_SHAPE,
)
from marigold_ros.learning.objectives import Chain
from marigold_ros.learning.recipe import read_recipe, Run
from marigold_ros.models import load_model
import pytest
import torch
import yaml

STAGES = [
    Stage('a', 'autoencoder', steps=3, batch_size=2, warmup=1, save_every=1),
    Stage('b', 'latent', steps=3, batch_size=2, warmup=1, save_every=1),
    Stage('c', 'pixel', steps=3, batch_size=2, warmup=1, save_every=1),
]


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    cache = PictureCache(tmp_path_factory.mktemp('cache'), Bucket(32, 48, 6), first_seed=0)
    cache.fill(workers=1)
    return cache


def new_trainer(cache: PictureCache, folder: Path) -> Trainer:
    torch.manual_seed(1)
    autoencoder = small_autoencoder(channels=(8, 8, 16, 16), latent_channels=4)
    unet = small_unet(channels=(16, 32), latent_channels=4)
    chain = Chain(autoencoder, unet, marigold_scheduler(), torch.zeros(TEXT_SHAPE))
    return Trainer(chain, STAGES, [cache], folder, seed=3)


class Killed(Exception):
    pass


@pytest.mark.parametrize('kill_at', [(0, 2), (1, 0), (1, 2), (2, 1)])
def test_a_run_killed_anywhere_ends_bitwise_as_one_that_was_not(
    cache, tmp_path, monkeypatch, kill_at
):
    whole = new_trainer(cache, tmp_path / 'whole')
    assert whole.run()

    killed = new_trainer(cache, tmp_path / 'killed')
    save = killed._save

    def save_and_die():
        save()
        if (killed.stage_index, killed.step) == kill_at:
            raise Killed

    monkeypatch.setattr(killed, '_save', save_and_die)
    with pytest.raises(Killed):
        killed.run()
    resumed = new_trainer(cache, tmp_path / 'killed')
    assert (resumed.stage_index, resumed.step) == kill_at
    assert resumed.run()
    for key, value in whole.modules.state_dict().items():
        assert torch.equal(value, resumed.modules.state_dict()[key]), key
    assert (
        whole.chain.autoencoder.config.scaling_factor
        == resumed.chain.autoencoder.config.scaling_factor
    )


def test_a_run_out_of_time_says_so_and_keeps_a_checkpoint(cache, tmp_path):
    trainer = new_trainer(cache, tmp_path)
    assert not trainer.run(minutes=0.0)
    assert (tmp_path / 'state.pt').exists()


def test_after_the_autoencoder_the_latents_have_unit_deviation(cache, tmp_path):
    trainer = new_trainer(cache, tmp_path)
    trainer.stages = STAGES[:1]
    trainer.run()
    assert trainer.chain.autoencoder.config.scaling_factor != 1.0


def test_the_learning_rate_rises_stays_and_falls_to_a_hundredth():
    stage = Stage('x', 'pixel', steps=1000, learning_rate=1.0, warmup=100, decay=0.5)
    assert learning_rate(stage, 0) == pytest.approx(0.01)
    assert learning_rate(stage, 99) == pytest.approx(1.0)
    assert learning_rate(stage, 500) == pytest.approx(1.0)
    assert learning_rate(stage, 1000) == pytest.approx(0.01)


def test_unknown_keys_and_objectives_of_a_recipe_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="'stepz'"):
        read_stages([{'name': 'a', 'objective': 'pixel', 'stepz': 3}])
    with pytest.raises(ConfigurationError, match="'magic'"):
        read_stages([{'name': 'a', 'objective': 'magic', 'steps': 3}])
    with pytest.raises(ConfigurationError, match='no recipe'):
        read_recipe(tmp_path / 'none.yaml')
    (tmp_path / 'bad.yaml').write_text('name: x\n')
    with pytest.raises(ConfigurationError, match='stages'):
        read_recipe(tmp_path / 'bad.yaml')


def test_a_cache_of_another_size_is_refused_not_overwritten(tmp_path):
    PictureCache(tmp_path, Bucket(16, 16, 2), first_seed=0)
    with pytest.raises(InputError, match='recipe asks for'):
        PictureCache(tmp_path, Bucket(16, 16, 3), first_seed=0)


def test_the_recipe_of_the_embedded_checkpoint_is_readable():
    root = Path(__file__).resolve().parents[2]
    recipe = read_recipe(root / 'training' / 'recipes' / 'tiny.yaml')
    assert [stage.objective for stage in read_stages(recipe['stages'])][0] == 'autoencoder'


def test_what_a_run_exports_opens_here_and_in_diffusers(tmp_path):
    recipe = {
        'name': 'toy',
        'seed': 0,
        'buckets': [{'height': 32, 'width': 48, 'count': 4}],
        'stages': [
            {'name': 'a', 'objective': 'autoencoder', 'steps': 1, 'batch_size': 2},
            {'name': 'b', 'objective': 'pixel', 'steps': 1, 'batch_size': 2},
        ],
        'facts': {
            'space': 'log',
            'noise': 'zeros',
            'default_denoising_steps': 1,
            'default_ensemble_size': 1,
            'default_processing_pixels': 1536,
        },
    }
    path = tmp_path / 'toy.yaml'
    path.write_text(yaml.safe_dump(recipe))
    run = Run(path, tmp_path / 'run', tmp_path / 'cache')
    run.render(workers=1)
    assert run.train()
    folder = run.export()
    model = load_model(str(folder), device='cpu')
    assert model.space == 'log'
    sizes = [p.stat().st_size for p in folder.rglob('*.safetensors')]
    assert max(sizes) < 16 * 2**20
    MarigoldDepthPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
