# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Convert the released file of PrimeDepth: refiner, frozen U-Net, autoencoder and empty prompt.

Its tensors have the names of latent diffusion's code; all sizes come from their shapes. What is
not used is the branch for segmentation, the schedule and, beside a given embedding, the text
encoder.
"""

from collections.abc import Iterable, Mapping
import json
import re
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from marigold_ros.errors import brief, CheckpointError
from marigold_ros.models.convert.keys import rename, require_fit
from marigold_ros.models.convert.pickles import Released
from marigold_ros.models.convert.released import Conversion
from marigold_ros.models.facts import CONFIG, OWN, WEIGHTS
from marigold_ros.models.marigold.checkpoint import EMPTY_TEXT, read_embedding
from marigold_ros.models.prime_depth.checkpoint import MODEL_TYPE, OWN_BASE
from marigold_ros.models.prime_depth.preimage import CELLS
from marigold_ros.models.prime_depth.refiner import Refiner
import torch
from torch import nn

LONGEST = 1024  # pixels along the longer side, above which the original resizes images
TOKENS, TEXT_HEAD = 77, 64  # of CLIP's prompts; channels of a head of its text encoder
UNET, VAE, TEXT = 'model.diffusion_model', 'first_stage_model', 'cond_stage_model.model'
LABELLER, LABELS = 'labeller', 'labeller.depth_predictor'
UNUSED = (
    r'(log_one_minus_|sqrt_|sqrt_one_minus_|sqrt_recip_|sqrt_recipm1_)?alphas_cumprod(_prev)?',
    r'betas|logvar|posterior_\w+',
    r'labeller\.label_predictor\..*',
    r'cond_stage_model\.model\.(logit_scale|text_projection|attn_mask)',
    r'(callbacks|lr_schedulers|loops|optimizer_states)\..*',
)
PARTS = {  # of names, there and here
    'in_layers.0': 'norm1',
    'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj',
    'out_layers.0': 'norm2',
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
    'nin_shortcut': 'conv_shortcut',
    'ln_1': 'norm1',
    'ln_2': 'norm2',
    '.attn.': '.self_attn.',
    'mlp.c_fc': 'linear1',
    'mlp.c_proj': 'linear2',
}
Pairs = list[tuple[str, str]]  # of names or their beginnings, old and new
Shapes = Mapping[str, tuple[int, ...]]


class TextEncoder(nn.Module):
    """
    OpenCLIP's text encoder, on the empty prompt.

    All layers and the last norm take part, as in the original; Stable Diffusion 2 leaves the last
    layer out.
    """

    def __init__(self, words: int, width: int, layers: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.empty(TOKENS, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                width // TEXT_HEAD,
                4 * width,
                0.0,
                'gelu',
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.ln_final = nn.LayerNorm(width)

    def forward(self) -> torch.Tensor:
        """Return the embedding (1, 77, D) of start, end, and zeros behind it."""
        tokens = torch.zeros(1, TOKENS, dtype=torch.long)
        words = self.token_embedding.num_embeddings
        tokens[0, :2] = torch.tensor([words - 2, words - 1])
        x = self.token_embedding(tokens) + self.positional_embedding
        mask = nn.Transformer.generate_square_subsequent_mask(TOKENS)
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        return self.ln_final(x)


def convert(released: Released) -> Conversion:
    """Convert a released file; raises CheckpointError if it is of something else or damaged."""
    shapes = {
        name.removeprefix('state_dict.'): tuple(value.shape)
        for name, value in released.tensors.items()
    }
    for part in (UNET, VAE, LABELLER):
        if not any(name.startswith(f'{part}.') for name in shapes):
            raise CheckpointError(
                f'{released.file} has no tensors of {part}, which a PrimeDepth has; give the file '
                'that its authors released'
            )
    try:
        with torch.device('meta'):
            networks, names = build(shapes)
    except Exception as error:  # whatever a missing name or a wrong size led to
        raise CheckpointError(
            f'{released.file} holds no PrimeDepth that can be built ({brief(error)}); give the '
            'file that its authors released, and fetch it again if it is that'
        ) from error
    parts, unused = split(released, names)
    parts['refiner']['text'] = _prompt(released, networks.pop('text', None), parts.pop('text', {}))
    refiner = networks['refiner']
    config = {
        'model_type': MODEL_TYPE,
        'base': OWN_BASE,
        'tokens': TOKENS,
        'decoder': list(refiner.decoder),
        'layers': refiner.layers,
    }
    files: dict[str, Any] = {
        CONFIG: config,
        WEIGHTS: parts['refiner'],
        OWN: {'space': 'disparity', 'longest_edge': LONGEST},
    }
    for part, network in networks.items():
        require_fit(released, parts[part], network)
    for part in ('unet', 'vae'):
        files[f'{part}/{CONFIG}'] = json.loads(networks[part].to_json_string())
        files[f'{part}/diffusion_pytorch_model.safetensors'] = parts[part]
    return Conversion(files, unused)


@torch.no_grad()
def _prompt(released: Released, encoder: Any, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the embedding (1, 77, D) beside the file, or else that of the empty prompt."""
    beside = released.file.parent / f'{EMPTY_TEXT}.safetensors'
    if beside.is_file():
        return read_embedding(beside)
    if encoder is None:
        raise CheckpointError(
            f'{released.file} has no text encoder, so that the prompt is unknown; put its '
            f'embedding of {TOKENS} tokens as {beside.name} beside the file'
        )
    require_fit(released, weights, encoder)
    encoder.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return encoder.eval()()


def split(
    released: Released, names: Pairs
) -> tuple[dict[str, dict[str, torch.Tensor]], list[str]]:
    """
    Return the tensors of each network under their names here, and the names of those unused.

    Raises CheckpointError for a name of something else.
    """
    begin = r'(?:state_dict\.)?'
    rules: list[tuple[str, str | None]] = [(rf'{begin}(?:{one})', None) for one in UNUSED]
    rules += [(rf'{begin}{re.escape(old)}((?:\..*)?)', rf'{new}\1') for old, new in names]
    found, unused = rename(released, rules, PARTS)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in found.items():
        part, own = name.split('.', 1)
        # Attention of autoencoders is written in 1x1 convolutions there.
        flat = '.attentions.0.to_' in own and value.ndim == 4
        parts.setdefault(part, {})[own] = value.flatten(1) if flat else value
    return parts, unused


def build(shapes: Shapes) -> tuple[dict[str, Any], Pairs]:
    """Build the networks that shapes show, by the names of the file, and pair these with ours."""
    down = _numbers(shapes, rf'{UNET}\.input_blocks\.(\d+)\.0\.op\.weight')
    layers, levels = down[0] - 1, len(down) + 1
    firsts = [f'{UNET}.input_blocks.{1 + level * (layers + 1)}' for level in range(levels)]
    channels = [shapes[f'{first}.0.out_layers.3.weight'][0] for first in firsts]
    middle = f'{UNET}.middle_block.1'
    # The first step has the maps of the middle alone.
    heads = shapes[f'{LABELLER}.convs_attentions.0.weight'][1] // (CELLS * CELLS + TOKENS)
    cross = [f'{first}.1.norm.weight' in shapes for first in firsts]
    unet = UNet2DConditionModel(
        in_channels=shapes[f'{UNET}.input_blocks.0.0.weight'][1],
        out_channels=shapes[f'{UNET}.out.2.weight'][0],
        down_block_types=['CrossAttnDownBlock2D' if one else 'DownBlock2D' for one in cross],
        up_block_types=['CrossAttnUpBlock2D' if one else 'UpBlock2D' for one in cross[::-1]],
        block_out_channels=channels,
        layers_per_block=layers,
        attention_head_dim=[max(1, one * heads // channels[-1]) for one in channels],
        cross_attention_dim=shapes[f'{middle}.transformer_blocks.0.attn2.to_k.weight'][1],
        use_linear_projection=len(shapes[f'{middle}.proj_in.weight']) == 2,
    )
    wide, blocks, names = autoencoder_parts(shapes, f'{VAE}.encoder', 'vae.encoder', 'down')
    *_, more = autoencoder_parts(shapes, f'{VAE}.decoder', 'vae.decoder', 'up')
    bottlenecks = [(f'{VAE}.{name}', f'vae.{name}') for name in ('quant_conv', 'post_quant_conv')]
    vae = AutoencoderKL(
        down_block_types=['DownEncoderBlock2D'] * len(wide),
        up_block_types=['UpDecoderBlock2D'] * len(wide),
        block_out_channels=wide,
        layers_per_block=blocks,
        latent_channels=shapes[f'{VAE}.post_quant_conv.weight'][0],
    )
    wide, blocks, labels = autoencoder_parts(shapes, LABELS, 'refiner.labels', 'up')
    refiner = Refiner(unet.config, TOKENS, wide, blocks - 1)
    networks = {'unet': unet, 'vae': vae, 'refiner': refiner}
    names = [*unet_names(levels, layers), *names, *more, *bottlenecks, *labels]
    texts = _numbers(shapes, rf'{TEXT}\.transformer\.resblocks\.(\d+)\.ln_1\.weight')
    if texts:
        words, width = shapes[f'{TEXT}.token_embedding.weight']
        networks['text'] = TextEncoder(words, width, len(texts))
        names += [
            (f'{TEXT}.{name}', f'text.{name}')
            for name in ('token_embedding', 'positional_embedding', 'ln_final')
        ]
        names.append((f'{TEXT}.transformer.resblocks', 'text.layers'))
    return networks, names


def autoencoder_parts(
    shapes: Shapes, old: str, new: str, side: str
) -> tuple[list[int], int, Pairs]:
    """Return channels, residual blocks and names of an encoder (``side`` down) or decoder (up)."""
    levels = len(_numbers(shapes, rf'{old}\.{side}\.(\d+)\.block\.0\.conv1\.weight'))
    blocks = len(_numbers(shapes, rf'{old}\.{side}\.0\.block\.(\d+)\.conv1\.weight'))
    wide = [shapes[f'{old}.{side}.{level}.block.0.conv1.weight'][0] for level in range(levels)]
    middle = f'{new}.mid_block'
    pairs = [
        (f'{old}.conv_in', f'{new}.conv_in'),
        (f'{old}.mid.block_1', f'{middle}.resnets.0'),
        (f'{old}.mid.block_2', f'{middle}.resnets.1'),
        (f'{old}.mid.attn_1.norm', f'{middle}.attentions.0.group_norm'),
        (f'{old}.mid.attn_1.proj_out', f'{middle}.attentions.0.to_out.0'),
        *((f'{old}.mid.attn_1.{x}', f'{middle}.attentions.0.to_{x}') for x in 'qkv'),
        (f'{old}.norm_out', f'{new}.conv_norm_out'),
        (f'{old}.conv_out', f'{new}.conv_out'),
    ]
    for level in range(levels):
        # A decoder counts from fine to coarse there, from coarse to fine here.
        own = f'{new}.{side}_blocks.{level if side == "down" else levels - 1 - level}'
        part = f'{old}.{side}.{level}'
        pairs.append((f'{part}.{side}sample.conv', f'{own}.{side}samplers.0.conv'))
        pairs.append((f'{part}.block', f'{own}.resnets'))
    return wide, blocks, pairs


def unet_names(levels: int, layers: int) -> Pairs:
    """Return the names of the U-Net's tensors and of the refiner's."""
    pairs = [
        (f'{UNET}.time_embed.0', 'unet.time_embedding.linear_1'),
        (f'{UNET}.time_embed.2', 'unet.time_embedding.linear_2'),
        (f'{UNET}.input_blocks.0.0', 'unet.conv_in'),
        (f'{UNET}.middle_block.0', 'unet.mid_block.resnets.0'),
        (f'{UNET}.middle_block.1', 'unet.mid_block.attentions.0'),
        (f'{UNET}.middle_block.2', 'unet.mid_block.resnets.1'),
        (f'{UNET}.out.0', 'unet.conv_norm_out'),
        (f'{UNET}.out.2', 'unet.conv_out'),
        (f'{LABELLER}.refiner.out.0', 'refiner.norm'),
        (f'{LABELLER}.refiner.out.2', 'refiner.features'),
    ]
    for number in range(levels * (layers + 1)):
        level, place = divmod(number, layers + 1)
        for kind in ('features', 'attentions', 'merge'):
            own = kind.replace('attentions', 'maps')
            pairs.append((f'{LABELLER}.convs_{kind}.{number}', f'refiner.joins.{number}.{own}'))
        for old, new, side in (
            (f'{UNET}.input_blocks.{number + 1}', f'unet.down_blocks.{level}', 'down'),
            (f'{UNET}.output_blocks.{number}', f'unet.up_blocks.{level}', 'up'),
            (f'{LABELLER}.refiner.output_blocks.{number}', f'refiner.blocks.{level}', 'up'),
        ):
            sampler = f'{new}.{side}samplers.0.conv'
            pairs += [(f'{old}.0.op', sampler), (f'{old}.1.conv', sampler)]
            pairs += [(f'{old}.2.conv', sampler), (f'{old}.1', f'{new}.attentions.{place}')]
            pairs.append((f'{old}.0', f'{new}.resnets.{place}'))
    return pairs


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    """Return the numbers that a pattern finds in names, in order."""
    found = (re.fullmatch(pattern, name) for name in names)
    return sorted(int(match[1]) for match in found if match)
