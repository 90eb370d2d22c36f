# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A PrimeDepth through the runs that train every family."""

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
from marigold_training.families.prime_depth import FAMILY
from marigold_training.run.recipe import TrainingRun
import numpy as np
import pytest
from safetensors.torch import save_file
import torch
import yaml

STAGE = {'name': 'only', 'objective': 'l1_gradient', 'steps': 4, 'batch_size': 4, 'warmup': 0}
RECIPE = {
    'name': 'prime',
    'network': 'prime_depth',
    'sources': [{'kind': 'synthetic', 'height': 32, 'width': 48, 'count': 6, 'size': [32, 48]}],
    'stages': [STAGE],
    'facts': {'space': 'disparity', 'default_processing_pixels': 1536},
}


@pytest.fixture(scope='module')
def accelerator():
    # Accelerate keeps the settings of the first one in a process.
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True, mixed_precision='bf16')
    AcceleratorState._reset_state()


@pytest.fixture
def init(small_checkpoint):
    return {'kind': 'small', 'base': str(small_checkpoint), 'decoder': [8, 16], 'layers': 0}


@pytest.fixture
def new_run(tmp_path, accelerator, init):
    """Return a function that opens a run of the recipe with other keys."""

    def build(name='run', **changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({**RECIPE, 'init': init, **changes}))
        return TrainingRun(path, tmp_path / name, tmp_path, accelerator)

    return build


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(new_run):
    whole = new_run('whole')
    assert whole.train()
    asked = []
    assert not new_run('parts').train(stop=lambda: len(asked) > 1 or asked.append(1))
    second = new_run('parts')
    assert second.train()
    found = second.finished().state_dict()
    for key, value in whole.finished().state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_training_and_export_leave_the_frozen_networks_out(new_run):
    run = new_run()
    (base,) = run.chain.base
    before = {key: value.clone() for key, value in base.unet.state_dict().items()}
    run.train()
    assert all(torch.equal(base.unet.state_dict()[key], value) for key, value in before.items())
    assert all(name.startswith('unet.') for name in run.chain.state_dict())
    folder = run.export()
    weights = sum(p.numel() for p in run.chain.parameters())
    assert (folder / 'model.safetensors').stat().st_size < 2 * weights + 40_000
    assert 'refiner' in (folder / 'README.md').read_text()


def test_the_export_answers_as_the_networks_did(new_run):
    run = new_run()
    run.train()
    folder = run.export()
    rgb = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    stored = load_model(str(folder), 'cpu', 'float32').predict(rgb).relative
    own = run.engine(run.finished()).predict(rgb).relative
    np.testing.assert_allclose(stored, own, atol=3e-3)  # weights are stored in float16
    again = new_run('again', init={'kind': 'checkpoint', 'path': str(folder)}, keep_of_start=0.5)
    np.testing.assert_allclose(again.engine(again.chain).predict(rgb).relative, stored, atol=1e-6)


def test_the_loss_falls_on_images_seen_again(new_run):
    run = new_run(common={'learning_rate': 3e-3}, stages=[{**STAGE, 'steps': 40}])
    batches = [run.mixture(run.stages[0], 0)[number] for number in range(4)]

    def error():
        with torch.no_grad():
            found = [(run.chain.relative(b.rgb) - b.relative)[b.valid] for b in batches]
        return torch.cat(found).abs().mean().item()

    before = error()
    run.train()
    assert error() < 0.7 * before


def test_another_prompt_changes_the_preimage_and_stays_with_the_refiner(new_run, init, tmp_path):
    path = tmp_path / 'prompt.safetensors'
    prompt = torch.randn(1, 5, 32)
    save_file({'embedding': prompt}, path)
    run = new_run(init={**init, 'text': str(path)})
    torch.testing.assert_close(run.chain.unet.text, prompt)
    run.train()
    model = load_model(str(run.export()), 'cpu', 'float32')
    torch.testing.assert_close(model.refiner.text, prompt, atol=2e-3, rtol=1e-3)
    save_file({'embedding': prompt[..., :8].contiguous()}, path)
    with pytest.raises(ConfigurationError, match=r'shapes \[\(1, 5, 8\)\]; the U-Net .* 32'):
        new_run(init={**init, 'text': str(path)})


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'kind': 'stable_diffusion'}, 'choose one of small, checkpoint'),
        ({'bases': 'tiny'}, "init has 'bases'; "),
        ({'base': None}, 'init.base is None'),
        ({'decoder': [9]}, 'multiples of 8'),
    ],
)
def test_a_recipe_for_another_network_is_refused(new_run, init, changes, words):
    with pytest.raises(ConfigurationError, match=words):
        new_run(init={**init, **changes})


def test_the_same_seed_gives_the_same_weights(init):
    recipe = {**RECIPE, 'init': init}
    first, second, other = (FAMILY.initialise(recipe, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
