# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Runs a Marigold checkpoint on one picture: resize, pad, encode, denoise, decode, merge, resize.

Each stage is a method of its own, so that it can be timed or replaced. From the upload of the
bytes to the download of the answer everything stays on the device, and only the download waits.
Letters: H, W picture; PH, PW processing size; PPH, PPW padded to multiples of the autoencoder's
factor; h, w latent; E members; C latent channels.
"""

from __future__ import annotations

from functools import cached_property
from numbers import Integral
from typing import Any

from marigold_ros.config import EngineConfig, GuidedConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.models.marigold.arguments import (
    check_picture,
    check_range,
    SEED_LIMIT,
    STEPS_LIMIT,
)
from marigold_ros.models.marigold.ensemble import merge_members
from marigold_ros.models.marigold.guided import predict_guided
from marigold_ros.models.marigold.reference_merge import merge_reference
from marigold_ros.models.marigold.resizing import (
    fit_picture,
    size_by_area,
    size_by_edge,
    upsample_bilateral,
    upsample_bilinear,
)
from marigold_ros.models.marigold.runtime import warm_up_sizes
from marigold_ros.models.marigold.stages import MOST_MEMBERS, NetworkStages
from marigold_ros.models.marigold.weights import fingerprint
from marigold_ros.settings import as_values
import numpy as np
import torch


class MarigoldModel(NetworkStages):
    """A loaded checkpoint, ready to predict; see :class:`NetworkStages` for its arguments."""

    @property
    def space(self) -> str:
        """The quantity that predictions are affine in."""
        return self.facts.space

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the weight files that run."""
        return fingerprint(self._weight_files)

    @property
    def description(self) -> dict[str, Any]:
        """Facts of the checkpoint for reports and diagnostics."""
        return {
            'name': self.facts.name,
            'path': str(self.facts.folder),
            'sha256': self.sha256,
            'space': self.facts.space,
            'noise': self.facts.noise,
            'default_denoising_steps': self.facts.denoising_steps,
            'default_ensemble_size': self.facts.ensemble_size,
            'processing_resolution': self.facts.processing_resolution,
            'processing_pixels': self.facts.processing_pixels,
            'autoencoder': self.kinds[1].__name__,
            'scheduler': type(self.scheduler).__name__,
            'prediction_type': self.scheduler.config.prediction_type,
            'parameters': self.parameters,
            'device': str(self.device),
            'dtype': str(self.arithmetic).removeprefix('torch.'),
            'runtime': as_values(self.runtime),
            'notes': list(self.notes),
        }

    def reset(self) -> None:
        """Forget the last frame (warm start, fixed noise) and what was learnt about memory."""
        self.stream.reset()
        self.memory.forget()

    def warm_up(self) -> None:
        """Run one frame of each size that the runtime's settings name, then forget it."""
        for height, width in warm_up_sizes(self.runtime.warm_up):
            self.predict(np.zeros((height, width, 3), np.uint8))
        self.stream.reset()

    @torch.inference_mode()
    def predict(
        self,
        rgb: np.ndarray,
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        reference_exact: bool = False,
        options: EngineConfig | None = None,
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
            Answer as diffusers' pipeline does (its merge, its last step, its spacing); of the
            options it heeds ``batch_limit`` only.
        options : EngineConfig or None
            Noise, warm start, merge, upsampling; None is the checkpoint's own way.

        Returns
        -------
        Prediction
            ``relative`` (H, W) float32 in [0, 1]; ``spread`` is None for a single member.

        Raises
        ------
        InputError
            If the picture is not (H, W, 3) uint8, too long and thin for the processing size, or
            too large for the memory.
        ConfigurationError
            If steps, members or seed are out of range.

        """
        steps = self.facts.denoising_steps if denoising_steps is None else denoising_steps
        members = self.facts.ensemble_size if ensemble_size is None else ensemble_size
        check_range('denoising_steps', steps, 1, STEPS_LIMIT)
        check_range('ensemble_size', members, 1, MOST_MEMBERS)
        check_range('seed', seed, 0, SEED_LIMIT)
        check_picture(rgb)
        self.options = EngineConfig() if options is None else options
        self.lay_out(reference_exact)
        size = self.processing_size(rgb.shape[0], rgb.shape[1], processing_resolution)
        image = self.upload(rgb)  # (1, 3, H, W)
        picture = self.preprocess(image, size, reference_exact)  # (1, 3, PPH, PPW)
        rgb_latent = self.encode(picture)  # (1, C, h, w)
        noise = self.start(picture, rgb_latent, members, seed, reference_exact)
        latent = self.denoise(rgb_latent, noise, steps, seed, reference_exact)  # (E, C, h, w)
        self.stream.keep(latent)
        relative = self.decode(latent, reference_exact)[..., : size[0], : size[1]]
        maps = self.merge(relative, reference_exact)  # (1, 1 or 2, PH, PW)
        answer = self.postprocess(maps, image, picture, reference_exact)
        spread = answer[1] if members > 1 else None
        return Prediction(answer[0], spread, self.facts.space)

    def predict_guided(
        self,
        rgb: np.ndarray,
        sparse: SparseDepth,
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        options: EngineConfig | None = None,
        guided: GuidedConfig | None = None,
    ) -> Prediction:
        """
        Estimate depth in metres with the denoising steered by sparse depth; for labels.

        Every point is believed: take out what is wrong before, as the pipeline does.

        Parameters
        ----------
        rgb, processing_resolution, seed
            As for :meth:`predict`.
        sparse : SparseDepth
            In the picture.
        denoising_steps : int or None
            DDIM steps; None is as many as the optimiser takes where denoising starts from noise.
        ensemble_size : int or None
            Members, guided one after the other; None is one.
        options : EngineConfig or None
            Its warm start is not used.
        guided : GuidedConfig or None
            Steps and rates of the optimiser.

        Returns
        -------
        Prediction
            In space ``metric``: median of the members, and their deviation in metres.

        Raises
        ------
        AlignmentError
            If the points are too few, at one depth or outside, or contradict the prediction.
        InputError
            As :meth:`predict`.
        ConfigurationError
            As :meth:`predict`, and if the networks pass no gradients (OpenVINO, compiled, LCM).

        """
        guided = GuidedConfig() if guided is None else guided
        members = 1 if ensemble_size is None else ensemble_size
        check_range('ensemble_size', members, 1, MOST_MEMBERS)
        if denoising_steps is not None:
            check_range('denoising_steps', denoising_steps, 1, STEPS_LIMIT)
        check_range('seed', seed, 0, SEED_LIMIT)
        check_picture(rgb)
        self.options = EngineConfig() if options is None else options
        size = self.processing_size(rgb.shape[0], rgb.shape[1], processing_resolution)
        return predict_guided(self, rgb, sparse, size, denoising_steps, members, seed, guided)

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """
        Size at which the networks see a picture.

        Marigold's rule is the longest edge, rounded down; a checkpoint that states a number of
        pixels instead gets the edge that comes nearest to it, both sides multiples of 8.

        """
        if processing_resolution is None:
            if self.facts.processing_pixels:
                return size_by_area(height, width, self.facts.processing_pixels)
            return size_by_edge(height, width, self.facts.processing_resolution)
        if not isinstance(processing_resolution, Integral):
            raise ConfigurationError(
                f'processing_resolution is {processing_resolution!r}; give a whole number of '
                'pixels, 0 is native'
            )
        return size_by_edge(height, width, int(processing_resolution))

    def upload(self, rgb: np.ndarray) -> torch.Tensor:
        """Bring (H, W, 3) uint8 to the device as (1, 3, H, W) float32 in [0, 1]."""
        # Message buffers are often read-only, which torch cannot express.
        picture = torch.from_numpy(np.require(rgb, requirements=['C', 'W']))
        if self.device.type == 'cuda':
            picture = picture.pin_memory()
        picture = picture.to(self.device, non_blocking=True)
        return picture[None].permute(0, 3, 1, 2).float() / 255.0

    def preprocess(
        self, image: torch.Tensor, size: tuple[int, int], reference_exact: bool = False
    ) -> torch.Tensor:
        """Resize and pad (1, 3, H, W) in [0, 1] to (1, 3, PPH, PPW) in [-1, 1]."""
        if not reference_exact:
            # A single cell has no variance to normalise by: tiny pictures get two.
            least = (self.coarsest, self.coarsest * (2 if max(size) <= self.coarsest else 1))
            # Half precision, which a CPU cannot resize in, would also lose bits of the picture.
            return fit_picture(image, size, self.factor, least).to(self.dtype)
        if self.device.type == 'cuda':
            image = image.to(self.dtype)
        return fit_picture(image, size, self.factor).to(self.dtype)

    def merge(self, relative: torch.Tensor, reference_exact: bool = False) -> torch.Tensor:
        """Merge (E, 1, PH, PW) to relative and spread, (1, 2, PH, PW); a single one stays."""
        if len(relative) == 1:
            return relative
        if reference_exact:
            from diffusers import MarigoldDepthPipeline

            merged = MarigoldDepthPipeline.ensemble_depth(relative, output_uncertainty=True)
        elif self.options.merge == 'reference':
            merged = merge_reference(relative)
        else:
            merged = merge_members(relative)
        return torch.cat(merged, dim=1)

    def postprocess(
        self,
        maps: torch.Tensor,
        image: torch.Tensor,
        picture: torch.Tensor,
        reference_exact: bool = False,
    ) -> np.ndarray:
        """Bring (1, k, PH, PW) to the picture's size and to the host: (k, H, W) float32."""
        resized = self.enlarge(maps, image, picture, reference_exact)
        # The one place where the host waits for the device.
        return resized[0].contiguous().cpu().numpy()

    def enlarge(
        self,
        maps: torch.Tensor,
        image: torch.Tensor,
        picture: torch.Tensor,
        reference_exact: bool = False,
    ) -> torch.Tensor:
        """Bring (1, k, PH, PW) to the picture's size, (1, k, H, W) float32."""
        native = (int(image.shape[2]), int(image.shape[3]))
        maps = maps.float()
        height, width = maps.shape[-2:]
        larger = native[0] > height or native[1] > width
        if self.options.upsampling == 'bilateral' and larger and not reference_exact:
            small = (picture[..., :height, :width].float() + 1.0) / 2.0
            return upsample_bilateral(maps, small, image)
        return upsample_bilinear(maps, native)
