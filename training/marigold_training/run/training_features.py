# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Features of the images that networks were trained on, for the domain gap at inference.

Images are resized and padded as at inference: how that is done changes detail, and so the gap.
"""

from collections.abc import Sequence

from marigold_ros.models.marigold.domain_gap import squared_distance, TrainingFeatures
from marigold_ros.models.resizing import fit_image
from marigold_training.data.augment import augment_image, Augmentation, crop, flip
from marigold_training.data.mixture import BatchPlan, BatchRule, MULTIPLE, Part
from marigold_training.objectives.trained_networks import TrainedModel
import numpy as np
import torch

IMAGES = 256
_QUANTILE = 0.95
_SHRINKAGE = 0.1  # of correlations: few images do not determine them
_FOLDS = 5
_SMALLEST = 1e-6


@torch.no_grad()
def training_features(
    chain: TrainedModel,
    parts: Sequence[Part],
    augmentation: Augmentation,
    device: torch.device,
    seed: int,
) -> TrainingFeatures | None:
    """
    Summarise some images of a mixture, each augmented at its size, in float32.

    Returns None for networks without features, and of a single image, which has no others to be
    compared with.
    """
    chain.to(device).eval()
    sources = [(part.source.name, len(part.source), part.weight) for part in parts]
    plan = BatchPlan(sources, BatchRule(1, seed))
    features: list[np.ndarray] = []
    groups = []
    for number in range(IMAGES):
        which, [(index, rng)] = plan.visits(number)
        part = parts[which]
        size = part.size
        pair = crop(part.source.read(index), augmentation, size[1] / size[0], rng)
        rgb = flip(pair, augmentation, rng).rgb
        small = fit_image(_tensor(rgb), size, 1) * 2.0 - 1.0  # (1, 3, H, W)
        rgb = ((small[0].permute(1, 2, 0) + 1.0) * 127.5).round().clamp(0, 255).byte().numpy()
        image = fit_image(_tensor(augment_image(rgb, augmentation, rng)), size, MULTIPLE)
        found = chain.image_features(image.to(device) * 2.0 - 1.0)
        if found is None:
            return None
        features.append(found[0].cpu().numpy())
        groups.append((which, index))
    images = np.unique(groups, axis=0, return_inverse=True)[1].ravel()
    return summarise(np.array(features), images) if images.any() else None


def summarise(features: np.ndarray, images: np.ndarray | None = None) -> TrainingFeatures:
    """
    Summarise the features (N, F) of training images.

    ``images`` (N,) are the numbers of the images that they are of, where one occurs several times.
    """
    features = np.asarray(features, np.float64)
    mean, covariance = _moments(features)
    # Of images that are left out: few images are near to the moments that they have made.
    fold = (np.arange(len(features)) if images is None else images) % _FOLDS
    left_out = [
        squared_distance(features[fold == k], *_moments(features[fold != k]))
        for k in np.unique(fold)
    ]
    limit = float(np.quantile(np.concatenate(left_out), _QUANTILE))
    rows = tuple(tuple(float(f'{x:.6g}') for x in row) for row in covariance)
    return TrainingFeatures(tuple(float(f'{x:.6g}') for x in mean), rows, limit, len(features))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (F,) and covariance (F, F) of features (N, F), with smaller correlations."""
    covariance = np.cov(features, rowvar=False)
    own = np.diag(np.diag(covariance) + _SMALLEST)
    return features.mean(axis=0), (1 - _SHRINKAGE) * covariance + _SHRINKAGE * own


def _tensor(rgb: np.ndarray) -> torch.Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255.0
