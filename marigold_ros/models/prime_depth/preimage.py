# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The preimage: features and attention maps that one pass of a frozen U-Net at t = 1 computes.

They are read by hooks, for the duration of a pass, so that the U-Net runs as diffusers wrote it.
Its attention is computed again, some queries at a time: softmax(QK^T) is never held whole.
Letters: B images, C channels, h, w positions, M heads, N queries, T keys, d width of a head,
P cells or tokens, E width of the timestep's embedding.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
import math
from typing import Any

from diffusers import UNet2DConditionModel
from marigold_ros.errors import CheckpointError
import numpy as np
import torch
from torch import nn
from torch.nn import functional

TIMESTEP = 1
# Share of the image's variance at t = 1 in the schedule of Stable Diffusion.
KEPT = (1.0 - 0.00085) * (1.0 - (math.sqrt(0.00085) * 998 + math.sqrt(0.012)) ** 2 / 999**2)
CELLS = 8  # self-attention is kept for 8x8 cells of keys
# Elements of softmax(QK^T) at once: 1 MB, which a CPU keeps in its cache (three times as fast as
# 64 MB), and 256 MB on a GPU.
MOST_CPU, MOST_GPU = 2**18, 2**26
BLOCKS = ('DownBlock2D', 'CrossAttnDownBlock2D', 'UpBlock2D', 'CrossAttnUpBlock2D')
MIDDLES = ('UNetMidBlock2D', 'UNetMidBlock2DCrossAttn')


@dataclass(frozen=True)
class Step:
    """A residual block of the decoder, and the transformers whose attention maps go with it."""

    block: Any
    transformers: tuple[Any, ...]

    @property
    def heads(self) -> list[int]:
        """Number of attention heads of each of its transformers."""
        return [
            sum(layer.attn1.heads for layer in one.transformer_blocks) for one in self.transformers
        ]


@dataclass(frozen=True)
class Preimage:
    """
    What one pass has left, for each step of the decoder from coarse to fine.

    ``features`` (B, C, h, w) enter the step's residual block, ``maps`` (B, P, h, w) are those of
    its transformers, None without any; ``moment`` (B or 1, E) is the embedding of the timestep.
    """

    features: tuple[torch.Tensor, ...]
    maps: tuple[torch.Tensor | None, ...]
    moment: torch.Tensor


def decoder_steps(unet: UNet2DConditionModel) -> list[Step]:
    """
    Return the residual blocks of a U-Net's decoder in order.

    With each go the transformer behind the block before it (of the first, that of the middle) and
    the one that its skip connection comes from. Raises CheckpointError for other blocks.
    """
    _check_blocks(unet)
    skips: list[nn.Module | None] = [None]  # of the first convolution
    for block in unet.down_blocks:
        skips.extend(_transformers(block))
        skips.extend([None] * len(block.downsamplers or ()))
    before = list(getattr(unet.mid_block, 'attentions', None) or ())
    steps: list[Step] = []
    for block in unet.up_blocks:
        for residual, own in zip(block.resnets, _transformers(block), strict=True):
            found = (*before, skips.pop())
            steps.append(Step(residual, tuple(one for one in found if one is not None)))
            before = [own]
    return steps


def _check_blocks(unet: UNet2DConditionModel) -> None:
    outer = [(block, BLOCKS, '') for block in (*unet.down_blocks, *unet.up_blocks)]
    for block, known, where in (*outer, (unet.mid_block, MIDDLES, ' in the middle')):
        if type(block).__name__ not in known:
            raise CheckpointError(
                f'the U-Net has a {type(block).__name__}{where}; features are read of '
                f'{", ".join(known)}: choose Stable Diffusion 1 or 2, or a Marigold'
            )


def _transformers(block: Any) -> list[nn.Module | None]:
    """Return the transformer behind each residual block, None without."""
    found = getattr(block, 'attentions', None)
    return [None] * len(block.resnets) if found is None else list(found)


@torch.no_grad()
def read_preimage(
    unet: UNet2DConditionModel, latent: torch.Tensor, text: torch.Tensor
) -> Preimage:
    """
    Run a U-Net once at t = 1 on the latent of an image, without gradient.

    The U-Net stays unchanged; one that takes two latents, as Marigold's, gets the image's twice.
    ``latent`` (B, C, h, w) is scaled, with its noise, ``text`` (1, L, D) the embedding of the
    prompt.
    """
    steps = decoder_steps(unet)
    most = MOST_CPU if latent.device.type == 'cpu' else MOST_GPU
    sample = latent.repeat(1, unet.config.in_channels // latent.shape[1], 1, 1)
    with ExitStack() as stack:
        moments: list[torch.Tensor] = []
        embedding: Any = unet.time_embedding
        handle = embedding.register_forward_hook(lambda *call: moments.append(call[-1]))
        stack.enter_context(handle)
        inputs = [stack.enter_context(_input_of(step.block)) for step in steps]
        maps = {
            one: stack.enter_context(_maps_of(one, most))
            for step in steps
            for one in step.transformers
        }
        unet(sample, TIMESTEP, encoder_hidden_states=text.expand(len(latent), -1, -1))
    features = tuple(values['input'] for values in inputs)
    stacks = [[m for one in step.transformers for m in maps[one]] for step in steps]
    stacked = (_stack(*pair) for pair in zip(stacks, features, strict=True))
    return Preimage(features, tuple(stacked), moments[0])


def _stack(maps: list[torch.Tensor], features: torch.Tensor) -> torch.Tensor | None:
    """Stack maps (B, P, h, w) of one step, at the size of its features."""
    size = features.shape[-2:]
    same = [
        one if one.shape[-2:] == size else functional.interpolate(one, size, mode='bilinear')
        for one in maps
    ]
    return torch.cat(same, 1) if same else None


@contextmanager
def _input_of(module: nn.Module) -> Iterator[Mapping[str, torch.Tensor]]:
    """Record the first argument of a module's call under ``input``."""
    found: dict[str, torch.Tensor] = {}

    def hook(_module: nn.Module, given: tuple[Any, ...]) -> None:
        found['input'] = given[0]

    with module.register_forward_pre_hook(hook):
        yield found


@contextmanager
def _maps_of(transformer: Any, most: int) -> Iterator[list[torch.Tensor]]:
    """
    Collect the maps (B, P, h, w) of a transformer's layers: self-attention, then cross.

    Those of self-attention are divided by the largest of their head.
    """
    maps: list[torch.Tensor] = []
    queries: list[torch.Tensor] = []
    with _input_of(transformer) as given, ExitStack() as stack:

        def reader(attention: Any, own: bool) -> Any:
            def hook(_module: nn.Module, _given: Any, key: torch.Tensor) -> None:
                size = given['input'].shape[-2:]
                query, key = (_by_head(x, attention.heads) for x in (queries.pop(), key))
                values = cells_of(*size).to(key) if own else None
                found = attention_maps(query, key, values, attention.scale, most)
                if own:
                    found = found / found.amax((2, 3), keepdim=True)
                maps.append(found.transpose(2, 3).reshape(len(found), -1, *size))

            return hook

        def keep(_module: nn.Module, _given: Any, query: torch.Tensor) -> None:
            queries.append(query)

        for layer in transformer.transformer_blocks:
            for attention, own in ((layer.attn1, True), (layer.attn2, False)):
                stack.enter_context(attention.to_q.register_forward_hook(keep))
                stack.enter_context(attention.to_k.register_forward_hook(reader(attention, own)))
        yield maps


def _by_head(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Rearrange (B, N, M d) to (B, M, N, d)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def attention_maps(
    query: torch.Tensor, key: torch.Tensor, values: torch.Tensor | None, scale: float, most: int
) -> torch.Tensor:
    """
    Return softmax(scale QK^T), (B, M, N, T), or times ``values``, (B, M, N, P).

    ``query`` is (B, M, N, d), ``key`` (B, M, T, d), ``values`` (T, P), such as :func:`cells_of`,
    or None. Some queries are taken at a time: ``most`` elements of softmax(QK^T) at once.
    """
    rows = max(1, most // math.prod(key.shape[:3]))
    across = key.transpose(2, 3)

    def maps_of(part: torch.Tensor) -> torch.Tensor:
        found = torch.softmax(part @ across, -1, dtype=torch.float32).to(key)
        # Not times the identity: OpenVINO would fuse that, and answer NaN in bfloat16.
        return found if values is None else found @ values

    return torch.cat([maps_of(part) for part in (scale * query).split(rows, 2)], 2)


def cells_of(height: int, width: int) -> torch.Tensor:
    """Return the weights (h w, 64) that average attention over 8x8 cells of positions."""
    # A constant of exported networks, whose precision may be less.
    return torch.from_numpy(np.kron(_shares(int(height)), _shares(int(width))).astype(np.float32))


def _shares(side: int) -> np.ndarray:
    """
    Return the weights (side, 8) of positions in cells.

    As published: interpolated to the next multiple of 8, also from one, averaged over whole
    positions, interpolated to 8. Written as products: ONNX pools no sizes that are no multiples.
    """
    whole, step = side + CELLS - side % CELLS, max(1, side // CELLS)
    pooled = np.arange(whole)[:, None] // step == np.arange(whole // step)
    return _linear(side, whole) @ (pooled / step) @ _linear(whole // step, CELLS)


def _linear(given: int, wanted: int) -> np.ndarray:
    """Return the weights (given, wanted) of linear interpolation between centres of positions."""
    centres = ((np.arange(wanted) + 0.5) * (given / wanted) - 0.5).clip(0, given - 1)
    return (1.0 - np.abs(centres - np.arange(given)[:, None])).clip(min=0.0)
