# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Resizing in NumPy is that of torch."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from marigold_ros.models import resizing
from marigold_ros.models.maps.array_resizing import fit_image, upsample_bilinear
import numpy as np
import torch

# Torch reads the rows and columns of a transposed image of one pixel's width wrongly.
sides = st.integers(2, 90)
# Torch has the places of cells in float32.
NEAR = 5e-5
sizes = st.tuples(sides, sides)


@settings(deadline=None)
@given(sizes, sizes, st.sampled_from([1, 2, 8]), st.integers(0, 1000))
@example((480, 640), (144, 192), 2, 0)  # as of cameras
@example((375, 1242), (88, 304), 2, 0)
def test_an_image_is_fitted_as_by_torch(shape, size, factor, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    image = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2).float() / 255.0
    found = fit_image(rgb, size, factor)
    assert found.dtype == np.float32
    wanted = resizing.fit_image(image.contiguous(), size, factor).numpy() * 2.0 - 1.0
    np.testing.assert_allclose(found, wanted, atol=NEAR)


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 1000))
def test_a_map_is_enlarged_as_by_torch(shape, size, seed):
    relative = np.random.default_rng(seed).random(shape, np.float32)
    wanted = resizing.upsample_bilinear(torch.from_numpy(relative)[None, None], size)
    np.testing.assert_allclose(upsample_bilinear(relative, size), wanted[0, 0], atol=1e-5)
