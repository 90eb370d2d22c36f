# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What models share that answer in one way: no ensemble, no choice of steps, no state of frames.

A family derives its model from :class:`OnePassModel` and says how the network runs. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.models.image_sizes import common_size
from marigold_ros.models.locate import checkpoint_name, fingerprint
from marigold_ros.models.protocol import DEFAULTS, FullDepthModel, PredictOptions
from marigold_ros.settings import as_values
import numpy as np


class NoState:
    """The state of a camera whose frames leave none."""

    def reset(self) -> None:
        """Do nothing."""


class OnePassModel(FullDepthModel):
    """
    A checkpoint that answers in one way, most in one pass; families say how.

    ``folder`` holds it, ``device`` is a torch.device or the name of one.
    """

    family: ClassVar[str]
    kind: str  # of network
    # Settings of EngineConfig that act on it; the others must keep their defaults.
    acting: ClassVar[tuple[str, ...]] = ('scene_cut', 'batch_limit')
    denoising_steps: int = 1  # the only number that it takes
    stream = NoState()

    space: str
    arithmetic: Any  # torch.dtype, or its name
    parameters: int

    def __init__(self, folder: Path, device: Any, runtime: RuntimeConfig | None) -> None:
        self.folder, self.device, self.name = folder, device, checkpoint_name(folder)
        self.runtime = RuntimeConfig() if runtime is None else runtime
        self.notes: list[str] = []

    def _run(self, rgbs: Sequence[np.ndarray], options: PredictOptions) -> list[Prediction]:
        """Predict checked images of one size."""
        raise NotImplementedError

    def _weight_files(self) -> list[Path]:
        """Return the files of the weights."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """Return what a family adds to the description."""
        return {}

    @property
    def description(self) -> dict[str, Any]:
        """Facts of the checkpoint for reports and diagnostics."""
        return {
            'name': self.name,
            'path': str(self.folder),
            'sha256': self.sha256,
            'family': self.family,
            'space': self.space,
            'kind': self.kind,
            **self._facts(),
            'parameters': self.parameters,
            'device': str(self.device),
            'dtype': str(self.arithmetic).removeprefix('torch.'),
            'runtime': as_values(self.runtime),
            'notes': list(self.notes),
        }

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the weight files."""
        return fingerprint(self._weight_files())

    def new_stream(self) -> NoState:
        """Return the state of another camera: none."""
        return NoState()

    def reset(self) -> None:
        """Do nothing: frames leave no state."""

    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[NoState],
        options: PredictOptions = DEFAULTS,
    ) -> list[Prediction]:
        common_size(rgbs)
        self.check_options(options)
        return self._run(rgbs, options)

    def check_options(self, options: PredictOptions) -> None:
        """Refuse what the network has no choice of; see the base, and :attr:`acting`."""
        own = self.denoising_steps
        how = 'in one pass' if own == 1 else f'in the {own} steps that it was trained with'
        for name, only in (
            ('denoising_steps', own),
            ('ensemble_size', 1),
            ('reference_exact', False),
        ):
            value = getattr(options, name)
            if value not in (None, only):
                raise ConfigurationError(
                    f'{name} is {value}, and {self.name} answers {how}; leave '
                    f'{name} and profile at their defaults'
                )
        for item in fields(EngineConfig):
            value = getattr(options.engine, item.name)
            if item.name not in self.acting and value != getattr(DEFAULTS.engine, item.name):
                raise ConfigurationError(
                    f'engine.{item.name} is {value}, and {self.name} has no choice of it; '
                    'leave it at its default'
                )
