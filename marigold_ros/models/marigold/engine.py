# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Runs a Marigold checkpoint on one picture: resize, pad, encode, denoise, decode, merge, resize.

Letters: H, W picture; PH, PW processing size; PPH, PPW padded to multiples of the autoencoder's
factor; h, w latent; E members; C latent channels.
"""

from __future__ import annotations

from typing import Any

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction
from marigold_ros.models.marigold.checkpoint import fingerprint, Networks
from marigold_ros.models.marigold.denoiser import denoise, start_noise
from marigold_ros.models.marigold.ensemble import merge_members
import numpy as np
import torch
from torch.nn import functional

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
STEPS_LIMIT, ENSEMBLE_LIMIT = 50, 20


def choose_device(name: str) -> torch.device:
    """Resolve ``auto``; a device that is asked for by name and missing is an error."""
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"device is '{name}'; choose auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == 'cpu':
        return device
    count = torch.cuda.device_count() if device.type == 'cuda' else 0
    if (device.index or 0) >= count:
        raise ConfigurationError(
            f"device is '{name}', and this machine offers torch {count} CUDA devices; choose auto "
            'or cpu, or install a torch build for your GPU'
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve ``auto``: float16 on a GPU, float32 on a CPU."""
    if name == 'auto':
        return torch.float16 if device.type == 'cuda' else torch.float32
    if name not in DTYPES:
        raise ConfigurationError(f"dtype is '{name}'; choose auto, {', '.join(DTYPES)}")
    return DTYPES[name]


class MarigoldModel:
    """
    A loaded checkpoint.

    Parameters
    ----------
    networks : Networks
        From ``load_networks``; moved to the device.
    device : torch.device
        Where it runs.
    dtype : torch.dtype
        Arithmetic.

    """

    def __init__(self, networks: Networks, device: torch.device, dtype: torch.dtype) -> None:
        self.facts = networks.facts
        self.device, self.dtype = device, dtype
        # Not diffusers' own `to`, which warns of a cast that is meant.
        self.autoencoder = torch.nn.Module.to(networks.autoencoder, device, dtype)
        self.unet = torch.nn.Module.to(networks.unet, device, dtype)
        self.scheduler = networks.scheduler
        self.text = networks.text.to(device, dtype)
        self.factor = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    @property
    def space(self) -> str:
        """The quantity that predictions are affine in."""
        return self.facts.space

    @property
    def description(self) -> dict[str, Any]:
        """Facts of the checkpoint for reports and diagnostics."""
        networks = (self.autoencoder, self.unet)
        return {
            'name': self.facts.name,
            'path': str(self.facts.folder),
            'sha256': fingerprint(self.facts.folder),
            'space': self.facts.space,
            'noise': self.facts.noise,
            'default_denoising_steps': self.facts.denoising_steps,
            'default_ensemble_size': self.facts.ensemble_size,
            'processing_resolution': self.facts.processing_resolution,
            'processing_pixels': self.facts.processing_pixels,
            'parameters': sum(p.numel() for n in networks for p in n.parameters()),
            'device': str(self.device),
            'dtype': str(self.dtype).removeprefix('torch.'),
        }

    @torch.inference_mode()
    def predict(
        self,
        rgb: np.ndarray,
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        reference_exact: bool = False,
    ) -> Prediction:
        """
        Estimate relative depth of one picture.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The picture.
        denoising_steps, ensemble_size : int or None
            None is the checkpoint's own default.
        processing_resolution : int or None
            Longest side at the networks in pixels, 0 the picture's own; None the checkpoint's.
        seed : int
            Of the noise; the same seed gives the same answer.
        reference_exact : bool
            Answer as diffusers' pipeline does (its merge, its last step).

        Returns
        -------
        Prediction
            ``relative`` (H, W) float32 in [0, 1]; ``spread`` is None for a single member.

        Raises
        ------
        InputError
            If the picture is not (H, W, 3) uint8 or too long and thin for the processing size.
        ConfigurationError
            If steps or members are out of range.

        """
        steps = self.facts.denoising_steps if denoising_steps is None else denoising_steps
        members = self.facts.ensemble_size if ensemble_size is None else ensemble_size
        _check_range('denoising_steps', steps, STEPS_LIMIT)
        _check_range('ensemble_size', members, ENSEMBLE_LIMIT)
        _check_picture(rgb)
        size = self.processing_size(rgb.shape[0], rgb.shape[1], processing_resolution)
        picture = self._preprocess(rgb, size)  # (1, 3, PPH, PPW)
        rgb_latent = self.autoencoder.encode(picture).latent_dist.mode()
        rgb_latent = rgb_latent * self.autoencoder.config.scaling_factor  # (1, C, h, w)
        noise = start_noise(self.facts.noise, members, tuple(rgb_latent.shape[1:]), seed)
        latent = denoise(
            self.unet,
            self.scheduler,
            rgb_latent,
            noise.to(self.device, self.dtype),
            self.text,
            steps,
            reference_exact,
        )  # (E, C, h, w)
        relative = self._decode(latent)[..., : size[0], : size[1]]  # (E, 1, PH, PW)
        spread = None
        if members > 1:
            relative, spread = self._merge(relative, reference_exact)
        return Prediction(
            _at_size(relative, rgb.shape[:2]),
            None if spread is None else _at_size(spread, rgb.shape[:2]),
            self.facts.space,
        )

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """
        Size at which the networks see a picture.

        Marigold's rule is the longest edge, rounded down; a checkpoint that states a number of
        pixels instead gets the edge that comes nearest to it, both sides multiples of 8.

        """
        if processing_resolution is None and self.facts.processing_pixels:
            scale = (self.facts.processing_pixels / (height * width)) ** 0.5
            return max(8, 8 * round(height * scale / 8)), max(8, 8 * round(width * scale / 8))
        edge = self.facts.processing_resolution
        if processing_resolution is not None:
            edge = processing_resolution
        if edge < 0:
            raise ConfigurationError(
                f'processing_resolution is {edge}; give the longest edge in pixels, 0 is native'
            )
        if edge == 0:
            return height, width
        size = height * edge // max(height, width), width * edge // max(height, width)
        if 0 in size:
            raise InputError(
                f'a picture of {width}x{height} has no pixel left on one side at '
                f'processing_resolution {edge}; crop it or choose a larger resolution',
                cause='shape',
            )
        return size

    def _preprocess(self, rgb: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).to(self.device)
        picture = picture[None].permute(0, 3, 1, 2).to(self.dtype) / 255.0  # (1, 3, H, W)
        if tuple(picture.shape[-2:]) != size:
            picture = functional.interpolate(picture, size, mode='bilinear', antialias=True)
        pad = (0, -size[1] % self.factor, 0, -size[0] % self.factor)
        return functional.pad(picture, pad, mode='replicate') * 2.0 - 1.0

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        scaled = latent / self.autoencoder.config.scaling_factor
        decoded = self.autoencoder.decode(scaled, return_dict=False)[0]  # (E, 3, PPH, PPW)
        return (decoded.mean(1, keepdim=True).clamp(-1.0, 1.0) + 1.0) / 2.0

    def _merge(
        self, relative: torch.Tensor, reference_exact: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not reference_exact:
            return merge_members(relative)
        from diffusers import MarigoldDepthPipeline

        return MarigoldDepthPipeline.ensemble_depth(relative, output_uncertainty=True)


def _at_size(value: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    resized = functional.interpolate(value.float(), size, mode='bilinear', antialias=False)
    return resized[0, 0].cpu().numpy()


def _check_range(name: str, value: int, limit: int) -> None:
    if not 1 <= value <= limit:
        raise ConfigurationError(f'{name} is {value}; choose a value in [1, {limit}]')


def _check_picture(rgb: np.ndarray) -> None:
    shape, dtype = np.shape(rgb), getattr(rgb, 'dtype', None)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise InputError(
            f'rgb has shape {shape} and dtype {dtype}; a picture is (H, W, 3) uint8', cause='shape'
        )
