# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Images of depth, points and errors, and their colour scales (numpy and OpenCV only).

Depth is drawn in viridis over the logarithm of metres, near bright and far dark, so that equal
ratios of depth are equal steps of colour. Errors use cividis. Both read the same with any colour
vision. Entry 0 of each table means «no value», so that one table lookup draws a whole image.
"""

from collections.abc import Mapping
from functools import cache
import math

import cv2
from marigold_ros.errors import ConfigurationError
import numpy as np

NO_VALUE = 0  # darker than the far end of viridis, in a grey print too
ERROR_LIMIT = 0.5  # relative error at the end of the colour scale
ERROR_TICKS = {'0': 0.0, '0.1': 0.2, '0.2': 0.4, '0.3': 0.6, '0.5 and more': 1.0}
# Between these there is room for ticks beside the words at the ends.
_MIDDLE = 0.25, 0.7
_LEGEND_PX = 40
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.42)


@cache
def _table(name: str, reverse: bool) -> np.ndarray:
    """Return a (256, 1, 3) colour table; entry 0 is of pixels without a value."""
    kind = {'viridis': cv2.COLORMAP_VIRIDIS, 'cividis': cv2.COLORMAP_CIVIDIS}[name]
    ramp = np.linspace(0, 255, 255).round().astype(np.uint8)
    colours = cv2.applyColorMap(ramp[::-1].copy() if reverse else ramp, kind)
    table = np.full((256, 1, 3), NO_VALUE, np.uint8)
    table[1:] = colours.reshape(255, 1, 3)
    return np.ascontiguousarray(table[..., ::-1])


def colourise_depth(depth: np.ndarray, low: float, high: float) -> np.ndarray:
    """
    Draw a depth image in viridis over log depth: near bright, far dark, no value black.

    Parameters
    ----------
    depth : (H, W) float, metres
        NaN, infinite and non-positive pixels have no value.
    low, high : float, metres
        Ends of the colour scale, 0 < low < high; values beyond take the end's colour.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    ConfigurationError
        If the scale is empty or not positive.

    """
    if not 0 < low < high < math.inf:
        raise ConfigurationError(
            f'the colour scale goes from {low:g} to {high:g} m; it needs 0 < low < high'
        )
    image = np.array(depth, dtype=np.float32, ndmin=2)
    np.maximum(image, 0.0, out=image)
    np.log(image, out=image, where=image > 0)
    # Zeros keep the value 0, which is log(1 m): they are marked from the input below.
    factor = 254.0 / math.log(high / low)
    image *= factor
    image += 1.0 - factor * math.log(low)
    np.clip(image, 1.0, 255.0, out=image)
    valid = np.isfinite(depth) & (np.asarray(depth) > 0)
    index = np.where(valid, image, np.float32(0.0)).astype(np.uint8)
    return _looked_up(index, _table('viridis', True))


def colourise_relative(relative: np.ndarray, near_is_low: bool = True) -> np.ndarray:
    """
    Draw a relative prediction, (H, W) in [0, 1], linearly in viridis: near bright, far dark.

    ``near_is_low`` is False for predictions in disparity, where 1 is near.
    """
    return _coloured(np.asarray(relative, np.float32), _table('viridis', near_is_low))


def _coloured(shares: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Draw shares (H, W) of a colour table's length, those beyond 0 and 1 in its end's colour."""
    index = np.where(np.isfinite(shares), 1.0 + 254.0 * np.clip(shares, 0.0, 1.0), 0.0)
    return _looked_up(index.astype(np.uint8), table)


def _looked_up(index: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the colours (H, W, 3) of entries (H, W) of a table, of no entries too."""
    # OpenCV divides by the number of entries, which ends the process where it is 0.
    return cv2.applyColorMap(index, table) if index.size else table[index, 0]


def overlay_points(
    rgb: np.ndarray, u: np.ndarray, v: np.ndarray, z: np.ndarray, low: float, high: float
) -> np.ndarray:
    """
    Draw sparse depth over a darkened copy of an image (H, W, 3) uint8, the nearest points on top.

    Column, row and depth ``z`` in metres, (M,), are coloured as by :func:`colourise_depth` with
    ``low`` and ``high``.
    """
    order = np.argsort(-np.asarray(z), kind='stable')
    colours = colourise_depth(np.asarray(z)[None, order], low, high)[0]
    return _stamp(_darken(rgb, 0.6), np.asarray(u)[order], np.asarray(v)[order], colours)


def error_image(
    rgb: np.ndarray, u: np.ndarray, v: np.ndarray, relative_error: np.ndarray
) -> np.ndarray:
    """
    Draw relative errors over a darkened grey copy of an image (H, W, 3) uint8, large ones on top.

    ``|predicted - truth| / truth`` at scored columns and rows, (M,): dark blue is 0, yellow 0.5
    and above, NaN black.
    """
    error = np.asarray(relative_error, dtype=np.float32)
    order = np.argsort(np.nan_to_num(error, nan=-1.0), kind='stable')
    colours = _coloured(error[None, order] / ERROR_LIMIT, _table('cividis', False))[0]
    grey = cv2.cvtColor(_darken(rgb, 0.35), cv2.COLOR_RGB2GRAY)
    canvas = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    return _stamp(canvas, np.asarray(u)[order], np.asarray(v)[order], colours)


def _darken(rgb: np.ndarray, factor: float) -> np.ndarray:
    return (np.asarray(rgb, dtype=np.float32) * factor).astype(np.uint8)


def _stamp(canvas: np.ndarray, u: np.ndarray, v: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Draw squares on the canvas, later ones on top; dense sets get single pixels."""
    height, width = canvas.shape[:2]
    radius = 0 if len(u) > 0.1 * height * width else (1 if width < 1600 else 2)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v, colours = u[inside], v[inside], colours[inside]
    # One rank image, not a draw per offset, keeps later points on top of their neighbours too.
    rank = np.full((height, width), -1, np.int64)
    number = np.arange(len(u))
    for dv in range(-radius, radius + 1):
        for du in range(-radius, radius + 1):
            rows, columns = np.clip(v + dv, 0, height - 1), np.clip(u + du, 0, width - 1)
            np.maximum.at(rank, (rows, columns), number)
    drawn = rank >= 0
    canvas[drawn] = colours[rank[drawn]]
    return canvas


def with_depth_legend(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Append a scale in metres to an RGB image by colourise_depth or overlay_points."""
    bar = colourise_depth(np.geomspace(low, high, max(image.shape[1] - 20, 2))[None], low, high)
    return _with_bar(image, bar, depth_ticks(low, high))


def with_relative_legend(image: np.ndarray) -> np.ndarray:
    """Append a scale without numbers to an RGB image by colourise_relative."""
    bar = colourise_relative(np.linspace(0.0, 1.0, max(image.shape[1] - 20, 2))[None])
    return _with_bar(image, bar, {'near': 0.0, 'far': 1.0})


def depth_ticks(low: float, high: float) -> dict[str, float]:
    """Return both ends and round depths of a scale as text, each with its place from 0 to 1."""
    rounds = [t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= t <= high]
    places = {f'{t:g} m': math.log(t / low) / math.log(high / low) for t in rounds}
    inner = {text: at for text, at in places.items() if _MIDDLE[0] <= at <= _MIDDLE[1]}
    near, far = (f'{float(f"{end:.2g}"):g} m' for end in (low, high))
    return {f'near, {near}': 0.0, **inner, f'far, {far}': 1.0}


def with_error_legend(image: np.ndarray) -> np.ndarray:
    """Append a scale of relative errors to an image by error_image."""
    ramp = np.linspace(1, 255, max(image.shape[1] - 20, 2)).astype(np.uint8)[None]
    bar = cv2.applyColorMap(ramp, _table('cividis', False))
    return _with_bar(image, bar, ERROR_TICKS)


def _with_bar(image: np.ndarray, bar: np.ndarray, ticks: Mapping[str, float]) -> np.ndarray:
    """Append a labelled colour bar below an image, in sizes that fit it."""
    height, width = image.shape[:2]
    k = max(1, min(width // 900, height // _LEGEND_PX))  # no higher than a low panorama
    face, size = _FONT[0], _FONT[1] * k
    strip = np.full((_LEGEND_PX * k, width, 3), 255, np.uint8)
    strip[4 * k : 18 * k, 10 : 10 + bar.shape[1]] = np.repeat(bar, 14 * k, axis=0)[:, : width - 10]
    end = -10
    for label, position in ticks.items():
        x = 10 + round(position * (bar.shape[1] - 1))
        (text_width, _), _ = cv2.getTextSize(label, face, size, k)
        left = min(max(x - text_width // 2, 2), width - text_width - 2)
        if left <= end + 4 * k:
            continue
        cv2.line(strip, (x, 18 * k), (x, 22 * k), (0, 0, 0), k)
        cv2.putText(strip, label, (left, 34 * k), face, size, (0, 0, 0), k, cv2.LINE_AA)
        end = left + text_width
    return np.vstack([image, strip])


def depth_scale(z: np.ndarray) -> tuple[float, float]:
    """Return the ends of a colour scale, metres: about the 1st and 99th percentile of depths."""
    values = np.asarray(z, dtype=np.float64).ravel()
    values = values[np.isfinite(values) & (values > 0)]
    if values.size == 0:
        return 0.5, 80.0
    low, high = np.percentile(values, (1, 99))
    return float(low * 0.9), float(max(high * 1.1, low * 1.5))
