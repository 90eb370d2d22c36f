# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Training targets: metres to relative values in [0, 1], affine in depth, log depth or disparity.

Marigold (Ke et al., CVPR 2024, eq. 3) maps the 2nd and 98th percentile to the ends and clips.
"""

from dataclasses import dataclass

from marigold_ros.errors import ConfigurationError
from marigold_ros.spaces import from_metres, SPACES, to_metres
import numpy as np
import torch

QUANTILES = (0.02, 0.98)
NEAREST = 1e-3  # m; logarithm and inverse need a positive depth
FARTHEST = 1e3  # m; where a disparity comes near zero
UNKNOWN, RESIZES = ('far', 'near'), ('average', 'nearest')


@dataclass(frozen=True)
class TargetRule:
    """
    How depth becomes a target; Marigold was trained with False, ``near``, ``nearest``.

    Parameters
    ----------
    sky : bool
        Whether the sky counts, as the farthest; else it is unknown.
    unknown : {'far', 'near'}
        End of the range that stands for unknown pixels, which the encoder sees.
    resize : {'average', 'nearest'}
        Average colours, sample depth and normalise; or normalise, then sample everything.

    """

    sky: bool = True
    unknown: str = UNKNOWN[0]
    resize: str = RESIZES[0]

    def __post_init__(self) -> None:
        known = {'sky': (True, False), 'unknown': UNKNOWN, 'resize': RESIZES}
        for name, choices in known.items():
            value = getattr(self, name)
            if value not in choices or (name == 'sky') != isinstance(value, bool):
                texts = ', '.join(str(choice).lower() for choice in choices)
                raise ConfigurationError(f'targets.{name} is {value!r}; choose one of {texts}')


OWN_TARGETS = TargetRule()


def normalise(
    depth: np.ndarray, space: str, rule: TargetRule = OWN_TARGETS
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
    rule : TargetRule
        What sky and unknown pixels become.

    Returns
    -------
    relative : (H, W) float32
        In [0, 1], the 2nd and 98th percentile of the known values; sky is at the far end and, so
        that no hole seems near, by default unknown pixels are as well.
    valid : (H, W) bool
        Where depth is known.
    sky : (H, W) bool
        Nowhere if it does not count.

    Raises
    ------
    ConfigurationError
        If the space is unknown.

    """
    if space not in SPACES:
        raise ConfigurationError(f"space is '{space}'; choose one of {', '.join(SPACES)}")
    infinite = np.isposinf(depth)
    sky = infinite & rule.sky
    valid = np.isfinite(depth) & (depth > 0)
    if space == 'metric':
        return np.where(valid, depth, 0.0).astype(np.float32), valid, sky
    far = 0.0 if space == 'disparity' else 1.0
    other = np.where(infinite | (rule.unknown == 'far'), far, 1.0 - far).astype(np.float32)
    if not valid.any():
        return other, valid, sky
    value = np.maximum(np.where(valid, depth, 1.0), NEAREST).astype(np.float64)
    value = from_metres(value, space)
    low, high = np.quantile(value[valid], QUANTILES)
    # An image of a single distance is 0.5 whatever its rounding errors.
    wide = high - low > 1e-6 * max(abs(low), abs(high), 1.0)
    relative = np.clip((value - low) / (high - low), 0.0, 1.0) if wide else 0.5
    return np.where(valid, relative, other).astype(np.float32), valid, sky


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
