# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth images as organised clouds: one point per pixel, NaN where depth is invalid.

The structured arrays hold the fields of PointCloud2, colour packed by ``pack_rgb``;
``message_codec.clouds`` encodes them as messages.
"""

import cv2
from marigold_ros.config import PointsConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import FrameResult, intrinsics
from marigold_ros.geometry.cloud.flying_pixels import flying_pixels
from marigold_ros.geometry.cloud.normals import surface_normals
from marigold_ros.kernels.compiled import compiled
import numpy as np


def unproject_depth(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """
    Lift a depth image to points of the camera's frame with the pinhole model.

    Parameters
    ----------
    depth : (H, W) float, metres
        Depth along the optical axis (REP 118); values that are not finite are invalid.
    K : (3, 3) float, pixels
        Intrinsics of the rectified image that ``depth`` belongs to.

    Returns
    -------
    (H, W, 3) float32, metres
        Organised points, x right, y down, z forward (REP 103); invalid pixels are NaN.

    Raises
    ------
    InputError, CalibrationError
        If ``depth`` is not two-dimensional, or ``K`` is not a pinhole matrix.

    """
    return _lifted(_checked_depth(depth), K, 1, 3)


def depth_of_cloud(
    depth: np.ndarray, surface: np.ndarray, K: np.ndarray, config: PointsConfig
) -> np.ndarray:
    """
    Select the depth of a cloud: NaN, never clipped, where it is out of range or flying.

    Flying pixels are found in ``surface``, depth without gaps such as the fitted map; both are
    (H, W) in metres, with intrinsics ``K``.
    """
    selected = np.array(depth, np.float32, order='C')
    flying = flying_pixels(surface, K, config.flying_angle)
    low, high = np.float32(config.min_depth), np.float32(config.max_depth)
    _leave_out(selected.ravel(), flying.ravel(), low, high)
    return selected


def organise_cloud(
    depth: np.ndarray,
    K: np.ndarray,
    rgb: np.ndarray | None = None,
    sigma: np.ndarray | None = None,
    stride: int = 1,
    normals: np.ndarray | None = None,
) -> np.ndarray:
    """
    Build the organised cloud of a depth image, with the fields of PointCloud2.

    Parameters
    ----------
    depth, sigma : (H, W) float, metres
        Depth along the optical axis, invalid where not finite, and its standard deviation.
    K : (3, 3) float, pixels
        Intrinsics of the rectified image that ``depth`` belongs to.
    rgb : (H, W, 3) uint8 or None
        The image, packed as PointCloud2's field rgb.
    stride : int
        Every n-th row and column.
    normals : (H, W, 3) float or None
        Unit normals towards the camera.

    Returns
    -------
    (ceil(H / stride), ceil(W / stride)) structured
        float32 fields ``x y z``, then ``rgb``, ``sigma`` and ``normal_x normal_y normal_z`` if
        they were given; normals are NaN where the point is.

    Raises
    ------
    InputError, CalibrationError
        If shapes or types are others, ``stride`` is below 1, or ``K`` is no pinhole matrix.

    """
    depth = _checked_depth(depth)
    if stride < 1:
        raise InputError(f'stride is {stride}; choose a value of at least 1', cause='shape')
    rgb, sigma, normals = (None if x is None else np.asarray(x) for x in (rgb, sigma, normals))
    for name, image in (('rgb', rgb), ('sigma', sigma), ('normals', normals)):
        shape = depth.shape if name == 'sigma' else (*depth.shape, 3)
        if image is not None and image.shape != shape:
            text = f'{name} has shape {image.shape}, depth {depth.shape}; {name} must be {shape}'
            raise InputError(f'{text}: resize one of them', cause='shape')
    if rgb is not None and rgb.dtype != np.uint8:
        raise InputError(f'rgb is {rgb.dtype}; colours are uint8, from 0 to 255', cause='shape')
    every, names = np.s_[::stride, ::stride], ['x', 'y', 'z']
    names += ['rgb'] * (rgb is not None) + ['sigma'] * (sigma is not None)
    names += ['normal_x', 'normal_y', 'normal_z'] * (normals is not None)
    fields = _lifted(depth[every], K, stride, len(names))
    if rgb is not None:
        fields[..., 3] = pack_rgb(rgb[every]).view(np.float32)
    if sigma is not None:
        fields[..., names.index('sigma')] = sigma[every]
    if normals is not None:
        known = np.isfinite(depth[every])[..., None]
        fields[..., -3:] = np.where(known, normals[every], np.nan)
    return fields.view([(name, np.float32) for name in names])[..., 0]


def pack_rgb(rgb: np.ndarray) -> np.ndarray:
    """Pack colour (H, W, 3) uint8 as ``r << 16 | g << 8 | b``, PointCloud2's field rgb, uint32."""
    # Blue first in little-endian order.
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA)
    return bgra.view('<u4')[..., 0] & 0xFFFFFF


def cloud_of(result: FrameResult, config: PointsConfig) -> np.ndarray | None:
    """Build the cloud of a frame for ``~/points``; None without metric depth or camera."""
    fitted, camera = result.alignment.metric, result.camera
    if result.metric is None or fitted is None or camera is None:
        return None
    sigma = None
    if config.sigma:  # the fields of a stream stay the same where sigma is not known
        sigma = np.full_like(fitted, np.nan) if result.sigma is None else result.sigma
    return organise_cloud(
        depth_of_cloud(result.metric, fitted, camera.K, config),
        camera.K,
        rgb=result.rgb,
        sigma=sigma,
        stride=config.stride,
        normals=surface_normals(fitted, camera.K) if config.normals else None,
    )


def _checked_depth(depth: np.ndarray) -> np.ndarray:
    depth = np.asarray(depth)
    if depth.ndim != 2:
        raise InputError(f'depth has shape {depth.shape}; a depth image is (H, W)', cause='shape')
    return depth


def _lifted(depth: np.ndarray, K: np.ndarray, stride: int, fields: int) -> np.ndarray:
    """Return x, y and z of every ``stride``-th pixel in the first three of fields (h, w, n)."""
    K = intrinsics(K)
    height, width = depth.shape
    down = (np.arange(height) * stride - K[1, 2]) / K[1, 1]
    right = (np.arange(width) * stride - K[0, 2]) / K[0, 0]
    skewed = K[0, 1] / K[0, 0] * down
    right, down, skewed = (part.astype(np.float32) for part in (right, down, skewed))
    points = np.empty((height, width, fields), np.float32)
    _lift(np.ascontiguousarray(depth, np.float32), right, down, skewed, points)
    return points


@compiled()
def _lift(
    depth: np.ndarray, right: np.ndarray, down: np.ndarray, skewed: np.ndarray, points: np.ndarray
) -> None:
    """Put the points of depth (h, w) along the rays of columns and rows into (h, w, 3 or more)."""
    for i in range(depth.shape[0]):
        for j in range(depth.shape[1]):
            z = depth[i, j] if abs(depth[i, j]) < np.inf else np.float32(np.nan)
            points[i, j, 0] = z * (right[j] - skewed[i])
            points[i, j, 1] = z * down[i]
            points[i, j, 2] = z


@compiled()
def _leave_out(depth: np.ndarray, left_out: np.ndarray, low: np.float32, high: np.float32) -> None:
    """Make depth (n,) NaN where it is left out, or not from low to high."""
    for i in range(len(depth)):
        if left_out[i] or depth[i] < low or depth[i] > high:
            depth[i] = np.nan
