# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What diffusers' autoencoders have in common."""

from typing import Any

import torch


def mean_latent(autoencoder: Any, image: torch.Tensor) -> torch.Tensor:
    """Encode (B, 3, H, W) in [-1, 1] to the mean of the latent (B, C, h, w), not scaled."""
    answer = autoencoder.encode(image)
    # AutoencoderTiny has no distribution.
    return answer.latents if hasattr(answer, 'latents') else answer.latent_dist.mode()
