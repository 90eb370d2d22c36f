# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Conversion of one frame of Hypersim's raw HDF5 files to an image and planar depth.

As in Marigold's preparation, distances to the camera's centre become depth along the optical axis
of one pinhole camera for all scenes (those with a tilted sensor too), and linear light becomes
images whose 90th percentile of brightness is 0.8 after a gamma of 2.2 (Hypersim, Roberts et al.,
ICCV 2021, and its tone-mapping script).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError, InputError
from marigold_training.data.file_pairs import implausible
from marigold_training.data.layouts import HYPERSIM_DEPTH
import numpy as np

FOCAL_PX, FOCAL_WIDTH_PX = 886.81, 1024  # of all images, scaled with their width
GAMMA = 2.2
BRIGHT_PERCENTILE, BRIGHT_VALUE = 90.0, 0.8
LUMA = (0.3, 0.59, 0.11)
DARKEST = 1e-4  # 90th percentile below which an image stays black
NOTHING = -1  # entity of a pixel that shows no object


def distance_to_depth(distance: np.ndarray, focal_px: float) -> np.ndarray:
    """
    Convert distances to the camera's centre to depth along its optical axis.

    Parameters
    ----------
    distance : (H, W) float, metres
    focal_px : float
        Of a pinhole camera with a central principal point.

    Returns
    -------
    (H, W) float64, metres

    """
    height, width = distance.shape
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height) - (height - 1) / 2
    return distance * focal_px / np.sqrt(x[None, :] ** 2 + y[:, None] ** 2 + focal_px**2)


def tone_map(light: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """
    Expose linear light as Hypersim's authors do.

    Parameters
    ----------
    light : (H, W, 3) float
    valid : (H, W) bool
        Pixels that show an object and determine the exposure, which is 1 without any.

    Returns
    -------
    (H, W, 3) uint8

    """
    scale = 1.0
    if valid.any():
        bright = float(np.percentile((light @ np.array(LUMA))[valid], BRIGHT_PERCENTILE))
        scale = BRIGHT_VALUE**GAMMA / bright if bright >= DARKEST else 0.0
    shown = np.clip(light * scale, 0.0, 1.0) ** (1.0 / GAMMA)
    return np.rint(shown * 255.0).astype(np.uint8)


def to_millimetres(depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Convert metres to uint16 mm (H, W); 0 where invalid, not finite or above 16 bits."""
    known = valid & np.isfinite(depth) & (depth > 0.0) & (depth < 65.5355)
    return np.rint(np.where(known, depth, 0.0) * 1000.0).astype(np.uint16)


def read_frame(
    images: Path, camera: str, number: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Read and convert a frame.

    Parameters
    ----------
    images : Path
        The scene's folder of that name.
    camera : str
        As ``cam_00``.
    number : int

    Returns
    -------
    rgb : (H, W, 3) uint8
    millimetres : (H, W) uint16
        Along the optical axis, 0 unknown.
    valid : (H, W) bool
        Pixels that show an object.

    Raises
    ------
    InputError
        Naming the file that is missing, damaged or implausible.

    """
    geometry = images / f'scene_{camera}_geometry_hdf5'
    light_path = images / f'scene_{camera}_final_hdf5' / f'frame.{number:04d}.color.hdf5'
    distance_path = geometry / f'frame.{number:04d}.depth_meters.hdf5'
    light = _read(light_path, 3).astype(np.float64)
    distance = _read(distance_path, 2).astype(np.float64)
    valid = _read(geometry / f'frame.{number:04d}.render_entity_id.hdf5', 2) != NOTHING
    if not light.shape[:2] == distance.shape == valid.shape:
        raise InputError(
            f'{distance_path} is {distance.shape}, its colour {light.shape} and its entities '
            f'{valid.shape}; all must have the same size',
            cause='size',
        )
    if np.isnan(light).any():
        raise InputError(f'{light_path} holds NaN; fetch it again', cause='empty')
    depth = distance_to_depth(distance, FOCAL_PX * distance.shape[1] / FOCAL_WIDTH_PX)
    usual = HYPERSIM_DEPTH.usual_near, HYPERSIM_DEPTH.far
    wrong = implausible(np.where(valid, depth, 0.0), usual)
    if wrong and valid.any():
        raise InputError(f'{distance_path} {wrong}', cause='units')
    return tone_map(light, valid), to_millimetres(depth, valid), valid


def hdf5() -> Any:
    """Import h5py; raises ConfigurationError if it is not installed."""
    try:
        return importlib.import_module('h5py')
    except ImportError as error:
        raise ConfigurationError(
            "Hypersim's raw files are HDF5 and h5py is not installed: pip install h5py"
        ) from error


def _read(path: Path, dimensions: int) -> np.ndarray:
    if not path.is_file():
        raise InputError(f'{path} is missing; fetch it', cause='missing')
    try:
        with hdf5().File(path, 'r') as file:
            array = np.asarray(file['dataset'])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f'{path} is cut off or damaged ({error})', cause='truncated') from error
    if array.ndim != dimensions:
        raise InputError(f'{path} has shape {array.shape}; it must have {dimensions} dimensions')
    return array
