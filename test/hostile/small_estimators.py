# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Small depth estimators of transformers, of random weights: networks and their processors."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForDepthEstimation,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DepthProConfig,
    DepthProForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    GLPNConfig,
    GLPNForDepthEstimation,
    PromptDepthAnythingConfig,
    PromptDepthAnythingForDepthEstimation,
    Tipsv2DptConfig,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

Estimator = tuple[Any, dict[str, Any]]
PROCESSOR = {
    'image_processor_type': 'DPTImageProcessor',
    'do_normalize': True,
    'do_pad': False,
    'do_rescale': True,
    'do_resize': True,
    'ensure_multiple_of': 14,
    'image_mean': [0.485, 0.456, 0.406],
    'image_std': [0.229, 0.224, 0.225],
    'keep_aspect_ratio': True,
    'resample': 3,
    'rescale_factor': 1 / 255,
    'size': {'height': 140, 'width': 140},
}
DPT_HEAD = {'neck_hidden_sizes': [8, 16, 16, 16], 'fusion_hidden_size': 16}


def write_estimator(folder: Path, network: Any, processor: Mapping[str, Any]) -> Path:
    """Write a checkpoint in the layout of transformers; return its folder."""
    network.save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps(processor))
    return folder


def small_transformer(kind: str, size: int, patch: int = 14, **more: Any) -> dict[str, Any]:
    """Return the configuration of a small vision transformer of four layers."""
    width = {'hidden_size': 32, 'num_hidden_layers': 4, 'num_attention_heads': 2}
    return {'model_type': kind, **width, 'image_size': size, 'patch_size': patch, **more}


def small_dinov2(**more: Any) -> dict[str, Any]:
    """Return the configuration of a small DINOv2 that hands on the tokens of all layers."""
    given = {'out_indices': [1, 2, 3, 4], 'reshape_hidden_states': False}
    return small_transformer('dinov2', 70, **given, **more)


def enliven(*parts: nn.Module) -> None:
    """Draw weights that carry an image to the end, which those of transformers do not."""
    for part in parts:
        for weight in part.parameters():
            if weight.ndim == 4:
                nn.init.kaiming_normal_(weight)


def small_depth_anything(**kind: Any) -> Estimator:
    """Build a Depth Anything, relative unless ``kind`` says otherwise."""
    config = DepthAnythingConfig(
        backbone_config=small_dinov2(),
        reassemble_hidden_size=32,
        head_hidden_size=8,
        **DPT_HEAD,
        **kind,
    )
    torch.manual_seed(0)
    network = DepthAnythingForDepthEstimation(config)
    # Random weights alone would predict almost the same everywhere, or nothing positive.
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.copy_(weight.abs() * 3)
    return network, PROCESSOR


def small_dpt() -> Estimator:
    """Build a DPT on a vision transformer of its own."""
    backbone = small_transformer('', 96, 16, intermediate_size=64)
    del backbone['model_type']
    config = DPTConfig(**backbone, backbone_out_indices=[0, 1, 2, 3], **DPT_HEAD, is_hybrid=False)
    torch.manual_seed(4)  # of weights whose map a brighter sky changes little
    network = DPTForDepthEstimation(config)
    enliven(network.neck)
    network.head.head[-2].weight.data.abs_()  # disparity is positive
    size = {'height': 96, 'width': 96}
    rules = {'size': size, 'ensure_multiple_of': 1, 'keep_aspect_ratio': False}
    return network, PROCESSOR | rules


def small_glpn() -> Estimator:
    """Build a GLPN."""
    sizes = {'hidden_sizes': [8, 16, 24, 32], 'depths': [1, 1, 1, 1]}
    heads = {'num_attention_heads': [1, 1, 2, 2], 'decoder_hidden_size': 8}
    processor = {'image_processor_type': 'GLPNImageProcessor', 'size_divisor': 32}
    return GLPNForDepthEstimation(GLPNConfig(**sizes, **heads)), processor


def small_prompt_depth_anything() -> Estimator:
    """Build a metric Prompt Depth Anything."""
    config = PromptDepthAnythingConfig(
        backbone_config=small_dinov2(),
        reassemble_hidden_size=32,
        head_hidden_size=8,
        depth_estimation_type='metric',
        **DPT_HEAD,
    )
    network = PromptDepthAnythingForDepthEstimation(config)
    enliven(network.neck, network.head)
    network.head.conv3.weight.data.mul_(0.1)  # between the ends of a sigmoid
    kind = {'image_processor_type': 'PromptDepthAnythingImageProcessor'}
    return network, PROCESSOR | kind


def small_depth_pro() -> Estimator:
    """Build a Depth Pro that sees the field of view."""
    part = small_transformer('dinov2', 32, 8, mlp_ratio=2)
    config = DepthProConfig(
        patch_size=32,
        fusion_hidden_size=16,
        intermediate_hook_ids=[2, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.25, 0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[16, 16, 8],
        merge_padding_value=1,
        use_fov_model=True,
        **{f'{name}_model_config': dict(part) for name in ('image', 'patch', 'fov')},
    )
    network = DepthProForDepthEstimation(config)
    last, view = network.head.layers[-2], network.fov_model.head.layers[-1]
    last.weight.data.abs_().mul_(0.01)
    last.bias.data.fill_(0.5)
    view.bias.data.fill_(50.0)  # degrees
    size = {'height': 128, 'width': 128}
    return network, {'image_processor_type': 'DepthProImageProcessor', 'size': size}


def small_tips() -> Estimator:
    """Build a DPT on TIPSv2."""
    backbone = small_transformer(
        'tipsv2_vision_model',
        56,
        mlp_ratio=2,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = Tipsv2DptConfig(backbone_config=backbone, num_depth_bins=16, **DPT_HEAD)
    size = {'height': 70, 'width': 84}
    processor = {'image_processor_type': 'Tipsv2DptImageProcessor', 'size': size}
    return AutoModelForDepthEstimation.from_config(config), processor


def small_zoedepth(domains: tuple[str, ...] = ('nyu',)) -> Estimator:
    """Build a ZoeDepth of one domain or several."""
    backbone = small_transformer(
        'beit',
        64,
        16,
        intermediate_size=64,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    far = {'nyu': 10.0, 'kitti': 80.0}
    chooser = {'hidden_size': 128, 'intermediate_size': 16, 'num_attention_heads': 2}
    config = ZoeDepthConfig(
        backbone_config=backbone,
        bottleneck_features=16,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=[
            {'name': name, 'n_bins': 8, 'min_depth': 1e-3, 'max_depth': far[name]}
            for name in domains
        ],
        num_patch_transformer_layers=4,
        **{f'patch_transformer_{name}': value for name, value in chooser.items()},
        **DPT_HEAD,
    )
    network = ZoeDepthForDepthEstimation(config)
    enliven(network.neck, network.relative_head, network.metric_head)
    processor = PROCESSOR | {
        'image_processor_type': 'ZoeDepthImageProcessor',
        'do_pad': True,
        'ensure_multiple_of': 32,
        'resample': 2,
        'size': {'height': 96, 'width': 128},
    }
    return network, processor
