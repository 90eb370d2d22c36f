# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Camera models: rescaling, focal lengths, rectification of images and depth, thumbnails.

All later steps work on rectified images with one pinhole matrix, because a depth image can only be
published with such a one. A camera's frame is that of its *rectified* image, as CameraInfo defines
``P``: extrinsics and clouds need no ``R``.
"""

from dataclasses import replace
from functools import lru_cache
import math

import cv2
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Camera, Prediction, SparseDepth
from marigold_ros.geometry.camera.hidden_points import nearest_per_pixel
from marigold_ros.kernels.bilinear import sampled
import numpy as np

# Number of coefficients that OpenCV accepts for each model of sensor_msgs/CameraInfo. Two of them
# are one model, as in image_geometry: drivers of Orbbec write plumb_bob with eight. Isaac ROS
# (NITROS) writes equidistant with eight, of which the last four are zero.
_PINHOLE = (4, 5, 8, 12, 14)
_COEFFICIENTS = {'plumb_bob': _PINHOLE, 'rational_polynomial': _PINHOLE, 'equidistant': (4,)}
# Rounds, and change in pixels, at which undistortion ends: five rounds, the default, err by pixels
# in the corners of wide images. No ray leads to a pixel from which the best one is so far.
_ENDS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-3)
_MISSED = 1.0


def rescale(camera: Camera, width: int, height: int) -> Camera:
    """
    Return the camera (width, height) of an image resized from ``camera``'s.

    Focal lengths and principal point are multiplied by the ratio of the sizes, as image_proc does
    and consumers of CameraInfo expect. OpenCV resizes about pixel centres, which would give
    ``(c + 0.5) s - 0.5``: half a pixel of the smaller image at most.
    """
    ratio = np.diag([width / camera.width, height / camera.height, 1.0])
    P = None if camera.P is None else ratio @ camera.P
    return replace(camera, K=ratio @ camera.K, P=P, width=width, height=height)


def is_rectified(camera: Camera) -> bool:
    """Return whether images of this camera already follow the pinhole model of ``K``."""
    undistorted = not any(camera.distortion)
    unturned = camera.R is None or np.allclose(camera.R, np.eye(3), atol=1e-9)
    unchanged = camera.P is None or np.allclose(camera.P, camera.K, rtol=1e-9, atol=1e-6)
    return undistorted and unturned and unchanged


def rectified(camera: Camera) -> Camera:
    """Return the pinhole camera of the rectified image: ``P``, or ``K`` with its skew."""
    K = camera.K if camera.P is None else camera.P
    return Camera(K=K, width=camera.width, height=camera.height)


def rectify_image(image: np.ndarray, camera: Camera, nearest: bool = False) -> np.ndarray:
    """
    Undo distortion and rotation of a raw image, (H, W) or (H, W, C), of ``camera``.

    The result is an image of ``rectified(camera)``. Pixels are sampled bilinearly, or from the
    nearest one for labels; they are 0 where there is none, see :func:`rectified_valid`.
    Raises CalibrationError if the size differs from the camera's, or the distortion model is
    unknown.
    """
    camera.require_size(image.shape[:2], 'rescale the camera or check camera_info')
    if is_rectified(camera):
        return image
    map_x, map_y = _maps(_key(camera))
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(image, map_x, map_y, how, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def rectify_depth(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Move depth (H, W), metres, of a raw image into the rectified one, along whose axis it is."""
    moved = rectify_image(np.asarray(depth, np.float32), camera, nearest=True)
    R = np.eye(3) if camera.R is None else camera.R
    # A ray (x, y, 1) of the rectified image has raw depth R[:, 2] @ (x, y, 1).
    a, b, c = R[:, 2] @ np.linalg.inv(rectified(camera).K)
    rows, columns = np.ogrid[: camera.height, : camera.width]
    return np.asarray(moved / (a * columns + b * rows + c), np.float32)


def rectified_valid(camera: Camera) -> np.ndarray:
    """Return which pixels (H, W) of the rectified image show the raw one."""
    if is_rectified(camera):
        return np.ones((camera.height, camera.width), dtype=bool)
    return _valid(_key(camera))


def rectify_sparse(sparse: SparseDepth, camera: Camera) -> SparseDepth:
    """
    Move sparse depth registered to the raw image into the rectified one.

    Points that leave the image are dropped and count as ``outside``; of those that get into one
    pixel the nearest stays. Raises CalibrationError if the distortion model is unknown,
    AlignmentError if a point lies outside of the raw image.
    """
    if is_rectified(camera) or len(sparse) == 0:
        return sparse
    sparse.require_inside((camera.height, camera.width))
    u, v, stretch = _moved(sparse.u, sparse.v, _key(camera))
    z = sparse.z * stretch
    inside = np.flatnonzero((stretch > 0) & (z > 0) & (z < np.inf))
    outside = len(z) - len(inside)
    u, v, z = u[inside].astype(int), v[inside].astype(int), z[inside].astype(np.float32)
    first = nearest_per_pixel(u, v, z, camera.width)
    kept = sparse.kept(inside[first], outside=outside, farther_in_pixel=len(z) - len(first))
    return replace(kept, u=u[first], v=v[first], z=z[first])


def focal_share(camera: Camera) -> float:
    """Return the focal length of the rectified image over the root of its area, in pixels."""
    K = rectified(camera).K
    return math.sqrt(K[0, 0] * K[1, 1] / (camera.width * camera.height))


def at_focal_length(prediction: Prediction, camera: Camera | None) -> Prediction:
    """
    Scale metric depth that holds for another focal length than a camera's.

    Without ``focal_share`` of the prediction, or a camera, nothing changes.
    """
    known = math.isfinite(prediction.focal_share) and prediction.space == 'metric'
    if not known or camera is None:
        return prediction
    share = focal_share(camera)
    ratio = np.float32(share / prediction.focal_share)
    spread = None if prediction.spread is None else prediction.spread * ratio
    relative = prediction.relative * ratio
    return replace(prediction, relative=relative, spread=spread, focal_share=share)


def reduced(rgb: np.ndarray, longest_side: int = 320) -> np.ndarray:
    """Shrink an image to a limit on its longest side, (h, w, 3) uint8."""
    height, width = rgb.shape[:2]
    share = min(1.0, longest_side / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def thumbnail(rgb: np.ndarray, longest_side: int = 320) -> np.ndarray:
    """Shrink an image to grey as ``reduced`` does, (h, w) float32 in [0, 255]."""
    return cv2.cvtColor(reduced(rgb, longest_side), cv2.COLOR_RGB2GRAY).astype(np.float32)


def _key(camera: Camera) -> tuple:
    """Hashable key of all that the maps depend on."""
    R = np.eye(3) if camera.R is None else camera.R
    return (
        camera.K.tobytes(),
        R.tobytes(),
        rectified(camera).K.tobytes(),
        camera.distortion_model,
        camera.distortion,
        camera.width,
        camera.height,
    )


def _coefficients(model: str, distortion: tuple[float, ...]) -> np.ndarray:
    """Return coefficients as OpenCV takes them, or raise CalibrationError."""
    if not any(distortion):
        return np.zeros(4)
    if model not in _COEFFICIENTS:
        raise CalibrationError(
            f"distortion model is '{model}'; known are {', '.join(sorted(_COEFFICIENTS))}: "
            'publish a rectified image, or calibrate with one of these'
        )
    values = np.asarray(distortion, dtype=np.float64)
    most = _COEFFICIENTS[model][-1]
    if not values[most:].any():
        values = values[:most]
    if len(values) not in _COEFFICIENTS[model] or not np.isfinite(values).all():
        raise CalibrationError(
            f'distortion is {distortion}; {model} takes '
            f'{" or ".join(map(str, _COEFFICIENTS[model]))} finite coefficients: check camera_info'
        )
    return values


def _model(key: tuple) -> tuple:
    """Return K, R and P, the coefficients, whether they are a fisheye's, and the size of a key."""
    *matrices, model, distortion, width, height = key
    K, R, P = (np.frombuffer(matrix).reshape(3, 3) for matrix in matrices)
    coefficients = _coefficients(model, distortion)
    return K, R, P, coefficients, model == 'equidistant', (width, height)


# A robot has few cameras; the maps of one at 1280x720 take 7 MB.
@lru_cache(maxsize=8)
def _maps(key: tuple) -> np.ndarray:
    """Compute where each rectified pixel lies in the raw image: (2, H, W) float32."""
    K, R, P, coefficients, fisheye, size = _model(key)
    init = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    maps = np.stack(init(K, coefficients, R, P, size, cv2.CV_32FC1))
    if K[0, 1]:  # OpenCV knows no skew of the raw image
        maps[0] += K[0, 1] / K[1, 1] * (maps[1] - K[1, 2])
    right, down = np.diff(maps)[:, 1:], np.diff(maps, axis=1)[:, :, 1:]
    folded = right[0] * down[1] < right[1] * down[0]
    if folded.any():
        # Beyond the angle at which the distortion folds back rays project into the raw image a
        # second time, mirrored.
        rays = cv2.initUndistortRectifyMap(np.eye(3), None, R, P, size, cv2.CV_32FC1)
        away = np.hypot(*rays)
        maps[0, away >= away[1:, 1:][folded].min()] = -1.0
    return maps


@lru_cache(maxsize=8)
def _places(key: tuple) -> np.ndarray:
    """Return what `_moved` knows of each raw pixel, (3, H, W); 0 is not known yet."""
    *_, width, height = key
    return np.zeros((3, height, width), np.float32)


def _moved(u: np.ndarray, v: np.ndarray, key: tuple) -> np.ndarray:
    """
    Return where raw pixels (M,) lie in the rectified image, (3, M).

    Column and row, and depth over raw depth; -1 each where they leave the image.
    """
    places = _places(key)
    new = places[2, v, u] == 0
    if new.any():  # for the first time: a sensor mostly sees the same pixels
        places[:, v[new], u[new]] = _undistorted(u[new], v[new], key)
    return places[:, v, u]


def _undistorted(u: np.ndarray, v: np.ndarray, key: tuple) -> np.ndarray:
    """Compute what `_moved` returns."""
    K, R, P, coefficients, fisheye, (width, height) = _model(key)
    pixels = np.stack([u, v], axis=-1).astype(np.float64)[:, None]
    straight = pixels - [K[0, 1] / K[1, 1], 0.0] * (pixels[..., 1:] - K[1, 2])  # without skew
    if fisheye:
        rays = cv2.fisheye.undistortPoints(straight, K, coefficients)
    else:
        # OpenCV 4 has a function of its own for this.
        undistort = getattr(cv2, 'undistortPointsIter', cv2.undistortPoints)
        rays = undistort(straight, K, coefficients, R=None, P=None, criteria=_ENDS)
    points = np.concatenate([rays[:, 0], np.ones((len(u), 1))], axis=1) @ R.T
    stretch = points[:, 2]
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        x, y, _ = (points / stretch[:, None] @ P.T).T
        seen = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5) & (stretch > 0)
    back = np.stack([sampled(part, x[seen] + 0.5, y[seen] + 0.5) for part in _maps(key)], axis=1)
    seen[seen] = np.abs(back - pixels[seen, 0]).max(axis=1) < _MISSED
    return np.where(seen, (np.floor(x + 0.5), np.floor(y + 0.5), stretch), -1.0)


@lru_cache(maxsize=8)
def _valid(key: tuple) -> np.ndarray:
    """Pixels that show a place inside the raw image; read-only because it is shared."""
    map_x, map_y = _maps(key)
    height, width = map_x.shape
    # Half a pixel beyond the outermost centres still belongs to the outermost pixels.
    valid = (map_x >= -0.5) & (map_x <= width - 0.5) & (map_y >= -0.5) & (map_y <= height - 0.5)
    valid.flags.writeable = False
    return valid
