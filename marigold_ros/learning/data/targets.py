# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training targets: metres to relative values in [0, 1], affine in depth, log depth or disparity.

Marigold (Ke et al., CVPR 2024, eq. 3) maps the 2nd and 98th percentile to the ends and clips.
"""

from marigold_ros.errors import ConfigurationError
from marigold_ros.spaces import from_metres, SPACES, to_metres
import numpy as np
import torch

QUANTILES = (0.02, 0.98)
NEAREST = 1e-3  # m; logarithm and inverse need a positive depth
FARTHEST = 1e3  # m; where a disparity comes near zero


def normalise(
    depth: np.ndarray, space: str, quantiles: tuple[float, float] = QUANTILES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Map an image's depth to the relative values that a model of a space predicts.

    Parameters
    ----------
    depth : (H, W) float
        Metres; NaN or not above zero is unknown, inf is sky.
    space : {'depth', 'log', 'disparity', 'metric'}
        In which the values are affine; depth and log grow with distance, disparity with nearness.
        For ``metric`` they are the metres themselves, unknown ones and the sky 0.
    quantiles : (low, high)
        Of the known values without sky, which become 0 and 1.

    Returns
    -------
    relative : (H, W) float32
        In [0, 1]; sky and unknown pixels are at the far end, so that no hole seems near.
    valid : (H, W) bool
        Where depth is known.
    sky : (H, W) bool

    Raises
    ------
    ConfigurationError
        If the space is unknown.

    """
    if space not in SPACES:
        raise ConfigurationError(f"space is '{space}'; choose one of {', '.join(SPACES)}")
    sky = np.isposinf(depth)
    valid = np.isfinite(depth) & (depth > 0)
    if space == 'metric':
        return np.where(valid, depth, 0.0).astype(np.float32), valid, sky
    far = 0.0 if space == 'disparity' else 1.0
    if not valid.any():
        return np.full(depth.shape, far, np.float32), valid, sky
    value = np.maximum(np.where(valid, depth, 1.0), NEAREST).astype(np.float64)
    value = from_metres(value, space)
    low, high = np.quantile(value[valid], quantiles)
    # An image of a single distance is 0.5 whatever its rounding errors.
    wide = high - low > 1e-6 * max(abs(low), abs(high), 1.0)
    relative = np.clip((value - low) / (high - low), 0.0, 1.0) if wide else 0.5
    return np.where(valid, relative, far).astype(np.float32), valid, sky


def denormalise(
    relative: torch.Tensor, depth: torch.Tensor, valid: torch.Tensor, space: str
) -> torch.Tensor:
    """
    Invert :func:`normalise` with the percentiles of each image's own depth.

    Parameters
    ----------
    relative : (B, 1, H, W) float
        Gradients pass through.
    depth : (B, 1, H, W) float, metres
        The depth that was normalised.
    valid : (B, 1, H, W) bool
        Where it is known.
    space : {'depth', 'log', 'disparity', 'metric'}
        Metres of a metric model stay.

    Returns
    -------
    (B, 1, H, W) metres

    """
    if space == 'metric':
        return relative
    depth = torch.where(valid, depth, torch.nan)
    value = from_metres(depth, space, torch.log)
    ends = torch.tensor(QUANTILES, dtype=value.dtype, device=value.device)
    ends = torch.stack([image.nanquantile(ends) for image in value]).nan_to_num()  # (B, 2)
    low, high = ends[:, :, None, None].split(1, dim=1)  # (B, 1, 1, 1) each
    return to_metres(low + (high - low) * relative, space, FARTHEST, torch.exp)
