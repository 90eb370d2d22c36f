# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run a Marigold checkpoint: resize, pad, encode, denoise, decode, merge, resize back.

Everything stays on the device until the download, and only that waits for it. Letters: N images of
one size; H, W image; PH, PW processing size; PPH, PPW padded to multiples of the autoencoder's
factor; h, w latent; E members; C latent channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
import logging
import math
from numbers import Integral
from typing import Any

from diffusers import LCMScheduler
from marigold_ros.config import EngineConfig, GuidedConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.models.autoencoder import mean_latent
from marigold_ros.models.image_sizes import common_size, size_by_area, size_by_edge, up_to_multiple
from marigold_ros.models.locate import fingerprint
from marigold_ros.models.marigold.checkpoint import Networks
from marigold_ros.models.marigold.denoiser import (
    check_consistency_steps,
    consistency_generators,
    denoise,
    denoise_consistency,
    SEED_LIMIT,
    start_noise,
)
from marigold_ros.models.marigold.domain_gap import image_features
from marigold_ros.models.marigold.ensemble import merge_members, merge_reference, MOST_MEMBERS
from marigold_ros.models.marigold.guidance import guide_model
from marigold_ros.models.marigold.memory import autoencoder_bytes, MemoryPlan, OVERLAP, TILE, tiled
from marigold_ros.models.marigold.schedule import (
    choose_spacing,
    ddim_schedule,
    Schedule,
    SPACING_NOTE,
    STEPS_LIMIT,
)
from marigold_ros.models.marigold.stream import ALIKE_NOTE, Stream, ZEROS_NOTE
from marigold_ros.models.onnx_export import ImageNetwork
from marigold_ros.models.protocol import DEFAULTS, FullDepthModel, PredictOptions
from marigold_ros.models.resizing import fit_image, upsample_bilateral, upsample_bilinear
from marigold_ros.models.runtime.prepare import prepare_networks, set_channels_last
from marigold_ros.models.runtime.upsampling import exact_upsampling
from marigold_ros.settings import as_values
import numpy as np
import torch

log = logging.getLogger(__name__)

# Deviation of the three decoded channels from their mean, in [-1, 1]: up to 0.04 for depth, which
# is grey, and 0.3 to 0.47 for normals of E2E-FT, whose files do not say what they are.
_MOST_COLOUR = 0.15
COLOUR_NOTE = (
    'the three decoded channels differ as those of colours or surface normals do, while depth is '
    'grey: check that this is a depth checkpoint'
)


class MarigoldModel(FullDepthModel):
    """
    A Marigold checkpoint on its device, ready to predict.

    The networks, from ``load_networks``, are moved to the device; arithmetic and runtime (backend,
    memory layout, compilation) are fixed from then on.
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
        # Of tensors between the networks: those of another runtime take and return float32.
        self.dtype = torch.float32 if self.runtime.converted else dtype
        self.scheduler = networks.scheduler
        self.text = networks.text.to(device, self.dtype)
        self.kinds = type(networks.unet), type(networks.autoencoder)
        self.parameters = networks.parameters
        self.unet, self.autoencoder = prepare_networks(
            networks.unet, networks.autoencoder, self.text, device, dtype, self.runtime
        )
        if networks.load_unet is not None and self.runtime.converted:
            self.unet.free_if_large(networks.load_unet)
        self.factor = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        # Pixels of one cell at the U-Net's coarsest level.
        self.coarsest = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        self.notes: list[str] = []
        # No bound method: in a circle a model would keep its memory after it is let go.
        self._note = partial(_note_once, self.notes, self.facts.name)
        for note in networks.notes:
            self._note(note)
        self.stream = Stream()
        self.memory = MemoryPlan(device, self._note)
        self.trained_on = networks.trained_on
        self._weight_files = networks.weight_files
        self._schedules: dict[tuple[int, str | None], Schedule] = {}
        self._has_decoded = False

    @property
    def space(self) -> str:
        """Space of its predictions: depth, log or disparity."""
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

    def new_stream(self) -> Stream:
        return Stream()

    def reset(self) -> None:
        """Forget the last frame (warm start, fixed noise) and what was learnt about memory."""
        self.stream.reset()
        self.memory.forget()

    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[Stream],
        options: PredictOptions = DEFAULTS,
    ) -> list[Prediction]:
        """Predict relative depth in [0, 1] of several images of one size; see the base."""
        return self.predict_by(self.decode, rgbs, streams, options)

    def check_options(self, options: PredictOptions) -> None:
        """Refuse numbers out of range, and steps or merges that it has not; see the base."""
        steps = _given(options.denoising_steps, self.facts.denoising_steps)
        members = _given(options.ensemble_size, self.facts.ensemble_size)
        _check_numbers(steps, members, options.seed)
        if options.reference_exact and members > 1 and not self.facts.affine_invariant:
            raise ConfigurationError(
                f'reference_exact merges {members} members up to scale and shift, and '
                f'model_index.json of {self.facts.name} has scale_invariant or shift_invariant '
                'false; give ensemble_size 1, or leave reference_exact out'
            )
        if isinstance(self.scheduler, LCMScheduler):
            check_consistency_steps(self.scheduler, steps)
        else:
            self._schedule(steps, options.engine.timestep_spacing, options.reference_exact)

    @torch.inference_mode()
    def predict_by(
        self,
        decode: Callable[[torch.Tensor, PredictOptions], torch.Tensor],
        rgbs: Sequence[np.ndarray],
        streams: Sequence[Stream],
        options: PredictOptions,
    ) -> list[Prediction]:
        """Predict as :meth:`predict_together`, with another ``decode`` than its own."""
        # 0. Check arguments; what is not given is the checkpoint's own.
        steps = _given(options.denoising_steps, self.facts.denoising_steps)
        members = _given(options.ensemble_size, self.facts.ensemble_size)
        self.check_options(options)
        size = self.processing_size(*common_size(rgbs), options.processing_resolution)
        exact = options.reference_exact
        if exact:
            engine = EngineConfig(batch_limit=options.engine.batch_limit)
            options = replace(options, engine=engine)
        with self._layout_for(exact):
            # 1. Bring the images to the device and to the networks' size.
            image = self.upload(rgbs)  # (N, 3, H, W)
            preprocessed = self.preprocess(image, size, exact)  # (N, 3, PPH, PPW)
            # 2. Encode each image once.
            rgb_latent = self.encode(preprocessed)  # (N, C, h, w)
            # 3. Denoise all members of all images from their start noise.
            noise = self.start(preprocessed, rgb_latent, streams, members, options)
            latent = self.denoise(rgb_latent, noise, steps, options)
            features = None if self.trained_on is None else image_features(rgb_latent)  # (N, F)
            for stream, own in zip(streams, latent.split(int(members)), strict=True):
                stream.keep(own)  # (E, C, h, w)
            # 4. Decode them, and cut off the padding.
            relative = decode(latent, options)
            relative = relative[..., : size[0], : size[1]]  # (N E, 1, PH, PW)
            # 5. Merge each image's members: relative map and, of several, their spread.
            maps = self.merge(relative, members, options)
            # 6. Resize to the images' size and download.
            answers = self.postprocess(maps, image, preprocessed, options.engine.upsampling)
        gaps = [math.nan] * len(answers)
        if features is not None and self.trained_on is not None:
            gaps = [self.trained_on.gap(own) for own in features.cpu().numpy()]
        return [
            Prediction(
                answer[0],
                answer[1] if members > 1 else None,
                self.facts.space,
                domain_gap=gap,
            )
            for answer, gap in zip(answers, gaps, strict=True)
        ]

    def predict_guided(
        self,
        rgb: np.ndarray,
        sparse: SparseDepth,
        guided: GuidedConfig | None = None,
        max_depth: float = math.inf,
        **settings: Any,
    ) -> Prediction:
        """
        Predict metric depth with the denoising steered by sparse depth; for labels.

        Every point is believed: remove outliers before, as the pipeline does.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The image.
        sparse : SparseDepth
            In the image.
        guided : GuidedConfig or None
            Steps and rates of the optimiser.
        max_depth : float, metres
            Depth where disparity falls to 0 or below.
        settings
            As of :class:`PredictOptions`. Without ``denoising_steps`` it is as many as the
            optimiser takes where denoising starts from noise, without ``ensemble_size`` one
            member; members are guided one after the other, and nothing starts warm.

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
        options = PredictOptions(**settings)
        members = _given(options.ensemble_size, 1)
        _check_numbers(_given(options.denoising_steps, 1), members, options.seed)
        common_size([rgb])
        config = GuidedConfig() if guided is None else guided
        return guide_model(self, rgb, sparse, options, config, max_depth)

    def as_network(self, height: int, width: int) -> ImageNetwork:
        """
        Return one module for images of a size: encode, denoise one member, decode.

        It denoises in the checkpoint's own steps from the noise of seed 0. Raises
        ConfigurationError for a checkpoint that draws noise in between.
        """
        if isinstance(self.scheduler, LCMScheduler):
            raise ConfigurationError(
                f'{self.facts.name} is an LCM checkpoint, which draws new noise at each step, and '
                'ONNX holds no such draws; export a v1-0, v1-1 or E2E-FT checkpoint'
            )
        size = up_to_multiple(self.processing_size(height, width, None), self.factor)
        cells = size[0] // self.factor, size[1] // self.factor
        config, steps = self.autoencoder.config, self.facts.denoising_steps
        noise = start_noise(self.facts.noise, 1, (config.latent_channels, *cells), 0)
        spacing = choose_spacing(self.scheduler, steps)
        schedule = ddim_schedule(self.scheduler, steps, spacing, self.device)

        def run(image: torch.Tensor) -> torch.Tensor:
            latent = self._encode(image * 2.0 - 1.0) * config.scaling_factor
            latent = denoise(self.unet, self.text, latent, noise, schedule)
            return _to_relative(self._decode(latent / config.scaling_factor), exact=True)

        return ImageNetwork(size, (self.unet, self.autoencoder), run)

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        if processing_resolution is None:
            if self.facts.processing_pixels:
                return size_by_area(height, width, self.facts.processing_pixels)
            processing_resolution = self.facts.processing_resolution
        return size_by_edge(height, width, processing_resolution)

    def upload(self, rgbs: Sequence[np.ndarray]) -> torch.Tensor:
        """Bring N of (H, W, 3) uint8 to the device as (N, 3, H, W) float32 in [0, 1]."""
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        if self.device.type == 'cuda':
            images = [image.pin_memory() for image in images]
        moved = [image.to(self.device, non_blocking=True)[None] for image in images]
        return _cat(moved).permute(0, 3, 1, 2).float() / 255.0

    def preprocess(
        self, image: torch.Tensor, size: tuple[int, int], reference_exact: bool = False
    ) -> torch.Tensor:
        """Resize and pad (N, 3, H, W) in [0, 1] to (N, 3, PPH, PPW) in [-1, 1]."""
        if not reference_exact:
            # A single cell has no variance to normalise by: tiny images get two.
            least = (self.coarsest, self.coarsest * (2 if max(size) <= self.coarsest else 1))
            # Half precision, which a CPU cannot resize in, would also lose bits of the image.
            return (fit_image(image, size, self.factor, least) * 2.0 - 1.0).to(self.dtype)
        if self.device.type == 'cuda':
            image = image.to(self.dtype)
        # In the reference's order: its merge amplifies the last bit.
        return fit_image(image * 2.0 - 1.0, size, self.factor).to(self.dtype)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Encode images (N, 3, PPH, PPW) to scaled latents (N, C, h, w)."""
        # Each answer is copied so, before CUDA graphs write the next one over it.
        finish = partial(torch.mul, other=self.autoencoder.config.scaling_factor)
        return self._autoencode('encode', self._encode, image, len(image), self.factor, finish)

    def start(
        self,
        image: torch.Tensor,
        rgb_latent: torch.Tensor,
        streams: Sequence[Stream],
        members: int,
        options: PredictOptions,
    ) -> torch.Tensor:
        """Return the latents (N E, C, h, w) from which denoising starts, image by image."""
        engine, kind = options.engine, self.noise_kind(options.engine)
        if engine.warm_start and kind == 'zeros':
            self._note(ZEROS_NOTE)
        if members > 1 and kind == 'zeros':
            self._note(ALIKE_NOTE)
        shape = tuple(rgb_latent.shape[1:])
        starts = []
        for stream, own in zip(streams, image.split(1), strict=True):
            noise = stream.noise(kind, members, shape, options.seed, self.device, self.dtype)
            starts.append(stream.warm(noise, own, engine.warm_start, engine.scene_cut))
        return _cat(starts)

    def noise_kind(self, engine: EngineConfig) -> str:
        """Return where denoising starts: gaussian, fixed or zeros."""
        return self.facts.noise if engine.noise == 'checkpoint' else engine.noise

    def denoise(
        self,
        rgb_latent: torch.Tensor,
        noise: torch.Tensor,
        steps: int,
        options: PredictOptions,
    ) -> torch.Tensor:
        """Denoise latents (N E, C, h, w) beside (N, C, h, w) of the images."""
        members = len(noise) // len(rgb_latent)
        condition = rgb_latent.repeat_interleave(members, dim=0)  # (N E, C, h, w)
        schedule, exact = None, options.reference_exact
        if not isinstance(self.scheduler, LCMScheduler):
            schedule = self._schedule(steps, options.engine.timestep_spacing, exact)

        def batches(limit: int) -> torch.Tensor:
            parts = zip(condition.split(limit), noise.split(limit), strict=True)
            networks = self.unet, self.text
            if schedule is not None:
                return torch.cat([denoise(*networks, *part, schedule, exact) for part in parts])
            kind = self.facts.noise if exact else None
            draws = consistency_generators(noise, members, options.seed, limit, kind)
            plan = self.scheduler, steps
            both = zip(parts, draws, strict=True)
            return torch.cat(
                [denoise_consistency(*networks, *part, *plan, draw) for part, draw in both]
            )

        most = min(len(noise), options.engine.batch_limit or MOST_MEMBERS)
        return self.memory.run('denoise', tuple(noise.shape[-2:]), most, batches)

    def decode(self, latent: torch.Tensor, options: PredictOptions = DEFAULTS) -> torch.Tensor:
        """Decode scaled latents (N E, C, h, w) to relative maps (N E, 1, PPH, PPW) in [0, 1]."""
        scaled = latent / self.autoencoder.config.scaling_factor
        most = min(len(latent), options.engine.batch_limit or MOST_MEMBERS)

        def finish(decoded: torch.Tensor) -> torch.Tensor:
            if not self._has_decoded:  # once: it waits for the device
                self._has_decoded = True
                if decoded.float().std(1, correction=0).mean() > _MOST_COLOUR:
                    self._note(COLOUR_NOTE)
            return _to_relative(decoded, exact=options.reference_exact)

        return self._autoencode('decode', self._decode, scaled, most, 1, finish)

    def preview(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode one latent to (1, 1, PPH, PPW), not clipped, so that gradients pass."""
        scaled = (latent / self.autoencoder.config.scaling_factor).to(self.dtype)
        return (self._decode(scaled).float().mean(1, keepdim=True) + 1.0) / 2.0

    def merge(
        self,
        relative: torch.Tensor,
        members: int,
        options: PredictOptions,
    ) -> torch.Tensor:
        """Merge (N E, 1, PH, PW) to relative and spread, (N, 2, PH, PW); single ones stay."""
        if members == 1:
            return relative
        merge: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
        merge = merge_reference if options.engine.merge == 'reference' else merge_members
        if options.reference_exact:
            from diffusers import MarigoldDepthPipeline

            merge = partial(MarigoldDepthPipeline.ensemble_depth, output_uncertainty=True)
        return _cat([torch.cat(merge(own), dim=1) for own in relative.split(int(members))])

    def postprocess(
        self,
        maps: torch.Tensor,
        image: torch.Tensor,
        preprocessed: torch.Tensor,
        upsampling: str,
    ) -> np.ndarray:
        """Bring (N, k, PH, PW) to the images' size and to the host: (N, k, H, W) float32."""
        resized = self.enlarge(maps, image, preprocessed, upsampling)
        # The one place where the host waits for the device.
        return resized.contiguous().cpu().numpy()

    def enlarge(
        self,
        maps: torch.Tensor,
        image: torch.Tensor,
        preprocessed: torch.Tensor,
        upsampling: str,
    ) -> torch.Tensor:
        """Bring (N, k, PH, PW) to the images' size, (N, k, H, W) float32."""
        native = (int(image.shape[2]), int(image.shape[3]))
        maps = maps.float()
        height, width = maps.shape[-2:]
        if upsampling == 'bilateral' and (native[0] > height or native[1] > width):
            small = (preprocessed[..., :height, :width].float() + 1.0) / 2.0
            return upsample_bilateral(maps, small, image)
        return upsample_bilinear(maps, native)

    def _autoencode(
        self,
        stage: str,
        network: Callable[[torch.Tensor], torch.Tensor],
        source: torch.Tensor,
        most: int,
        cell: int,
        finish: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Run one side of the autoencoder; ``cell`` is the side of a latent cell in the source."""
        size = [side * self.factor // cell for side in source.shape[-2:]]
        tile, overlap = TILE * cell, OVERLAP * cell
        return self.memory.run(
            stage,
            tuple(source.shape[-2:]),
            most,
            lambda limit: torch.cat([finish(network(part)) for part in source.split(limit)]),
            autoencoder_bytes(self.autoencoder, size, self.dtype.itemsize),
            lambda: torch.cat([finish(tiled(network, p, tile, overlap)) for p in source.split(1)]),
        )

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        return mean_latent(self.autoencoder, image)

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latent, return_dict=False)[0]  # (E, 3, PPH, PPW)

    def _schedule(self, steps: int, chosen: str, reference_exact: bool) -> Schedule:
        spacing = None
        if not reference_exact:
            spacing = choose_spacing(self.scheduler, steps) if chosen == 'auto' else chosen
            own = self.scheduler.config.timestep_spacing
            if chosen == 'auto' and spacing != own:
                self._note(SPACING_NOTE.format(own))
        key = (steps, spacing)
        if key not in self._schedules:
            self._schedules[key] = ddim_schedule(self.scheduler, steps, spacing, self.device)
        return self._schedules[key]

    @contextmanager
    def _layout_for(self, reference_exact: bool) -> Iterator[None]:
        """Lay weights out as the reference does for the time of an exact call."""
        # The reference's merge amplifies the last bits of a sum, which the layout decides.
        if not (reference_exact and self.takes_any_batch):
            yield
            return
        networks, channels_last = (self.unet, self.autoencoder), self.runtime.channels_last
        set_channels_last(networks, False)
        try:
            with exact_upsampling(self.autoencoder):
                yield
        finally:
            set_channels_last(networks, channels_last)


def _note_once(notes: list[str], name: str, text: str) -> None:
    """Inform the user once: in the description and in the log."""
    if text not in notes:
        notes.append(text)
        log.warning('%s: %s', name, text)


def _to_relative(decoded: torch.Tensor, exact: bool) -> torch.Tensor:
    """Average decoded channels (E, 3, PPH, PPW) in [-1, 1] to (E, 1, PPH, PPW) in [0, 1]."""
    # Half precision resolves 1/2048 of the range; the mean of three channels does better.
    decoded = decoded if exact else decoded.float()
    return (decoded.mean(1, keepdim=True).clamp(-1.0, 1.0) + 1.0) / 2.0


def _cat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate along the first axis; a single tensor is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _given(value: int | None, own: int) -> int:
    return own if value is None else value


def _check_numbers(steps: Any, members: Any, seed: Any) -> None:
    """Raise ConfigurationError for a number out of its range."""
    for name, value, low, high in (
        ('denoising_steps', steps, 1, STEPS_LIMIT),
        ('ensemble_size', members, 1, MOST_MEMBERS),
        ('seed', seed, 0, SEED_LIMIT),
    ):
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            raise ConfigurationError(
                f'{name} is {value!r}; choose a whole number in [{low}, {high}]'
            )
