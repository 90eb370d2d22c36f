# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The networks of transformers that predict depth, by ``model_type``; imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marigold_ros.models.locate import peek_json

CONFIG, OWN = 'config.json', 'marigold_ros.json'
PROMPTED = 'prompt_depth_anything'
# Space of their predictions; None where the configuration says it.
KINDS = {
    'depth_anything': None,
    'depth_pro': 'metric',
    'dpt': 'disparity',
    'glpn': 'metric',
    PROMPTED: 'depth',  # without a prompt; with one it is metric
    'tipsv2_dpt': 'metric',
    'zoedepth': 'metric',
}
# Networks that transformers lists beside them, and what they predict.
NOT_DEPTH = {'chmv2': 'predicts the height of trees in images from above'}


def is_depth_estimator(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint of one of these networks."""
    return str(peek_json(folder / CONFIG).get('model_type')) in KINDS


def space_of(config: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return the space of a checkpoint's predictions, by its config.json and marigold_ros.json."""
    if 'space' in own:
        return str(own['space'])
    space, backbone = KINDS[config['model_type']], config.get('backbone_config')
    if space == 'disparity' and isinstance(backbone, Mapping):
        # DPTs on DINOv2 are trained on the metres of NYUv2 or KITTI (arXiv 2304.07193).
        return 'metric' if backbone.get('model_type') == 'dinov2' else space
    # As transformers' DepthAnythingConfig: relative where it is not said.
    return space or ('metric' if config.get('depth_estimation_type') == 'metric' else 'disparity')
