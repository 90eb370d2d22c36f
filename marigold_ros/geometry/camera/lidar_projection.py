# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Sparse depth in a rectified image: LiDAR projection without what is hidden, depth images.

From a camera in the place of the LiDAR, as of a depth camera's cloud, nothing is hidden.
"""

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Camera, check_rotation, SparseDepth
from marigold_ros.geometry.around_points import spacing_of
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.camera.hidden_points import (
    behind_surfaces,
    nearest_per_pixel,
    not_hidden,
)
from marigold_ros.geometry.camera.rectification import is_rectified
import numpy as np

# Metres; sensors that are nearer to each other are in one place.
_ONE_PLACE = 1e-3
# Share of points behind surfaces above which the scan was not made at the origin of its frame, as
# in base_link or odom: up to 0.7 on nuScenes. On synthetic drives a LiDAR 1.5 m above the camera
# has 0.2 at most, on real ones one beside it 0.03.
_MOST_BEHIND = 0.3


@one_blas_thread(of_scipy=False)
def project_lidar(
    points_lidar: np.ndarray,
    T_cam_lidar: np.ndarray,
    camera: Camera,
    config: AlignmentConfig,
    valid: np.ndarray | None = None,
) -> SparseDepth:
    """
    Project a scan into a rectified image and keep the points visible to the camera.

    Parameters
    ----------
    points_lidar : (N, 3) float, metres
        The scan in the LiDAR's frame; rows that are not finite are dropped and counted.
    T_cam_lidar : (4, 4) float
        ``p_cam = T_cam_lidar @ p_lidar``.
    camera : Camera
        A rectified camera.
    config : AlignmentConfig
        Depth range and the occlusion test.
    valid : (H, W) bool or None
        Pixels that hold image; points elsewhere count as outside.

    Returns
    -------
    SparseDepth
        At most one point per pixel; ``counts`` of all ``points``, by why they were dropped.

    Raises
    ------
    CalibrationError
        If the transform is not a rigid motion, or the camera is not rectified.
    InputError
        If the points are not (N, 3), or ``valid`` is not of the camera's size.

    """
    T = check_transform(T_cam_lidar)
    points = _checked_scan(points_lidar, camera)
    counts = {'points': len(points)}

    index = np.flatnonzero(np.isfinite(points).all(axis=1))
    counts['not_finite'] = len(points) - len(index)
    x, y, z = T[:3, :3] @ points[index].T.astype(np.float64) + T[:3, 3:]

    near = (z >= config.min_depth) & (z <= config.max_depth)
    if T[2, 3] >= config.min_depth:
        # Drivers write a ray without a return as 0 0 0, which is the sensor itself.
        near &= (x != T[0, 3]) | (y != T[1, 3]) | (z != T[2, 3])
    counts['out_of_range'] = len(index) - int(near.sum())
    index, x, y, z = index[near], x[near], y[near], z[near]
    in_range = x, y, z

    K = camera.K
    u = (K[0, 0] * x + K[0, 1] * y) / z + (K[0, 2] + 0.5)
    v = K[1, 1] * y / z + (K[1, 2] + 0.5)
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    if valid is not None:
        if np.shape(valid) != (camera.height, camera.width):
            text = f'valid has shape {np.shape(valid)}, the camera {camera.height, camera.width}'
            raise InputError(f'{text}; give the mask of its image', cause='shape')
        inside[inside] = np.asarray(valid)[v[inside].astype(np.intp), u[inside].astype(np.intp)]
    counts['outside'] = len(index) - int(inside.sum())
    index, z, place = index[inside], z[inside].astype(np.float32), np.flatnonzero(inside)
    u, v = u[inside].astype(np.intp), v[inside].astype(np.intp)

    first = nearest_per_pixel(u, v, z, camera.width)
    counts['farther_in_pixel'] = len(index) - len(first)
    index, u, v, z, place = index[first], u[first], v[first], z[first], place[first]

    seen = np.ones(len(z), dtype=bool)
    if config.occlusion_window > 1 and np.linalg.norm(T[:3, 3]) > _ONE_PLACE:
        seen = not_hidden(u, v, z, config.occlusion_window, config.occlusion_threshold)
        if len(z) > 1:
            scan = np.stack(in_range, out=np.empty((3, len(x)), np.float32))
            behind = behind_surfaces(scan, T[:3, 3], place, spacing_of(u, v) / K[0, 0])
            if behind.mean() <= _MOST_BEHIND:
                seen &= ~behind
    counts['occluded'] = len(index) - int(seen.sum())
    counts['kept'] = int(seen.sum())
    return SparseDepth(u[seen], v[seen], z[seen], index[seen], counts)


def sparse_from_depth(depth: np.ndarray, config: AlignmentConfig, stride: int = 1) -> SparseDepth:
    """
    Sample sparse depth from every n-th row and column of a registered depth image (H, W), metres.

    Values that are not finite and positive are invalid; the result's ``index`` counts into the
    flattened depth image. Raises InputError as `checked_depth`.
    """
    depth = checked_depth(depth, stride)
    z = depth[::stride, ::stride].astype(np.float32)
    known = np.isfinite(z) & (z > 0)
    kept = known & (z >= config.min_depth) & (z <= config.max_depth)
    v, u = np.nonzero(kept)
    counts = {
        'points': z.size,
        'not_finite': int(z.size - known.sum()),
        'out_of_range': int(known.sum() - kept.sum()),
        'outside': 0,
        'farther_in_pixel': 0,
        'occluded': 0,
        'kept': len(u),
    }
    z = z[kept]
    u, v = u * stride, v * stride
    return SparseDepth(u, v, z, v * depth.shape[1] + u, counts)


def checked_depth(depth: np.ndarray, stride: int = 1) -> np.ndarray:
    """Return depth (H, W) as an array; InputError if it holds no numbers or a step is below 1."""
    depth = np.asarray(depth)
    if depth.ndim != 2 or not depth.size or depth.dtype.kind not in 'fiu' or stride < 1:
        text = f'depth has shape {depth.shape}, dtype {depth.dtype} and stride {stride}'
        raise InputError(f'{text}; give (H, W) floats and a stride of at least 1', cause='shape')
    return depth


def check_transform(T: np.ndarray) -> np.ndarray:
    """Return a rigid motion as (4, 4) float64; raise CalibrationError if it is none."""
    T = np.asarray(T, dtype=np.float64)
    remedy = 'check T_cam_lidar (the transform camera <- LiDAR: p_cam = T_cam_lidar @ p_lidar)'
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise CalibrationError(
            f'T_cam_lidar has shape {T.shape} and finite={bool(np.isfinite(T).all())}; a '
            f'transform is a finite (4, 4) matrix: {remedy}'
        )
    if not np.allclose(T[3], (0, 0, 0, 1), atol=1e-9):
        raise CalibrationError(
            f'the last row of T_cam_lidar is {T[3].tolist()}; it must be 0 0 0 1: {remedy}'
        )
    # Rotations from rounded files (KITTI writes 7 digits) miss orthonormality by up to 1e-4.
    check_rotation(T[:3, :3], 'the rotation of T_cam_lidar', 1e-3, remedy)
    return T


def _checked_scan(points_lidar: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the scan as an array (N, 3), which can be projected into the camera's image."""
    if not is_rectified(camera):
        raise CalibrationError(
            f'camera has distortion {camera.distortion} ({camera.distortion_model}); points are '
            'projected into rectified images only: use rectified(camera) and rectify_image'
        )
    points = np.asarray(points_lidar)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in 'fiu':
        text = f'points have shape {points.shape} and dtype {points.dtype}'
        raise InputError(f'{text}; a scan is (N, 3) floats: x, y, z in metres', cause='shape')
    return points
