# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Hub ids: found in the cache of huggingface_hub, without a network."""

from fnmatch import fnmatch
from pathlib import Path
import shutil

import huggingface_hub
from marigold_ros.errors import CheckpointError
from marigold_ros.models import load_model
from marigold_ros.models.locate import find_folder, HUB_PATTERNS
import pytest


@pytest.fixture
def hub(monkeypatch):
    """Record calls of snapshot_download and answer with a folder."""
    calls, answer = [], {}

    def snapshot_download(name, **arguments):
        calls.append((name, arguments))
        return str(answer['folder'])

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
    return calls, answer


def test_a_hub_id_is_found_without_the_network_pickles_or_copies(hub, small_checkpoint):
    calls, answer = hub
    answer['folder'] = small_checkpoint
    model = load_model('someone/small', device='cpu')
    assert model.facts.folder == small_checkpoint
    [(name, arguments)] = calls
    assert name == 'someone/small'
    assert arguments['revision'] is None
    assert arguments['local_files_only']
    assert arguments['ignore_patterns'] == ['*.fp16*']
    for unwanted in ('unet/diffusion_pytorch_model.bin', 'v2-1_768.safetensors'):
        assert not any(fnmatch(unwanted, pattern) for pattern in arguments['allow_patterns'])


@pytest.mark.parametrize('revision', ['main', 'v1.1', 'a1b2c3d', 'refs/pr/3'])
def test_a_revision_behind_an_at_sign_is_passed_on(hub, small_checkpoint, revision):
    calls, answer = hub
    answer['folder'] = small_checkpoint
    find_folder(f'someone/small@{revision}')
    assert calls[0][0] == 'someone/small'
    assert calls[0][1]['revision'] == revision


def test_published_names_are_those_of_repositories(hub, small_checkpoint):
    calls, answer = hub
    answer['folder'] = small_checkpoint
    find_folder('marigold-depth-v1-1')
    find_folder('depth-anything-v2-small@v1')
    assert [call[0] for call in calls] == [
        'prs-eth/marigold-depth-v1-1',
        'depth-anything/Depth-Anything-V2-Small-hf',
    ]
    assert [call[1]['revision'] for call in calls] == [None, 'v1']


@pytest.mark.parametrize(
    'name',
    [
        *('../up', 'a/b/c', '/no/where', 'owner/na me', 'owner/name@', 'marigold-depth-v1-1@'),
        *('~no-such-user', '~no-such-user/model', 300 * 'x'),
    ],
)
def test_what_is_no_hub_id_never_reaches_the_hub(hub, name):
    with pytest.raises(CheckpointError, match='no checkpoint'):
        find_folder(name)
    assert hub[0] == []


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Make an empty hub cache, with the hub switched off."""
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    return tmp_path / 'hub'


def fill(cache: Path, checkpoint: Path, commit: str, reference: str) -> Path:
    """Lay out a snapshot as huggingface_hub does."""
    repository = cache / 'models--someone--small'
    snapshot = repository / 'snapshots' / commit
    shutil.copytree(checkpoint, snapshot)
    name = repository / 'refs' / reference
    name.parent.mkdir(parents=True, exist_ok=True)
    name.write_text(commit)
    return snapshot


def test_the_cache_keeps_revisions_apart_offline(cache, small_checkpoint):
    main = fill(cache, small_checkpoint, '1' * 40, 'main')
    other = fill(cache, small_checkpoint, '2' * 40, 'old')
    assert find_folder('someone/small').samefile(main)
    assert find_folder('someone/small@old').samefile(other)
    assert find_folder(f'someone/small@{"2" * 40}').samefile(other)
    model = load_model('someone/small@old', device='cpu')
    assert (model.space, model.description['name']) == ('depth', 'small')


def test_offline_without_a_copy_is_an_error_in_words(cache):
    with pytest.raises(CheckpointError, match='models get someone/small@v2$'):
        find_folder('someone/small@v2')


def test_an_autoencoder_comes_from_the_hub_too(hub, small_checkpoint):
    calls, answer = hub
    answer['folder'] = small_checkpoint / 'vae'
    model = load_model(str(small_checkpoint), device='cpu', vae='someone/vae@v2')
    assert calls[0][0] == 'someone/vae'
    assert calls[0][1]['revision'] == 'v2'
    assert calls[0][1]['allow_patterns'] != HUB_PATTERNS
    assert model.description['autoencoder'] == 'AutoencoderKL'
