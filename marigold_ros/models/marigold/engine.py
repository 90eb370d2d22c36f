# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Runs a Marigold checkpoint on one image: resize, pad, encode, denoise, decode, merge, resize.

Each stage is a method of its own, so that it can be timed or replaced. From the upload of the
bytes to the download of the answer everything stays on the device, and only the download waits.
Letters: N images; H, W image; PH, PW processing size; PPH, PPW padded to multiples of the
autoencoder's factor; h, w latent; E members; C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
import math
from typing import Any

from marigold_ros.config import EngineConfig, GuidedConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.models.guidance.guided import predict_guided
from marigold_ros.models.marigold.arguments import (
    check_image,
    check_range,
    SEED_LIMIT,
    STEPS_LIMIT,
)
from marigold_ros.models.marigold.image_stages import ImageStages
from marigold_ros.models.marigold.stages import MOST_MEMBERS
from marigold_ros.models.marigold.stream import Stream
from marigold_ros.models.marigold.weights import fingerprint
from marigold_ros.models.runtime.prepare import warm_up_sizes
from marigold_ros.settings import as_values
import numpy as np
import torch


class MarigoldModel(ImageStages):
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

    @property
    def takes_any_batch(self) -> bool:
        """Whether the number of images in a call may change without compiling anew."""
        return self.runtime.backend == 'torch' and self.runtime.compile == 'off'

    def new_stream(self) -> Stream:
        """Make the state of another camera, for :meth:`predict_together`."""
        return Stream()

    def reset(self) -> None:
        """Forget the last frame (warm start, fixed noise) and what was learnt about memory."""
        self.stream.reset()
        self.memory.forget()

    def warm_up(self) -> None:
        """Run one frame of each size that the runtime's settings name, then forget it."""
        for height, width in warm_up_sizes(self.runtime.warm_up):
            self.predict(np.zeros((height, width, 3), np.uint8))
        self.stream.reset()

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
        Estimate relative depth of one image.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The image.
        denoising_steps, ensemble_size : int or None
            None is the checkpoint's own default.
        processing_resolution : int or None
            Longest side at the networks in pixels, 0 the image's own; None the checkpoint's.
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
            If the image is not (H, W, 3) uint8, too long and thin for the processing size, or
            too large for the memory.
        ConfigurationError
            If steps, members or seed are out of range.

        """
        return self.predict_together(
            [rgb],
            [self.stream],
            denoising_steps,
            ensemble_size,
            processing_resolution,
            seed,
            reference_exact,
            options,
        )[0]

    @torch.inference_mode()
    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[Stream],
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        reference_exact: bool = False,
        options: EngineConfig | None = None,
    ) -> list[Prediction]:
        """
        Estimate relative depth of several images of one size at once.

        Parameters
        ----------
        rgbs : sequence of (H, W, 3) uint8
            The images, such as those of several cameras.
        streams : sequence of Stream
            What each camera's last frame left; one for each image.
        denoising_steps, ensemble_size, processing_resolution, seed, reference_exact, options
            As for :meth:`predict`; each image gets the noise that it gets alone.

        Returns
        -------
        list of Prediction
            One for each image, equal up to rounding to those of single calls.

        Raises
        ------
        InputError, ConfigurationError
            As :meth:`predict`, and if the images differ in size.

        """
        steps = self.facts.denoising_steps if denoising_steps is None else denoising_steps
        members = self.facts.ensemble_size if ensemble_size is None else ensemble_size
        check_range('denoising_steps', steps, 1, STEPS_LIMIT)
        check_range('ensemble_size', members, 1, MOST_MEMBERS)
        check_range('seed', seed, 0, SEED_LIMIT)
        for rgb in rgbs:
            check_image(rgb)
        height, width = _common_size(rgbs)
        self.options = EngineConfig() if options is None else options
        self.lay_out(reference_exact)
        size = self.processing_size(height, width, processing_resolution)
        image = self.upload(rgbs)  # (N, 3, H, W)
        preprocessed = self.preprocess(image, size, reference_exact)  # (N, 3, PPH, PPW)
        rgb_latent = self.encode(preprocessed)  # (N, C, h, w)
        noise = self.start(preprocessed, rgb_latent, members, seed, streams, reference_exact)
        latent = self.denoise(rgb_latent, noise, steps, seed, reference_exact)  # (N E, C, h, w)
        for stream, own in zip(streams, latent.split(int(members)), strict=True):
            stream.keep(own)
        relative = self.decode(latent, reference_exact)[..., : size[0], : size[1]]
        maps = self.merge(relative, members, reference_exact)  # (N, 1 or 2, PH, PW)
        answers = self.postprocess(maps, image, preprocessed, reference_exact)  # (N, 1 or 2, H, W)
        return [
            Prediction(answer[0], answer[1] if members > 1 else None, self.facts.space)
            for answer in answers
        ]

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
        max_depth: float = math.inf,
    ) -> Prediction:
        """
        Estimate depth in metres with the denoising steered by sparse depth; for labels.

        Every point is believed: take out what is wrong before, as the pipeline does.

        Parameters
        ----------
        rgb, processing_resolution, seed
            As for :meth:`predict`.
        sparse : SparseDepth
            In the image.
        denoising_steps : int or None
            DDIM steps; None is as many as the optimiser takes where denoising starts from noise.
        ensemble_size : int or None
            Members, guided one after the other; None is one.
        options : EngineConfig or None
            Its warm start is not used.
        guided : GuidedConfig or None
            Steps and rates of the optimiser.
        max_depth : float, metres
            Depth where disparity falls to 0 or below.

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
        check_image(rgb)
        self.options = EngineConfig() if options is None else options
        size = self.processing_size(rgb.shape[0], rgb.shape[1], processing_resolution)
        return predict_guided(
            self, rgb, sparse, size, denoising_steps, members, seed, guided, max_depth
        )


def _common_size(rgbs: Sequence[np.ndarray]) -> tuple[int, int]:
    """Height and width of all images."""
    sizes = sorted({rgb.shape[:2] for rgb in rgbs})
    if len(sizes) != 1:
        raise InputError(
            f'{len(sizes)} sizes of image in one call: {", ".join(map(str, sizes))}; those that '
            'are predicted together have one size',
            cause='shape',
        )
    return sizes[0]
