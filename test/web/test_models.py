# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which models the page offers, and how many of them stay loaded."""

from __future__ import annotations

from types import SimpleNamespace

from marigold_ros.errors import ConfigurationError
from marigold_ros.models import EMBEDDED, list_checkpoints
from marigold_ros.web import models
from marigold_ros.web.models import ModelStore
import pytest


def load(name):
    return SimpleNamespace(name=name, description={'name': name, 'device': 'cpu'})


def test_offered_are_the_given_the_embedded_and_the_fetched_models(monkeypatch):
    monkeypatch.setattr(models, 'is_cached', lambda name: name == 'depth-anything-v2-small')
    store = ModelStore(load, 'tiny+unet')
    assert store.names == ('tiny+unet', *list_checkpoints(), 'depth-anything-v2-small')
    with pytest.raises(ConfigurationError, match='marigold-depth-v1-1'):
        store.get('marigold-depth-v1-1')


def test_steps_are_offered_for_diffusion_models_only():
    steps = {item['name']: item['steps'] for item in ModelStore(load, 'tiny').describe()}
    assert steps['tiny-diffusion']
    assert not steps['unet']
    (given, *_) = ModelStore(load, str(EMBEDDED / 'tiny')).describe()
    assert (given['steps'], given['remark']) == (True, '')


def test_the_models_used_last_stay_loaded():
    loaded = []

    def count(name):
        loaded.append(name)
        return load(name)

    store = ModelStore(count, 'tiny')
    for name in ('unet', 'tiny', 'tiny-diffusion', 'tiny', 'unet', 'tiny'):
        assert store.get(name).name == name
    assert loaded == ['unet', 'tiny', 'tiny-diffusion', 'unet']
