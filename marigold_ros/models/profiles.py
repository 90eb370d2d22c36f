# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Named trade-offs between time and accuracy: denoising steps and ensemble size.

With the right timestep spacing more steps sharpen but do not improve a member, while members of
several steps differ enough for an ensemble to pay (arXiv 2409.11355); so quality is bought with
members, and `paper` is there to repeat published figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from marigold_ros.errors import ConfigurationError


@dataclass(frozen=True)
class Profile:
    """Arguments of ``predict`` under one name."""

    denoising_steps: int
    ensemble_size: int


PROFILES = {
    'fast': Profile(1, 1),
    'balanced': Profile(4, 3),
    'quality': Profile(4, 10),
    'paper': Profile(50, 10),
}


def profile(name: str) -> Profile:
    """Look up a profile; raises ConfigurationError for an unknown name."""
    if name not in PROFILES:
        raise ConfigurationError(f"profile is '{name}'; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
