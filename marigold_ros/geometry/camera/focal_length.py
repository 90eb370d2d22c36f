# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The focal length relative to the image, which metric depth from one image depends on."""

from dataclasses import replace
import math

from marigold_ros.frame import Camera, Prediction
from marigold_ros.geometry.camera.rectification import rectified
import numpy as np


def focal_share(camera: Camera) -> float:
    """Return the focal length of the rectified image over the root of its area, in pixels."""
    K = rectified(camera).K
    return math.sqrt(K[0, 0] * K[1, 1] / (camera.width * camera.height))


def at_focal_length(
    prediction: Prediction, known: float | None, camera: Camera | None
) -> Prediction:
    """
    Scale metric depth of a model that was taught by images of another focal length.

    With twice the focal length, an object looks alike at twice the distance. ``known`` is the
    :func:`focal_share` that the model knows; without it, or a camera, nothing changes.
    """
    if known is None or camera is None or prediction.space != 'metric':
        return prediction
    ratio = np.float32(focal_share(camera) / known)
    spread = None if prediction.spread is None else prediction.spread * ratio
    return replace(prediction, relative=prediction.relative * ratio, spread=spread)
