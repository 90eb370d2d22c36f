# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Weights of ImageNet for the backbone of a DiffusionDepth, by the names of their libraries.

Read are Swins of transformers, of timm or of their authors, and MPViTs of their authors: folders
or files of safetensors, and pickles by way of a process of their own.
"""

from pathlib import Path
import re
from tempfile import TemporaryDirectory

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.convert.keys import read_rules, rename
from marigold_ros.models.convert.pickles import read_pickle, Released
from marigold_ros.models.diffusion_depth.backbones import MPVIT
from marigold_ros.models.diffusion_depth.convert import as_here, NAMES, PAIRS
from marigold_ros.models.locate import find_folder, PICKLES, require_weights
from marigold_ros.models.weights import read_weights, require_finite, require_same
import torch
from torch import nn

RANDOM = 'random'
_SWIN = 'network.swin.'
_SWIN_NAMES = {
    ('', ''): """
        classifier.*                        -
        swin.embeddings.*                   network.swin.embeddings.*
        swin.layernorm.*                    network.swin.layernorm.*
        swin.encoder.layers.#.downsample.*  network.swin.encoder.layers.#.downsample.*
    """,
    ('swin.encoder.layers.#.blocks.#.', f'{_SWIN}encoder.layers.#.blocks.#.'): """
        attention.self.query.*              attention.q_proj.*
        attention.self.key.*                attention.k_proj.*
        attention.self.value.*              attention.v_proj.*
        attention.self.relative_position_index  -
        attention.self.*                    attention.relative_position_bias.*
        attention.output.dense.*            attention.o_proj.*
        layernorm_before.*                  layernorm_before.*
        layernorm_after.*                   layernorm_after.*
        intermediate.dense.*                mlp.fc1.*
        output.dense.*                      mlp.fc2.*
    """,
    ('', _SWIN): """
        head.*                              -
        norm.*                              layernorm.*
        patch_embed.proj.*                  embeddings.patch_embeddings.projection.*
        patch_embed.norm.*                  embeddings.norm.*
        layers.#.downsample.*               encoder.layers.#.downsample.*
    """,
    ('layers.#.blocks.#.', f'{_SWIN}encoder.layers.#.blocks.#.'): """
        norm1.*                             layernorm_before.*
        attn_mask                           -
        attn.relative_position_index        -
        attn.qkv.*                          attention.qkv.*
        attn.proj.*                         attention.o_proj.*
        attn.*                              attention.relative_position_bias.*
        norm2.*                             layernorm_after.*
        mlp.*                               mlp.*
    """,
}
_NEW = ('network.hidden_states_norms.', f'{_SWIN}layernorm.')  # that no such file may have


def load_backbone(backbone: nn.Module, kind: str, weights: str) -> None:
    """
    Load the weights of a backbone of ``model_type`` kind in place.

    Raises ConfigurationError for a kind without such weights, and CheckpointError if they are
    missing, damaged or of another network.
    """
    if kind not in ('swin', MPVIT):
        raise ConfigurationError(
            f'init.weights is {weights!r}, and weights of ImageNet are read for swin and {MPVIT} '
            f'alone, not for {kind or "the small encoder"}; write `weights: {RANDOM}`'
        )
    found = _mpvit(_read(weights)) if kind == MPVIT else _swin(weights)
    own = backbone.state_dict()
    misshapen = [(key,) for key in own.keys() & found if own[key].shape != found[key].shape]
    missing = [key for key in own.keys() - found if not key.startswith(_NEW)]
    require_same(Path(weights), missing, found.keys() - own, misshapen)
    require_finite(found, Path(weights))
    backbone.load_state_dict(found, strict=False)


def _swin(weights: str) -> dict[str, torch.Tensor]:
    tensors = _read(weights)
    if 'layers.0.downsample.norm.weight' not in tensors:  # timm has them a level further on
        earlier = re.compile(r'^layers\.(\d)\.downsample')
        tensors = {
            earlier.sub(lambda found: f'layers.{int(found[1]) - 1}.downsample', key): value
            for key, value in tensors.items()
        }
    found, _ = rename(Released(Path(weights), tensors, {}), read_rules(_SWIN_NAMES))
    return as_here(found, merged=False)


def _mpvit(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    inner = {f'depth_backbone.{k}': v for k, v in tensors.items() if not k.startswith('cls_head.')}
    found, _ = rename(Released(Path('weights'), inner, {}), read_rules(NAMES), PAIRS)
    return {k.removeprefix('features.backbone.'): v for k, v in found.items()}


def _read(weights: str) -> dict[str, torch.Tensor]:
    """Read a file; its tensors may lie in a dictionary named ``model``."""
    path = Path(weights)
    if path.suffix not in PICKLES:
        files = [path] if path.is_file() else require_weights(find_folder(weights), 'give a file')
        return read_weights(files)
    with TemporaryDirectory() as scratch:
        tensors = read_pickle(path, Path(scratch)).tensors
    return {key.removeprefix('model.'): value for key, value in tensors.items()}
