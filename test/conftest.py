# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Fixtures that all tests share; threads wait passively, ROS stays on this machine."""

import os
from pathlib import Path
import random

from marigold_ros.threads import settle_threads

# Before anything imports numpy, torch or rclpy.
settle_threads()
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
# Parallel runs on one machine must never meet; 1 to 101 is free on every platform.
os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))

from hypothesis import settings  # noqa: E402
import pytest  # noqa: E402

# Shared machines stall: a deadline per example would test the machine.
settings.register_profile('project', deadline=None, max_examples=50)
settings.load_profile('project')

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder of the real recordings beside the project; they are not shipped."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip('the real recordings (../shared/data) are not on this machine')
    return folder


@pytest.fixture(scope='session')
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint: the Marigold architecture, very small, random weights."""
    from marigold_ros.learning.networks import export_checkpoint, small_autoencoder, small_unet
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('checkpoints') / 'small'
    facts = {
        'space': 'depth',
        'noise': 'gaussian',
        'default_denoising_steps': 1,
        'default_ensemble_size': 1,
        'default_processing_pixels': 96 * 128,
    }
    autoencoder = small_autoencoder(channels=(8, 8, 16, 16), latent_channels=4)
    unet = small_unet(channels=(16, 32), latent_channels=4)
    export_checkpoint(folder, autoencoder, unet, facts, '# small\n', dtype=torch.float32)
    return folder
