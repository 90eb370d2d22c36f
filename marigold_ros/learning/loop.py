# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The training loop: stages of a recipe, one visible step, checkpoints that resume exactly.

A checkpoint holds networks, averages, optimiser, stage, step and every random state, and replaces
the one before in a single rename; a run that is killed goes on from the last one. It is read with
``weights_only``, so that no pickled code runs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
import json
import math
import os
from pathlib import Path
import time
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.data import batches, PictureCache
from marigold_ros.learning.objectives import (
    as_picture,
    autoencoder_loss,
    Chain,
    latent_loss,
    pixel_loss,
)
import numpy as np
import torch
from tqdm import tqdm

OBJECTIVES = ('autoencoder', 'latent', 'pixel')
FAILURES_ALLOWED = 5


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe; each key may stand in the YAML file."""

    name: str
    objective: str  # autoencoder | latent | pixel
    steps: int
    batch_size: int = 16
    learning_rate: float = 5e-4
    warmup: int = 100  # steps, linear from zero
    decay: float = 0.3  # share of the steps at the end over which the rate falls to 1 %
    scale: float = 0.5  # of each side of the pictures
    average: float = 0.998  # of the exponential moving average of the weights
    clip: float = 1.0  # norm of the gradient
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ConfigurationError(
                f"objective is '{self.objective}'; choose one of {', '.join(OBJECTIVES)}"
            )
        for name in ('steps', 'batch_size', 'save_every'):
            if getattr(self, name) < 1:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; it must be at least 1')
        if not 0.0 < self.scale <= 1.0:
            raise ConfigurationError(f'scale is {self.scale}; it must be in (0, 1]')


def read_stages(entries: list[dict[str, Any]]) -> list[Stage]:
    """Make the stages of a recipe; an unknown key is an error that names the known ones."""
    known = [item.name for item in fields(Stage)]
    for entry in entries:
        for key in entry:
            if key not in known:
                raise ConfigurationError(
                    f"unknown key '{key}' in a stage; known are {', '.join(known)}"
                )
    return [Stage(**entry) for entry in entries]


def learning_rate(stage: Stage, step: int) -> float:
    """Rate at a step: linear warm-up, flat, then exponential decay to one hundredth."""
    rate = stage.learning_rate * min(1.0, (step + 1) / max(stage.warmup, 1))
    start = stage.steps * (1.0 - stage.decay)
    if step <= start:
        return rate
    return rate * math.exp(math.log(0.01) * (step - start) / max(stage.steps - start, 1.0))


class Trainer:
    """
    Runs the stages of a recipe in a folder, from its last checkpoint if there is one.

    Parameters
    ----------
    chain : Chain
        Networks to train, changed in place.
    stages : list of Stage
        In order.
    caches : list of PictureCache
        Training pictures.
    folder : Path
        Gets ``state.pt`` and ``log.jsonl``.
    seed : int
        Of the data order, the augmentation and the noise.
    device : str
        Where the networks run.

    """

    def __init__(
        self,
        chain: Chain,
        stages: list[Stage],
        caches: list[PictureCache],
        folder: Path,
        seed: int = 0,
        device: str = 'cpu',
    ) -> None:
        self.chain, self.stages, self.caches = chain, stages, caches
        self.folder, self.device = folder, device
        self.folder.mkdir(parents=True, exist_ok=True)
        self.modules = torch.nn.ModuleDict({'vae': chain.autoencoder, 'unet': chain.unet}).to(
            device
        )
        self.average = {k: v.detach().clone() for k, v in self.modules.state_dict().items()}
        self.rng = np.random.default_rng(seed)
        self.stage_index = self.step = 0
        torch.manual_seed(seed)
        self.optimizer = self._optimizer()
        if (folder / 'state.pt').exists():
            self._load()

    def run(self, minutes: float | None = None) -> bool:
        """Train to the end of the recipe, or for a time; True when the recipe is done."""
        deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
        while self.stage_index < len(self.stages):
            if not self._run_stage(self.stages[self.stage_index], deadline):
                self._save()
                return False
            self._end_stage()
        return True

    def _run_stage(self, stage: Stage, deadline: float) -> bool:
        losses: list[float] = []
        failures = 0
        data = batches(self.caches, stage.batch_size, stage.scale, self.rng)
        bar = tqdm(total=stage.steps, initial=self.step, desc=stage.name)
        while self.step < stage.steps:
            if time.monotonic() > deadline:
                return False
            for entry in self.optimizer.param_groups:
                entry['lr'] = learning_rate(stage, self.step)
            with torch.autocast(self.device, torch.bfloat16):
                loss = self._loss(stage, *(x.to(self.device) for x in next(data)))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self._trained(stage), stage.clip)
            failures = 0 if torch.isfinite(norm) else failures + 1
            if failures >= FAILURES_ALLOWED:
                raise FloatingPointError(
                    f'{failures} steps in a row without a finite loss (stage {stage.name}, step '
                    f'{self.step}); lower learning_rate and resume from the last checkpoint'
                )
            if not failures:
                self.optimizer.step()
                self._update_average(stage)
            self.step += 1
            losses.append(loss.item())
            bar.update()
            if self.step % 20 == 0:
                self._log(stage, float(np.mean(losses[-20:])), bar)
            if self.step % stage.save_every == 0:
                self._save()
        return True

    def _loss(
        self, stage: Stage, rgb: torch.Tensor, relative: torch.Tensor, sky: torch.Tensor
    ) -> torch.Tensor:
        if stage.objective == 'autoencoder':
            return autoencoder_loss(self.chain, rgb, relative)
        if stage.objective == 'latent':
            return latent_loss(self.chain, rgb, relative)
        return pixel_loss(self.chain, rgb, relative, sky)

    def _trained(self, stage: Stage) -> list[torch.nn.Parameter]:
        parts = {'autoencoder': ['vae'], 'latent': ['unet'], 'pixel': ['vae', 'unet']}
        return [p for name in parts[stage.objective] for p in self.modules[name].parameters()]

    def _optimizer(self) -> torch.optim.Optimizer:
        stage = self.stages[min(self.stage_index, len(self.stages) - 1)]
        trained = self._trained(stage)
        self.modules.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        return torch.optim.AdamW(trained, lr=stage.learning_rate, weight_decay=1e-3)

    @torch.no_grad()
    def _update_average(self, stage: Stage) -> None:
        # Short at first, so that the average does not remember the random start.
        keep = min(stage.average, (1 + self.step) / (10 + self.step))
        for key, value in self.modules.state_dict().items():
            self.average[key].lerp_(value, 1.0 - keep)

    def _end_stage(self) -> None:
        """Take the averaged weights, set the latent scale after the autoencoder, go on."""
        self.modules.load_state_dict(self.average)
        if self.stages[self.stage_index].objective == 'autoencoder':
            self._set_scaling_factor()
        self.stage_index, self.step = self.stage_index + 1, 0
        self.optimizer = self._optimizer()
        self._save()

    @torch.no_grad()
    def _set_scaling_factor(self) -> None:
        """Make the latents' standard deviation 1, as latent diffusion expects."""
        stage = self.stages[self.stage_index]
        data = batches(self.caches, stage.batch_size, stage.scale, np.random.default_rng(0))
        latents = []
        for _ in range(8):
            rgb, relative, _ = (x.to(self.device) for x in next(data))
            pictures = torch.cat([rgb, as_picture(relative)])
            latents.append(self.chain.autoencoder.encode(pictures).latent_dist.mode())
        scale = 1.0 / torch.cat([x.flatten() for x in latents]).std().item()
        self.chain.autoencoder.register_to_config(scaling_factor=scale)

    def averaged(self) -> None:
        """Put the averaged weights into the networks (for export in the middle of a stage)."""
        self.modules.load_state_dict(self.average)

    def _log(self, stage: Stage, loss: float, bar: tqdm) -> None:
        bar.set_postfix(loss=f'{loss:.4f}')
        line = {'stage': stage.name, 'step': self.step, 'loss': loss, 'time': time.time()}
        with (self.folder / 'log.jsonl').open('a') as log:
            log.write(json.dumps(line) + '\n')

    def _save(self) -> None:
        state = {
            'modules': self.modules.state_dict(),
            'average': self.average,
            'optimizer': self.optimizer.state_dict(),
            'stage_index': self.stage_index,
            'step': self.step,
            'torch_rng': torch.get_rng_state(),
            'numpy_rng': json.dumps(self.rng.bit_generator.state),
            'scaling_factor': self.chain.autoencoder.config.scaling_factor,
        }
        draft = self.folder / 'state.tmp'
        torch.save(state, draft)
        os.replace(draft, self.folder / 'state.pt')

    def _load(self) -> None:
        state = torch.load(self.folder / 'state.pt', weights_only=True, map_location=self.device)
        self.modules.load_state_dict(state['modules'])
        self.average = state['average']
        self.stage_index, self.step = state['stage_index'], state['step']
        self.optimizer = self._optimizer()
        self.optimizer.load_state_dict(state['optimizer'])
        torch.set_rng_state(state['torch_rng'].cpu())
        self.rng.bit_generator.state = json.loads(state['numpy_rng'])
        self.chain.autoencoder.register_to_config(scaling_factor=state['scaling_factor'])
