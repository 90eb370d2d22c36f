# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Features of the images that networks were trained on, for the domain gap at inference."""

from collections.abc import Iterator
from itertools import count

from marigold_ros.learning.data.mixture import Batch, Mixture
from marigold_ros.learning.objectives.trained_networks import TrainedModel
from marigold_ros.models.marigold.domain_gap import summarise, TrainingFeatures
import numpy as np
import torch

IMAGES = 256


@torch.no_grad()
def training_features(
    chain: TrainedModel, mixture: Mixture, device: torch.device, images: int = IMAGES
) -> TrainingFeatures | None:
    """Summarise the first images of a mixture, as training sees them; None without features."""
    chain.to(device).eval()
    found: list[np.ndarray] = []
    for batch in _batches(mixture):
        features = chain.image_features(batch.rgb.to(device))
        if features is None:
            return None
        found += list(features.cpu().numpy())
        if len(found) >= images:
            break
    return summarise(np.array(found[:images]))


def _batches(mixture: Mixture) -> Iterator[Batch]:
    for number in count():
        yield mixture[number]
