# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Exporting a fusion network as the folder that ``models.fusion.checkpoint`` reads."""

from pathlib import Path

from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.facts import CONFIG, WEIGHTS
from marigold_ros.models.fusion.checkpoint import KIND, SIZES, VERSION
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_training.networks.export import new_checkpoint, save_weights, write_json


def export_fusion(folder: Path, network: FusionNetwork, card: str) -> None:
    """
    Write a copy of a fusion network in half precision.

    Raises CheckpointError if a weight is not finite in it, or as :func:`new_checkpoint`.
    """
    config = {
        'kind': KIND,
        'version': VERSION,
        **{key: list(getattr(network, key)) for key in SIZES},
        'inputs': list(CHANNELS),
        'candidates': list(CANDIDATES),
    }
    with new_checkpoint(folder, card) as draft:
        write_json(draft / CONFIG, config)
        save_weights(network, draft / WEIGHTS)
