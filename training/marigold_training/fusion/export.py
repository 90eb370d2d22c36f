# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Exporting a fusion network as the folder that ``models.fusion.checkpoint`` reads."""

from pathlib import Path

from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.facts import CONFIG, WEIGHTS
from marigold_ros.models.fusion.checkpoint import KIND, SIZES, VERSION
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.models.locate import write_sums
from marigold_ros.models.weights import whole_folder
from marigold_training.networks.export import save_weights, write_json
import torch


def export_fusion(
    folder: Path, network: FusionNetwork, card: str, dtype: torch.dtype = torch.float16
) -> None:
    """
    Write a fusion network; an existing folder is replaced once all is written.

    Parameters
    ----------
    folder : Path
        Destination.
    network : FusionNetwork
        Over ``CHANNELS`` and ``CANDIDATES``, unchanged.
    card : str
        The model card, README.md.
    dtype : torch.dtype
        Of the stored weights.

    Raises
    ------
    CheckpointError
        If a weight is not finite in ``dtype``, or the folder cannot be written. An existing one
        stays, and no partial one is left.

    """
    config = {
        'kind': KIND,
        'version': VERSION,
        **{key: list(getattr(network, key)) for key in SIZES},
        'inputs': list(CHANNELS),
        'candidates': list(CANDIDATES),
    }
    with whole_folder(folder) as draft:
        write_json(draft / CONFIG, config)
        save_weights(network, draft / WEIGHTS, dtype)
        (draft / 'README.md').write_text(card, encoding='utf-8')
        write_sums(draft)
