# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Load one network of a checkpoint strictly, and identify files by their hashes.

Weights come from safetensors only: a pickle can run code when it is opened, so none ever is.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import hashlib
import json
from pathlib import Path
from typing import Any

from diffusers.utils import logging as diffusers_logging
from marigold_ros.errors import CheckpointError
from marigold_ros.models.locate import require_file, require_weights
import torch

SUMS = 'SHA256SUMS'  # as written by `sha256sum`, paths from the checkpoint's folder


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


def load_network(kind: Any, part: Path) -> Any:
    """
    Load one network in float32: every weight present, nothing beyond, shapes as configured.

    Raises CheckpointError, naming the file or the weight that is missing, damaged, pickled,
    unknown or not finite.
    """
    require_file(part.parent, f'{part.name}/config.json')
    remedy = (
        'convert with pipeline.save_pretrained(folder, safe_serialization=True) where you trust '
        'them'
    )
    variant = variant_of(require_weights(part, remedy))
    try:
        with _quiet_shards():
            network, report = kind.from_pretrained(
                part,
                use_safetensors=True,
                variant=variant,
                low_cpu_mem_usage=False,
                output_loading_info=True,
                local_files_only=True,
                torch_dtype=torch.float32,
            )
    except Exception as error:  # diffusers, safetensors and torch each raise their own kinds
        raise CheckpointError(
            f'{part} cannot be loaded: {str(error).strip().splitlines()[0][:300]}; the files are '
            'damaged or belong to another architecture'
        ) from error
    wrong = report['missing_keys'] + report['unexpected_keys'] + report['mismatched_keys']
    if wrong:
        raise CheckpointError(
            f'{part}: {len(report["missing_keys"])} weights missing, '
            f'{len(report["unexpected_keys"])} unknown, {len(report["mismatched_keys"])} of other '
            f'shape (first: {wrong[0]}); weights and config.json must belong together'
        )
    for name, weight in network.state_dict().items():
        # One pass over the memory, and no mask of the size of the network.
        if weight.is_floating_point() and not torch.isfinite(weight.sum()):
            raise CheckpointError(
                f'{part}: weight {name} is not finite; the file is damaged, restore it'
            )
    return network.eval().requires_grad_(False)


def variant_of(files: Iterable[Path]) -> str | None:
    """Return diffusers' variant of weight files: ``fp16`` unless full precision is there."""
    return None if any('.fp16' not in path.name for path in files) else 'fp16'


@contextmanager
def _quiet_shards() -> Iterator[None]:
    """Keep diffusers' progress bar of shards, a matter of milliseconds, out of logs."""
    shown = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            diffusers_logging.enable_progress_bar()


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


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over the weight files of a checkpoint, as ``sha256sum`` does."""
    files = sorted(folder.rglob('*.safetensors'))
    lines = [f'{sha256(path)}  {path.relative_to(folder).as_posix()}\n' for path in files]
    (folder / SUMS).write_text(''.join(lines), encoding='utf-8')


def verify_sums(folder: Path) -> tuple[str, ...]:
    """
    Compare files with a checkpoint's ``SHA256SUMS``, if any; returns the names compared.

    Raises CheckpointError, naming the file that is missing or differs.
    """
    path = folder / SUMS
    if not path.is_file():
        return ()
    names = []
    for line in path.read_text(encoding='utf-8').splitlines():
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
        names.append(name)
    return tuple(names)
