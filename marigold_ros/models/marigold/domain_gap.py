# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
How far images are from those that a checkpoint was trained on, by the encoder's latents.

Of each image's latent: mean, logarithm of the standard deviation and of the mean gradient, by
channel. They follow brightness, contrast, detail and noise, and what is seen. Letters: N images;
C latent channels; F = 3 C features; h, w latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.models.locate import read_json
import numpy as np
import torch

FILE = 'training_features.json'
_SMALLEST = 1e-6


@dataclass(frozen=True)
class TrainingFeatures:
    """
    Features of the training images of a checkpoint.

    ``mean`` (F,) and ``covariance`` (F, F) over images; ``limit`` is the squared distance, in
    units of the covariance and a feature, below which 95 % of them lie.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    limit: float
    images: int

    def gap(self, features: np.ndarray) -> float:
        """Return the gap of an image's features (F,), from 0 to 1: 0.5 at the limit."""
        far = squared_distance(np.asarray(features, np.float64)[None], self.mean, self.covariance)
        ratio = (far[0] / self.limit) ** 2
        return float(ratio / (1.0 + ratio))


def image_features(latent: torch.Tensor) -> torch.Tensor:
    """Return the features (N, F) of scaled latents (N, C, h, w)."""
    latent = latent.float()
    deviation = latent.std((2, 3), correction=0)
    across, down = latent.diff(dim=3).abs().mean((2, 3)), latent.diff(dim=2).abs().mean((2, 3))
    spread = torch.cat([deviation, across + down], 1).clamp(min=_SMALLEST).log()
    return torch.cat([latent.mean((2, 3)), spread], 1)


def read_training_features(folder: Path, features: int = 0) -> TrainingFeatures | None:
    """
    Read those of a checkpoint's folder; None without.

    Raises CheckpointError if they are damaged, or not as many as the encoder has, unless 0.
    """
    if not (folder / FILE).is_file():
        return None
    content: Mapping[str, Any] = read_json(folder / FILE)
    try:
        mean = np.array(content['mean'], np.float64)
        covariance = np.array(content['covariance'], np.float64)
        limit, images = float(content['limit']), int(content.get('images', 0))
        good = covariance.shape == 2 * mean.shape and limit > 0
        np.linalg.cholesky(covariance)
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError):
        good = False
    if not good:
        raise CheckpointError(
            f'{folder / FILE} holds no mean, covariance and limit of features; restore it, or '
            'remove it to do without the domain gap'
        )
    if features and len(mean) != features:
        raise CheckpointError(
            f'{folder / FILE} is of {len(mean)} features, the encoder has {features}; it belongs '
            'to another checkpoint: restore it, or remove it to do without the domain gap'
        )
    rows = tuple(map(tuple, covariance.tolist()))
    return TrainingFeatures(tuple(mean.tolist()), rows, limit, images)


def squared_distance(features: np.ndarray, mean: Any, covariance: Any) -> np.ndarray:
    """Return the squared Mahalanobis distance (N,) of features (N, F), over F."""
    off = features - np.asarray(mean)
    return np.einsum('nf,nf->n', off, np.linalg.solve(np.asarray(covariance), off.T).T) / len(
        off.T
    )
