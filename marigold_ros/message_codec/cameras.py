# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Decode ``sensor_msgs/CameraInfo`` of ROS 1 and 2 to a Camera, and encode a Camera.

Decision: a Camera describes the image as it arrives, so region of interest and binning are
applied here only, in the order of image_geometry (first the offset, then the binning).
``roi.do_rectify`` means that the rectified image needs a region of its own; the raw image's
window serves for both, so the flag is ignored, and pixels that rectification cannot fill are
invalid.
"""

from typing import Any

from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Camera
import numpy as np


def to_camera(camera_info: Any, rectified: bool = False) -> Camera:
    """
    Decode the camera of the image that a CameraInfo belongs to.

    Parameters
    ----------
    camera_info : CameraInfo
        With ``k d r p`` (ROS 2) or ``K D R P`` (ROS 1).
    rectified : bool
        Whether the image is rectified (image_proc publishes image_rect beside the raw
        camera_info): K is then the message's P, without distortion.

    Returns
    -------
    Camera
        K, P and size after region of interest and binning; P is its left (3, 3) part; P and R
        are None where the message has zeros.

    Raises
    ------
    CalibrationError
        For invalid matrices (K of zeros: uncalibrated), sizes of zero, a region outside the image.

    """
    K = _matrix(camera_info, 'k', (3, 3))
    R = _matrix(camera_info, 'r', (3, 3))
    P = _matrix(camera_info, 'p', (3, 4))[:, :3]
    x_offset, y_offset, width, height = _region(camera_info)
    bin_x, bin_y = max(int(camera_info.binning_x), 1), max(int(camera_info.binning_y), 1)
    to_window = [[1 / bin_x, 0, -x_offset / bin_x], [0, 1 / bin_y, -y_offset / bin_y], [0, 0, 1]]
    window = np.array(to_window)
    size = width // bin_x, height // bin_y
    if rectified:
        return Camera(window @ (P if P.any() else K), *size)
    distortion = np.asarray(_either(camera_info, 'd'), np.float64).reshape(-1)
    if not np.isfinite(distortion).all():
        raise CalibrationError(
            f'camera_info.d is {distortion.tolist()}; coefficients must be finite; '
            'calibrate the camera again'
        )
    return Camera(
        window @ K,
        *size,
        distortion=tuple(distortion.tolist()),
        distortion_model=camera_info.distortion_model or 'plumb_bob',
        R=R if R.any() else None,
        P=window @ P if P.any() else None,
    )


def camera_info_fields(camera: Camera) -> dict[str, Any]:
    """
    Encode a Camera as the fields of a ROS 2 CameraInfo, without header.

    Parameters
    ----------
    camera : Camera
        R None becomes the identity, P None becomes K with a column of zeros; coefficients that
        plumb_bob lacks become zeros.

    Returns
    -------
    dict
        height, width, distortion_model, d, k, r, p; matrices as flat lists of float.

    """
    P = np.zeros((3, 4))
    P[:, :3] = camera.K if camera.P is None else camera.P
    R = np.eye(3) if camera.R is None else np.asarray(camera.R, np.float64)
    d = [float(value) for value in camera.distortion]
    if camera.distortion_model == 'plumb_bob':  # has five coefficients by definition
        d += [0.0] * (5 - len(d))
    return {
        'height': int(camera.height),
        'width': int(camera.width),
        'distortion_model': camera.distortion_model,
        'd': d,
        'k': np.asarray(camera.K, np.float64).reshape(-1).tolist(),
        'r': R.reshape(-1).tolist(),
        'p': P.reshape(-1).tolist(),
    }


def _either(camera_info: Any, name: str) -> Any:
    """Return a field under its ROS 2 name or its ROS 1 name."""
    return getattr(camera_info, name if hasattr(camera_info, name) else name.upper())


def _matrix(camera_info: Any, name: str, shape: tuple[int, int]) -> np.ndarray:
    values = np.asarray(_either(camera_info, name), np.float64).reshape(-1)
    if values.size == shape[0] * shape[1] and np.isfinite(values).all():
        return values.reshape(shape)
    raise CalibrationError(
        f'camera_info.{name} is {values.tolist()}; it needs {shape[0] * shape[1]} finite numbers; '
        'calibrate the camera again'
    )


def _region(camera_info: Any) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the window on the sensor, in unbinned pixels."""
    width, height = int(camera_info.width), int(camera_info.height)
    if width <= 0 or height <= 0:
        raise CalibrationError(
            f'camera_info is for {width}x{height} px; both sides must be positive; '
            'check width and height in the calibration file'
        )
    roi = camera_info.roi
    region = (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height))
    if region == (0, 0, 0, 0):  # CameraInfo.msg: all zero means the full resolution
        return 0, 0, width, height
    x, y, roi_width, roi_height = region
    inside = roi_width > 0 and roi_height > 0 and x + roi_width <= width
    if inside and y + roi_height <= height:
        return region
    raise CalibrationError(
        f'camera_info.roi is {roi_width}x{roi_height} px at ({x}, {y}) of {width}x{height}; '
        'it must lie inside, in unbinned pixels of the full sensor; check the driver'
    )
