# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scenes with true depth for benchmarks: folders of RGB-D images, or synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
from marigold_ros.errors import InputError
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np

_FARTHEST = 80.0  # m, as far as truth is scored


def synthetic_scenes(
    count: int, first_seed: int, size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Render rooms and streets in turns: image and depth in metres; ``size`` is (W, H)."""
    for number in range(count):
        sample = make_sample(first_seed + number, *size, kind=('room', 'street')[number % 2])
        depth = np.where(sample.depth < _FARTHEST, sample.depth, 0).astype(np.float32)
        yield sample.rgb, depth


def stored_depths(folder: str) -> list[tuple[Path, np.ndarray]]:
    """
    Read */depth_mm.png of a folder: path, and depth in metres, 0 where unknown.

    Raises InputError if there is none or one is no 16-bit grey image.
    """
    paths = sorted(Path(folder).glob('*/depth_mm.png'))
    if not paths:
        raise InputError(
            f'{folder} has no */depth_mm.png (16 bit, millimetres, 0 unknown); name a folder that '
            'has them, or leave --data out for synthetic scenes',
            cause='empty',
        )
    found = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint16 or image.ndim != 2:
            raise InputError(f'{path} is no 16-bit grey image; store depth in millimetres as one')
        found.append((path, image.astype(np.float32) / 1000))
    return found


def image_beside(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read the RGB image of size (H, W) beside a depth image; raises InputError without one."""
    for name in sorted(path.parent.glob('image.*')):
        image = cv2.imread(str(name), cv2.IMREAD_COLOR)
        if image is not None and image.shape[:2] == shape[:2]:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    raise InputError(
        f'{path.parent} has no readable image.* of {shape[1]}x{shape[0]}, the size of '
        f'{path.name}; store the registered image there'
    )
