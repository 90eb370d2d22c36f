# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A PrimeDepth through the runs that train every family."""

from marigold_ros.errors import ConfigurationError
from marigold_ros.models import load_model
import pytest
from safetensors.torch import save_file
import torch

NETWORK = 'prime_depth'


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


@pytest.mark.slow  # trains for seconds
def test_the_loss_falls_on_images_seen_again(new_run, loss_ratio):
    run = new_run(common={'learning_rate': 3e-3}, stage={'steps': 40})
    assert loss_ratio(run) < 0.7


def test_another_prompt_changes_the_preimage_and_stays_with_the_refiner(new_run, tmp_path):
    path = tmp_path / 'prompt.safetensors'
    prompt = torch.randn(1, 5, 32)
    save_file({'embedding': prompt}, path)
    run = new_run(init={'text': str(path)})
    torch.testing.assert_close(run.chain.unet.text, prompt)
    run.train()
    model = load_model(str(run.export()), 'cpu', 'float32')
    torch.testing.assert_close(model.refiner.text, prompt, atol=2e-3, rtol=1e-3)
    save_file({'embedding': prompt[..., :8].contiguous()}, path)
    with pytest.raises(ConfigurationError, match=r'shapes \[\(1, 5, 8\)\]; the U-Net .* 32'):
        new_run(init={'text': str(path)})
