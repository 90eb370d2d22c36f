# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Find a checkpoint's folder, embedded, local or in the Hugging Face hub's cache, and its files.

``hub`` fills that cache: with the safetensors of the parts that run and nothing else, no pickles,
no copies in half precision beside full ones (a published Marigold repository holds four copies of
each weight). Nothing is downloaded here. Imports no torch.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import hashlib
import json
import math
import os
from pathlib import Path
import re
from threading import RLock
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.settings import nearest
from marigold_ros.whole_files import blocks, sha256

EMBEDDED = Path(__file__).resolve().parent.parent / 'checkpoints'
# Folder of a network that fuses depth, beside them or within a checkpoint; it is no depth model.
FUSION = 'fusion'
PROMPT = 'prompt'  # folder within a Marigold: what lets its decoder see points
PICKLES = ('.bin', '.ckpt', '.pth', '.pt', '.pkl')
PARTS = ('unet', 'vae', 'scheduler', 'text_encoder', 'tokenizer')
HUB_PATTERNS = [
    'config.json',
    'preprocessor_config.json',
    'model*.safetensors',
    'model.safetensors.index.json',
    'model_index.json',
    'marigold_ros.json',
    'metric_scale.json',
    'training_features.json',
    'empty_text_embedding.safetensors',
    'SHA256SUMS',
    *(
        f'{part}/*.{kind}'
        for part in (*PARTS, FUSION, PROMPT)
        for kind in ('json', 'safetensors', 'txt')
    ),
]
LONE_WEIGHTS = 'diffusion_pytorch_model*.safetensors'  # of an autoencoder beside its config.json
HALF = ['*.fp16*']
HUB_ID = re.compile(r'(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?')


@dataclass(frozen=True)
class Published:
    """A checkpoint on the hub: repository, bytes that are fetched, licence of its weights."""

    repository: str
    size: int
    licence: str


# Their short names; the hub has many more.
PUBLISHED = {
    'marigold-depth-v1-1': Published('prs-eth/marigold-depth-v1-1', 5_160_000_000, 'RAIL++-M'),
    'marigold-depth-v1-0': Published('prs-eth/marigold-depth-v1-0', 5_160_000_000, 'Apache-2.0'),
    'depth-anything-v2-small': Published(
        'depth-anything/Depth-Anything-V2-Small-hf', 99_000_000, 'Apache-2.0'
    ),
    'depth-anything-v2-base': Published(
        'depth-anything/Depth-Anything-V2-Base-hf', 390_000_000, 'CC-BY-NC-4.0'
    ),
    'depth-anything-v2-large': Published(
        'depth-anything/Depth-Anything-V2-Large-hf', 1_340_000_000, 'CC-BY-NC-4.0'
    ),
}
SUMS = 'SHA256SUMS'  # as written by `sha256sum`, paths from the checkpoint's folder
MOST_TEXT = 2**24  # bytes of a file of settings
_LONGEST_NUMBER = 30  # digits
_loading = RLock()
LAYOUT = 'diffusers layout (model_index.json, unet/, vae/, scheduler/)'


def list_checkpoints() -> list[str]:
    """Return the names of the depth models that come with the package."""
    return sorted({path.parent.name for path in EMBEDDED.glob('*/*.json')} - {FUSION})


def is_embedded(name: str) -> bool:
    """Return whether a model, or every member of an average, comes with the package."""
    return set(name.split('+')) <= set(list_checkpoints())


def is_local(name: str) -> bool:
    """Return whether a name is that of an embedded checkpoint or of a folder."""
    return name in list_checkpoints() or local_folder(name) is not None


def local_folder(name: str) -> Path | None:
    """Return the folder of a name, ``~`` being the home folder; None where there is none."""
    # Not those of Path, which raise for an unknown user and for too long a name.
    path = os.path.expanduser(name)
    return Path(path) if os.path.isdir(path) else None


def checkpoint_name(folder: Path) -> str:
    """Return the name of a folder; in the hub's cache that of the repository, not of a commit."""
    folder = Path(os.path.abspath(folder))  # . has a name, too
    cached = re.fullmatch('models--.+--(.+)', folder.parent.parent.name)
    return cached[1] if cached and folder.parent.name == 'snapshots' else folder.name


def find_folder(name: str) -> Path:
    """Return the folder of a name, as of ``load_model``; CheckpointError if there is none."""
    if name in list_checkpoints():
        return EMBEDDED / name
    folder = local_folder(name)
    if folder is not None:
        return folder
    if Path(name).suffix in PICKLES or os.path.isfile(os.path.expanduser(name)):
        raise CheckpointError(
            f"'{name}' is a single file; give the folder of a checkpoint in {LAYOUT} with "
            'safetensors weights (`models convert` makes one of some released pickles)'
        )
    if hub_id(name) is not None:
        return snapshot(name, HUB_PATTERNS)
    near = nearest(name, [*list_checkpoints(), *PUBLISHED])
    meant = f'did you mean {near}? ' if near else ''
    raise CheckpointError(
        f"no checkpoint '{name}'; {meant}embedded are {', '.join(list_checkpoints()) or 'none'}; "
        'otherwise give a folder in the layout of diffusers or transformers, or a hub id '
        '(prs-eth/marigold-depth-v1-1)'
    )


def find_autoencoder(name: str) -> Path:
    """Resolve a separate autoencoder: its folder, one that has ``vae/``, or a hub id."""
    path = local_folder(name)
    if path is None:
        if hub_id(name) is None:
            raise CheckpointError(
                f"there is no autoencoder '{name}'; give a folder with config.json and "
                'safetensors weights, or a hub id (madebyollin/taesd)'
            )
        path = snapshot(name, ['config.json', LONE_WEIGHTS, 'vae/*.json', 'vae/*.safetensors'])
    return path if (path / 'config.json').is_file() else path / 'vae'


def require_file(folder: Path, name: str) -> Path:
    """Return the path of a file of a checkpoint; raises CheckpointError if it is missing."""
    path = folder / name
    if not path.is_file():
        raise CheckpointError(
            f'{folder} has no {name}; the checkpoint is incomplete: copy that file into it'
        )
    return path


def require_weights(part: Path, remedy: str) -> list[Path]:
    """Return the safetensors of a network's folder; raises CheckpointError if there are none."""
    files = sorted(part.glob('*.safetensors'))
    if not files:
        pickles = sorted(path.name for path in part.iterdir() if path.suffix in PICKLES)
        found = f' (only {pickles[0]}, a pickle, which is never opened)' if pickles else ''
        raise CheckpointError(f'{part} has no safetensors weights{found}; {remedy}')
    return files


def read_text(path: Path) -> str:
    """Read a file of settings, or raise CheckpointError."""
    require_file(path.parent, path.name)
    if path.stat().st_size > MOST_TEXT:
        raise CheckpointError(f'{path} has more than {MOST_TEXT >> 20} MiB; restore the file')
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f'{path} cannot be read ({error}); restore the file') from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object whose numbers are finite, or raise CheckpointError."""
    text = read_text(path)
    try:
        value = json.loads(
            text, parse_constant=_finite, parse_float=_finite, parse_int=_whole_number
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f'{path} is not JSON ({error}); restore the file') from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f'{path} holds a {type(value).__name__}, not an object; restore the file'
        )
    return value


def peek_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; what is none is empty: the family that owns the file reports it."""
    try:
        return read_json(path)
    except CheckpointError:
        return {}


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f'{text[:_LONGEST_NUMBER]} is not finite')
    return value


def _whole_number(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f'a number of {len(text)} digits')
    return int(text)


@contextmanager
def offline() -> Iterator[None]:
    """
    Keep what is loaded inside from the network, whatever a checkpoint's files name.

    One thread at a time: the switch is one of the process.
    """
    from huggingface_hub import constants

    with _loading:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def hub_id(name: str) -> tuple[str, str | None] | None:
    """Return repository and revision of a published name or a hub id; None for other names."""
    short, _, revision = name.partition('@')
    if short in PUBLISHED and not name.endswith('@'):
        return PUBLISHED[short].repository, revision or None
    match = None if name.startswith('.') else HUB_ID.fullmatch(name)
    return match and (match['name'], match['revision'])


def snapshot(name: str, patterns: list[str]) -> Path:
    """Return the folder of a hub id in the cache; raises CheckpointError if it is not there."""
    from huggingface_hub import snapshot_download

    repository, revision = hub_id(name) or (name, None)
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            local_files_only=True,
            allow_patterns=patterns,
            ignore_patterns=HALF,
        )
    except Exception as error:  # of several kinds: the cache has none, or not all files of it
        raise CheckpointError(
            f"'{name}' is neither a folder nor complete in the cache of the hub; fetch it once: "
            f'python -m marigold_ros models get {name}'
        ) from error
    return Path(folder)


def fingerprint(parts: Iterable[Path]) -> str:
    """Return the SHA-256 over single files and all safetensors of folders, sorted by name."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted(part.glob('*.safetensors')) if part.is_dir() else [part]:
            digest.update(f'{part.name}/{path.name}'.encode())
            for block in blocks(path):
                digest.update(block)
    return digest.hexdigest()


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over the weight files of a checkpoint, as ``sha256sum`` does."""
    files = sorted(folder.rglob('*.safetensors'))
    lines = [f'{sha256(path)}  {path.relative_to(folder).as_posix()}\n' for path in files]
    (folder / SUMS).write_text(''.join(lines), encoding='utf-8')


def verify_sums(folder: Path) -> dict[str, str]:
    """
    Compare files with a checkpoint's ``SHA256SUMS``, if any; returns the SHA-256 by name.

    Raises CheckpointError, naming the file that is missing or differs.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums = {}
    for line in read_text(path).splitlines():
        expected, _, name = line.partition(' ')
        name = name.lstrip(' *')
        target = folder / name
        if not name or not target.is_file() or Path(name).is_absolute() or '..' in name:
            raise CheckpointError(f"{path} lists '{name or line}', which is not in the folder")
        found = sha256(target)
        if found != expected.lower():
            raise CheckpointError(
                f'{target} has SHA-256 {found[:12]}…, {SUMS} lists {expected[:12]}…; the file was '
                'changed or damaged: restore it'
            )
        sums[name] = found
    return sums
