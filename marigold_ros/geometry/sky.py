# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The sky, which has a number in a fitted map but no depth in the world.

Several weak cues must agree: the map at its far end, a bright and smooth part of the image that
reaches the upper border, no LiDAR return nearby, and nearer or darker things around it. If one
fails, pixels stay as they are: a wall taken for sky would be an obstacle lost.
"""

import cv2
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.median import median
from marigold_ros.kernels.compiled import compiled
import numpy as np

# Longest side of the working image.
_SIDE = 320
# Share of the map's range that is its far end.
_FAR = 0.05
# What is around the sky is nearer by about this share of the range, and darker by so many grey
# levels; the least sum of both in these units, of which darkness gives one at most.
_STEP, _DARKER, _EDGE = 0.1, 50.0, 1.3
# Pixels from the sky's edge where the step is measured: beyond the blur of networks.
_AROUND = (8, 10)
# Grey levels: change from pixel to pixel, and brightness of the brightest channel.
_SMOOTH, _BRIGHT = 6.0, 60
# Pixels around a return in which there is no sky.
_RETURN_REACH = 4
# Least shares of the image and of its first row: smaller pieces may be a wall or a window.
_LEAST_AREA, _LEAST_TOP = 0.005, 0.2
# Small pixels around a region in which its edge lies, and grey levels by which sky differs there.
_EDGE_REACH, _ALIKE = 2, np.float32(8.0)
# Share of a wall's lower ends that go on where light returns; of an overexposed sky 0.2 do.
_MOST_MEASURED = 0.5
# Metres; nearer regions are walls or ceilings.
_LEAST_DEPTH = 10.0


def sky_mask(
    rgb: np.ndarray,
    prediction: Prediction,
    metric: np.ndarray,
    sparse: SparseDepth | None = None,
    small: np.ndarray | None = None,
) -> np.ndarray:
    """
    Detect the sky (H, W) of an image; conservative, so that obstacles are kept.

    ``rgb`` is (H, W, 3) uint8, ``metric`` the fitted depth (H, W) in metres, ``small`` the image
    as `reduced`, if that is known. In space ``metric`` a prediction has no far end, and no sky is
    found; nor is any near LiDAR returns.
    """
    shape = metric.shape
    nothing = np.zeros(shape, dtype=bool)
    if prediction.space == 'metric':
        return nothing
    relative = np.asarray(prediction.relative, dtype=np.float32)
    nearness = relative if prediction.space == 'disparity' else 1 - relative
    far = nearness <= _FAR
    if np.count_nonzero(far) < _LEAST_AREA * far.size:
        return nothing
    near, image = _shrink(nearness), _shrink(rgb if small is None else small)
    brightness = np.maximum.reduce(cv2.split(image))
    hit = _hit_by_light(sparse, shape, near.shape)
    returns = _grown(hit, _RETURN_REACH)
    bright = brightness >= max(_BRIGHT, median(brightness))
    far_bright = (near <= _FAR) & _is_smooth(image) & bright
    candidate, measured = far_bright & ~returns, far_bright & returns
    depth = _shrink(metric.astype(np.float32, copy=False), cv2.INTER_NEAREST)
    sky = _far_regions(candidate, measured, near, brightness, depth)
    if sky[0].mean() < _LEAST_TOP:
        return nothing
    level, enclosed = _beside(sky, brightness), _enclosed(sky) & ~returns
    # A tree that returns light ends where it is darker, a wall as bright as the sky does not.
    wall = _grown(hit & (np.abs(brightness - level) <= _ALIKE), _RETURN_REACH)
    open_edge = _grown(sky, _EDGE_REACH) & ~wall
    least = np.where(enclosed | open_edge, level - _ALIKE, np.float32(np.inf))
    most = np.where(enclosed, np.float32(np.inf), level + _ALIKE)
    least[sky] = 0.0
    places = (np.arange(side) * few // side for side, few in zip(shape, sky.shape, strict=True))
    _as_bright(far, np.ascontiguousarray(rgb), least, most, *places)
    return far


@compiled()
def _as_bright(
    far: np.ndarray,
    rgb: np.ndarray,
    least: np.ndarray,
    most: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
) -> None:
    """Keep pixels of far (H, W) where the brightest channel is within bounds (h, w), or all."""
    for y in range(len(row)):
        for x in range(len(column)):
            if far[y, x]:
                bound = least[row[y], column[x]]
                if bound > 0.0:
                    of_pixel = rgb[y, x]
                    brightness = max(of_pixel[0], of_pixel[1], of_pixel[2])
                    far[y, x] = bound <= brightness <= most[row[y], column[x]]


def _shrink(image: np.ndarray, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=interpolation)


def _is_smooth(rgb: np.ndarray) -> np.ndarray:
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (3, 3), 0)
    change = np.maximum(
        np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125)),
        np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)),
    )
    return change < _SMOOTH


def _hit_by_light(
    sparse: SparseDepth | None, shape: tuple[int, ...], small: tuple[int, ...]
) -> np.ndarray:
    """Mask the pixels of the small image that LiDAR returns come from."""
    hit = np.zeros(small, bool)
    if sparse is not None:
        hit[sparse.v * small[0] // shape[0], sparse.u * small[1] // shape[1]] = True
    return hit


def _far_regions(
    candidate: np.ndarray,
    measured: np.ndarray,
    nearness: np.ndarray,
    brightness: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    """Keep parts up to the border that are far and end in an edge, not in what is ``measured``."""
    opened = cv2.morphologyEx(candidate.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    labels = cv2.connectedComponents(opened, connectivity=4)[1]
    large = np.bincount(labels.ravel()) >= _LEAST_AREA * candidate.size
    regions = [labels == index for index in np.unique(labels[0]) if index and large[index]]
    kept = np.zeros(candidate.shape, dtype=bool)
    # What a pole divides is not around itself.
    outside = ~_grown(np.any(regions, axis=0), _AROUND[0]) if regions else kept
    for region in regions:
        around = _grown(region, _AROUND[1]) & outside
        known = depth[region & np.isfinite(depth)]
        if not known.size or median(known) < _LEAST_DEPTH or not around.any():
            continue
        ends = region[:-_EDGE_REACH] & ~region[_EDGE_REACH:]
        going_on = np.count_nonzero(ends & measured[_EDGE_REACH:])
        if going_on > _MOST_MEASURED * np.count_nonzero(ends):
            continue
        darker = (_beside(region, brightness) - brightness)[around]
        edge = nearness[around] / _STEP + np.minimum(darker / _DARKER, 1.0)
        if median(edge) > _EDGE:
            kept |= region
    return kept


def _enclosed(sky: np.ndarray) -> np.ndarray:
    """Return what the sky and the upper border enclose, as a cloud's edge."""
    count, labels = cv2.connectedComponents((~sky).view(np.uint8), connectivity=8)
    within = np.ones(count, bool)
    for at_border in (labels[-1], labels[:, 0], labels[:, -1]):
        within[at_border] = False
    return ~sky & within[labels]


def _beside(region: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Return the mean brightness of the nearest border of a region: haze darkens slowly."""
    border = (region & _grown(~region, _AROUND[0])).astype(np.float32)
    window = (4 * _AROUND[1] + 1,) * 2
    total = cv2.blur(border * brightness, window)
    return np.asarray(total / np.maximum(cv2.blur(border, window), np.float32(1e-6)))


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2)) > 0
