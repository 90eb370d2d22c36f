# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Fit a frame into memory: first fewer members at once, then tiles, then an error with a remedy.

What fits is estimated before the first frame of a size, because on a CPU the system ends a process
that takes too much, and corrected when an allocation fails all the same.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.models.runtime.usage import free_memory
import torch

# Share of the free memory that the estimate may use up.
USABLE = 0.9
UNLIMITED = 1_000_000
# Feature maps at full size, as wide as the second level, that an autoencoder holds at its peak:
# measured on a CPU 5.3 (decoder of SD-2), 4.5 (its encoder), 4.3 (AutoencoderTiny).
LIVE_MAPS = 6
# Side and overlap of a tile in latent cells: 512 and 128 pixels, as diffusers' tiling.
TILE, OVERLAP = 64, 16


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: of torch on a GPU, of cuBLAS or cuDNN, or on the CPU."""
    # Those of the libraries and of the CPU are RuntimeErrors.
    texts = "can't allocate memory", 'not enough memory', 'STATUS_ALLOC_FAILED'
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def autoencoder_bytes(autoencoder: Any, size: Sequence[int], itemsize: int = 4) -> int:
    """Estimate what an autoencoder holds at its peak for one image of a size (H, W)."""
    widths = autoencoder.config.block_out_channels
    return LIVE_MAPS * widths[min(1, len(widths) - 1)] * size[0] * size[1] * itemsize


class MemoryPlan:
    """
    The number of members of each size that run at once.

    ``note`` is called with one sentence each time that something had to be split.
    """

    def __init__(self, device: torch.device, note: Callable[[str], None]) -> None:
        self.device, self._note = device, note
        self._limits: dict[Hashable, int] = {}

    def forget(self) -> None:
        """Estimate again, as when other programs have freed memory."""
        self._limits.clear()

    def run(
        self,
        stage: str,
        shape: tuple[int, ...],
        most: int,
        function: Callable[[int], torch.Tensor],
        bytes_each: int = 0,
        in_tiles: Callable[[], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """
        Run a stage with as many members at once as fit, at most ``most``, and return its result.

        The limit found holds for the stage and the ``shape`` of one member. ``function`` takes the
        number of members at once and runs the whole stage from its start; ``bytes_each`` is an
        estimate for one member, 0 where there is none. ``in_tiles`` runs the stage where not even
        one member fits; InputError if that does not fit either.
        """
        key = (stage, shape)
        if key not in self._limits:
            free = free_memory(self.device) if bytes_each else None
            self._limits[key] = UNLIMITED if free is None else int(USABLE * free / bytes_each)
        limit = min(self._limits[key], most)
        if limit < most:
            self._note_split(stage, limit, in_tiles is not None)
        while limit:
            try:
                return function(limit)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, which keeps the failed tensors alive.
            limit //= 2
            self._limits[key] = limit
            self._empty_cache()
            self._note_split(stage, limit, in_tiles is not None)
        if in_tiles is not None:
            try:
                return in_tiles()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
        self._limits.pop(key)
        self._empty_cache()
        raise InputError(
            f'the image does not fit into the memory of {self.device} ({stage} of one member, '
            f'latent {" x ".join(map(str, shape))}); lower processing_resolution',
            cause='size',
        )

    def _note_split(self, stage: str, limit: int, tiles: bool) -> None:
        if limit:
            self._note(f'memory is short: {stage} runs {limit} ensemble member(s) at once')
        elif tiles:
            self._note(f'memory is short: {stage} runs in tiles, which may show at their seams')

    def _empty_cache(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()


def tiled(
    function: Callable[[torch.Tensor], torch.Tensor], source: torch.Tensor, tile: int, overlap: int
) -> torch.Tensor:
    """
    Apply a resizing network to overlapping tiles and blend their results, (B, d, h r, w r).

    The function maps (B, c, h, w) to (B, d, h r, w r) with one ratio r for all sizes, a whole
    number or 1 / one; each side of the source must suit it like that of a tile. ``tile`` and
    ``overlap`` are pixels of the source, multiples of 1 / r where r is below 1.
    """
    height, width = source.shape[-2:]
    total: Any = None  # until the first answer shows its size
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            part = source[..., top : top + tile, left : left + tile]
            answer = function(part)
            if total is None:
                ratio = answer.shape[-1] / part.shape[-1]
                size = int(height * ratio), int(width * ratio)
                total = answer.new_zeros(*answer.shape[:2], *size)
                weights = answer.new_zeros(size)
            ramp = [_ramp(side, int(overlap * ratio), answer) for side in answer.shape[-2:]]
            weight = ramp[0][:, None] * ramp[1]
            y, x = int(top * ratio), int(left * ratio)
            window = (slice(y, y + answer.shape[-2]), slice(x, x + answer.shape[-1]))
            total[(..., *window)] += answer * weight
            weights[window] += weight
    return total / weights


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin; the last one is moved inwards, so that all have one size."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def _ramp(length: int, overlap: int, like: torch.Tensor) -> torch.Tensor:
    """Return weights that rise over the overlap at both ends."""
    distance = torch.arange(length, device=like.device, dtype=like.dtype) + 1.0
    return torch.minimum(distance, distance.flip(0)).clamp(max=max(1, overlap)) / max(1, overlap)
