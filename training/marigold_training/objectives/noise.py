# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training noise: reproducible per image, plain or as Marigold's multi-resolution pyramid.

The pyramid follows the original code, not the paper: the first level is not coarser, so white
noise enters twice. Published checkpoints were trained so. Unlike there, the deviation is
normalised per image, or an image's noise would depend on its batch.
"""

from collections.abc import Sequence

from marigold_ros.errors import ConfigurationError
import numpy as np
import torch
from torch.nn import functional

KINDS = ('gaussian', 'multi_resolution', 'annealed')
LEVELS = 10  # at most; small latents end earlier, at one cell


class Draws:
    """
    Random numbers of one batch, with one generator per image.

    They do not depend on how the batch is divided among processes.

    Parameters
    ----------
    seed, number : int
        Of the run and of the batch.
    rows : sequence of int
        Of the images in the undivided batch.

    """

    def __init__(self, seed: int, number: int, rows: Sequence[int]) -> None:
        self.generators = [
            torch.Generator().manual_seed(
                int(np.random.SeedSequence([seed, 4, number, row]).generate_state(1, np.uint64)[0])
                % 2**63
            )
            for row in rows
        ]

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw (B, *shape) standard normal on the CPU."""
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in self.generators])

    def timesteps(self, count: int) -> torch.Tensor:
        """Draw (B,) integers below ``count``."""
        return torch.cat([torch.randint(count, (1,), generator=g) for g in self.generators])


def check_noise(kind: str, strength: float) -> None:
    """Raise ConfigurationError if :func:`training_noise` does not accept these."""
    if kind not in KINDS:
        raise ConfigurationError(f"noise is '{kind}'; choose one of {', '.join(KINDS)}")
    if type(strength) not in (int, float) or not 0.0 <= strength < 1.0:
        raise ConfigurationError(
            f'noise_strength is {strength!r}; choose from 0 to below 1 (0.9 in the paper)'
        )


def training_noise(
    draws: Draws, shape: Sequence[int], kind: str, strength: float, part: torch.Tensor
) -> torch.Tensor:
    """
    Draw the noise that latents are mixed with.

    Parameters
    ----------
    draws : Draws
        Source of all numbers.
    shape : (C, h, w)
        Of one latent.
    kind : {'gaussian', 'multi_resolution', 'annealed'}
        Plain; with coarser noise added at ``strength ** level`` (Ke et al., CVPR 2024, section
        3.3); or with a strength that falls to zero with the timestep.
    strength : float
        In [0, 1); 0.9 in the paper.
    part : (B,)
        Timestep over the number of timesteps, in [0, 1].

    Returns
    -------
    (B, C, h, w) of deviation one: per image for pyramids, expected for plain noise

    Raises
    ------
    ConfigurationError
        If the kind is unknown or the strength out of range.

    """
    check_noise(kind, strength)
    if kind == 'gaussian':
        return draws.normal(shape)
    share = strength * (part if kind == 'annealed' else torch.ones_like(part))
    return torch.stack(
        [
            _pyramid(generator, tuple(shape), own)
            for generator, own in zip(draws.generators, share.tolist(), strict=True)
        ]
    )


def _pyramid(generator: torch.Generator, shape: tuple[int, ...], strength: float) -> torch.Tensor:
    """Draw noise (C, h, w) with coarser noise added."""
    channels, *full = shape
    noise = torch.randn(shape, generator=generator)
    size = full
    for level in range(LEVELS):
        # Drawn anew and applied to the previous size: sizes fall faster than geometrically.
        shrink = (2.0 + 2.0 * torch.rand(1, generator=generator).item()) ** level
        size = [max(1, int(side / shrink)) for side in size]
        coarse = torch.randn((1, channels, *size), generator=generator)
        noise = noise + strength**level * functional.interpolate(coarse, full, mode='bilinear')[0]
        if 1 in size:
            break
    return noise / noise.std()
