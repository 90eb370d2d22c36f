# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What pipeline, node and evaluation use of a depth model; imports no torch.

``DepthModel`` is what every model has. The families of this package derive theirs from
``FullDepthModel``, whose other members are optional: what a model lacks is refused or done
without where it is asked for. Its ``predict`` turns arguments into one ``PredictOptions``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.frame import Prediction
from marigold_ros.models.image_sizes import warm_up_sizes
import numpy as np


@dataclass(frozen=True)
class PredictOptions:
    """
    How images are predicted: the arguments of ``predict`` besides the image.

    Parameters
    ----------
    denoising_steps, ensemble_size : int or None
        None is the checkpoint's own default.
    processing_resolution : int or None
        Longest side at the networks in pixels, 0 native; None is the checkpoint's own.
    seed : int
        Of the noise; the same seed gives the same answer.
    engine : EngineConfig
        Noise, warm start, merge, upsampling.
    reference_exact : bool
        Answer as diffusers' pipeline does (its merge, last step and timestep spacing); of
        ``engine`` only ``batch_limit`` applies.

    """

    denoising_steps: int | None = None
    ensemble_size: int | None = None
    processing_resolution: int | None = None
    seed: int = 0
    engine: EngineConfig = EngineConfig()
    reference_exact: bool = False


DEFAULTS = PredictOptions()


class DepthModel(Protocol):
    """A loaded checkpoint, ready to predict."""

    @property
    def space(self) -> str:
        """Space of its predictions: depth, log, disparity or metric."""

    @property
    def device(self) -> Any:
        """Where it runs, a ``torch.device``."""

    @property
    def description(self) -> Mapping[str, Any]:
        """Facts for reports and diagnostics, at least ``name`` and ``space``."""

    def predict(
        self,
        rgb: np.ndarray,
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        **more: Any,
    ) -> Prediction:
        """
        Predict relative depth of one image.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The image.
        denoising_steps, ensemble_size, processing_resolution, seed, more
            As of ``PredictOptions``; ``more`` are ``engine`` and ``reference_exact``.

        Returns
        -------
        Prediction
            ``relative`` (H, W) float32, in ``space``; ``spread`` is None for a single member.

        Raises
        ------
        InputError
            If the image is not (H, W, 3) uint8, too long and thin for the processing size, or
            too large for the memory.
        ConfigurationError
            If a number is out of range, or the model has no choice of it.

        """

    def reset(self) -> None:
        """Forget everything that earlier frames have left."""


class FullDepthModel:
    """
    The base of the families here: what is optional for other models.

    Some have more: ``predict_guided`` (see ``marigold.engine``), ``as_network`` (see
    ``onnx_export``), and ``predict_prompted(rgb, sparse, ...)``, whose network takes points of the
    image, a SparseDepth, beside it: arguments as of ``predict``, a Prediction of space ``metric``,
    AlignmentError if the points are none to predict with.
    """

    runtime: RuntimeConfig
    stream: Any  # state of the camera whose images ``predict`` gets

    def predict(self, rgb: np.ndarray, *numbers: Any, **settings: Any) -> Prediction:
        """Predict one image; arguments, errors and result as of ``DepthModel``."""
        return self.predict_together([rgb], [self.stream], PredictOptions(*numbers, **settings))[0]

    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[Any],
        options: PredictOptions = DEFAULTS,
    ) -> list[Prediction]:
        """
        Predict several images of one size at once.

        Parameters
        ----------
        rgbs : sequence of (H, W, 3) uint8
            The images, such as those of several cameras.
        streams : sequence
            State of each camera from its last frame, of ``new_stream``; one for each image.
        options : PredictOptions
            Of all images; each gets the noise that it gets alone.

        Returns
        -------
        list of Prediction
            One for each image, equal up to rounding to those of single calls.

        Raises
        ------
        InputError, ConfigurationError
            As ``predict``, and if the images differ in size.

        """
        raise NotImplementedError

    def check_options(self, options: PredictOptions) -> None:
        """Raise ConfigurationError for options that the model refuses whatever the image is."""

    def warm_up(self) -> None:
        """Run one frame of each size that ``runtime.warm_up`` names, then forget it."""
        for height, width in warm_up_sizes(self.runtime.warm_up):
            self.predict(np.zeros((height, width, 3), np.uint8))
        self.stream.reset()

    @property
    def answered_by(self) -> str:
        """The runtime of the last answer: torch while that of the settings compiles."""
        networks = (vars(self).get(name) for name in ('unet', '_network'))
        by_torch = any(getattr(network, 'by_torch', False) for network in networks)
        return 'torch' if by_torch else self.runtime.backend

    @property
    def takes_any_batch(self) -> bool:
        """Whether the number of images in a call may change without compiling anew."""
        return bool(self.runtime.plain)

    def new_stream(self) -> Any:
        """Return the state of another camera, which has ``reset()``."""
        raise NotImplementedError

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size (PH, PW) at which the model sees an image; None as in predict."""
        raise NotImplementedError
