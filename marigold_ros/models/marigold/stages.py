# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The stages that run networks: encode, start, denoise, decode; batched as memory allows.

Letters: N images; PPH, PPW padded processing size; h, w latent; E members; C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
import logging
from typing import Any

from diffusers import LCMScheduler
from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.models.marigold.checkpoint import Networks
from marigold_ros.models.marigold.denoiser import (
    denoise,
    denoise_consistency,
    member_generators,
    start_noise,
)
from marigold_ros.models.marigold.memory import LIVE_MAPS, MemoryPlan, OVERLAP, TILE, tiled
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule, spacing_for
from marigold_ros.models.marigold.stream import Stream
from marigold_ros.models.runtime.prepare import lay_out, prepare_networks
import torch

MOST_MEMBERS = 20
SPACING_NOTE = (
    "the checkpoint's leading timestep spacing is replaced by trailing below 10 denoising steps: "
    'leading presents pure noise as nearly clean there (arXiv 2409.11355)'
)
ZEROS_NOTE = (
    'warm_start is for denoising that starts from noise; this one starts from zeros, whose answer '
    'it makes less steady: set it to 0'
)
log = logging.getLogger(__name__)


class NetworkStages:
    """
    The networks of a checkpoint on their device.

    Parameters
    ----------
    networks : Networks
        From ``load_networks``; moved to the device.
    device : torch.device
        Where they run.
    dtype : torch.dtype
        Arithmetic.
    runtime : RuntimeConfig or None
        What makes them fast; fixed from here on.

    """

    def __init__(
        self,
        networks: Networks,
        device: torch.device,
        dtype: torch.dtype,
        runtime: RuntimeConfig | None = None,
    ) -> None:
        self.facts = networks.facts
        self.runtime = RuntimeConfig() if runtime is None else runtime
        self.device, self.arithmetic = device, dtype
        # Of tensors between the networks: OpenVINO takes and gives float32.
        self.dtype = torch.float32 if self.runtime.backend == 'openvino' else dtype
        self.scheduler = networks.scheduler
        self.text = networks.text.to(device, self.dtype)
        self.kinds = type(networks.unet), type(networks.autoencoder)
        self.parameters = networks.parameters
        self.unet, self.autoencoder = prepare_networks(
            networks.unet, networks.autoencoder, self.text, device, dtype, self.runtime
        )
        self._channels_last = self.runtime.channels_last
        self.factor = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        # Pixels of one cell at the U-Net's coarsest level.
        self.coarsest = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        self.options = EngineConfig()  # of the frame in work
        self.notes: list[str] = []
        for note in networks.notes:
            self._note(note)
        self.stream = Stream()
        self.memory = MemoryPlan(device, self._note)
        self._weight_files = networks.weight_files
        self._schedules: dict[tuple[int, str | None], Schedule] = {}

    def lay_out(self, reference_exact: bool) -> None:
        """
        Give the weights the layout of the coming call.

        The reference's merge amplifies the last bits of a sum, which the layout decides.
        """
        runtime = self.runtime
        wanted = runtime.channels_last and not reference_exact
        free = runtime.backend == 'torch' and runtime.compile == 'off'
        if free and wanted != self._channels_last:
            lay_out((self.unet, self.autoencoder), wanted)
            self._channels_last = wanted

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Scaled latents (N, C, h, w) of images (N, 3, PPH, PPW)."""
        tile, overlap = TILE * self.factor, OVERLAP * self.factor
        latent = self.memory.run(
            'encode',
            tuple(image.shape[-2:]),
            len(image),
            lambda limit: torch.cat([self._encode(part) for part in image.split(limit)]),
            bytes_each=self._autoencoder_bytes(image.shape[-2] * image.shape[-1]),
            in_tiles=lambda: torch.cat(
                [tiled(self._encode, part, tile, overlap) for part in image.split(1)]
            ),
        )
        return latent * self.autoencoder.config.scaling_factor

    def start(
        self,
        image: torch.Tensor,
        rgb_latent: torch.Tensor,
        members: int,
        seed: int,
        streams: Sequence[Stream],
        reference_exact: bool = False,
    ) -> torch.Tensor:
        """Latents (N E, C, h, w) from which denoising starts, image by image."""
        options = EngineConfig() if reference_exact else self.options
        kind = self.facts.noise if options.noise == 'checkpoint' else options.noise
        if options.warm_start and kind == 'zeros':
            self._note(ZEROS_NOTE)
        shape = _shape(rgb_latent)
        starts = []
        for stream, own in zip(streams, image.split(1), strict=True):
            noise = stream.noise(kind, members, shape, seed, self.device, self.dtype)
            starts.append(stream.warm(noise, own, options.warm_start, options.scene_cut))
        return starts[0] if len(starts) == 1 else torch.cat(starts)

    def denoise(
        self,
        rgb_latent: torch.Tensor,
        noise: torch.Tensor,
        steps: int,
        seed: int = 0,
        reference_exact: bool = False,
    ) -> torch.Tensor:
        """Denoised latents (N E, C, h, w); as many members at once as fit."""
        members = len(noise) // len(rgb_latent)
        condition = rgb_latent.repeat_interleave(members, dim=0)
        if isinstance(self.scheduler, LCMScheduler):
            return self._denoise_consistency(
                condition, noise, steps, seed, members, reference_exact
            )
        schedule = self._schedule(steps, reference_exact)

        def whole(limit: int) -> torch.Tensor:
            parts = [
                denoise(
                    self.unet,
                    self.scheduler,
                    seen,
                    part,
                    self.text,
                    steps,
                    reference_exact,
                    schedule,
                )
                for seen, part in zip(condition.split(limit), noise.split(limit), strict=True)
            ]
            return torch.cat(parts)

        return self._in_batches('denoise', noise, whole)

    def decode(self, latent: torch.Tensor, reference_exact: bool = False) -> torch.Tensor:
        """Relative maps (N E, 1, PPH, PPW) in [0, 1] of scaled latents (N E, C, h, w)."""
        pixels = latent.shape[-2] * latent.shape[-1] * self.factor**2
        scaled = latent / self.autoencoder.config.scaling_factor
        return self._in_batches(
            'decode',
            latent,
            lambda limit: torch.cat(
                [self._relative(self._decode(p), reference_exact) for p in scaled.split(limit)]
            ),
            bytes_each=self._autoencoder_bytes(pixels),
            in_tiles=lambda: torch.cat(
                [
                    self._relative(tiled(self._decode, p, TILE, OVERLAP), reference_exact)
                    for p in scaled.split(1)
                ]
            ),
        )

    def preview(self, latent: torch.Tensor) -> torch.Tensor:
        """Relative map (1, 1, PPH, PPW) of one latent, not clipped, so that gradients pass."""
        scaled = (latent / self.autoencoder.config.scaling_factor).to(self.dtype)
        return (self._decode(scaled).float().mean(1, keepdim=True) + 1.0) / 2.0

    def _autoencoder_bytes(self, pixels: int) -> int:
        """Estimate what the autoencoder holds at its peak for one image."""
        widths = self.autoencoder.config.block_out_channels
        return LIVE_MAPS * widths[min(1, len(widths) - 1)] * pixels * self.dtype.itemsize

    def _note(self, text: str) -> None:
        """Tell the caller once: in the description and in the log."""
        if text not in self.notes:
            self.notes.append(text)
            log.warning('%s: %s', self.facts.name, text)

    def _schedule(self, steps: int, reference_exact: bool) -> Schedule:
        spacing = None
        if not reference_exact:
            chosen = self.options.timestep_spacing
            spacing = spacing_for(self.scheduler, steps) if chosen == 'auto' else chosen
            if chosen == 'auto' and spacing != self.scheduler.config.timestep_spacing:
                self._note(SPACING_NOTE)
        key = (steps, spacing)
        if key not in self._schedules:
            self._schedules[key] = ddim_schedule(self.scheduler, steps, spacing, self.device)
        return self._schedules[key]

    def _denoise_consistency(
        self,
        condition: torch.Tensor,
        noise: torch.Tensor,
        steps: int,
        seed: int,
        members: int,
        reference_exact: bool,
    ) -> torch.Tensor:
        def whole(limit: int) -> torch.Tensor:
            # The reference goes on drawing from the generator that gave the first noise.
            shared = torch.Generator('cpu').manual_seed(seed)
            if reference_exact:
                start_noise(self.facts.noise, len(noise), _shape(noise), seed, shared)
            images = range(len(noise) // members)
            own = [made for _ in images for made in member_generators(members, seed)]
            parts = [
                denoise_consistency(
                    self.unet,
                    self.scheduler,
                    condition[i : i + limit],
                    noise[i : i + limit],
                    self.text,
                    steps,
                    shared if reference_exact else own[i : i + limit],
                )
                for i in range(0, len(noise), limit)
            ]
            return torch.cat(parts)

        return self._in_batches('denoise', noise, whole)

    def _in_batches(self, stage: str, latent: torch.Tensor, whole: Any, **more: Any) -> Any:
        most = min(len(latent), self.options.batch_limit or MOST_MEMBERS)
        return self.memory.run(stage, tuple(latent.shape[-2:]), most, whole, **more)

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        answer = self.autoencoder.encode(image)
        # AutoencoderTiny has no distribution.
        return answer.latents if hasattr(answer, 'latents') else answer.latent_dist.mode()

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latent, return_dict=False)[0]  # (E, 3, PPH, PPW)

    def _relative(self, decoded: torch.Tensor, reference_exact: bool) -> torch.Tensor:
        # Half precision resolves 1/2048 of the range; the mean of three channels does better.
        decoded = decoded if reference_exact else decoded.float()
        return (decoded.mean(1, keepdim=True).clamp(-1.0, 1.0) + 1.0) / 2.0


def _shape(latent: torch.Tensor) -> tuple[int, int, int]:
    """(C, h, w)."""
    channels, height, width = latent.shape[1:]
    return channels, height, width
