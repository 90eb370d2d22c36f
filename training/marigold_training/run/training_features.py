# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Features of the images that networks were trained on, for the domain gap at inference.

Images are resized and padded as at inference: how that is done changes detail, and so the gap.
"""

from collections.abc import Sequence

from marigold_ros.models.marigold.domain_gap import summarise, TrainingFeatures
from marigold_ros.models.resizing import fit_image
from marigold_training.data.augment import augment_image, Augmentation, crop, flip
from marigold_training.data.mixture import BatchPlan, BatchRule, MULTIPLE, Part
from marigold_training.objectives.trained_networks import TrainedModel
import numpy as np
import torch

IMAGES = 256


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


def _tensor(rgb: np.ndarray) -> torch.Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255.0
