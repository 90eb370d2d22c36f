# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Find a checkpoint's folder, embedded, local or on the Hugging Face hub, and the files in it.

From the hub come the safetensors of the parts that run and nothing else: no pickles, no copies in
half precision beside full ones (a published Marigold repository holds four copies of each weight).
Cache, offline mode and progress bars are huggingface_hub's own. Imports no torch.
"""

from collections.abc import Iterable
import hashlib
import json
from pathlib import Path
import re
from typing import Any

from marigold_ros.errors import CheckpointError

EMBEDDED = Path(__file__).resolve().parent.parent / 'checkpoints'
# Folder of a network that fuses depth, beside them or within a checkpoint; it is no depth model.
FUSION = 'fusion'
PICKLES = ('.bin', '.ckpt', '.pth', '.pt', '.pkl')
PARTS = ('unet', 'vae', 'scheduler', 'text_encoder', 'tokenizer')
# The weights in the layout of diffusers, or in that of transformers.
HUB_WEIGHTS = ('unet/*.safetensors', 'model*.safetensors')
HUB_PATTERNS = [
    'config.json',
    'preprocessor_config.json',
    'model*.safetensors',
    'model.safetensors.index.json',
    'model_index.json',
    'marigold_ros.json',
    'metric_scale.json',
    'empty_text_embedding.safetensors',
    'SHA256SUMS',
    *(f'{part}/*.{kind}' for part in (*PARTS, FUSION) for kind in ('json', 'safetensors', 'txt')),
]
HALF = ['*.fp16*']
HUB_ID = re.compile(r'(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?')
LAYOUT = 'diffusers layout (model_index.json, unet/, vae/, scheduler/)'
# What to do about a file that is missing, by its path in the checkpoint.
REMEDIES = {
    'model_index.json': f'give a folder in {LAYOUT}',
    'scheduler/scheduler_config.json': 'copy it there',
}


def list_checkpoints() -> list[str]:
    """Return the names of the depth models that come with the package."""
    return sorted({path.parent.name for path in EMBEDDED.glob('*/*.json')} - {FUSION})


def is_embedded(name: str) -> bool:
    """Return whether a model, or every member of an average, comes with the package."""
    return set(name.split('+')) <= set(list_checkpoints())


def is_local(name: str) -> bool:
    """Return whether a name is that of an embedded checkpoint or of a folder."""
    return name in list_checkpoints() or Path(name).expanduser().is_dir()


def find_folder(name: str) -> Path:
    """Resolve an embedded name, a folder, or a hub id ``owner/model[@revision]`` to a folder."""
    if name in list_checkpoints():
        return EMBEDDED / name
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix in PICKLES or path.is_file():
        raise CheckpointError(
            f"'{name}' is a single file; give the folder of a checkpoint in {LAYOUT} with "
            'safetensors weights'
        )
    if _is_hub_id(name):
        return _download(name, HUB_PATTERNS, *HUB_WEIGHTS)
    raise CheckpointError(
        f"no checkpoint '{name}'; embedded are {', '.join(list_checkpoints()) or 'none'}; "
        'otherwise give a folder in the layout of diffusers or transformers, or a hub id '
        '(prs-eth/marigold-depth-v1-1)'
    )


def find_autoencoder(name: str) -> Path:
    """Resolve a separate autoencoder: its folder, one that has ``vae/``, or a hub id."""
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


def missing_file(folder: Path, name: str) -> CheckpointError:
    """Return the error for a file that a checkpoint lacks."""
    remedy = REMEDIES.get(name, 'the checkpoint is incomplete')
    return CheckpointError(f'{folder} has no {name}; {remedy}')


def require_file(folder: Path, name: str) -> Path:
    """Return the path of a file of a checkpoint; raises CheckpointError if it is missing."""
    path = folder / name
    if not path.is_file():
        raise missing_file(folder, name)
    return path


def require_weights(part: Path, remedy: str) -> list[Path]:
    """Return the safetensors of a network's folder; raises CheckpointError if there are none."""
    files = sorted(part.glob('*.safetensors'))
    if not files:
        pickles = sorted(path.name for path in part.iterdir() if path.suffix in PICKLES)
        found = f' (only {pickles[0]}, a pickle, which is never opened)' if pickles else ''
        raise CheckpointError(f'{part} has no safetensors weights{found}; {remedy}')
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise CheckpointError."""
    require_file(path.parent, path.name)
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f'{path} is not JSON ({error}); restore the file') from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f'{path} holds a {type(value).__name__}, not an object; restore the file'
        )
    return value


def _is_hub_id(name: str) -> bool:
    return not name.startswith('.') and HUB_ID.fullmatch(name) is not None


def _download(name: str, patterns: list[str], *weights: str) -> Path:
    """Fetch a repository; half precision only if there is nothing else."""
    from huggingface_hub import snapshot_download

    match = HUB_ID.fullmatch(name)
    assert match is not None
    repository, revision = match['name'], match['revision']
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=patterns, ignore_patterns=HALF
        )
        if not any(file for kind in weights for file in Path(folder).glob(kind)):
            folder = snapshot_download(repository, revision=revision, allow_patterns=patterns)
    except Exception as error:  # the hub's own kinds, the network library's, and OSError
        raise CheckpointError(
            f"'{name}' is not a folder and could not be fetched from the hub "
            f'({type(error).__name__}); check the name, the revision and the network, or give a '
            'local folder'
        ) from error
    return Path(folder)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    _feed(digest, path)
    return digest.hexdigest()


def fingerprint(parts: Iterable[Path]) -> str:
    """Return the SHA-256 over single files and all safetensors of folders, sorted by name."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted(part.glob('*.safetensors')) if part.is_dir() else [part]:
            digest.update(f'{part.name}/{path.name}'.encode())
            _feed(digest, path)
    return digest.hexdigest()


def _feed(digest: Any, path: Path) -> None:
    with path.open('rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
