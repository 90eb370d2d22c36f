# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Checking a checkpoint: a good one is described, each kind of damage is named."""

import hashlib
import math
import shutil

from marigold_ros.errors import CheckpointError
from marigold_ros.models import load_model
from marigold_ros.models.locate import write_sums
from marigold_ros.models.marigold.check import check_checkpoint, planted_depth, round_trip
from marigold_ros.models.marigold.checkpoint import load_networks
import pytest
from safetensors.torch import load_file, save_file


def weights(folder, part='unet'):
    return next((folder / part).glob('*.safetensors'))


def change(path, name, value) -> None:
    state = load_file(path)
    state[name] = value(state[name])
    save_file(state, path, metadata={'format': 'pt'})


def test_a_good_checkpoint_is_described(small_checkpoint):
    report = check_checkpoint(small_checkpoint, round_trip_limit=math.inf)
    model = load_model(str(small_checkpoint), device='cpu')
    assert sum(file['parameters'] for file in report['files']) == model.description['parameters']
    assert report['timesteps'] == [999]
    assert report['timestep_spacing'] == 'trailing'
    assert [file['dtypes'] for file in report['files']] == [['F32']] * 2
    assert not any(file['verified'] for file in report['files'])


def test_an_autoencoder_that_loses_depth_is_refused(small_checkpoint):
    with pytest.raises(CheckpointError, match=r'vae.*mean error of 0\.\d+.*restore'):
        check_checkpoint(small_checkpoint, round_trip_limit=0.001)


def test_the_round_trip_of_a_faithful_autoencoder_has_no_error(small_checkpoint, monkeypatch):
    networks = load_networks(small_checkpoint)
    planted = planted_depth(96, 128)

    def decode(latent, return_dict):
        # Up to scale and shift, as the affine-invariant model sees it.
        return ((planted * 1.2 - 0.6).expand(-1, 3, -1, -1),)

    monkeypatch.setattr(networks.autoencoder, 'decode', decode)
    assert round_trip(networks) < 1e-5


def test_sums_beside_a_checkpoint_are_those_of_its_own_files(copy, tmp_path):
    write_sums(copy)
    path = weights(copy)
    line = f'{hashlib.sha256(path.read_bytes()).hexdigest()}  unet/{path.name}\n'
    assert line in (copy / 'SHA256SUMS').read_text()
    report = check_checkpoint(copy, round_trip_limit=math.inf)
    assert all(file['verified'] for file in report['files'])
    other = shutil.copytree(copy / 'vae', tmp_path / 'vae')
    report = check_checkpoint(copy, other, round_trip_limit=math.inf)
    assert [file['verified'] for file in report['files']] == [True, False]


def test_a_tampered_weight_is_found_by_its_sum_when_loading_too(copy):
    write_sums(copy)
    change(weights(copy), 'conv_in.bias', lambda w: w + 0.001)
    with pytest.raises(CheckpointError, match=r'SHA-256.*restore'):
        check_checkpoint(copy, round_trip_limit=math.inf)
    with pytest.raises(CheckpointError, match='SHA-256'):
        load_model(str(copy), device='cpu')


def test_a_damaged_file_of_the_hubs_cache_is_found_by_its_name(copy, tmp_path):
    path = weights(copy)
    good = tmp_path / 'blobs' / hashlib.sha256(path.read_bytes()).hexdigest()
    good.parent.mkdir()
    for link, target in ((path, good), (weights(copy, 'vae'), tmp_path / 'elsewhere')):
        link.rename(target)
        link.symlink_to(target)
    report = check_checkpoint(copy, round_trip_limit=math.inf)
    assert [file['verified'] for file in report['files']] == [True, False]
    change(good, 'conv_in.bias', lambda w: w + 0.001)
    with pytest.raises(CheckpointError, match='the hub says'):
        check_checkpoint(copy, round_trip_limit=math.inf)


@pytest.mark.parametrize(
    ('schedule', 'words'),
    [
        ({'num_train_timesteps': 3}, '3 timesteps'),
        ({'_class_name': 'LCMScheduler', 'original_inference_steps': 3}, 'steps'),
        ({'_class_name': 'LCMScheduler', 'prediction_type': 'epsilon'}, 'pure noise'),
    ],
)
def test_a_schedule_without_steps_is_an_error(copy, edit, schedule, words):
    edit(copy / 'scheduler' / 'scheduler_config.json', **schedule)
    edit(copy / 'marigold_ros.json', default_denoising_steps=4)
    with pytest.raises(CheckpointError, match=f'no schedule of 4 steps.*{words}'):
        check_checkpoint(copy, round_trip_limit=math.inf)
