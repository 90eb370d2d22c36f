# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The camera's sensor: exposure, white balance, blur, vignette, noise, tone curve and JPEG."""

import cv2
import numpy as np


def develop(radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Develop linear light (H, W, 3) of any scale into an 8-bit image (H, W, 3).

    Exposure is automatic, with a drawn error.
    """
    grey = radiance.mean(axis=-1)
    # Exposure by the mean of the log, as cameras do, so one bright window does not blacken all.
    level = np.exp(np.log(grey + 1e-3).mean())
    exposure = rng.uniform(0.08, 0.3) * 2 ** rng.normal(0, 0.45) / level
    exposure = min(exposure, rng.uniform(0.9, 2.2) / (np.percentile(grey[::4, ::4], 75) + 1e-3))
    # White balance takes most of the scene's cast away, and errs by some of its own.
    cast = (radiance.reshape(-1, 3).mean(axis=0) + 1e-3) / (grey.mean() + 1e-3)
    balance = cast ** -rng.uniform(0.2, 0.95) * (1 + rng.normal(0, 0.05, 3))
    if rng.random() < 0.12:
        balance = balance * np.exp(rng.normal(0, 0.25, 3))  # set for another light
    image = _vignetted(radiance * (exposure * balance).astype(np.float32), rng)
    blur = rng.uniform(0.4, 0.65) if rng.random() < 0.75 else rng.uniform(0.65, 1.2)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), float(blur))
    if rng.random() < 0.06:
        image = _smeared(image, rng)
    display = _tone(_noisy(image, rng), rng)
    encoded = np.round(display * 255).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))]
        packed = cv2.imencode('.jpg', encoded[..., ::-1], quality)[1]
        encoded = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(encoded)


def _vignetted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    strength = rng.uniform(0.0, 0.45) if rng.random() < 0.5 else 0.0
    if strength == 0:
        return image
    height, width = image.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return image * (1 - strength * 0.5 * (x * x + y * y))[..., None]


def _smeared(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur along the rows or columns, as motion does."""
    length = int(rng.integers(3, 6))
    return cv2.blur(image, (length, 1) if rng.random() < 0.7 else (1, length))


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add shot noise, which grows with the root of light, and constant read noise."""
    read, shot = 0.012 * rng.random() ** 2, 0.035 * rng.random() ** 2
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), 0.7) * 1.6
    return image + noise * (read + shot * np.sqrt(np.maximum(image, 0)))


def _tone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply shoulder, gamma, contrast and saturation of a camera's style; into [0, 1]."""
    image, shoulder = np.maximum(image, 0), rng.uniform(0.0, 1.0)
    image = image * (1 + shoulder * image / 4) / (1 + shoulder * image)
    display = np.clip(image, 0, 1) ** np.float32(1 / rng.uniform(1.8, 2.4))
    contrast = rng.uniform(-0.25, 0.9)
    display = display + contrast * display * (1 - display) * (2 * display - 1)
    saturation = 1 + rng.normal(0.05, 0.2)
    if rng.random() < 0.03:
        saturation = 0.0
    grey = display.mean(axis=-1, keepdims=True)
    display = grey + (display - grey) * np.float32(saturation)
    haze = rng.uniform(0.0, 0.06)
    return np.clip(haze + display * (1 - haze), 0, 1)
