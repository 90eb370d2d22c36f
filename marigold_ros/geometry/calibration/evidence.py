# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Evidence of one image for errors of the LiDAR's mounting: agreement with points moved back.

Some points of each frame are tried with each of many errors taken back: those on the near side of
a step in depth should meet edges of the image, and local differences of depth those of the fitted
map. Sums of agreement over many images are far more robust than an error per image.
"""

from collections.abc import Mapping

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.camera.hidden_points import nearest_per_pixel
import numpy as np

# Errors tried, two at once; estimates lie between them. Points lie to the right of and above the
# image, are turned clockwise, spread as by focal lengths too long by a share, and shifted.
YAW_DEG, PITCH_DEG = np.arange(-5.0, 5.1, 0.5), np.arange(-4.0, 4.1, 0.5)
ROLL_DEG, FOCAL_SHARE = np.linspace(-12.0, 12.0, 13), np.linspace(-0.2, 0.2, 9)
SHIFT_M = np.linspace(-0.4, 0.4, 9)
ERRORS = {
    'turned': {'yaw_deg': YAW_DEG, 'pitch_deg': PITCH_DEG},
    'rolled': {'roll_deg': ROLL_DEG, 'focal_share': FOCAL_SHARE},
    'shifted': {'right_m': SHIFT_M, 'up_m': SHIFT_M},
}
# Points drawn for each of the two kinds of agreement.
_SAMPLES = 128
_LEAST_POINTS = 50
# Tiles along the longest side, and tiles in the neighbourhood of a local difference.
_TILES, _SIDE = 40, 5
# Window of the search for background behind a point, as a share of the longest side, and pixels:
# beyond the window in which `not_hidden` leaves no background.
_REACH, _LEAST_REACH = 0.025, 9
_LARGEST_STEP = np.float32(0.5)  # log depth
_SMALLEST_STEP = 0.1  # of the inverse depth, as a share


def agreement(
    grey: np.ndarray,
    log_depth: np.ndarray | None,
    sparse: SparseDepth,
    K: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Mapping[str, np.ndarray] | None:
    """
    Score the agreement of points and image for each error that is taken back.

    ``grey`` (h, w) float32 is a thumbnail, values in [0, 255]; ``log_depth`` that of the whole
    image by the affine fit, float32 of any size, without which the image alone counts; ``K`` (3,
    3) and ``size`` (height, width) in pixels belong to the full image. Returns (A, B) float32 for
    each pair of :data:`ERRORS`, about 1 for full agreement, about 0 for none; None with too few
    points or steps in depth, or an image of one grey, where all errors agree alike.
    """
    if len(sparse) < _LEAST_POINTS:
        return None
    shape = grey.shape
    pixels = np.stack([sparse.u, sparse.v], axis=1)
    cell = pixels * (shape[1], shape[0]) // (size[1], size[0])
    step, difference = _structure(cell, np.log(sparse.z), shape)
    if np.count_nonzero(step) < _LEAST_POINTS // 5 or grey.min() == grey.max():
        return None
    parts = [(_draw(step, rng), _edges(grey))]
    signs = [np.ones(_SAMPLES, np.float32)]
    if log_depth is not None:
        local = np.clip(log_depth - _around(log_depth), -_LARGEST_STEP, _LARGEST_STEP)
        parts.append((_draw(np.abs(difference), rng), local))
        signs.append(np.sign(difference[parts[1][0]]))
    total = {name: np.float32(0.0) for name in ERRORS}
    for (chosen, image), sign in zip(parts, signs, strict=True):
        places = _moved_back(pixels[chosen], sparse.z[chosen], K, size, image.shape)
        for name, terms in places.items():
            found = _values(image, terms)
            signed = np.tensordot(sign, found, 1)
            least = np.float32(1e-6)
            total[name] += signed / np.sqrt(_SAMPLES * np.square(found).sum(axis=0) + least)
    return {name: np.asarray(score / np.float32(len(parts))) for name, score in total.items()}


def _structure(
    cell: np.ndarray, log_z: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Step in depth behind each point, and difference to the local mean log depth, (M,) each."""
    u, v = cell.T
    tile = max(shape) / _TILES
    rows, columns = (int(np.ceil(side / tile)) for side in shape)
    home = (v // tile).astype(np.intp) * columns + (u // tile).astype(np.intp)
    sums = [
        cv2.blur(np.bincount(home, values, rows * columns).reshape(rows, columns), (_SIDE, _SIDE))
        for values in (log_z, np.ones(len(log_z)))
    ]
    difference = log_z - (sums[0] / np.maximum(sums[1], 1e-6)).ravel()[home]
    difference = np.clip(difference, -_LARGEST_STEP, _LARGEST_STEP)
    # Inverse depth is linear along a plane. Where it falls as much on one side as it rises on the
    # other, as along the walls of a corridor, there is no step, and no edge in the image.
    inverse = np.exp(-log_z)
    least, most = np.full(shape, np.inf, np.float32), np.zeros(shape, np.float32)
    first = nearest_per_pixel(u, v, log_z, shape[1])
    least[v[first], u[first]] = most[v[first], u[first]] = inverse[first]
    window = np.ones((3, max(_LEAST_REACH, int(_REACH * max(shape)) | 1)), np.uint8)
    step = 2.0 - (cv2.erode(least, window) + cv2.dilate(most, window))[v, u] / inverse
    step = np.where(step > _SMALLEST_STEP, step, 0.0)
    return step, difference.astype(np.float32)


def _draw(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw points by weight, one from each of equal parts of the sum."""
    total = np.cumsum(weight)
    marks = (np.arange(_SAMPLES) + rng.random()) * (total[-1] / _SAMPLES)
    return np.minimum(np.searchsorted(total, marks), len(weight) - 1)


def _around(image: np.ndarray) -> np.ndarray:
    """Local mean of each pixel, computed at a small size."""
    height, width = image.shape
    tile = max(image.shape) / _TILES
    size = max(1, round(width / tile)), max(1, round(height / tile))
    few = cv2.blur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (_SIDE, _SIDE))
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR))


def _edges(grey: np.ndarray) -> np.ndarray:
    """Strength of edges relative to their neighbourhood, mean about 0."""
    calm = cv2.GaussianBlur(grey, (3, 3), 0)
    strength = cv2.magnitude(cv2.Sobel(calm, cv2.CV_32F, 1, 0), cv2.Sobel(calm, cv2.CV_32F, 0, 1))
    edges = np.minimum(strength / (_around(strength) + np.float32(4.0)), np.float32(3.0))
    return np.asarray(edges - np.float32(cv2.mean(edges)[0]))


def _moved_back(
    pixels: np.ndarray,
    z: np.ndarray,
    K: np.ndarray,
    size: tuple[int, int],
    shape: tuple[int, ...],
) -> dict[str, tuple[np.ndarray, ...]]:
    """
    Place N points in an image of a ``shape`` where they lie with each error taken back.

    Returns column and row, whole numbers (2, N, A or 1, B or 1), as terms of which they are sums.
    """
    ratio = np.array([shape[1] / size[1], shape[0] / size[0]])
    focal = K[[0, 1], [0, 1]] * ratio
    x, y = ((pixels - K[:2, 2]) / K[[0, 1], [0, 1]]).T[..., None]
    place = ((pixels + 0.5) * ratio - 0.5).T[..., None]
    # By a K of placeholders, as the identity, a degree may be millions of pixels.
    most = max(shape)

    def moved(by_x: np.ndarray, by_y: np.ndarray) -> np.ndarray:
        return np.clip(np.stack([focal[0] * by_x, focal[1] * by_y]), -most, most)

    # To first order in the angles, with the growth towards the corners of a wide image. Both
    # turns are rounded by themselves, so that one addition joins them.
    yaw, pitch = np.tan(np.deg2rad(YAW_DEG)), np.tan(np.deg2rad(PITCH_DEG))
    by_yaw = place + moved(-(1 + x * x) * yaw, -x * y * yaw)
    by_pitch = moved(x * y * pitch, (1 + y * y) * pitch)
    shift = SHIFT_M / z[:, None]
    by_right, by_up = place + moved(-shift, 0.0 * shift), moved(0.0 * shift, shift)
    roll = np.deg2rad(ROLL_DEG)
    turned = np.stack([x * np.cos(roll) + y * np.sin(roll), y * np.cos(roll) - x * np.sin(roll)])
    back = turned[..., None] / (1.0 + FOCAL_SHARE) - np.stack([x, y])[..., None]
    by_roll = place[..., None] + moved(*back)
    terms = {
        'turned': (by_yaw[..., None], by_pitch[:, :, None]),
        'rolled': (by_roll,),
        'shifted': (by_right[..., None], by_up[:, :, None]),
    }
    return {name: tuple(np.rint(term) for term in pair) for name, pair in terms.items()}


def _values(image: np.ndarray, terms: tuple[np.ndarray, ...]) -> np.ndarray:
    """Values (N, A, B) of an image at sums of places (2, N, A or 1, B or 1); 0 outside of it."""
    lowest, highest = sum(term.min() for term in terms), sum(term.max() for term in terms)
    margin = 1 + int(max(-lowest, highest - min(image.shape), 0))
    framed = cv2.copyMakeBorder(
        image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0.0
    )
    index = [(term[1] * framed.shape[1] + term[0]).astype(np.int32) for term in terms]
    return np.take(framed, sum(index[1:], index[0]) + margin * (framed.shape[1] + 1))
