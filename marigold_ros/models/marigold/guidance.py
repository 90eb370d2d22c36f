# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Predict metric depth by steering the denoising with sparse depth: for labels, not for real time.

After Marigold-DC (Viola et al., arXiv 2412.13389), with two differences: points are scaled to the
range from 0 to 1 that they span in the model's space, so that k times the metres give k times the
depth; and a model that starts from zeros, without noise to steer, has its denoised latent moved.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers import LCMScheduler
from marigold_ros.config import GuidedConfig
from marigold_ros.errors import AlignmentError, ConfigurationError, InputError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.models.marigold.ensemble import reduce_members
from marigold_ros.models.marigold.memory import is_out_of_memory
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule, STEPS_LIMIT
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.resizing import neighbours
from marigold_ros.spaces import from_metres, to_metres
import numpy as np
import torch

# Fewer cannot determine a scale and a shift and show whether they fit.
LEAST_POINTS = 3
# Deviation of the relative map at the points below which it carries no information.
LEAST_DEVIATION = 1e-3

Preview = Callable[[torch.Tensor], torch.Tensor]  # latent (1, C, h, w) -> relative (1, 1, PH, PW)


@dataclass(frozen=True)
class GuidancePoints:
    """
    Sparse depth as the optimiser sees it.

    Wanted values (M,) are 0 at the lowest and 1 at the highest in the model's space, where the
    values are ``low + span * wanted``. Rows (M, PH) and columns (M, PW) hold the bilinear weights
    that read an enlarged map at the points.
    """

    wanted: torch.Tensor
    low: float
    span: float
    rows: torch.Tensor
    columns: torch.Tensor

    def read(self, relative: torch.Tensor) -> torch.Tensor:
        """Read a map (1, 1, PH, PW) at the points, (M,); matrix products sum in one order."""
        return ((self.rows @ relative[0, 0]) * self.columns).sum(1)


@dataclass(frozen=True)
class GuidedLatent:
    """A clean latent (1, C, h, w), and the affine fit that brings its map to the points."""

    latent: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


def guide_model(
    model: Any,
    rgb: np.ndarray,
    sparse: SparseDepth,
    options: PredictOptions,
    config: GuidedConfig,
    max_depth: float,
) -> Prediction:
    """Predict metric depth by a ``MarigoldModel``; see its ``predict_guided``."""
    check_guidable(model)
    space, shape = model.facts.space, rgb.shape[:2]
    size = model.processing_size(*shape, options.processing_resolution)  # (PH, PW)
    points = prepare_points(sparse, space, shape, size, model.device)

    def ask(latent: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        stacked = torch.cat([rgb_latent, latent.to(model.dtype)], dim=1)  # (1, 2C, h, w)
        return model.unet(stacked, timestep, encoder_hidden_states=model.text).sample.float()

    def preview(latent: torch.Tensor) -> torch.Tensor:
        return model.preview(latent)[..., : size[0], : size[1]]

    try:
        with ready_for_gradients(model, config.checkpointing):
            with torch.no_grad():
                image = model.upload([rgb])  # (1, 3, H, W)
                preprocessed = model.preprocess(image, size)  # (1, 3, PPH, PPW)
                rgb_latent = model.encode(preprocessed)  # (1, C, h, w)
                start, schedule = _start(model, rgb_latent, options, config.steps)
            answers, upsampling = [], options.engine.upsampling
            for latent in start.split(1):  # one after the other: gradients take the memory
                if schedule is None:
                    guided = guide_clean(latent, points, preview, config)
                else:
                    guided = guide_noise(ask, latent, schedule, points, preview, config)
                with torch.no_grad():
                    maps = preview(guided.latent)
                    relative = model.enlarge(maps, image, preprocessed, upsampling)
                    value = points.low + points.span * (guided.scale * relative + guided.shift)
                    answers.append(to_metres(value, space, max_depth, torch.exp))
            metric = torch.cat(answers)  # (E, 1, H, W)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f'gradients of an image of {size[1]}x{size[0]} do not fit into the memory of '
            f'{model.device}; set guided.checkpointing, or lower processing_resolution',
            cause='size',
        ) from error
    if len(metric) == 1:
        return Prediction(metric[0, 0].cpu().numpy(), None, 'metric')
    merged, spread = reduce_members(metric)
    return Prediction(merged[0, 0].cpu().numpy(), spread[0, 0].cpu().numpy(), 'metric')


def _start(
    model: Any,
    rgb_latent: torch.Tensor,
    options: PredictOptions,
    optimiser_steps: int,
) -> tuple[torch.Tensor, Schedule | None]:
    """Return noise (E, C, h, w) and its schedule, or denoised latents and None."""
    kind, shape = model.noise_kind(options.engine), tuple(rgb_latent.shape[1:])
    members = 1 if options.ensemble_size is None else options.ensemble_size
    # Cloned: noise that a plain prediction has drawn before cannot carry gradients.
    drawn = model.stream.noise(kind, members, shape, options.seed, model.device, torch.float32)
    noise = drawn.clone()
    if kind == 'zeros':
        steps = options.denoising_steps or model.facts.denoising_steps
        return model.denoise(rgb_latent, noise.to(model.dtype), steps, options), None
    # Trailing, as in the paper, unless the options say otherwise.
    asked = options.engine.timestep_spacing
    spacing = 'trailing' if asked == 'auto' else asked
    steps = options.denoising_steps or min(optimiser_steps, STEPS_LIMIT)
    return noise, ddim_schedule(model.scheduler, steps, spacing, model.device)


def guide_noise(
    ask: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    schedule: Schedule,
    points: GuidancePoints,
    preview: Preview,
    config: GuidedConfig,
) -> GuidedLatent:
    """
    Denoise from noise (1, C, h, w) while the points pull, as Marigold-DC does.

    ``ask`` is the U-Net: it maps a latent (1, C, h, w) and a timestep to its output (1, C, h, w).
    The optimiser's steps are divided among those of the schedule.
    """
    # Starts at the range of the points: the paper's ablation has that ahead of a fit.
    pull = _Pull(noise, points, preview, (1.0, 0.0), config)
    clean, count = noise, len(schedule.steps)
    for index, (t, step) in enumerate(zip(schedule.timesteps, schedule.steps, strict=True)):
        output = None
        for _ in range(index * config.steps // count, (index + 1) * config.steps // count):
            output = ask(pull.latent, t)
            pull(schedule.advance(step, output, pull.latent)[0])
        with torch.no_grad():
            output = ask(pull.latent, t) if output is None else output
            clean, following = schedule.advance(step, output, pull.latent)
            pull.latent.copy_(following)
    return pull.result(clean)


def guide_clean(
    latent: torch.Tensor, points: GuidancePoints, preview: Preview, config: GuidedConfig
) -> GuidedLatent:
    """Let the points pull a denoised latent; AlignmentError if its map falls with them."""
    with torch.no_grad():
        predicted = points.read(preview(latent))
    pull = _Pull(latent, points, preview, affine_fit(predicted, points.wanted), config)
    for _ in range(config.steps):
        pull(pull.latent)
    return pull.result(pull.latent)


class _Pull:
    """One Adam over latent, scale and shift; a call moves them by one gradient."""

    def __init__(
        self,
        latent: torch.Tensor,
        points: GuidancePoints,
        preview: Preview,
        affine: tuple[float, float],
        config: GuidedConfig,
    ) -> None:
        self.latent = latent.detach().float().clone().requires_grad_()
        # As a square the scale stays positive.
        self._root = torch.tensor(affine[0] ** 0.5, device=latent.device, requires_grad=True)
        self._shift = torch.tensor(affine[1], device=latent.device, requires_grad=True)
        self._points, self._preview = points, preview
        self._adam = torch.optim.Adam(
            [
                {'params': [self.latent], 'lr': config.latent_rate},
                {'params': [self._root, self._shift], 'lr': config.affine_rate},
            ]
        )

    def __call__(self, clean: torch.Tensor) -> None:
        predicted = self._points.read(self._preview(clean))
        residual = self._root.square() * predicted + self._shift - self._points.wanted
        loss = residual.abs().mean() + residual.square().mean()
        self._adam.zero_grad()
        loss.backward()
        gradient: Any = self.latent.grad
        # To the length of unit noise, so that no step of the schedule outweighs the others.
        gradient *= gradient.numel() ** 0.5 / gradient.norm().clamp(min=1e-8)
        self._adam.step()

    def result(self, clean: torch.Tensor) -> GuidedLatent:
        return GuidedLatent(clean.detach(), self._root.detach().square(), self._shift.detach())


def prepare_points(
    sparse: SparseDepth,
    space: str,
    image: tuple[int, int],
    size: tuple[int, int],
    device: torch.device,
) -> GuidancePoints:
    """
    Convert points to the model's space and to the range from 0 to 1.

    Points whose depth is not positive and finite are left out; ``image`` (H, W) and ``size`` (PH,
    PW) are the sizes of the image and of the relative map. Raises AlignmentError if a point lies
    outside the image, there are fewer than three, or all have one depth.
    """
    u, v, z = sparse.as_input(image, LEAST_POINTS, 'guidance')
    value = from_metres(z, space)
    low, span = float(value.min()), float(np.ptp(value))
    wanted = torch.from_numpy((value - low) / span).to(device, torch.float32)
    rows = _bilinear_weights(v, image[0], size[0], device)
    columns = _bilinear_weights(u, image[1], size[1], device)
    return GuidancePoints(wanted, low, span, rows, columns)


def _bilinear_weights(
    pixel: np.ndarray, length: int, cells: int, device: torch.device
) -> torch.Tensor:
    """Weights (M, cells) of the two cells around each pixel along one side."""
    chosen = torch.from_numpy(pixel.astype(np.int64)).to(device)
    weights = torch.zeros(len(chosen), cells, device=device)
    for cell, share in neighbours(length, cells, device):
        weights.scatter_add_(1, cell[chosen, None], share[chosen, None])
    return weights


def affine_fit(predicted: torch.Tensor, wanted: torch.Tensor) -> tuple[float, float]:
    """Fit scale > 0 and shift of predicted to wanted values by least squares."""
    x, y = predicted.double(), wanted.double()
    variance = (x - x.mean()).square().mean()
    scale = float(((x - x.mean()) * (y - y.mean())).mean() / variance.clamp(min=1e-12))
    if not (scale > 0.0 and float(variance.sqrt()) > LEAST_DEVIATION):
        raise AlignmentError(
            f'the prediction varies by {float(variance.sqrt()):.2g} of its range at the points '
            f'and its scale is {scale:.3g}; it must vary and grow with depth: check the image, '
            'T_cam_lidar and the pairing'
        )
    return scale, float(y.mean() - scale * x.mean())


def check_guidable(model: Any) -> None:
    """Refuse networks that gradients cannot pass; raises ConfigurationError."""
    runtime = model.runtime
    if not runtime.plain:
        raise ConfigurationError(
            f'guidance needs gradients, which networks with runtime.backend {runtime.backend} and '
            f'runtime.compile {runtime.compile} do not give; set them to torch and off'
        )
    if isinstance(model.scheduler, LCMScheduler):
        raise ConfigurationError(
            f'{model.facts.name} is an LCM checkpoint, which draws new noise at each step and '
            'cannot be guided; use a v1-0, v1-1 or E2E-FT checkpoint'
        )


@contextmanager
def ready_for_gradients(model: Any, checkpointing: bool) -> Iterator[None]:
    """Let networks carry gradients; float16, in which they overflow, becomes float32 meanwhile."""
    networks = (model.unet, model.autoencoder)
    dtype, text = model.dtype, model.text
    try:
        if dtype == torch.float16:
            model.dtype, model.text = torch.float32, text.float()
            for network in networks:
                torch.nn.Module.to(network, torch.float32)
        if checkpointing:
            for network in networks:
                network.enable_gradient_checkpointing()
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if checkpointing:
            for network in networks:
                network.disable_gradient_checkpointing()
        if dtype == torch.float16:
            model.dtype, model.text = dtype, text
            for network in networks:
                torch.nn.Module.to(network, dtype)
