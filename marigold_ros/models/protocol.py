# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What pipeline, node and evaluation use of a depth model; imports no torch.

A model family implements :class:`DepthModel`. The members that :class:`ExtendedDepthModel` adds
are optional: what a model lacks is refused or done without where it is asked for.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any, Protocol

from marigold_ros.config import EngineConfig, GuidedConfig
from marigold_ros.frame import Prediction, SparseDepth
import numpy as np


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
        *,
        options: EngineConfig | None = None,
    ) -> Prediction:
        """
        Predict relative depth of one image.

        Parameters
        ----------
        rgb : (H, W, 3) uint8
            The image.
        denoising_steps, ensemble_size : int or None
            None is the checkpoint's own default.
        processing_resolution : int or None
            Longest side at the model in pixels, 0 native; None is the checkpoint's own.
        seed : int
            Seed of the noise.
        options : EngineConfig or None
            None is the checkpoint's own way.

        Returns
        -------
        Prediction
            ``relative`` (H, W) float32, in :attr:`space`.

        """

    def reset(self) -> None:
        """Forget everything that earlier frames have left."""


class ExtendedDepthModel(DepthModel, Protocol):
    """A depth model with all optional members."""

    @property
    def takes_any_batch(self) -> bool:
        """Whether the number of images may change from call to call at no cost."""

    def new_stream(self) -> Any:
        """Return the state of another camera, which has ``reset()``."""

    def predict_together(
        self,
        rgbs: Sequence[np.ndarray],
        streams: Sequence[Any],
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        *,
        options: EngineConfig | None = None,
    ) -> list[Prediction]:
        """Predict several images of one size at once; one stream for each."""

    def predict_guided(
        self,
        rgb: np.ndarray,
        sparse: SparseDepth,
        denoising_steps: int | None = None,
        ensemble_size: int | None = None,
        processing_resolution: int | None = None,
        seed: int = 0,
        options: EngineConfig | None = None,
        guided: GuidedConfig | None = None,
        max_depth: float = math.inf,
    ) -> Prediction:
        """Predict metric depth (H, W) that follows sparse depth; in space ``metric``."""

    def as_network(self, height: int, width: int) -> Any:
        """
        Return a ``torch.nn.Module`` of all that is between image and map, for one size.

        It maps (1, 3, H, W) in [0, 1] to (1, 1, H, W), as ``predict`` does; ``size`` is (H, W).
        """

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the (height, width) at which the model sees an image of a size."""
