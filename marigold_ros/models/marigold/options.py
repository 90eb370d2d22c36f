# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How the engine runs a checkpoint beyond what each call says; the defaults change nothing."""

from __future__ import annotations

from dataclasses import dataclass

from marigold_ros.config import setting, Settings


@dataclass(frozen=True)
class EngineOptions(Settings):
    """Choices of the engine; ``reference_exact`` calls heed ``batch_limit`` only."""

    noise: str = setting(
        'checkpoint',
        "where denoising starts: as the checkpoint was trained, gaussian from each call's seed, "
        'fixed (the first seed of the stream until a reset), zeros',
        choices=('checkpoint', 'gaussian', 'fixed', 'zeros'),
    )
    timestep_spacing: str = setting(
        'auto',
        "auto is the checkpoint's own, but trailing in place of leading below 10 steps",
        choices=('auto', 'leading', 'trailing'),
    )
    warm_start: float = setting(
        0.0,
        "share of the last frame's latent in the start noise; 0 makes frames independent, 0.1 is "
        'usual for video',
        low=0.0,
        high=0.9,
    )
    scene_cut: float = setting(
        0.15,
        'mean change of a small grey picture, of 1, above which the warm start is left out',
        low=0.0,
        high=1.0,
    )
    merge: str = setting(
        'fitted',
        "how members are merged: robust closed-form fit, or the paper's objective",
        choices=('fitted', 'reference'),
    )
    upsampling: str = setting(
        'bilinear',
        "to the picture's own size: bilinear, or bilateral (edges follow the picture)",
        choices=('bilinear', 'bilateral'),
    )
    batch_limit: int = setting(
        0, 'members that run at once at the most; 0 is as many as memory allows', low=0, high=20
    )
