# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Corrupt images by night, weather, lenses and transmission, at five strengths, repeatably.

Simple models with the physics that matters to depth (fog by distance, noise by light); strength 1
is noticeable, at strength 5 a robot should stop. Strengths are nested: with the same generator a
stronger corruption has the same drops, blocks and noise and more of them, so that the error is a
smooth curve of the strength. Strength 0 is the image itself. The LiDAR is never corrupted.
"""

from collections.abc import Callable

import cv2
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.choices import CORRUPTIONS, STRENGTHS
import numpy as np

_LIGHT = (0.4, 0.2, 0.1, 0.05, 0.025)  # share of daylight
_PHOTONS = 400.0  # of a white pixel by day, of a small sensor
_VISIBILITY_M = (400.0, 200.0, 100.0, 50.0, 25.0)
_BLUR = (0.0012, 0.0025, 0.005, 0.0075, 0.012)  # standard deviation, of the diagonal
_NOISE = (8.0, 16.0, 28.0, 44.0, 64.0)  # standard deviation, of 255
_QUALITY = (30, 18, 12, 7, 3)
_GLARE = (0.3, 0.5, 0.7, 0.85, 1.0)  # of saturation, at the sun
_STREAKS = (0.4, 0.8, 1.4, 2.2, 3.5)  # per 1000 pixels
_VEIL = (0.03, 0.07, 0.12, 0.18, 0.25)  # of the light of distant rain
_LOST = (0.03, 0.08, 0.16, 0.3, 0.5)  # of all blocks
_BLOCK_PX, _GREY = 16, 128
_AIR = 217.0  # light of fog and distant rain, of 255
_FAR_M = 300.0


def night(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Simulate little light with photon noise; bluish."""
    return dimmed(rgb, _LIGHT[strength - 1], _PHOTONS, rng, (0.85, 0.92, 1.0))


def dimmed(
    rgb: np.ndarray,
    share: float,
    photons: float,
    rng: np.random.Generator,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """
    Reduce the light of an image (H, W, 3) uint8, with the noise of the photons that remain.

    ``share`` of the light is left; a white pixel has ``photons`` in full light.
    """
    light = (rgb / 255.0) ** 2.2 * share
    grain = rng.standard_normal(rgb.shape)
    light = light * tint + grain * np.sqrt(np.maximum(light, 1e-4) / photons)
    return _to_uint8(255.0 * np.clip(light, 0.0, 1.0) ** (1 / 2.2))


def rain(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Draw bright streaks in one direction, and a veil over the image."""
    height, width = rgb.shape[:2]
    most = int(_STREAKS[-1] * height * width / 1000.0)
    place = rng.random((most, 2)) * (width, height)
    length = 0.02 * np.hypot(height, width) * (0.5 + rng.random(most))
    slant = np.radians(90.0 + 20.0 * (rng.random() - 0.5))
    ends = place + length[:, None] * (np.cos(slant), np.sin(slant))
    streaks = np.zeros((height, width), np.uint8)
    drawn = int(most * _STREAKS[strength - 1] / _STREAKS[-1])
    for start, end in zip(place[:drawn], ends, strict=False):
        cv2.line(streaks, start.astype(int).tolist(), end.astype(int).tolist(), 160, 1)
    cover = np.maximum(streaks / 255.0, _VEIL[strength - 1])[..., None]
    return _to_uint8(rgb * (1.0 - cover) + _AIR * cover)


def fog(rgb: np.ndarray, strength: int, rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Replace light by that of the air with growing depth in metres."""
    kept = np.exp(-3.0 / _VISIBILITY_M[strength - 1] * np.clip(depth, 0.0, _FAR_M))[..., None]
    return _to_uint8(rgb * kept + _AIR * (1.0 - kept))


def blur(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Defocus by a Gaussian."""
    deviation = _BLUR[strength - 1] * np.hypot(*rgb.shape[:2])
    # In small images too, stronger must be blurrier.
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), max(deviation, 0.4 + 0.2 * strength)))


def noise(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to each value."""
    return _to_uint8(rgb + _NOISE[strength - 1] * rng.standard_normal(rgb.shape))


def jpeg(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Compress at very low quality."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY[strength - 1]]
    _, data = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality)
    bgr = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def glare(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Add a low sun: a saturated spot and its halo."""
    height, width = rgb.shape[:2]
    u, v = rng.random() * width, 0.4 * rng.random() * height
    rows, columns = np.ogrid[:height, :width]
    apart = np.hypot(columns - u, rows - v) / np.hypot(height, width)
    light = np.minimum(np.exp(-((apart / 0.08) ** 2)) + 0.6 * np.exp(-apart / 0.25), 1.0)
    cover = (_GLARE[strength - 1] * light)[..., None]
    return _to_uint8(rgb * (1.0 - cover) + 255.0 * cover)


def dropout(rgb: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Turn lost blocks of the image grey."""
    height, width = rgb.shape[:2]
    rows, columns = -(-height // _BLOCK_PX), -(-width // _BLOCK_PX)
    order = rng.permutation(rows * columns).reshape(rows, columns)
    lost = order < _LOST[strength - 1] * rows * columns
    covered = lost.repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)[:height, :width]
    return np.where(covered[..., None], np.uint8(_GREY), rgb)


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (night, rain, fog, blur, noise, jpeg, glare, dropout)
}


def corrupt(
    rgb: np.ndarray,
    kind: str,
    strength: int,
    rng: np.random.Generator,
    depth: np.ndarray | None = None,
) -> np.ndarray:
    """
    Corrupt an image.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        The image, unchanged.
    kind : str
        One of ``CORRUPTIONS``.
    strength : int
        0 (the image itself) to 5.
    rng : numpy.random.Generator
        In the same state for all strengths to be compared.
    depth : (H, W) float or None, metres
        Of every pixel, for fog only: `depth_of_truth` or `depth_of_relative`.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    ConfigurationError
        For an unknown kind or strength, or fog without depth.

    """
    if kind not in CORRUPTIONS:
        raise ConfigurationError(f"corruption is '{kind}'; choose one of {', '.join(CORRUPTIONS)}")
    if strength == 0:
        return rgb
    if strength not in STRENGTHS:
        raise ConfigurationError(f'strength of {kind} is {strength}; choose 0 (none) to 5')
    if kind != 'fog':
        return _FUNCTIONS[kind](rgb, strength, rng)
    if depth is None or depth.shape != rgb.shape[:2]:
        raise ConfigurationError(f'fog over {rgb.shape[:2]} pixels needs their depth in metres')
    return fog(rgb, strength, rng, depth)


def depth_of_truth(truth: np.ndarray) -> np.ndarray:
    """Return true depth (H, W) for fog, sky and unknown pixels far away; float64 metres."""
    return np.nan_to_num(np.asarray(truth, np.float64), nan=_FAR_M, posinf=_FAR_M)


def depth_of_relative(relative: np.ndarray, space: str) -> np.ndarray:
    """
    Scale a prediction (H, W) for the clean image to 2 to 100 m, for fog without dense truth.

    A metric one stays as it is. Returns float64 metres.
    """
    if space == 'metric':
        return depth_of_truth(relative)
    low, high = float(np.nanmin(relative)), float(np.nanmax(relative))
    share = (np.asarray(relative, np.float64) - low) / max(high - low, 1e-9)
    if space == 'disparity':
        return 1.0 / (0.01 + 0.49 * share)
    return 2.0 * 50.0**share if space == 'log' else 2.0 + 98.0 * share


def is_dense(truth: np.ndarray | None) -> bool:
    """Return whether at least half of the pixels have true depth."""
    return truth is not None and float(np.mean(~np.isnan(truth))) >= 0.5


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
