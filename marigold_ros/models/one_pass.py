# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What models share that answer in one way: no ensemble, no choice of steps, no state of frames.

A family derives its model from :class:`OnePassModel` and says how the network runs.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.models.locate import fingerprint
from marigold_ros.models.resizing import common_size
from marigold_ros.models.runtime.prepare import warm_up_sizes
from marigold_ros.settings import as_values
import numpy as np
import torch

PLAIN = EngineConfig()


class NoState:
    """The state of a camera whose frames leave none."""

    def reset(self) -> None:
        """Do nothing."""


def refuse_autoencoder(folder: Path, vae: str | None) -> None:
    """Raise ConfigurationError if another autoencoder was given to a model without one."""
    if vae is not None:
        raise ConfigurationError(
            f"vae is '{vae}', and {folder.name} has no autoencoder: leave it empty"
        )


class OnePassModel:
    """
    A checkpoint that answers in one way, most in one pass; families say how.

    Parameters
    ----------
    folder : Path
        The checkpoint.
    device : torch.device
        Where it runs.
    runtime : RuntimeConfig or None
        Backend, compilation, warm-up.

    """

    family: ClassVar[str]
    # Settings of EngineConfig that act on it; the others must keep their defaults.
    acting: ClassVar[tuple[str, ...]] = ('scene_cut', 'batch_limit')
    denoising_steps: int = 1  # the only number that it takes

    space: str
    arithmetic: torch.dtype
    parameters: int

    def __init__(self, folder: Path, device: torch.device, runtime: RuntimeConfig | None) -> None:
        self.folder, self.device = folder, device
        self.runtime = RuntimeConfig() if runtime is None else runtime
        self.notes: list[str] = []

    def _run(
        self, rgbs: Sequence[np.ndarray], longest: int | None, seed: int, options: EngineConfig
    ) -> list[Prediction]:
        """Predict checked images of one size."""
        raise NotImplementedError

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size at which the network sees an image; None as in predict."""
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
            'name': self.folder.name,
            'path': str(self.folder),
            'sha256': self.sha256,
            'family': self.family,
            'space': self.space,
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

    @property
    def takes_any_batch(self) -> bool:
        """Whether the number of images in a call may change without compiling anew."""
        return self.runtime.plain

    def new_stream(self) -> NoState:
        """Return the state of another camera: none."""
        return NoState()

    def reset(self) -> None:
        """Do nothing: frames leave no state."""

    def warm_up(self) -> None:
        """Run one frame of each size that ``runtime.warm_up`` names."""
        for height, width in warm_up_sizes(self.runtime.warm_up):
            self.predict(np.zeros((height, width, 3), np.uint8))

    def predict(
        self,
        rgb: np.ndarray,
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        *,
        options: EngineConfig | None = None,
    ) -> Prediction:
        """
        Predict the map of one image.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The image.
        denoising_steps, ensemble_size : int or None
            The checkpoint's only number of steps, 1, or None.
        processing_resolution : int or None
            Longest side at the network in pixels, 0 native; None is the checkpoint's own.
        seed : int
            Of the noise, if there is any.
        options : EngineConfig or None
            Those of :attr:`acting`; None is the default.

        Returns
        -------
        Prediction
            ``relative`` (H, W) float32 in :attr:`space`.

        Raises
        ------
        InputError
            If the image is not (H, W, 3) uint8.
        ConfigurationError
            For another number of steps or members, options of denoising, or a size that the
            checkpoint does not take.

        """
        numbers = denoising_steps, ensemble_size, processing_resolution, seed
        return self.predict_together([rgb], [NoState()], *numbers, options=options)[0]

    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[NoState],
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        *,
        options: EngineConfig | None = None,
    ) -> list[Prediction]:
        """Predict several images of one size at once; see :meth:`predict`."""
        common_size(rgbs)
        options = PLAIN if options is None else options
        self._check(denoising_steps, ensemble_size, options)
        with torch.inference_mode():
            return self._run(rgbs, processing_resolution, seed, options)

    def _check(self, steps: int | None, members: int | None, options: EngineConfig) -> None:
        own = self.denoising_steps
        how = 'in one pass' if own == 1 else f'in the {own} steps that it was trained with'
        for name, value, only in (('denoising_steps', steps, own), ('ensemble_size', members, 1)):
            if value not in (None, only):
                raise ConfigurationError(
                    f'{name} is {value}, and {self.folder.name} answers {how}; leave '
                    f'{name} and profile at their defaults'
                )
        for item in fields(EngineConfig):
            value = getattr(options, item.name)
            if item.name not in self.acting and value != getattr(PLAIN, item.name):
                raise ConfigurationError(
                    f'engine.{item.name} is {value}, and {self.folder.name} has no choice of it; '
                    'leave it at its default'
                )
