# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A plain U-Net through the runs that train every family."""

import torch

NETWORK = 'unet'


def test_the_loss_falls_on_images_seen_again(new_run, loss_ratio):
    run = new_run(common={'learning_rate': 3e-3}, stage={'steps': 60})
    assert loss_ratio(run) < 0.6


def test_anchored_to_itself_the_map_beside_the_points_costs_nothing(new_run):
    """The frozen initial network is the anchor, for this family as for Marigold."""
    base = new_run('base')
    base.train()
    folder = base.export()
    run = new_run(
        init={'kind': 'checkpoint', 'path': str(folder)}, stage={'objective': 'anchored'}
    )
    (start,) = run.chain.start
    image = torch.rand(1, 3, 24, 32)
    torch.testing.assert_close(start.relative(image), run.chain.relative(image))
    assert not any(weight.requires_grad for weight in start.parameters())
