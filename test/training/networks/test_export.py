# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Exported checkpoints open here and in diffusers, by the code on their card."""

import json
import os
from pathlib import Path
import re

from diffusers import DDIMScheduler
from marigold_ros.errors import CheckpointError, InputError
from marigold_ros.models import load_model
from marigold_ros.models.locate import write_sums
from marigold_training.data.augment import Augmentation
from marigold_training.data.mixture import Part
from marigold_training.families.marigold import FAMILY
from marigold_training.networks.export import (
    new_checkpoint,
    usual_size,
    write_checkpoint,
    write_network,
)
from marigold_training.networks.initialise import initialise
from marigold_training.run.model_card import model_card
from marigold_training.run.stages import Stage
from marigold_training.run.training_features import training_features
import numpy as np
import pytest
from safetensors.torch import load_file
import torch

ZEROS = {
    'space': 'log',
    'noise': 'zeros',
    'default_denoising_steps': 1,
    'default_ensemble_size': 1,
    'default_processing_pixels': 96 * 128,
}
NOISE = {'space': 'depth', 'default_denoising_steps': 2, 'default_processing_resolution': 64}
STAGES = [
    Stage('first', 'autoencoder', steps=450, batch_size=16),
    Stage(
        'last', 'pixel', steps=2600, batch_size=8, accumulation=4, trains=('autoencoder', 'unet')
    ),
]


class Images:
    """A source as a card sees it."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count


PARTS = [
    Part(Images('synthetic mixed', 8000), 3.0, (96, 128)),
    Part(Images('vkitti', 20148), 1.0, (96, 320)),
]


@pytest.fixture
def chain(toy):
    return initialise(toy['init'], 0, 'log').requires_grad_(False)


def recipe(facts: dict, **init: str) -> dict:
    return {'name': 'toy', 'init': init or {'kind': 'small'}, 'facts': facts}


def export(chain, folder: Path, facts: dict, card: str = '# toy\n', **more) -> Path:
    with new_checkpoint(folder, card) as draft:
        write_checkpoint(draft, chain.autoencoder, chain.unet, facts, **more)
    return folder


@pytest.mark.parametrize('facts', [ZEROS, NOISE], ids=['zeros', 'noise'])
def test_the_lines_of_the_card_open_it_here_and_in_diffusers(chain, tmp_path, facts):
    card = model_card(recipe(facts), FAMILY, STAGES, PARTS, tmp_path / 'metrics.json')
    folder = tmp_path / 'toy'
    text = torch.randn(1, 2, 32)
    export(chain, folder, facts, card, scheduler=chain.scheduler, text=text)
    write_sums(folder)
    assert (folder / 'README.md').read_text() == card
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    known: dict = {'folder': str(folder), 'rgb': rgb}
    here, there = re.findall(r'```python\n(.*?)```', card, re.DOTALL)
    exec(here, known)
    assert known['prediction'].relative.shape == (60, 80)
    assert known['model'].space == facts['space']
    torch.testing.assert_close(known['model'].text, text, atol=2e-3, rtol=2e-3)
    exec(there, known)
    depth = known['depth'].prediction[0, :, :, 0]
    assert depth.shape == (60, 80)
    again = known['model'].predict(rgb, reference_exact=True, seed=0)
    np.testing.assert_allclose(again.relative, depth, atol=5e-3)


def test_the_card_states_data_stages_and_licence(tmp_path):
    (tmp_path / 'metrics.json').write_text(
        json.dumps({'200 held-out scenes': {'abs_rel': 0.1723, 'delta1': 0.7618}})
    )
    card = model_card(recipe(ZEROS), FAMILY, STAGES, PARTS, tmp_path / 'metrics.json')
    assert card.startswith('# toy\n')
    assert 'trained from scratch' in card
    assert 'answers in one step from zeros' in card
    assert 'predicts log depth' in card
    assert '- synthetic mixed: 8000 images, 75% of the batches' in card
    assert '- vkitti: 20148 images, 25% of the batches' in card
    assert '| first | autoencoder | autoencoder | 450 | 16 |' in card
    assert '| last | pixel | autoencoder + unet | 2600 | 8 x 4 |' in card
    assert '| measured on | abs_rel | delta1 |' in card
    assert '| 200 held-out scenes | 0.1723 | 0.7618 |' in card
    assert 'Unlike in Marigold' in card
    assert 'Weights: Apache-2.0' in card


def test_figures_of_weights_that_were_trained_further_are_not_on_the_card(tmp_path):
    (tmp_path / 'metrics.json').write_text('{"200 scenes": {"abs_rel": 0.1723}}')
    state = tmp_path / 'state.pt'
    state.touch()
    scored = (tmp_path / 'metrics.json').stat().st_mtime
    for later, shown in ((-1.0, True), (1.0, False)):
        os.utime(state, (scored + later, scored + later))
        assert (
            '0.1723' in model_card(recipe(ZEROS), FAMILY, STAGES, PARTS, tmp_path / 'metrics.json')
        ) == shown


def test_the_card_names_initial_weights_without_their_path(tmp_path):
    published = tmp_path / 'somewhere' / 'stable-diffusion-2'
    published.mkdir(parents=True)
    start = recipe(NOISE, kind='stable_diffusion', path=str(published))
    card = model_card(start, FAMILY, STAGES[:1], PARTS, tmp_path / 'metrics.json')
    assert '`stable-diffusion-2`; the licence of those weights applies' in card
    assert 'somewhere' not in card
    assert 'Unlike in Marigold' not in card
    assert 'answers in 2 steps from Gaussian noise' in card
    hub = model_card(
        recipe(NOISE, kind='checkpoint', path='prs-eth/marigold-depth-v1-1'),
        FAMILY,
        [],
        PARTS,
        tmp_path / 'metrics.json',
    )
    assert '`prs-eth/marigold-depth-v1-1`' in hub


def test_metrics_that_are_no_figures_are_refused(tmp_path):
    for content in ('[1, 2]', '{"scenes": {"abs_rel": "good"}}', '{'):
        (tmp_path / 'metrics.json').write_text(content)
        with pytest.raises(InputError, match=r'metrics\.json holds no figures'):
            model_card(recipe(ZEROS), FAMILY, STAGES, PARTS, tmp_path / 'metrics.json')


def test_the_recipes_own_schedule_is_written(chain, tmp_path):
    config = chain.scheduler.config
    own = DDIMScheduler.from_config(
        config, timestep_spacing='leading', rescale_betas_zero_snr=False
    )
    folder = export(chain, tmp_path / 'own', NOISE, scheduler=own)
    written = json.loads((folder / 'scheduler' / 'scheduler_config.json').read_text())
    assert written['timestep_spacing'] == 'leading'
    assert not written['rescale_betas_zero_snr']
    usual = export(chain, tmp_path / 'usual', NOISE)
    written = json.loads((usual / 'scheduler' / 'scheduler_config.json').read_text())
    assert written['timestep_spacing'] == 'trailing'


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.bfloat16])
def test_export_casts_a_copy_of_the_weights(chain, tmp_path, dtype):
    before = {key: value.clone() for key, value in chain.state_dict().items()}
    folder = export(chain, tmp_path / 'toy', ZEROS, dtype=dtype)
    stored = load_file(folder / 'unet' / 'diffusion_pytorch_model.safetensors')
    assert {value.dtype for value in stored.values()} == {dtype}
    for key, value in chain.state_dict().items():
        assert torch.equal(value, before[key])
    for key, value in stored.items():
        assert torch.equal(value, before[f'unet.{key}'].to(dtype)), key


def test_the_processing_size_follows_pixels_or_resolution(chain, tmp_path):
    assert usual_size({'default_processing_pixels': 96 * 128}) == (96, 128)
    assert usual_size({'default_processing_resolution': 768}) == (576, 768)
    assert usual_size({'default_processing_resolution': 64}) == (48, 64)
    assert usual_size({}) == (576, 768)
    for facts, expected in ((ZEROS, 128), (NOISE, 64), ({'space': 'log'}, 768)):
        folder = export(chain, tmp_path / 'toy', facts)
        index = json.loads((folder / 'model_index.json').read_text())
        assert index['default_processing_resolution'] == expected
        assert load_model(str(folder), device='cpu').space == facts['space']


def test_no_path_of_this_machine_is_written(chain, tmp_path):
    source = export(chain, tmp_path / 'source', ZEROS)
    entry = {'kind': 'checkpoint', 'path': str(source)}
    opened = initialise(entry, 0, 'log')
    folder = export(opened, tmp_path / 'copy', ZEROS, scheduler=opened.scheduler)
    for path in folder.rglob('*.json'):
        assert str(tmp_path) not in path.read_text(), path


def test_an_overflowing_weight_keeps_the_old_checkpoint(chain, tmp_path):
    folder = export(chain, tmp_path / 'toy', ZEROS, '# old\n')
    chain.unet.conv_out.bias.data[0] = 1e6
    with pytest.raises(CheckpointError, match=r'conv_out\.bias.*float16.*float32'):
        export(chain, folder, ZEROS, '# new\n')
    assert (folder / 'README.md').read_text() == '# old\n'
    assert [path.name for path in tmp_path.iterdir()] == ['toy']
    export(chain, folder, ZEROS, '# new\n', dtype=torch.float32)
    assert (folder / 'README.md').read_text() == '# new\n'
    assert [path.name for path in tmp_path.iterdir()] == ['toy']


def test_a_link_to_a_checkpoint_stays_one(tmp_path):
    (tmp_path / 'link').symlink_to('toy')
    for card in ('# first\n', '# second\n', '# third\n'):
        with new_checkpoint(tmp_path / 'link', card):
            pass
        assert (tmp_path / 'toy' / 'README.md').read_text() == card
    there = {path.name: path.is_symlink() for path in tmp_path.iterdir()}
    assert there == {'link': True, 'toy': False}


def test_a_kill_leaves_nothing_in_the_way_and_all_users_may_read_a_checkpoint(tmp_path):
    for _ in range(2):
        (tmp_path / '.toy-old' / 'unet').mkdir(parents=True)  # of a writing that was killed
        with new_checkpoint(tmp_path / 'toy', '# toy\n') as draft:
            (draft / 'unet').mkdir(0o700)
            (draft / 'unet' / 'config.json').touch(0o600)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob('*')}
    files = dict.fromkeys(('README.md', 'SHA256SUMS', 'config.json'), 0o644)
    assert modes == {'toy': 0o755, 'unet': 0o755, **files}


def test_an_overflowing_weight_of_a_single_network_is_refused_too(tmp_path):
    network = torch.nn.Linear(1, 1)
    network.bias.data[0] = 1e6
    with pytest.raises(CheckpointError, match='bias is not finite in float16'):
        write_network(tmp_path, network, {}, {})


@pytest.mark.parametrize('change', [{}, {'default_ensemble_size': 3}, {'space': 'disparity'}])
@pytest.mark.parametrize('size', [{'pixels': 96 * 128}, {'resolution': 64}])
def test_a_recipe_that_starts_with_a_checkpoint_has_its_facts(chain, tmp_path, change, size):
    facts = {**ZEROS, **change}
    del facts['default_processing_pixels']
    facts |= {f'default_processing_{name}': value for name, value in size.items()}
    assert FAMILY.facts(export(chain, tmp_path / 'toy', facts)) == facts


def test_features_are_of_images_one_pixel_wide_too(new_chain, planted):
    parts = [Part(planted(2, size), 1.0, (32, 48)) for size in ((1, 40), (40, 1))]
    mirrored = Augmentation(flip=1.0)
    assert training_features(new_chain(), parts, mirrored, torch.device('cpu'), 0) is not None


def test_a_single_training_image_has_no_others_to_be_far_from(new_chain, planted, monkeypatch):
    """Its statistics were not finite, and no checkpoint with them could be opened."""
    monkeypatch.setattr('marigold_training.run.training_features.IMAGES', 12)
    given = Augmentation(colour=1.0), torch.device('cpu'), 0
    for count, known in ((1, False), (2, True)):
        parts = [Part(planted(count, (32, 48)), 1.0, (32, 48))]
        found = training_features(new_chain(), parts, *given)
        assert (found is not None and np.isfinite(found.limit)) == known


@pytest.mark.slow  # a run and an export
def test_an_export_blends_in_the_initial_weights(open_run, toy, small_checkpoint, tmp_path):
    run = open_run(
        {'objective': 'one_step', 'steps': 2, 'warmup': 1, 'learning_rate': 1e-2},
        init={'kind': 'checkpoint', 'path': str(small_checkpoint)},
        facts={**toy['facts'], 'space': 'depth'},
        keep_of_start=0.25,
    )
    run.train()
    start = run.first_chain().state_dict()
    trained = torch.load(tmp_path / 'out' / 'state.pt', weights_only=True)['average']
    moved = 0.0
    for name, value in run.finished().state_dict().items():
        torch.testing.assert_close(value, 0.75 * trained[name] + 0.25 * start[name])
        moved = max(moved, (value - start[name]).abs().max().item())
    assert moved > 1e-3
    assert 'blended with 25% of the initial ones' in (run.export() / 'README.md').read_text()
