# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
State between the frames of one camera: the start noise, and the latent of a warm start.

The same noise in each frame removes flicker that comes from the noise alone; a share of the last
latent in it removes more (diffusers' recipe for video is 0.9 noise, 0.1 latent). A scene cut is
decided on the device, so that nothing waits for it.
"""

from marigold_ros.models.marigold.denoiser import start_noise
import torch
from torch.nn import functional

THUMBNAIL = (12, 16)  # cells in which images are compared
ZEROS_NOTE = (
    'warm_start is for denoising that starts from noise; this one starts from zeros, whose answer '
    'it makes less steady: set it to 0'
)
ALIKE_NOTE = (
    'members that start from zeros are all alike: set ensemble_size to 1, or engine.noise to '
    'gaussian'
)


class Stream:
    """State between frames of one stream of images."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the noise and the last frame."""
        self._seed: int | None = None
        self._noise: tuple[tuple, torch.Tensor] | None = None
        self._latent: torch.Tensor | None = None
        self._thumbnail: torch.Tensor | None = None

    def noise(
        self,
        kind: str,
        members: int,
        shape: tuple[int, ...],
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """
        Return the noise (E, C, h, w) on the device, drawn again only where something changed.

        Noise of kind ``fixed`` keeps the seed of the stream's first frame.
        """
        if kind == 'fixed':
            self._seed = seed if self._seed is None else self._seed
            kind, seed = 'gaussian', self._seed
        key = (kind, members, shape, seed, device, dtype)
        if self._noise is None or self._noise[0] != key:
            drawn = start_noise(kind, members, shape, seed)
            self._noise = (key, drawn.to(device, dtype))
        return self._noise[1]

    def warm(
        self, noise: torch.Tensor, image: torch.Tensor, share: float, scene_cut: float
    ) -> torch.Tensor:
        """
        Mix a share, in [0, 1), of the last frame's latent into this frame's noise (E, C, h, w).

        The image (1, 3, PPH, PPW) in [-1, 1] is compared with the last one: the latent is left out
        where their mean grey change (0 to 1) is above ``scene_cut``.
        """
        if share == 0.0:
            self._latent = self._thumbnail = None
            return noise
        grey = image.float().mean(1, keepdim=True)
        thumbnail = functional.adaptive_avg_pool2d(grey, THUMBNAIL) * 0.5
        before, latent = self._thumbnail, self._latent
        self._thumbnail, self._latent = thumbnail, None  # until `keep`: this frame may fail
        if before is None or latent is None or latent.shape != noise.shape:
            return noise
        same = (thumbnail - before).abs().mean() <= scene_cut  # stays on the device
        # One overflow in float16 would last for all frames to come.
        latent = torch.where(latent.isfinite().all(), latent, noise)
        return noise + (share * same).to(noise.dtype) * (latent - noise)

    def keep(self, latent: torch.Tensor) -> None:
        """Keep (E, C, h, w) for the next frame's warm start, if there is one."""
        if self._thumbnail is not None:
            self._latent = latent
