# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth in metres by steering the denoising with sparse depth: for labels, not for real time.

The idea is Marigold-DC's (Viola et al., arXiv 2412.13389): at each DDIM step the clean latent as
seen from there is decoded, a scale and a shift put it beside the points, and the gradient of the
misfit moves latent, scale and shift by Adam. Two things are our own. Points are taken to the
model's space and to the range from 0 to 1 that they span there, so that k times the metres give k
times the depth. And a model that starts from zeros has no noise to steer: there the denoised
latent is moved, through the decoder alone, from the closed-form line on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffusers import LCMScheduler
from marigold_ros.config import GuidedConfig
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.models.guidance.guided_points import (
    fitted_line,
    Points,
    prepare_points,
)
from marigold_ros.models.marigold.arguments import STEPS_LIMIT
from marigold_ros.models.marigold.ensemble import reduce_members
from marigold_ros.models.marigold.memory import is_out_of_memory
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule
from marigold_ros.spaces import to_metres
import numpy as np
import torch

if TYPE_CHECKING:
    from marigold_ros.models.marigold.engine import MarigoldModel

Preview = Callable[[torch.Tensor], torch.Tensor]  # latent (1, C, h, w) -> relative (1, 1, PH, PW)


@dataclass(frozen=True)
class Guided:
    """A clean latent (1, C, h, w), and the line that puts its map beside the points."""

    latent: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


def predict_guided(
    model: MarigoldModel,
    rgb: np.ndarray,
    sparse: SparseDepth,
    size: tuple[int, int],
    denoising_steps: int | None,
    members: int,
    seed: int,
    config: GuidedConfig,
    max_depth: float,
) -> Prediction:
    """Do the work of :meth:`MarigoldModel.predict_guided` at a processing size (PH, PW)."""
    check_guidable(model)
    points = prepare_points(sparse, model.space, rgb.shape[:2], size, model.device)
    model.lay_out(reference_exact=False)
    try:
        with ready_for_gradients(model, config.checkpointing):
            metric = _members(
                model, rgb, points, size, denoising_steps, members, seed, config, max_depth
            )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f'gradients of an image of {size[1]}x{size[0]} do not fit into the memory of '
            f'{model.device}; set guided.checkpointing, or lower processing_resolution',
            cause='size',
        ) from error
    if members == 1:
        return Prediction(metric[0, 0].cpu().numpy(), None, 'metric')
    merged, spread = reduce_members(metric)
    return Prediction(merged[0, 0].cpu().numpy(), spread[0, 0].cpu().numpy(), 'metric')


def _members(
    model: MarigoldModel,
    rgb: np.ndarray,
    points: Points,
    size: tuple[int, int],
    denoising_steps: int | None,
    members: int,
    seed: int,
    config: GuidedConfig,
    max_depth: float,
) -> torch.Tensor:
    """Metres (E, 1, H, W) of all members, one after the other: gradients take the memory."""
    with torch.no_grad():
        image = model.upload([rgb])  # (1, 3, H, W)
        preprocessed = model.preprocess(image, size)  # (1, 3, PPH, PPW)
        rgb_latent = model.encode(preprocessed)  # (1, C, h, w)
        start, schedule = _start(model, rgb_latent, denoising_steps, members, seed, config)

    def ask(latent: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        stacked = torch.cat([rgb_latent, latent.to(model.dtype)], dim=1)  # (1, 2C, h, w)
        text = model.text
        return model.unet(stacked, timestep, encoder_hidden_states=text).sample.float()

    def preview(latent: torch.Tensor) -> torch.Tensor:
        return model.preview(latent)[..., : size[0], : size[1]]

    answers = []
    for latent in start.split(1):
        if schedule is None:
            guided = guide_clean(latent, points, preview, config)
        else:
            guided = guide_noise(ask, latent, schedule, points, preview, config)
        with torch.no_grad():
            relative = model.enlarge(preview(guided.latent), image, preprocessed)
            value = points.low + points.span * (guided.scale * relative + guided.shift)
            answers.append(to_metres(value, model.space, max_depth, torch.exp))
    return torch.cat(answers)


def _start(
    model: MarigoldModel,
    rgb_latent: torch.Tensor,
    denoising_steps: int | None,
    members: int,
    seed: int,
    config: GuidedConfig,
) -> tuple[torch.Tensor, Schedule | None]:
    """Give noise (E, C, h, w) and its schedule, or latents denoised already and None."""
    options, (channels, height, width) = model.options, rgb_latent.shape[1:]
    kind = model.facts.noise if options.noise == 'checkpoint' else options.noise
    # Cloned: what a plain prediction has drawn before cannot carry gradients.
    noise = model.stream.noise(
        kind, members, (channels, height, width), seed, model.device, torch.float32
    ).clone()
    if kind == 'zeros':
        steps = denoising_steps or model.facts.denoising_steps
        return model.denoise(rgb_latent, noise.to(model.dtype), steps), None
    # Trailing, as in the paper, unless the options say otherwise.
    spacing = 'trailing' if options.timestep_spacing == 'auto' else options.timestep_spacing
    steps = denoising_steps or min(config.steps, STEPS_LIMIT)
    return noise, ddim_schedule(model.scheduler, steps, spacing, model.device)


def guide_noise(
    ask: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    schedule: Schedule,
    points: Points,
    preview: Preview,
    config: GuidedConfig,
) -> Guided:
    """
    Denoise while the points pull, as Marigold-DC does.

    Parameters
    ----------
    ask : callable
        The U-Net: of a latent (1, C, h, w) and a timestep its answer (1, C, h, w).
    noise : (1, C, h, w) float32
        Where denoising starts.
    schedule : Schedule
        DDIM steps; those of the optimiser are shared out among them.
    points : Points
        What pulls.
    preview : callable
        The decoder, as far as the relative map.
    config : GuidedConfig
        Steps and rates.

    Returns
    -------
    Guided

    """
    # In the range of the points from the start: the paper's ablation has it ahead of a fit.
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
    latent: torch.Tensor, points: Points, preview: Preview, config: GuidedConfig
) -> Guided:
    """
    Let the points pull a latent (1, C, h, w) that is denoised already; see :func:`guide_noise`.

    Raises
    ------
    AlignmentError
        If its map does not grow with the points.

    """
    with torch.no_grad():
        told = points.read(preview(latent))
    pull = _Pull(latent, points, preview, fitted_line(told, points.wanted), config)
    for _ in range(config.steps):
        pull(pull.latent)
    return pull.result(pull.latent)


class _Pull:
    """One Adam over latent, scale and shift; a call moves them by one gradient."""

    def __init__(
        self,
        latent: torch.Tensor,
        points: Points,
        preview: Preview,
        line: tuple[float, float],
        config: GuidedConfig,
    ) -> None:
        self.latent = latent.detach().float().clone().requires_grad_()
        # As a square the scale stays positive.
        self._root = torch.tensor(line[0] ** 0.5, device=latent.device, requires_grad=True)
        self._shift = torch.tensor(line[1], device=latent.device, requires_grad=True)
        self._points, self._preview = points, preview
        self._adam = torch.optim.Adam(
            [
                {'params': [self.latent], 'lr': config.latent_rate},
                {'params': [self._root, self._shift], 'lr': config.affine_rate},
            ]
        )

    def __call__(self, clean: torch.Tensor) -> None:
        told = self._points.read(self._preview(clean))
        residual = self._root.square() * told + self._shift - self._points.wanted
        loss = residual.abs().mean() + residual.square().mean()
        self._adam.zero_grad()
        loss.backward()
        gradient = self.latent.grad
        assert gradient is not None
        # To the length of unit noise, so that no step of the schedule outweighs the others.
        gradient *= gradient.numel() ** 0.5 / gradient.norm().clamp(min=1e-8)
        self._adam.step()

    def result(self, clean: torch.Tensor) -> Guided:
        return Guided(clean.detach(), self._root.detach().square(), self._shift.detach())


def check_guidable(model: MarigoldModel) -> None:
    """Refuse networks that gradients cannot pass; raises ConfigurationError."""
    runtime = model.runtime
    if runtime.backend != 'torch' or runtime.compile != 'off':
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
def ready_for_gradients(model: MarigoldModel, checkpointing: bool) -> Iterator[None]:
    """
    Let networks carry gradients: float16 becomes float32 for the time being.

    Gradients overflow in float16; its weights go to float32 and back without loss.
    """
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
