# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The embedding of the empty prompt: stored with a checkpoint, or computed once and kept.

It is the only thing that Marigold needs of its text encoder (1.4 GB); the result is 8 kB. It goes
beside the checkpoint, where diffusers' users find it too, or into the user's cache.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
import tempfile
from typing import Any

from marigold_ros.errors import CheckpointError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
import torch

NAME = 'empty_text_embedding'


def empty_text(folder: Path) -> torch.Tensor:
    """
    Embedding (1, L, D) float32 of the empty prompt.

    Raises
    ------
    CheckpointError
        If neither the embedding nor a whole text encoder is there.

    """
    beside = folder / f'{NAME}.safetensors'
    if beside.is_file():
        return _read(beside)
    encoder = folder / 'text_encoder'
    if not encoder.is_dir():
        raise CheckpointError(
            f'{folder} has neither {NAME}.safetensors nor text_encoder/; one of them must be there'
        )
    cached = _cache_path(encoder)
    if cached.is_file():
        return _read(cached)
    embedding = _compute(folder)
    # A read-only checkpoint is usual (shared, installed); without any place it is computed again.
    if not _write(beside, embedding):
        _write(cached, embedding)
    return embedding


def _read(path: Path) -> torch.Tensor:
    try:
        return load_file(path)[NAME].float()
    except Exception as error:  # safetensors raises its own kinds
        raise CheckpointError(
            f'{path} cannot be read ({error}); it must hold one tensor {NAME}: restore it, or '
            'remove it beside a text_encoder/'
        ) from error


def _cache_path(encoder: Path) -> Path:
    """Where the user's cache keeps it: a name that changes with the encoder's files."""
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    facts = [str(encoder.resolve())]
    for path in sorted(encoder.iterdir()):
        status = path.stat()
        facts.append(f'{path.name} {status.st_size} {status.st_mtime_ns}')
    key = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:32]
    return root / 'marigold_ros' / f'{NAME}-{key}.safetensors'


def _write(path: Path, embedding: torch.Tensor) -> bool:
    """Write whole or not at all; False where the place is read-only or full."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix='.', suffix='.draft', dir=path.parent)
        os.close(handle)
        try:
            save_file({NAME: embedding.contiguous()}, draft)
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except (OSError, SafetensorError):
        return False
    return True


def _compute(folder: Path) -> torch.Tensor:
    from transformers import CLIPTextModel, CLIPTokenizer

    part = folder / 'text_encoder'
    files = [path.name for path in part.glob('*.safetensors')]
    if not files:
        raise CheckpointError(
            f'{part} has no safetensors weights; copy model.safetensors there, or put '
            f'{NAME}.safetensors into {folder}'
        )
    variant = None if any('.fp16' not in name for name in files) else 'fp16'
    arguments: dict[str, Any] = {'local_files_only': True}
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / 'tokenizer', **arguments)
        encoder = CLIPTextModel.from_pretrained(
            part, use_safetensors=True, variant=variant, dtype=torch.float32, **arguments
        )
    except Exception as error:  # transformers, tokenizers and safetensors raise their own kinds
        raise CheckpointError(
            f'{folder}: text_encoder/ and tokenizer/ cannot be loaded '
            f'({str(error).strip().splitlines()[0][:300]}); restore them'
        ) from error
    tokens = tokenizer('', padding='do_not_pad', truncation=True, return_tensors='pt')
    with torch.no_grad():
        return encoder.eval()(tokens.input_ids)[0].float()
