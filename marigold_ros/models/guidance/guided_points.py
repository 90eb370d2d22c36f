# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sparse depth as an optimiser of latents sees it: in the model's space, between 0 and 1."""

from __future__ import annotations

from dataclasses import dataclass

from marigold_ros.errors import AlignmentError
from marigold_ros.frame import SparseDepth
from marigold_ros.models.marigold.resizing import neighbours
from marigold_ros.spaces import from_metres
import numpy as np
import torch

# Fewer cannot hold a scale and a shift and tell whether they fit.
LEAST_POINTS = 3
# Deviation of the relative map at the points below which it tells nothing.
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Points:
    """
    Sparse depth as the optimiser sees it.

    Parameters
    ----------
    wanted : (M,) float32
        0 at the lowest and 1 at the highest value in the model's space.
    low, span : float
        ``low + span * wanted`` is that value.
    rows, columns : (M, PH) and (M, PW) float32
        Bilinear weights that read an enlarged map at the points.

    """

    wanted: torch.Tensor
    low: float
    span: float
    rows: torch.Tensor
    columns: torch.Tensor

    def read(self, relative: torch.Tensor) -> torch.Tensor:
        """Values (M,) of a map (1, 1, PH, PW); products of matrices are summed in one order."""
        return ((self.rows @ relative[0, 0]) * self.columns).sum(1)


def prepare_points(
    sparse: SparseDepth,
    space: str,
    image: tuple[int, int],
    size: tuple[int, int],
    device: torch.device,
) -> Points:
    """
    Take points to the model's space and to the range from 0 to 1.

    Parameters
    ----------
    sparse : SparseDepth
        In the image; a point whose depth is not positive and finite is left out.
    space : {'depth', 'log', 'disparity'}
        Of the model.
    image, size : (H, W) and (PH, PW)
        Of the image, and of the relative map.
    device : torch.device
        Of the networks.

    Returns
    -------
    Points

    Raises
    ------
    AlignmentError
        If a point lies outside the image, there are fewer than three, or all have one depth.

    """
    usable = np.isfinite(sparse.z) & (sparse.z > 0)
    u, v, z = sparse.u[usable], sparse.v[usable], sparse.z[usable].astype(np.float64)
    if len(z) and (min(u.min(), v.min()) < 0 or u.max() >= image[1] or v.max() >= image[0]):
        raise AlignmentError(
            f'sparse depth reaches from ({u.min()}, {v.min()}) to ({u.max()}, {v.max()}), the '
            f'image is {image[1]}x{image[0]}; project the points with its camera'
        )
    value = from_metres(z, space)
    low, span = (float(value.min()), float(np.ptp(value))) if len(z) else (0.0, 0.0)
    if len(z) < LEAST_POINTS or not z.max() > 1.000001 * z.min():
        raise AlignmentError(
            f'guidance has {len(z)} usable points of {len(sparse)}; it needs at least '
            f'{LEAST_POINTS}, at different depths: check T_cam_lidar and the LiDAR'
        )
    wanted = torch.from_numpy((value - low) / span).to(device, torch.float32)
    return Points(
        wanted,
        low,
        span,
        _weights(v, image[0], size[0], device),
        _weights(u, image[1], size[1], device),
    )


def fitted_line(told: torch.Tensor, wanted: torch.Tensor) -> tuple[float, float]:
    """Least squares of what is wanted on what the map tells at the points."""
    x, y = told.double(), wanted.double()
    variance = (x - x.mean()).square().mean()
    scale = float(((x - x.mean()) * (y - y.mean())).mean() / variance.clamp(min=1e-12))
    if not (scale > 0.0 and float(variance.sqrt()) > LEAST_DEVIATION):
        raise AlignmentError(
            f'the prediction varies by {float(variance.sqrt()):.2g} of its range at the points '
            f'and its scale is {scale:.3g}; it must vary and grow with depth: check the image, '
            'T_cam_lidar and the pairing'
        )
    return scale, float(y.mean() - scale * x.mean())


def _weights(pixel: np.ndarray, length: int, cells: int, device: torch.device) -> torch.Tensor:
    """Weights (M, cells) of the two cells around each pixel along one side."""
    chosen = torch.from_numpy(pixel.astype(np.int64)).to(device)
    weights = torch.zeros(len(chosen), cells, device=device)
    for cell, share in neighbours(length, cells, device):
        weights.scatter_add_(1, cell[chosen, None], share[chosen, None])
    return weights
