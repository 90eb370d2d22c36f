# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Read the DDIM steps of one frame from diffusers' scheduler as plain numbers.

diffusers' ``step`` looks its coefficients up with the timestep, which on a GPU waits for the
device at each step; here they are the same float32 numbers, read once.
"""

from dataclasses import dataclass
from typing import Any

from diffusers import DDIMScheduler
from marigold_ros.errors import ConfigurationError
import torch

# Below this number of steps `leading` spacing is replaced by `trailing`: its first timestep is far
# from pure noise (at one step it is 1 of 999), which the latent is (arXiv 2409.11355, section 3).
# The one step of `linspace` is at 0 of 999.
LEADING_FROM = 10
STEPS_LIMIT = 50
SPACING_NOTE = (
    "the checkpoint's {} timestep spacing is replaced by trailing: with so few denoising steps it "
    'presents pure noise as nearly clean (arXiv 2409.11355)'
)


@dataclass(frozen=True)
class DdimStep:
    """One step: square roots of alpha-bar and of 1 - alpha-bar, here and after the step."""

    timestep: int
    signal: float
    noise: float
    next_signal: float
    next_noise: float


@dataclass(frozen=True)
class Schedule:
    """All steps of a frame."""

    steps: tuple[DdimStep, ...]
    timesteps: torch.Tensor  # (N,) int64, on the device of the networks
    prediction_type: str  # v_prediction | epsilon | sample
    clip: float | None  # the denoised sample is clamped to +- this

    def advance(
        self, step: DdimStep, output: torch.Tensor, latent: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Take one DDIM step (Song et al. 2021, equation 12, without noise).

        From the network's output and its input, the latent, (E, C, h, w) both, compute the clean
        latent as seen from here, and the latent of the next step.
        """
        if self.prediction_type == 'v_prediction':
            denoised = step.signal * latent - step.noise * output
            noise = step.signal * output + step.noise * latent
        elif self.prediction_type == 'epsilon':
            denoised = (latent - step.noise * output) / step.signal
            noise = output
        else:
            denoised = output
            noise = (latent - step.signal * denoised) / step.noise
        if self.clip is not None:
            denoised = denoised.clamp(-self.clip, self.clip)
        return denoised, step.next_signal * denoised + step.next_noise * noise


def choose_spacing(scheduler: DDIMScheduler, steps: int) -> str:
    """Return the checkpoint's own timestep spacing, or ``trailing`` if it starts nearly clean."""
    own = str(scheduler.config.timestep_spacing)
    fewest = {'leading': LEADING_FROM, 'linspace': 2}.get(own, 1)
    return 'trailing' if steps < fewest else own


def ddim_schedule(
    scheduler: DDIMScheduler,
    steps: int,
    spacing: str | None = None,
    device: torch.device | None = None,
) -> Schedule:
    """
    Read the steps of a frame from a scheduler, which is left as it is.

    ``spacing`` is trailing, leading or linspace; None is the scheduler's own. Timesteps are put on
    ``device``. Raises ConfigurationError if the schedule has fewer timesteps, or predicts epsilon
    of pure noise.
    """
    config = scheduler.config
    total = config.num_train_timesteps
    spacing = spacing or config.timestep_spacing
    copy = DDIMScheduler.from_config(config, timestep_spacing=spacing)
    numbers: list[int] = []
    if 1 <= steps <= total:
        copy.set_timesteps(steps)
        numbers = copy.timesteps.tolist()
    if not numbers or len(numbers) != steps or not all(0 <= t < total for t in numbers):
        raise ConfigurationError(
            f'denoising_steps is {steps}; the schedule has {total} timesteps with {spacing} '
            'spacing, so choose fewer steps (at least 1)'
        )
    coefficients = tuple(_coefficients(copy, t, total // steps) for t in numbers)
    refuse_epsilon_of_noise(copy, numbers[0])
    clip = float(config.clip_sample_range) if config.clip_sample else None
    timesteps = torch.tensor(numbers, dtype=torch.int64, device=device)
    return Schedule(coefficients, timesteps, config.prediction_type, clip)


def refuse_epsilon_of_noise(scheduler: Any, timestep: int) -> None:
    """Raise ConfigurationError if epsilon is predicted where the schedule is pure noise."""
    epsilon = scheduler.config.prediction_type == 'epsilon'
    if epsilon and scheduler.alphas_cumprod[timestep] < 1e-12:
        raise ConfigurationError(
            f'prediction_type epsilon leaves the sample unknown at timestep {timestep}, where the '
            'schedule is pure noise; give the schedule without rescale_betas_zero_snr'
        )


def _coefficients(scheduler: DDIMScheduler, timestep: int, stride: int) -> DdimStep:
    here = scheduler.alphas_cumprod[timestep]
    following = scheduler.final_alpha_cumprod
    if timestep >= stride:
        following = scheduler.alphas_cumprod[timestep - stride]
    roots = (here, 1 - here, following, 1 - following)
    return DdimStep(timestep, *(float(root**0.5) for root in roots))


def marigold_scheduler() -> DDIMScheduler:
    """Build the schedule of Marigold v1-1: zero terminal SNR, trailing steps, v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        prediction_type='v_prediction',
        rescale_betas_zero_snr=True,
        timestep_spacing='trailing',
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
