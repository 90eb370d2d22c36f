# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The plain U-Net: its checkpoint's folder, sizes, runtimes and errors."""

from marigold_ros.config import EngineConfig
from marigold_ros.models import load_model
from marigold_ros.models.unet.model import load_network
from marigold_ros.models.unet.network import are_sizes, DepthUNet, Residual
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
from scipy.stats import spearmanr
import torch


@pytest.mark.parametrize(
    ('channels', 'blocks'),
    [(8, [1]), ([8, 16], 1), ([8, 12], [1]), ([8, 0], [1]), ([8, 16], [-1]), ([8, 16], [1, 1])]
    + [([8.0, 16], [1]), ([8, 16], [True]), ([8], []), ([], [])],
)
def test_sizes_that_make_no_network_are_told_apart(channels, blocks):
    assert not are_sizes(channels, blocks)
    assert are_sizes((8, 16), [0])


def test_an_image_is_answered_alike_alone_and_in_a_batch():
    network = DepthUNet((8, 16, 24), (1, 1)).eval()
    images = torch.rand(3, 3, 26, 34) * 2 - 1
    together = network(images)
    assert together.shape == (3, 1, 26, 34)
    for one, found in zip(images, together, strict=True):
        torch.testing.assert_close(network(one[None])[0], found)


def test_a_residual_block_adds_its_change():
    block, x = Residual(8), torch.randn(1, 8, 5, 6)
    last = block.second[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 0.5)
    torch.testing.assert_close(block(x), torch.relu(x + 0.5))


def test_distant_pixels_see_each_other():
    """A change in one corner reaches the whole map: the scene decides on near and far."""
    network = DepthUNet((8, 16), (0,))
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(image)[0, 0, 0, 0].backward()
    assert (image.grad[..., -8:, -8:].abs().sum() > 0).item()


def test_at_its_own_size_the_map_is_the_networks(unet_folder, rgb):
    model = load_model(str(unet_folder), 'cpu')
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 127.5 - 1.0
    with torch.no_grad():
        expected = load_network(unet_folder)(image)[0, 0].clamp(0, 1).numpy()
    found = model.predict(rgb, processing_resolution=0).relative
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bilateral_upsampling_keeps_the_edges_of_the_image(unet_folder):
    rgb = np.zeros((96, 128, 3), np.uint8)
    rgb[:, 64:] = 255
    model = load_model(str(unet_folder), 'cpu')
    steps = {
        kind: np.abs(np.diff(model.predict(rgb, engine=EngineConfig(upsampling=kind)).relative))
        for kind in ('bilinear', 'bilateral')
    }
    row = {kind: step[48, 56:72].max() for kind, step in steps.items()}
    assert row['bilateral'] > row['bilinear']


def test_the_embedded_one_knows_near_from_far():
    model = load_model('unet', 'cpu', 'float32')
    for seed in range(4):
        scene = make_sample(seed, 320, 240)
        seen = np.isfinite(scene.depth)
        ranks = spearmanr(model.predict(scene.rgb).relative[seen], scene.depth[seen])
        assert ranks.statistic > 0.7
