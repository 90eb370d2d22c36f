# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A recipe of a few steps for each family but Marigold, and runs of it with other keys."""

import pytest
import torch
import yaml

STAGE = {'name': 'only', 'steps': 4, 'batch_size': 4, 'warmup': 0}


def rendered(height: int, width: int, **keys: object) -> dict:
    size = {'height': height, 'width': width, 'size': [height, width]}
    return {'kind': 'synthetic', 'count': 6, **size, **keys}


@pytest.fixture(scope='session')
def recipes(small_checkpoint, depth_anything) -> dict:
    return {
        'unet': {
            'init': {'kind': 'small', 'channels': [8, 16], 'blocks': [1]},
            'sources': [rendered(24, 32)],
            'stages': [{**STAGE, 'objective': 'pixel', 'steps': 8}],
            'facts': {'space': 'log', 'default_processing_pixels': 768},
        },
        'prime_depth': {
            'init': {
                'kind': 'small',
                'base': str(small_checkpoint),
                'decoder': [8, 16],
                'layers': 0,
            },
            'sources': [rendered(32, 48)],
            'stages': [{**STAGE, 'objective': 'l1_gradient'}],
            'facts': {'space': 'disparity', 'default_processing_pixels': 1536},
        },
        'diffusion_depth': {
            'init': {
                'kind': 'small',
                'backbone': {'channels': [8, 16], 'blocks': [1]},
                **{'features': 8, 'hidden': 8, 'latent': 8, 'steps': 2},
            },
            'sources': [rendered(24, 32, known=0.1)],
            'stages': [{**STAGE, 'objective': 'diffusion_depth', 'average': 0.9, 'clip': 1.0}],
            'facts': {'space': 'metric', 'max_depth': 80.0, 'default_processing_pixels': 768},
        },
        'depth_anything': {
            'init': {'kind': 'checkpoint', 'path': str(depth_anything())},
            'sources': [rendered(32, 40)],
            'stages': [{**STAGE, 'objective': 'pixel', 'trains': ['network']}],
            'facts': {'space': 'disparity', 'default_processing_pixels': 42 * 42},
        },
    }


@pytest.fixture
def recipe(request, recipes) -> dict:
    """Return the recipe of the module's family, or of the test's."""
    network = getattr(request, 'param', None) or request.module.NETWORK
    return {'name': 'few-steps', 'network': network, **recipes[network]}


@pytest.fixture
def new_run(tmp_path, accelerator, recipe):
    """
    Return a function that opens a run of the recipe with other keys.

    ``stage`` and ``source`` change keys of its only ones, ``init`` without a kind its own.
    """
    from marigold_training.run.recipe import TrainingRun

    def build(name='run', stage=(), source=(), init=(), **changes):
        whole = {
            **recipe,
            'init': dict(init) if 'kind' in init else {**recipe['init'], **dict(init)},
            'stages': [{**recipe['stages'][0], **dict(stage)}],
            'sources': [{**recipe['sources'][0], **dict(source)}],
            **changes,
        }
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump(whole))
        return TrainingRun(path, tmp_path / name, tmp_path, accelerator)

    return build


@pytest.fixture
def loss_ratio():
    """Give a function that trains a run and returns its error, after over before, on its data."""

    def ratio(run) -> float:
        batches = [run.mixture(run.stages[0], 0)[number] for number in range(4)]

        def error() -> float:
            with torch.no_grad():
                found = [(run.chain.relative(b.rgb) - b.relative)[b.valid] for b in batches]
            return torch.cat(found).abs().mean().item()

        before = error()
        run.train()
        return error() / before

    return ratio
