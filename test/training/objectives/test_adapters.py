# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Low-rank adapters: they alone are trained, and what is exported is base + B A."""

from __future__ import annotations

import sys

from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_ros.models.marigold.checkpoint import load_networks
from marigold_ros.models.runtime.prepare import set_channels_last
from marigold_ros.models.runtime.upsampling import exact_upsampling
from marigold_training.adapt import recipes
from marigold_training.adapt.recipes import open_base
from marigold_training.families.marigold import FAMILY
from marigold_training.objectives.adapters import add_adapters, merged, OWN
from marigold_training.run.average import blend
from marigold_training.run.recipe import TrainingRun
import numpy as np
import pytest
import torch
import yaml

FACTS = {'space': 'log', 'noise': 'zeros', 'default_processing_pixels': 32 * 48}
SMALL = {
    'kind': 'small',
    'autoencoder': {'channels': [8, 8, 16, 16], 'latent_channels': 4},
    'unet': {'channels': [16, 32], 'attention_levels': 2},
}
STAGE = {'objective': 'anchored', 'batch_size': 2, 'warmup': 0, 'learning_rate': 1e-2}


@pytest.fixture
def folder(tmp_path):
    """A base of random weights, in the layout of large ones."""
    chain = FAMILY.initialise({'init': SMALL, 'facts': FACTS}, 3)
    FAMILY.export(tmp_path / 'base', chain, FACTS, '')
    return tmp_path / 'base'


@pytest.fixture
def new_run(folder, tmp_path, accelerator):
    """Return a function that opens a run with adapters."""

    def build(name: str, steps: int = 4, **changes: object) -> TrainingRun:
        recipe = {
            'name': 'adapted',
            'init': {'kind': 'checkpoint', 'path': str(folder)},
            'adapters': 4,
            'sources': [
                {'kind': 'synthetic', 'height': 32, 'width': 48, 'count': 4, 'size': [32, 48]}
            ],
            'stages': [{**STAGE, 'name': 'only', 'steps': steps}],
            'facts': FACTS,
            **changes,
        }
        path = tmp_path / f'{name}.yaml'
        path.write_text(yaml.safe_dump(recipe))
        return TrainingRun(path, tmp_path / name, tmp_path, accelerator)

    return build


@pytest.mark.slow  # trains for seconds
def test_only_adapters_are_trained_and_the_export_is_their_sum_with_the_base(new_run, folder):
    run = new_run('run')
    before = {name: value.clone() for name, value in run.chain.state_dict().items()}
    assert run.train()
    chain = run.finished()
    state = chain.state_dict()
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    adapters = {name for name in state if OWN in name}
    assert changed
    assert changed <= adapters
    assert all(OWN in name for name, p in chain.named_parameters() if p.requires_grad)
    stored, base_weights = merged(chain.unet.state_dict()), load_networks(folder).unet.state_dict()
    assert set(stored) == set(base_weights)
    touched = 0
    for name, weight in base_weights.items():
        layer = f'unet.{name.removesuffix(".weight")}'
        expected = weight
        if f'{layer}.lora_A.default.weight' in state:
            touched += 1
            low = state[f'{layer}.lora_A.default.weight'].double()
            expected = weight + state[f'{layer}.lora_B.default.weight'].double() @ low
        np.testing.assert_allclose(stored[name], expected, atol=1e-6)
    assert touched
    rgb = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    exported = load_model(str(run.export()), 'cpu', 'float32').predict(rgb).relative
    np.testing.assert_allclose(exported, run.engine(chain).predict(rgb).relative, atol=2e-3)
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    with torch.no_grad():
        trained = chain.cpu().eval().relative(image)[0, 0].clamp(0, 1).numpy()
    model = run.engine(chain)
    set_channels_last((model.unet, model.autoencoder), False)
    with exact_upsampling(model.autoencoder):  # sums in the order of the training network
        np.testing.assert_allclose(model.predict(rgb).relative, trained, atol=1e-5)


def test_new_adapters_change_nothing(folder):
    recipe = {'init': {'kind': 'checkpoint', 'path': str(folder)}, 'facts': FACTS}
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        plain = FAMILY.initialise(recipe, 0).eval().relative(image)
        adapted = FAMILY.initialise({**recipe, 'adapters': 4}, 0).eval().relative(image)
    assert torch.equal(plain, adapted)


@pytest.mark.parametrize('kept', [0.0, 0.35, 1.0])
def test_the_share_of_initial_weights_is_that_of_the_exported_sum(folder, kept):
    recipe = {'init': {'kind': 'checkpoint', 'path': str(folder)}, 'facts': FACTS, 'adapters': 4}
    start = FAMILY.initialise(recipe, 0).state_dict()
    trained = {k: v + torch.randn_like(v) if OWN in k else v for k, v in start.items()}
    found = merged(blend(trained, start, kept))
    for name, value in blend(merged(trained), merged(start), kept).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


def test_large_bases_are_adapted_by_adapters_and_small_ones_whole(folder, monkeypatch):
    small = open_base(str(folder))
    assert (small.adapters, small.trains) == (0, ('autoencoder', 'unet'))
    monkeypatch.setattr(recipes, 'SMALL', 1000)
    large = open_base(str(folder))
    assert (large.adapters, large.trains) == (recipes.RANK, ())


def test_without_peft_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    monkeypatch.setattr(recipes, 'SMALL', 1000)
    with pytest.raises(ConfigurationError, match='pip install peft'):
        open_base(str(folder))
    with pytest.raises(ConfigurationError, match='pip install peft'):
        add_adapters(torch.nn.Linear(2, 2), 4, 0)
    with pytest.raises(ConfigurationError, match='adapters is 0'):
        add_adapters(torch.nn.Linear(2, 2), 0, 0)
