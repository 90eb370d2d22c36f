# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sizes of images: what may be predicted together, what a network sees, what is warmed up."""

from collections.abc import Sequence
from numbers import Integral
import re

from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Frame
from marigold_ros.message_codec.buffers import MAX_SIDE_PX
import numpy as np


def common_size(rgbs: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return the size (H, W) of images; raises InputError for any other array or size."""
    sizes = sorted({Frame(rgb).rgb.shape[:2] for rgb in rgbs})  # raises for what is no image
    if len(sizes) != 1:
        raise InputError(
            f'{len(sizes)} sizes of image in one call: {", ".join(map(str, sizes))}; images that '
            'are predicted together must have one size',
            cause='shape',
        )
    return sizes[0]


def size_by_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Return Marigold's size: the longest edge as given, the other rounded down; 0 is native."""
    if not isinstance(edge, Integral) or edge < 0:
        raise ConfigurationError(
            f'processing_resolution is {edge!r}; give a whole number of pixels, 0 is native'
        )
    edge = int(edge) or max(height, width)
    size = height * edge // max(height, width), width * edge // max(height, width)
    if 0 in size:
        raise InputError(
            f'an image of {width}x{height} has no pixel left on one side at '
            f'processing_resolution {edge}; crop it or choose a larger resolution',
            cause='shape',
        )
    return size


def size_by_area(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Return the size of about as many pixels with the image's proportions, multiples of 8."""
    scale = (pixels / (height * width)) ** 0.5
    return max(8, 8 * round(height * scale / 8)), max(8, 8 * round(width * scale / 8))


def up_to_multiple(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Round both sides of a size up to multiples."""
    return size[0] + -size[0] % factor, size[1] + -size[1] % factor


def warm_up_sizes(text: str) -> list[tuple[int, int]]:
    """Parse ``480x640, 720x1280`` as sizes (H, W); raises ConfigurationError."""
    sizes = []
    for part in filter(None, re.split(r'[,\s]+', text)):
        found = re.fullmatch(r'([1-9]\d{0,4})x([1-9]\d{0,4})', part)
        if found is None or max(map(int, found.groups())) > MAX_SIDE_PX:
            raise ConfigurationError(
                f"runtime.warm_up has '{part}'; give images' sizes HxW with commas between, as "
                f'480x640,720x1280, and sides of at most {MAX_SIDE_PX}'
            )
        sizes.append((int(found[1]), int(found[2])))
    return sizes
