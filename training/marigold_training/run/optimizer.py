# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The learning-rate schedule and the optimizer of a stage."""

import math

from marigold_training.run.stages import Stage
import torch


def learning_rate(stage: Stage, step: int) -> float:
    """
    Return the rate at a step: linear warm-up, constant, decay to the share ``final_rate``.

    With ``decay_from`` 0 the exponential decay is Marigold's schedule (IterExponential).
    """
    rate = stage.learning_rate * min(1.0, (step + 1) / max(stage.warmup, 1))
    start = max(stage.steps * stage.decay_from, stage.warmup)
    if step <= start:
        return rate
    passed = (step - start) / (stage.steps - start)
    if stage.decay == 'cosine':
        share = 0.5 + 0.5 * math.cos(math.pi * passed)
        return rate * (stage.final_rate + (1.0 - stage.final_rate) * share)
    return rate * math.exp(math.log(stage.final_rate) * passed)


def new_optimizer(stage: Stage, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """
    Create Adam, with decoupled weight decay if the stage has any.

    Fused, it takes a quarter of the time on a CPU and, on a GPU, no temporary copy of the weights.
    """
    kind = torch.optim.AdamW if stage.weight_decay else torch.optim.Adam
    return kind(
        weights,
        lr=stage.learning_rate,
        betas=stage.betas,
        weight_decay=stage.weight_decay,
        fused=True,
    )
