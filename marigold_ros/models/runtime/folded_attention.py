# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Cross-attention over a text that never changes, folded into two small matrices.

Marigold always attends to the embedding of the empty prompt, so that keys and values are
constants. Then the projection to queries may be multiplied with the keys, and the values with the
projection of the answer: of C x C weights each, heads x tokens x C are left (a 32nd for two tokens
and heads of 64 channels). The same sums in another order: the answer differs in its last bits.
"""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
import torch
from torch import nn
from torch.nn import functional


class FoldedAttention(nn.Module):
    """
    Attention of pixels to a constant text.

    Parameters
    ----------
    attention : Attention
        The block of a U-Net whose place this one takes.
    text : (1, L, D)
        What it attends to.

    """

    scores: torch.Tensor
    values: torch.Tensor
    scores_bias: torch.Tensor | None
    values_bias: torch.Tensor | None

    def __init__(self, attention: Attention, text: torch.Tensor) -> None:
        super().__init__()
        self.heads, self.tokens = attention.heads, text.shape[1]
        source = text[0].double()
        keys = self._by_head(_projected(attention.to_k, source))  # (heads, L, d)
        values = self._by_head(_projected(attention.to_v, source))
        to_q, to_out = attention.to_q, attention.to_out[0]
        queries = to_q.weight.double().unflatten(0, (self.heads, -1))  # (heads, d, C)
        scores = torch.einsum('hld,hdc->hlc', keys, queries) * attention.scale
        answers = to_out.weight.double().unflatten(1, (self.heads, -1))  # (C, heads, d)
        mixed = torch.einsum('hld,chd->chl', values, answers)
        bias = None
        if to_q.bias is not None:
            shift = to_q.bias.double().unflatten(0, (self.heads, -1))  # (heads, d)
            bias = (torch.einsum('hld,hd->hl', keys, shift) * attention.scale).flatten()
        self._constant('scores', scores.flatten(0, 1), to_q.weight)  # (heads L, C)
        self._constant('scores_bias', bias, to_q.weight)
        self._constant('values', mixed.flatten(1), to_q.weight)  # (C, heads L)
        self._constant('values_bias', to_out.bias, to_q.weight)

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Attend from (B, N, C); the text that the U-Net passes on is known already."""
        scores = functional.linear(hidden_states, self.scores, self.scores_bias)
        weights = scores.unflatten(-1, (self.heads, self.tokens)).softmax(-1)
        return functional.linear(weights.flatten(-2), self.values, self.values_bias)

    def _by_head(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(1, (self.heads, -1)).transpose(0, 1)

    def _constant(self, name: str, value: torch.Tensor | None, like: torch.Tensor) -> None:
        value = None if value is None else value.detach().to(like.device, like.dtype).contiguous()
        self.register_buffer(name, value, persistent=False)


def fold_text(unet: UNet2DConditionModel, text: torch.Tensor) -> int:
    """
    Replace the cross-attention of all blocks where that saves work; returns how many.

    Long texts (77 padded tokens) and kinds of attention that Marigold never had stay as they are.
    """
    folded = 0
    for block in unet.modules():
        attention = getattr(block, 'attn2', None)
        if isinstance(attention, Attention) and _is_plain(attention, text):
            block.attn2 = FoldedAttention(attention, text)
            folded += 1
    return folded


def _projected(layer: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    answer = rows @ layer.weight.double().T
    return answer if layer.bias is None else answer + layer.bias.double()


def _is_plain(attention: Attention, text: torch.Tensor) -> bool:
    unusual = ('norm_q', 'norm_k', 'norm_cross', 'group_norm', 'spatial_norm', 'add_k_proj')
    return (
        attention.is_cross_attention
        and all(getattr(attention, name, None) is None for name in unusual)
        and not attention.residual_connection
        and attention.rescale_output_factor == 1.0
        and attention.heads * text.shape[1] < attention.to_q.in_features
    )
