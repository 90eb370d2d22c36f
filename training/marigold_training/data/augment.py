# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Augmentation of training pairs: rotation, mirroring, crop, light, lens, sensor, JPEG.

Colours change in linear light, where exposure and white balance are factors, and return through
a display gamma of varying strength. All random numbers come from the generator passed in.
"""

from dataclasses import dataclass, fields
from statistics import NormalDist

import cv2
from marigold_ros.errors import ConfigurationError
from marigold_training.data.pairs import Pair
import numpy as np

DISPLAY = 2.2  # exponent from display values to linear light
LINEAR = ((np.arange(256) / 255.0) ** DISPLAY).astype(np.float32)
MEAN = np.full((3, 3), 1.0 / 3.0)  # of the three colours, as a matrix
# Normal numbers by their quantiles: a random byte and a lookup cost a tenth of drawing one.
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256.0) for i in range(256)], np.float32)
MOST_ROTATION = 45  # degrees


@dataclass(frozen=True)
class Augmentation:
    """
    Probability of each change in [0, 1]; ``colour`` scales the width of its ranges.

    ``rotation`` is the largest angle to either side, in degrees.
    """

    flip: float = 0.5
    crop: float = 0.0
    smallest_crop: float = 0.6  # of each side
    colour: float = 0.0
    grey: float = 0.0
    lens: float = 0.0  # vignette, blur
    sensor: float = 0.0  # noise
    jpeg: float = 0.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            most = MOST_ROTATION if item.name == 'rotation' else 1
            if not (number and 0.0 <= value <= most):
                raise ConfigurationError(
                    f'augment.{item.name} is {value!r}; choose from 0 to {most}'
                )


def crop(pair: Pair, how: Augmentation, aspect: float, rng: np.random.Generator) -> Pair:
    """
    Rotate a pair and crop it to a width-to-height ratio: the largest centred window, or any.
    """
    if how.rotation:
        pair = rotate(pair, rng.uniform(-how.rotation, how.rotation))
    height, width = pair.depth.shape
    largest = min(width, height * aspect), min(height, width / aspect)
    chosen = rng.random() < how.crop
    share = rng.uniform(how.smallest_crop, 1.0) if chosen else 1.0
    across, down = (max(1, round(side * share)) for side in largest)
    place = rng.random(2) if chosen else (0.5, 0.5)
    left, top = int(place[0] * (width - across)), int(place[1] * (height - down))
    rows, columns = slice(top, top + down), slice(left, left + across)
    return pair.cut(rows, columns)


def rotate(pair: Pair, degrees: float) -> Pair:
    """Turn a pair about its centre; what comes from outside is black, of unknown depth."""
    height, width = pair.depth.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)

    def turned(image: np.ndarray, how: int, border: float) -> np.ndarray:
        return cv2.warpAffine(image, turn, (width, height), flags=how, borderValue=(border,) * 4)

    # No averages of depth: they belong to no surface.
    depth = turned(pair.depth.astype(np.float32), cv2.INTER_NEAREST, np.nan)
    labels = None if pair.labels is None else turned(pair.labels, cv2.INTER_NEAREST, np.nan)
    return Pair(turned(pair.rgb, cv2.INTER_LINEAR, 0.0), depth, labels)


def flip(pair: Pair, how: Augmentation, rng: np.random.Generator) -> Pair:
    """Mirror a pair horizontally with the given probability."""
    if rng.random() >= how.flip:
        return pair
    return pair.cut(slice(None), slice(None, None, -1))


def augment_image(rgb: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Augment light, lens, sensor noise and compression of an image (H, W, 3) uint8."""
    rgb = np.ascontiguousarray(rgb)
    if how.colour == how.grey == how.lens == how.sensor == how.jpeg == 0.0:
        return rgb
    image = cv2.LUT(rgb, LINEAR)
    if how.colour:
        image = change_light(image, how.colour, rng)
    if rng.random() < how.grey:
        image = cv2.transform(image, MEAN)
    if rng.random() < how.lens:
        image = apply_lens(image, rng)
    gamma = float(np.exp(rng.uniform(-0.35, 0.35) * how.colour)) / DISPLAY
    image = cv2.pow(np.clip(image, 0.0, 1.0), gamma)
    if rng.random() < how.sensor:
        image += sensor_noise(image, rng)
    changed = cv2.convertScaleAbs(np.maximum(image, 0.0), alpha=255.0)
    if rng.random() < how.jpeg:
        changed = compress_jpeg(changed, int(rng.integers(25, 95)))
    return changed


def change_light(image: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """Change saturation, hue, white balance, exposure and contrast of a linear image."""
    turn = hue_rotation(rng.normal(0.0, 0.35) * width)
    saturation = np.exp(rng.uniform(-1.2, 0.5) * width)
    balance = np.exp(rng.normal(0.0, 0.12, 3) * width)
    exposure = np.exp(rng.uniform(-0.9, 0.7) * width)
    contrast = np.exp(rng.uniform(-0.5, 0.4) * width)
    matrix = np.diag(balance * exposure) @ (MEAN + saturation * turn @ (np.eye(3) - MEAN))
    middle = np.mean(matrix @ cv2.mean(image)[:3])
    # In one pass: allocations cost more than the arithmetic.
    affine = np.hstack([contrast * matrix, np.full((3, 1), (1.0 - contrast) * middle)])
    changed = cv2.transform(image, affine)
    return np.maximum(changed, 0.0, out=changed)


def hue_rotation(angle: float) -> np.ndarray:
    """Rotation (3, 3) about the grey axis (Rodrigues)."""
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) * 3.0**-0.5
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def apply_lens(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken the corners, and blur by defocus or motion."""
    height, width = image.shape[:2]
    y = (np.arange(height) - height / 2) / height
    x = (np.arange(width) - width / 2) / width
    radius = (y[:, None] ** 2 + x[None, :] ** 2)[..., None]
    image = image * (1.0 - rng.uniform(0.0, 1.2) * radius).astype(np.float32)
    kind = rng.random()
    if kind < 0.5:
        # Sigma up to 2 px for a width of 640.
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 1.0) * max(1.0, width / 320))
    if kind < 0.65:
        return cv2.filter2D(image, -1, _motion_kernel(rng, max(3, width // 60)))
    return image


def _motion_kernel(rng: np.random.Generator, length: int) -> np.ndarray:
    """Kernel (length, length) of a straight line in a random direction."""
    angle = rng.uniform(0.0, np.pi)
    along = np.linspace(-0.5, 0.5, 4 * length) * (length - 1)
    middle = (length - 1) / 2
    place = np.rint(middle + along * np.array([[np.sin(angle)], [np.cos(angle)]])).astype(np.intp)
    kernel = np.zeros((length, length), np.float32)
    np.add.at(kernel, tuple(place), 1.0)
    return kernel / kernel.sum()


def sensor_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw noise that grows in the shadows of a display image, half of it achromatic."""
    strength = rng.uniform(0.0, 0.05)
    drawn = rng.integers(0, 256, (*image.shape[:2], 4), dtype=np.uint8)
    normal = cv2.LUT(drawn, NORMAL)
    noise = normal[..., :3] + normal[..., 3:]
    noise *= strength * 0.5**0.5
    noise /= cv2.sqrt(0.2 + 0.8 * image)
    return noise


def compress_jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Encode (H, W, 3) uint8 as JPEG and decode it."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
