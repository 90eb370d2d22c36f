# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Build networks in the shape of Stable Diffusion 2 with random weights: for timing, not for depth.

Published Marigold checkpoints have this shape (U-Net 866 M parameters, autoencoder 84 M). One
block of normal numbers is repeated through all weights, because drawing a billion takes longer
than running a frame; each layer is scaled by its fan-in, so that activations stay bounded.
"""

from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.checkpoint import Facts, Networks
from marigold_ros.models.marigold.schedule import marigold_scheduler
from marigold_ros.models.runtime.usage import free_memory
from marigold_ros.models.weights import count_parameters
import torch

TEXT_SHAPE = (1, 2, 1024)
# Odd, so that neighbouring rows of a weight differ.
BLOCK = 1_000_003


def random_networks(vae: str = 'kl') -> Networks:
    """
    Build networks of the shape of Stable Diffusion 2 with eight input channels, always the same.

    On the CPU, in float32: one step, native resolution. ``vae`` is kl, its own autoencoder, or
    tiny (TAESD, 2.4 M parameters). Raises ConfigurationError if the memory is too small for them.
    """
    unet, autoencoder = empty_networks(vae)
    require_memory(count_parameters(unet, autoencoder) * 4, 'weights of sd2')
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(BLOCK, generator=generator)
    _fill(unet, block)
    _fill(autoencoder, block)
    if isinstance(autoencoder, AutoencoderTiny):
        # Nothing normalises there, and its answer lies in [0, 1].
        autoencoder.decoder.layers[-1].bias.data.fill_(0.5)
    text = torch.randn(TEXT_SHAPE, generator=generator)
    name = 'sd2-random-tiny-vae' if vae == 'tiny' else 'sd2-random'
    facts = Facts(name, Path(name), 'depth', 'gaussian', 1, 1, 0, 0)
    return Networks(facts, autoencoder, unet, marigold_scheduler(), text)


def empty_networks(
    vae: str = 'kl',
) -> tuple[UNet2DConditionModel, AutoencoderKL | AutoencoderTiny]:
    """Build U-Net and autoencoder of that shape without memory for their weights."""
    with torch.device('meta'):
        unet = UNet2DConditionModel(
            sample_size=96,
            in_channels=8,
            out_channels=4,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=TEXT_SHAPE[2],
            use_linear_projection=True,
        )
        if vae == 'tiny':
            return unet, AutoencoderTiny()
        return unet, AutoencoderKL(
            down_block_types=('DownEncoderBlock2D',) * 4,
            up_block_types=('UpDecoderBlock2D',) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            sample_size=768,
        )


def require_memory(needed: int, what: str) -> None:
    """Raise ConfigurationError where main memory is short: the system would end the process."""
    free = free_memory(torch.device('cpu'))
    if free is not None and needed > free:
        raise ConfigurationError(
            f'{what} need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; close '
            'other programs, or choose a smaller model or image'
        )


def _fill(network: torch.nn.Module, block: torch.Tensor) -> None:
    """Fill the weights of a network that has no memory yet."""
    network.to_empty(device='cpu').requires_grad_(False)
    twice = block.repeat(2)
    # Half of the numbers get lost at each ReLU.
    gain = 2.0**0.5 if isinstance(network, AutoencoderTiny) else 1.0
    for index, weight in enumerate(network.parameters()):
        if weight.ndim == 1:  # biases, and the weights of normalisations, set below
            weight.data.zero_()
            continue
        flat = weight.data.view(-1)
        scale = gain * weight[0].numel() ** -0.5
        begin = 7919 * index % BLOCK
        for at in range(0, len(flat), BLOCK):
            piece = flat[at : at + BLOCK]
            torch.mul(twice[begin : begin + len(piece)], scale, out=piece)
    for layer in network.modules():
        if isinstance(layer, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            layer.weight.data.fill_(1.0)
    network.eval()
