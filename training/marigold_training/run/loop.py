# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The training loop: the stages of a recipe, and checkpoints that resume exactly.

All random numbers are functions of the seed and the step, so that a checkpoint consists of
networks, their averages, the best of these, optimiser, scale of a float16 loss, stage and step.
Each replaces the previous one atomically.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
import json
import math
from pathlib import Path
import time
from typing import Any, Protocol

from accelerate import Accelerator
from marigold_ros.errors import MarigoldError
from marigold_ros.processes import never, Stop
from marigold_training.data.mixture import collate, ignore_signals, Mixture
from marigold_training.objectives.losses import OBJECTIVES
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import TrainedModule, TrainedNetworks
from marigold_training.run.accelerator import in_any
from marigold_training.run.average import WeightAverage
from marigold_training.run.latent_cache import LatentMixture
from marigold_training.run.optimizer import learning_rate, new_optimizer
from marigold_training.run.run_log import RunLog
from marigold_training.run.run_state import (
    BACKUPS,
    check_best,
    check_recipe,
    check_start,
    load_state,
    save_backup,
    save_state,
    STATE,
)
from marigold_training.run.sharding import divide, divide_moments, divided, gathered, whole
from marigold_training.run.stages import Stage
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

FAILURES_ALLOWED = 5
LOG_EVERY = 20  # steps, and at the last one of a stage
PICTURES = 'pictures'  # folder of contact sheets, in that of a run


class Scoring(Protocol):
    """Scores the averaged weights during training."""

    def __bool__(self) -> bool:
        """Return whether there is anything to score on."""

    def run(
        self, chain: Any, weights: dict[str, torch.Tensor], device: torch.device, image: Path
    ) -> dict[str, Any]:
        """Return the figures of weights in place of the chain's; may draw them to ``image``."""

    def quality(self, figures: dict[str, Any]) -> float | None:
        """Return the figure whose least value selects the weights; None keeps the last."""


class Trainer:
    """
    Runs the stages of a recipe in a folder, from its last checkpoint if there is one.

    Parameters
    ----------
    chain : TrainedModule
        Networks to train, changed in place; divided among the processes or not.
    stages : list of Stage
        In order.
    mixtures : list of Dataset
        The batches of each stage by number; an autoencoder's, and latents', need a Mixture.
    folder : Path
        Gets ``state.pt``, ``backups``, ``log.jsonl``, ``pictures`` and ``tensorboard``.
    accelerator : Accelerator
        Device, precision and processes.
    provenance : dict
        Stored in checkpoints: recipe, commit, number of processes.
    seed : int
        Of the noise.
    workers : int
        Processes that load batches ahead; 0 loads in this one.
    validation : Scoring or None
        For stages with ``validate_every``; may select the weights.
    latents : Path or None
        Folder of latent caches; None is inside the run's folder.

    """

    def __init__(
        self,
        chain: TrainedModule,
        stages: list[Stage],
        mixtures: Sequence[Dataset],
        folder: Path,
        accelerator: Accelerator,
        provenance: dict[str, Any] | None = None,
        seed: int = 0,
        workers: int = 0,
        validation: Scoring | None = None,
        latents: Path | None = None,
    ) -> None:
        self.chain, self.stages, self.mixtures = chain, stages, mixtures
        self.folder, self.accelerator = folder, accelerator
        self.provenance, self.seed, self.workers = provenance or {}, seed, workers
        self.validation, self.log = validation, RunLog(folder, accelerator.log)
        self.latents = folder / 'latents' if latents is None else latents
        self.folder.mkdir(parents=True, exist_ok=True)
        chain.to(accelerator.device)
        self.average = WeightAverage(chain, any(stage.average for stage in stages))
        self.best: dict[str, Any] = {}  # quality, weights and where, if the validation selects
        self.stage_index = self.step = self.skipped = 0
        self.model: Any = None
        self._prepare()
        logged = self._load() if (folder / STATE).exists() else 0
        if accelerator.is_main_process:
            self.log.rewind(logged)

    def run(self, minutes: float | None = None, stop: Stop | None = None) -> bool:
        """
        Train to the end of the recipe or for a time; returns whether the end was reached.

        Once ``stop``, a function without arguments, returns true, the run saves and ends.
        """
        deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
        stop = stop or never
        try:
            while self.stage_index < len(self.stages):
                stage = self.stages[self.stage_index]
                if not self._run_stage(stage, lambda: time.monotonic() > deadline or stop()):
                    self.save()
                    return False
                self._end_stage(stage)
        finally:
            self.log.close()
        return True

    def _run_stage(self, stage: Stage, stop: Stop) -> bool:
        dataset = self._dataset(stage, stop)
        if dataset is None:
            return False
        data = self._batches(stage, dataset)
        losses: dict[str, list[float]] = {}
        failures, waited, started = 0, 0.0, time.monotonic()
        with tqdm(
            total=stage.steps,
            initial=self.step,
            desc=stage.name,
            disable=not self.accelerator.is_main_process,
        ) as bar:
            while self.step < stage.steps:
                if in_any(stop()):
                    return False
                for entry in self.optimizer.param_groups:
                    entry['lr'] = learning_rate(stage, self.step)
                self.optimizer.zero_grad(set_to_none=True)
                for part in range(stage.accumulation):
                    asked = time.monotonic()
                    batch = next(data).to(self.accelerator.device)
                    waited += time.monotonic() - asked
                    number = self.step * stage.accumulation + part
                    draws = Draws(self.seed + 1000 * self.stage_index, number, batch.rows)
                    # Of layers that drop at random, as in a Swin.
                    torch.manual_seed(draws.generators[0].initial_seed())
                    with self._reduced(part == stage.accumulation - 1):
                        with self.accelerator.autocast():
                            loss = self.model(OBJECTIVES[stage.objective].loss, batch, draws)
                        self.accelerator.backward(loss / stage.accumulation)
                    losses.setdefault(batch.source, []).append(loss.item())
                norm = self._clip(stage)
                # Without a known pixel only momentum would move the weights.
                usable, scaler = math.isfinite(norm) and norm > 0.0, self.accelerator.scaler
                self.skipped += not usable
                # Gradients that overflow float16 lower the scale of the loss, until it is 1.
                lost = not (math.isfinite(norm) or (scaler and scaler.get_scale() > 1.0))
                failures = failures + 1 if lost else 0
                if failures >= FAILURES_ALLOWED:
                    raise MarigoldError(
                        f'{failures} steps in a row without a finite loss (stage {stage.name}, '
                        f'step {self.step}); lower learning_rate and resume from the last '
                        'checkpoint'
                    )
                if usable:
                    self.optimizer.step()
                    self.average.update(self.chain, stage.average, self.step)
                elif scaler:
                    scaler.update()
                self.step += 1
                bar.update()
                if self.step % LOG_EVERY == 0 or self.step == stage.steps:
                    elapsed = time.monotonic() - started
                    loss = self._log(stage, losses, norm, waited / max(elapsed, 1e-9))
                    steps = sum(map(len, losses.values())) / stage.accumulation
                    left = bar.format_interval(self._seconds_left(elapsed / steps))
                    bar.set_postfix_str(f'loss {loss:.4f}, {left} left of all stages')
                    losses, waited, started = {}, 0.0, time.monotonic()
                if self.validation and stage.validates_at(self.step):
                    started += self._validate(stage, self.validation)
                if stage.backup_every and self.step % stage.backup_every == 0:
                    self.back_up(stage)
                if self.step % stage.save_every == 0:
                    self.save()
        return True

    def _reduced(self, wanted: bool) -> AbstractContextManager[Any]:
        """Add up the processes' gradients in a context, or leave that to a later one."""
        alone = wanted or divided(self.chain)
        return nullcontext() if alone else self.accelerator.no_sync(self.model)

    def _dataset(self, stage: Stage, stop: Stop) -> Dataset | None:
        """Return the batches of a stage; None if stopped while latents were encoded."""
        mixture = self.mixtures[self.stage_index]
        if not stage.latent_cache:
            return mixture
        assert isinstance(mixture, Mixture)
        assert isinstance(self.chain, TrainedNetworks)
        cached = LatentMixture(mixture, self.chain, self.latents, self.accelerator)
        with gathered(self.chain):
            filled = cached.fill(self.chain, self.accelerator, self.workers, stop)
        return None if in_any(not filled) else cached

    def _batches(self, stage: Stage, dataset: Dataset) -> Iterator[Any]:
        """Iterate over the batches of a stage from this step on."""
        numbers = range(self.step * stage.accumulation, stage.steps * stage.accumulation)
        return iter(
            DataLoader(
                dataset,
                sampler=numbers,
                batch_size=1,
                collate_fn=collate,
                num_workers=self.workers,
                worker_init_fn=ignore_signals,
            )
        )

    def _prepare(self) -> None:
        """Create the optimiser of this stage and wrap the networks for the processes."""
        stage = self.stages[min(self.stage_index, len(self.stages) - 1)]
        self.chain.choose_trained(stage.trains)
        self.chain.checkpoint_gradients(stage.gradient_checkpointing)
        trained = [p for p in self.chain.parameters() if p.requires_grad]
        optimizer = new_optimizer(stage, trained)
        if self.model is not None:
            # The last stage's wrapper must not be wrapped again.
            self.chain = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        self.optimizer = self.accelerator.prepare(optimizer)
        self.model = self.chain if divided(self.chain) else self.accelerator.prepare(self.chain)

    def _clip(self, stage: Stage) -> float:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return float(whole(self.accelerator.clip_grad_norm_(trained, stage.clip or math.inf)))

    def _end_stage(self, stage: Stage) -> None:
        """Load the averaged weights, scale the latents of a new autoencoder, and advance."""
        self.chain.load_state_dict(self.average.weights)
        if stage.objective == 'autoencoder':
            # All rows in all processes, or their scales would differ.
            mixture = self.mixtures[self.stage_index]
            assert isinstance(mixture, Mixture)
            assert isinstance(self.chain, TrainedNetworks)
            mixture = mixture.undivided()
            with gathered(self.chain):
                self.chain.set_scaling_factor(
                    mixture[number].to(self.accelerator.device) for number in range(8)
                )
        self.stage_index, self.step = self.stage_index + 1, 0
        self._prepare()
        self.save()

    def _log(
        self, stage: Stage, losses: dict[str, list[float]], norm: float, waiting: float
    ) -> float:
        """Write a line of the log; return the mean loss."""
        means = {source: sum(values) / len(values) for source, values in losses.items()}
        every = [x for values in losses.values() for x in values]
        line = {
            'stage': stage.name,
            'step': self.step,
            'loss': sum(every) / len(every),
            'loss_by_source': means,
            'gradient_norm': norm,
            'learning_rate': learning_rate(stage, self.step - 1),
            'waiting_for_data': waiting,
            'skipped_steps': self.skipped,
            'time': time.time(),
        }
        if self.accelerator.is_main_process:
            self.log.write(line, self._steps_done)
        return sum(every) / len(every)

    def _seconds_left(self, step_s: float) -> float:
        """Estimate the time to the end of all stages, those to come by their pixels."""
        stage, *later = self.stages[self.stage_index :]
        steps = stage.steps - self.step + sum(s.steps * s.pixels / stage.pixels for s in later)
        return step_s * steps

    @property
    def _steps_done(self) -> int:
        return sum(stage.steps for stage in self.stages[: self.stage_index]) + self.step

    def _validate(self, stage: Stage, validation: Scoring) -> float:
        """Score the averaged weights; returns the seconds spent."""
        began = time.monotonic()
        weights = whole(self.average.weights)
        if self.accelerator.is_main_process:
            image = self.folder / PICTURES / f'{stage.name}_{self.step:06d}.png'
            figures = validation.run(self.chain, weights, self.accelerator.device, image)
            line = {'stage': stage.name, 'step': self.step, 'validation': figures}
            quality = validation.quality(figures)
            if quality is not None:
                line['quality'] = quality
                if quality < self.best.get('quality', math.inf):
                    kept = {name: value.detach().clone() for name, value in weights.items()}
                    at = f'{stage.name} {self.step}/{stage.steps}'
                    self.best = {'quality': quality, 'weights': kept, 'at': at}
            shown = image if image.is_file() else None
            self.log.write({**line, 'time': time.time()}, self._steps_done, shown)
        self.accelerator.wait_for_everyone()
        return time.monotonic() - began

    def save(self) -> None:
        """Write the checkpoint from which the run resumes."""
        state = {
            'chain': whole(self.chain.state_dict()),
            'average': whole(self.average.weights),
            'best': self.best,
            'optimizer': whole(self.optimizer.state_dict()),
            'scaler': self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            'stage_index': self.stage_index,
            'step': self.step,
            'skipped': self.skipped,
            'logged': self.log.size,
            'provenance': json.dumps(self.provenance),
            **self.chain.settings(),
        }
        if self.accelerator.is_main_process:
            save_state(self.folder / STATE, state)
        self.accelerator.wait_for_everyone()

    def back_up(self, stage: Stage) -> None:
        """Keep the averaged weights of all networks that the run trains in a file of their own."""
        weights = whole(self.average.weights)
        if self.accelerator.is_main_process:
            path = self.folder / BACKUPS / f'{stage.name}_{self.step:06d}.safetensors'
            trained = tuple(f'{name}.' for each in self.stages for name in each.trains)
            kept = {k: v for k, v in weights.items() if k.startswith(trained)}
            save_backup(path, kept, self.chain.settings())
        self.accelerator.wait_for_everyone()

    def _load(self) -> int:
        """Read the checkpoint; return the bytes of its log."""
        path = self.folder / STATE
        state = load_state(path, self.chain)
        check_recipe(path, state, self.stages)
        recipe = self.provenance.get('recipe', {})
        check_start(path, state, recipe)
        check_best(path, state, recipe)
        self.chain.load_state_dict(divide(state['chain'], self.chain.state_dict()))
        self.average.restore(divide(state['average'], self.chain.state_dict()))
        self.stage_index, self.step = state['stage_index'], state['step']
        self.skipped, self.best = state['skipped'], state.get('best', {})
        self._prepare()
        if self.step:  # otherwise the stage begins, and the state may be of another optimizer
            trained = [w for group in self.optimizer.param_groups for w in group['params']]
            moments = divide_moments(state['optimizer'], trained)
            # Betas and weight decay are those of the recipe now, as the learning rate is.
            own = {'param_groups': self.optimizer.state_dict()['param_groups']}
            self.optimizer.load_state_dict({**moments, **own})
        if self.accelerator.scaler and state.get('scaler'):
            self.accelerator.scaler.load_state_dict(state['scaler'])
        self.chain.restore(state)
        return int(state.get('logged', self.log.size))
