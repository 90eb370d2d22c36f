# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The released weights of DiffusionDepth, with ResNet, Swin or MPViT.

Released are weights by the names of its code (github.com/duanyiqun/DiffusionDepth), with the
options of their training. Names and shapes give the architecture, options the DDIM steps. Not used
are the attention of the neck, which is off, a layer of the ResNet's head, and what networks make
themselves: index tables, and copies of weights that layers share.
"""

from collections.abc import Mapping
from dataclasses import asdict
from math import isqrt
import re
from typing import Any

from marigold_ros.errors import brief, CheckpointError
from marigold_ros.models.convert.keys import read_rules, rename, require_fit
from marigold_ros.models.convert.pickles import Released
from marigold_ros.models.convert.released import Conversion
from marigold_ros.models.diffusion_depth.backbones import MPVIT, RESNET
from marigold_ros.models.diffusion_depth.checkpoint import (
    facts_of,
    MAX_DEPTH,
    MODEL_TYPE,
    read_architecture,
    SPACE,
)
from marigold_ros.models.diffusion_depth.denoiser import TIMESTEPS
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_ros.models.facts import CONFIG, OWN, WEIGHTS
import torch

Tensors = Mapping[str, torch.Tensor]
_PIXELS = {'KITTIDC': 428032, 'NYU': 69312}  # as evaluated: 352x1216, 228x304
_BODY = 'features.backbone'
_SWIN = f'{_BODY}.network.swin'
_COPIES = re.compile(r'(.*)\.MHCA_layers\.\d+\.(?:factoratt_crpe\.)?(crpe|cpe)\.(.*)')
_PATH = 'depth_backbone.mhca_stages.#.mhca_blks.#'
# `conv` and `bn`, pairs in the original, are the first two layers of a sequence here.
PAIRS = {'.conv.': '.0.', '.bn.': '.1.'}
# Names there and here, each group with what it has in front.
NAMES = {
    ('', ''): """
        optimizer.*                         -
        scheduler.*                         -
        amp.*                               -
    """,
    ('depth_head.depth_transform.', 'latent.'): """
        conv_transform.0.*                  encoder.*
        conv_transform.1.0.*                encoder.3.*
        conv_transform.1.1.*                encoder.4.*
        conv_inv_transform.3.0.*            decoder.3.*
        conv_inv_transform.*                decoder.*
    """,
    ('depth_head.model.', 'denoiser.'): """
        noise_embedding.*                   noise.*
        time_embedding.*                    time.*
        upsample_fuse.convA.conv.*          fuse.0.*
        upsample_fuse.convB.conv.*          fuse.1.*
        pred.*                              predict.*
    """,
    ('depth_head.', 'features.pyramid.'): """
        conv_lateral.*                      lateral.*
        conv_up.*                           up.*
        convup_fp.*                         -
    """,
    ('depth_head.hahineck.', 'features.neck.'): """
        lateral_convs.*                     lateral.*
        conv_proj.0.*                       project.0.*
        trans_proj.0.*                      project.1.*
        trans_proj.1.*                      project.2.*
        trans_proj.2.*                      project.3.*
        conv_fusion.0.*                     fuse.0.*
        trans_fusion.0.*                    fuse.1.*
        trans_fusion.1.*                    fuse.2.*
        trans_fusion.2.*                    fuse.3.*
        reference_points.*                  -
        level_embed                         -
        multi_att.*                         -
        self_attn.*                         -
    """,
    ('depth_backbone.layers.#.#.', f'{_BODY}.levels.#.#.'): """
        conv1.*                             body.0.*
        bn1.*                               body.1.*
        conv2.*                             body.3.*
        bn2.*                               body.4.*
        downsample.*                        skip.*
    """,
    ('depth_backbone.', f'{_SWIN}.'): """
        patch_embed.projection.*            embeddings.patch_embeddings.projection.*
        patch_embed.norm.*                  embeddings.norm.*
        stages.#.downsample.*               encoder.layers.#.downsample.*
    """,
    ('depth_backbone.', f'{_BODY}.network.hidden_states_norms.'): """
        norm0.*                             stage1.*
        norm1.*                             stage2.*
        norm2.*                             stage3.*
        norm3.*                             stage4.*
    """,
    ('depth_backbone.stages.#.blocks.#.', f'{_SWIN}.encoder.layers.#.blocks.#.'): """
        norm1.*                             layernorm_before.*
        attn.w_msa.relative_position_index  -
        attn.w_msa.qkv.*                    attention.qkv.*
        attn.w_msa.proj.*                   attention.o_proj.*
        attn.w_msa.*                        attention.relative_position_bias.*
        norm2.*                             layernorm_after.*
        ffn.layers.0.0.*                    mlp.fc1.*
        ffn.layers.1.*                      mlp.fc2.*
    """,
    ('depth_backbone.stem.', f'{_BODY}.stem.'): """
        *                                   *
    """,
    ('depth_backbone.patch_embed_stages.#.patch_embeds.#.', f'{_BODY}.stages.#.patches.#.'): """
        patch_conv.dwconv.*                 0.*
        patch_conv.pwconv.*                 1.*
        patch_conv.bn.*                     2.*
    """,
    ('depth_backbone.mhca_stages.#.', f'{_BODY}.stages.#.'): """
        InvRes.conv1.*                      local.*
        InvRes.dwconv.*                     local.3.*
        InvRes.norm.*                       local.4.*
        InvRes.conv2.conv.*                 local.6.*
        InvRes.conv2.bn.*                   local.7.*
        aggregate.*                         join.*
        mhca_blks.#.cpe.proj.*              paths.#.position.*
        mhca_blks.#.crpe.conv_list.*        paths.#.windows.*
    """,
    (f'{_PATH}.MHCA_layers.#.', f'{_BODY}.stages.#.paths.#.layers.#.'): """
        cpe.*                               -
        crpe.*                              -
        factoratt_crpe.crpe.*               -
        factoratt_crpe.qkv.*                qkv.*
        factoratt_crpe.proj.*               project.*
        norm1.*                             norm1.*
        norm2.*                             norm2.*
        mlp.fc1.*                           mlp.0.*
        mlp.fc2.*                           mlp.2.*
    """,
}


def convert(released: Released) -> Conversion:
    """Name the tensors of a released file; CheckpointError if they are not of DiffusionDepth."""
    options = {
        name.removeprefix('args.'): value
        for name, value in released.values.items()
        if name.startswith('args.')
    }
    found, unused = rename(released, read_rules(NAMES, ('net.', 'module.')), PAIRS)
    _check_copies(released)
    data = str(options.get('data_name'))
    facts = {
        'space': SPACE,
        'max_depth': options.get('max_depth', MAX_DEPTH),
        'default_processing_pixels': _PIXELS.get(data, _PIXELS['KITTIDC']),
    }
    where = str(released.file)
    facts_of(facts, where)
    if options.get('num_train_timesteps', TIMESTEPS) != TIMESTEPS:
        raise CheckpointError(
            f'{where} was trained with num_train_timesteps {options["num_train_timesteps"]}, and '
            f'only {TIMESTEPS} are known; train it here by a recipe'
        )
    try:
        tensors = as_here(found)
        values = {**_architecture(tensors), 'steps': options.get('inference_steps', 20)}
    except (LookupError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(
            f'{where} misses weights of DiffusionDepth ({brief(error)}); fetch it '
            'again, or choose the family that it was released for'
        ) from error
    architecture = read_architecture(values, where)
    with torch.device('meta'):
        network = DiffusionDepth(architecture)
    require_fit(released, tensors, network)
    card = (
        f'# DiffusionDepth\n\nConverted from `{released.file.name}`, as its authors released it. '
        'Code: https://github.com/duanyiqun/DiffusionDepth.\n'
    )
    config = {'model_type': MODEL_TYPE, **asdict(architecture)}
    files = {CONFIG: config, WEIGHTS: tensors, OWN: facts, 'README.md': card}
    return Conversion(files, unused)


def _check_copies(released: Released) -> None:
    """Raise CheckpointError where layers that share weights have different ones."""
    for name, value in released.tensors.items():
        copy = _COPIES.fullmatch(name)
        own = released.tensors.get(f'{copy[1]}.{copy[2]}.{copy[3]}') if copy else value
        if own is None or not torch.equal(own, value):
            raise CheckpointError(
                f'{released.file} has weights of its own in {name[:100]}, which its code shares '
                'between layers; fetch it again'
            )


def as_here(found: Tensors, merged: bool = True) -> dict[str, torch.Tensor]:
    """
    Return tensors as Swin has them here: joint ones split, merged ones in another order.

    ``merged`` is whether pixels are merged in the original's order, channels slowest and columns
    fastest; here columns are slowest and channels fastest.
    """
    tensors = {}
    for name, value in found.items():
        if '.attention.qkv.' in name:
            for part, piece in zip('qkv', value.chunk(3), strict=False):
                tensors[name.replace('.qkv.', f'.{part}_proj.')] = piece
        elif merged and '.downsample.' in name and value.shape[-1] % 4 == 0:
            tensors[name] = value.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)
        else:
            tensors[name] = value
    coarsest = found.get(f'{_BODY}.network.hidden_states_norms.stage4.weight')
    if coarsest is not None:  # transformers has a norm whose result is not used
        tensors[f'{_SWIN}.layernorm.weight'] = torch.ones_like(coarsest)
        tensors[f'{_SWIN}.layernorm.bias'] = torch.zeros_like(coarsest)
    return tensors


def _architecture(tensors: Tensors) -> dict[str, Any]:
    """Return the sizes that shapes show; raises KeyError or IndexError without a weight."""
    noise = tensors['denoiser.noise.0.weight'].shape
    neck = tensors.get('features.neck.project.0.0.weight')
    return {
        'backbone': _backbone(tensors),
        'neck': 0 if neck is None else neck.shape[0],
        'features': tensors['features.pyramid.lateral.0.0.weight'].shape[0],
        'hidden': noise[0],
        'latent': noise[1],
        'fuse': 'denoiser.fuse.0.weight' in tensors,
        'rectify': True,
    }


def _backbone(tensors: Tensors) -> dict[str, Any]:
    if levels := _layers(tensors, f'{_BODY}.levels'):
        return {
            'model_type': RESNET,
            'channels': [tensors[f'{level}.0.body.3.weight'].shape[0] for level in levels],
            'blocks': [len(_layers(tensors, level)) for level in levels],
        }
    if stages := _layers(tensors, f'{_BODY}.stages'):
        layers = [f'{stage}.paths.0.layers' for stage in stages]
        wide = [tensors[f'{layer}.0.mlp.0.weight'].shape for layer in layers]
        return {
            'model_type': MPVIT,
            'stages': [inputs for _, inputs in wide],
            'layers': [len(_layers(tensors, layer)) for layer in layers],
            'paths': [len(_layers(tensors, f'{stage}.paths')) for stage in stages],
            'ratios': [hidden // inputs for hidden, inputs in wide],
        }
    levels = [f'{layer}.blocks' for layer in _layers(tensors, f'{_SWIN}.encoder.layers')]
    tables = [
        tensors[f'{x}.0.attention.relative_position_bias.relative_position_bias_table'].shape
        for x in levels
    ]
    hidden, width = tensors[f'{levels[0]}.0.mlp.fc1.weight'].shape
    return {
        'model_type': 'swin',
        'embed_dim': width,
        'depths': [len(_layers(tensors, level)) for level in levels],
        'num_heads': [heads for _, heads in tables],
        'window_size': (isqrt(tables[0][0]) + 1) // 2,
        'mlp_ratio': hidden / width,
        'out_features': [f'stage{number}' for number in range(1, len(levels) + 1)],
    }


def _layers(tensors: Tensors, parent: str) -> list[str]:
    """Return the names of the layers in a list."""
    start = f'{parent}.'
    own = {name[len(start) :].split('.')[0] for name in tensors if name.startswith(start)}
    return [f'{start}{number}' for number in range(len(own))]
