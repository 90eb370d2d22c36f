# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Finds a checkpoint's folder: embedded, on this machine, or fetched from the Hugging Face hub.

From the hub come the safetensors of the parts that run and nothing else: no pickles, no copies in
half precision beside full ones (a published Marigold repository holds four copies of each weight).
Its cache, its offline mode and its progress bars are huggingface_hub's own.
"""

from __future__ import annotations

from pathlib import Path
import re

from marigold_ros.errors import CheckpointError
from marigold_ros.models import EMBEDDED, list_checkpoints

PICKLES = ('.bin', '.ckpt', '.pth', '.pt', '.pkl')
PARTS = ('unet', 'vae', 'scheduler', 'text_encoder', 'tokenizer')
HUB_PATTERNS = [
    'model_index.json',
    'marigold_ros.json',
    'empty_text_embedding.safetensors',
    'SHA256SUMS',
    *(f'{part}/*.{kind}' for part in PARTS for kind in ('json', 'safetensors', 'txt')),
]
HALF = ['*.fp16*']
HUB_ID = re.compile(r'(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?')


def find_folder(name: str) -> Path:
    """Resolve an embedded name, a folder, or a hub id ``owner/model[@revision]`` to a folder."""
    if (EMBEDDED / name / 'model_index.json').is_file():
        return EMBEDDED / name
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix in PICKLES or path.is_file():
        raise CheckpointError(
            f"'{name}' is a single file; give the folder of a checkpoint in diffusers layout "
            '(model_index.json, unet/, vae/, scheduler/) with safetensors weights'
        )
    if _is_hub_id(name):
        return _download(name, HUB_PATTERNS, 'unet/*.safetensors')
    raise CheckpointError(
        f"no checkpoint '{name}'; embedded are {', '.join(list_checkpoints()) or 'none'}; "
        'otherwise give a folder in diffusers layout or a hub id (prs-eth/marigold-depth-v1-1)'
    )


def find_autoencoder(name: str) -> Path:
    """Resolve an autoencoder that is given apart: its folder, one that has vae/, or a hub id."""
    path = Path(name).expanduser()
    if not path.is_dir():
        if not _is_hub_id(name):
            raise CheckpointError(
                f"there is no autoencoder '{name}'; give a folder with config.json and "
                'safetensors weights, or a hub id (madebyollin/taesd)'
            )
        patterns = ['config.json', '*.safetensors', 'vae/*.json', 'vae/*.safetensors']
        path = _download(name, patterns, '*.safetensors')
    return path if (path / 'config.json').is_file() else path / 'vae'


def _is_hub_id(name: str) -> bool:
    return not name.startswith('.') and HUB_ID.fullmatch(name) is not None


def _download(name: str, patterns: list[str], weights: str) -> Path:
    from huggingface_hub import snapshot_download

    match = HUB_ID.fullmatch(name)
    assert match is not None
    repository, revision = match['name'], match['revision']
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=patterns, ignore_patterns=HALF
        )
        if not any(Path(folder).glob(weights)):
            folder = snapshot_download(repository, revision=revision, allow_patterns=patterns)
    except Exception as error:  # the hub's own kinds, the network library's, and OSError
        raise CheckpointError(
            f"'{name}' is neither a folder nor could it be fetched from the hub "
            f'({type(error).__name__}); check the name, the revision and the network, or give a '
            'local folder'
        ) from error
    return Path(folder)
