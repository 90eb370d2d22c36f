# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Relative maps of every quality: known depth with the errors of models, down to useless ones."""

import cv2
from marigold_ros.frame import Prediction
import numpy as np


def draw_map(
    rng: np.random.Generator, rgb: np.ndarray, depth: np.ndarray, foreign: np.ndarray
) -> Prediction | None:
    """
    Draw a prediction (H, W) for an image with depth (H, W), NaN or inf unknown; or none.

    ``foreign`` is the depth of another scene at any size. A tenth has none; of the others half
    resemble the truth, a third is plausible and wrong (blurred, with objects of another scene and
    the image's texture, as of a model far from its training), and a sixth is useless.
    """
    kind = rng.random()
    if kind < 0.1:
        return None
    filled = _filled(depth)
    if kind < 0.55:
        distorted = _distorted(rng, filled)
    elif kind < 0.85:
        distorted = _plausible(rng, rgb, filled, foreign)
    elif kind < 0.88:
        distorted = -_distorted(rng, filled)
    elif kind < 0.91:
        distorted = rng.normal(0, 0.01, depth.shape)
    elif kind < 0.96:
        distorted = cv2.resize(_filled(foreign), depth.shape[::-1])
    else:
        distorted = rgb.astype(np.float32).mean(axis=2) * rng.choice((-1, 1))
    low, high = np.percentile(distorted, [2, 98])
    relative = np.clip((distorted - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return Prediction(relative)


def _plausible(
    rng: np.random.Generator, rgb: np.ndarray, depth: np.ndarray, foreign: np.ndarray
) -> np.ndarray:
    """Blur the truth, and mix in another scene and the texture of the image."""
    size = depth.shape[::-1]
    log_depth = np.log(_distorted(rng, depth).astype(np.float32).clip(1e-2))
    sigma = np.exp(rng.uniform(np.log(0.01), np.log(0.2))) * size[0]
    log_depth = cv2.GaussianBlur(log_depth, (0, 0), sigma)
    other = np.log(cv2.resize(_filled(foreign), size))
    log_depth += rng.uniform(0, 0.6) * (other - float(np.median(other)))
    grey = rgb.astype(np.float32).mean(axis=2) / 255
    texture = grey - cv2.GaussianBlur(grey, (0, 0), 0.05 * size[0])
    log_depth += rng.normal(0, 0.8) * texture
    if rng.random() < 0.7:
        log_depth = cv2.GaussianBlur(log_depth, (0, 0), rng.uniform(0.5, 4.0))
    return np.exp(log_depth)


def _distorted(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Apply the errors of a model: of tone, of regions, of objects, of edges, and noise."""
    size = depth.shape[::-1]
    strength = float(np.exp(rng.uniform(np.log(0.05), np.log(3.0))))
    cells = int(rng.integers(2, 12))
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    field = 0.12 * strength * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    log_depth = np.log(depth)
    middle = float(np.median(log_depth))
    log_depth = middle + (log_depth - middle) * (1 + 0.15 * strength * rng.normal())
    if rng.random() < 0.6:
        segments = _segments(rng, log_depth)
        offsets = 0.08 * strength * rng.normal(size=int(segments.max()) + 1)
        field = field + offsets[segments].astype(np.float32)
    if rng.random() < 0.5:  # the far end saturates
        far = float(np.percentile(log_depth, rng.uniform(70, 99)))
        log_depth = np.minimum(log_depth, far + 0.3 * np.tanh((log_depth - far) / 0.3))
    distorted = np.exp(log_depth + field)
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.0 + 1.5 * min(strength, 2.0))
        distorted = cv2.GaussianBlur(distorted.astype(np.float32), (0, 0), sigma)
    return distorted * (1 + 0.01 * strength * rng.normal(size=depth.shape))


def _segments(rng: np.random.Generator, log_depth: np.ndarray) -> np.ndarray:
    """Segment pixels by the nearest of some centres in position and log depth; (H, W) int."""
    from scipy.spatial import cKDTree

    height, width = log_depth.shape
    step = 2
    v, u = np.mgrid[0:height:step, 0:width:step]
    place = np.stack([u / width, v / width, log_depth[::step, ::step] / 0.8], axis=-1)
    place = place.reshape(-1, 3)
    centres = place[rng.choice(len(place), int(rng.integers(8, 40)), replace=False)]
    found = cKDTree(centres).query(place)[1].reshape(u.shape).astype(np.uint8)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST)


def _filled(depth: np.ndarray) -> np.ndarray:
    """Set unknown depth to the farthest known."""
    known = np.isfinite(depth) & (depth > 0)
    far = float(depth[known].max()) if known.any() else 1.0
    return np.where(known, depth, np.float32(far)).astype(np.float32)
