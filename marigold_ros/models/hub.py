# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Fetch checkpoints from the Hugging Face hub into its cache, where ``model`` finds them.

Only here is the network used, and only because somebody asked for it. Imports no torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import errno
import os
from pathlib import Path
import re
import shutil
from typing import Any

from marigold_ros.errors import CheckpointError, MarigoldError, shown
from marigold_ros.models.locate import (
    HALF,
    hub_id,
    HUB_PATTERNS,
    is_local,
    list_checkpoints,
    LONE_WEIGHTS,
    PUBLISHED,
    snapshot,
)
from marigold_ros.settings import nearest
from marigold_ros.whole_files import sha256

_PATTERNS = [*HUB_PATTERNS, LONE_WEIGHTS]
_TIMEOUT_S = 5.0
# What becomes paths in the cache: hashes of commits and contents, and names of files.
_HASH = re.compile(r'[\w-]{1,128}', re.ASCII)
_FILE = re.compile(r'(?!(.*/)?\.{0,2}(/|$))[^\\\x00-\x1f\x7f]{1,255}')
_NAMES = dict.fromkeys(('sha', 'oid', 'sha256', 'blobId', 'xetHash'), _HASH) | {
    'rfilename': _FILE,
    'path': _FILE,
}
_HASH_HEADERS = ('ETag', 'X-Linked-ETag', 'X-Repo-Commit', 'X-Xet-Hash')
_SPARE = 2**28  # bytes of the disk that a download leaves
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}  # where a cache cannot be kept


@dataclass(frozen=True)
class Repository:
    """A repository at one commit: the files of it that are needed."""

    name: str
    revision: str | None
    commit: str
    licence: str
    files: Mapping[str, tuple[int, str]]  # size in bytes, SHA-256 or ''

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(size for size, _ in self.files.values())


def look_up(name: str) -> Repository:
    """
    Ask the hub for a checkpoint: a published name or a hub id, with ``@revision`` if not main.

    Raises CheckpointError if the name is unknown, the hub has no such repository or revision or
    wants a licence to be accepted, the hub cannot be reached, or there are no safetensors.
    """
    from huggingface_hub import HfApi

    if is_local(name):
        raise CheckpointError(f'{name} is on this machine: --model {name} takes it as it is')
    found = hub_id(name)
    if found is None:
        raise CheckpointError(f"no published checkpoint is called '{name}'; {_hint(name)}")
    repository, revision = found
    with _checked_answers(), _failures(repository, revision):
        info = HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    files = {
        item.rfilename: (item.size or 0, item.lfs.sha256 if item.lfs else '')
        for item in info.siblings or []
    }
    needed = _needed(files)
    if not any(path.endswith('.safetensors') for path in needed):
        raise CheckpointError(
            f'{repository} has no safetensors of a depth model (its {len(files)} files are of '
            'another kind, or pickles, which are never opened); choose another repository'
        )
    licence = shown(getattr(info.card_data, 'license', None) or 'not stated', 80)
    return Repository(repository, revision, str(info.sha), licence, needed)


def fetch(repository: Repository) -> Path:
    """
    Bring the files of a repository into the cache and check them; what is there stays.

    Raises CheckpointError if the disk is too small, the download breaks off, or a file differs
    from the hub's.
    """
    from huggingface_hub import constants, snapshot_download

    cache = Path(constants.HF_HUB_CACHE)
    name, revision, wanted = repository.name, repository.revision, list(repository.files)
    with _checked_answers(), _failures(name, revision, begun=True):
        _check_space(repository, cache)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        for file, (size, digest) in repository.files.items():
            path = folder / file
            if path.stat().st_size != size or (digest and sha256(path) != digest):
                path.resolve().unlink()
                raise CheckpointError(
                    f'{file} of {name} arrived damaged and was removed; the same command fetches '
                    'it again'
                )
    return folder


def is_cached(name: str) -> bool:
    """Whether a hub id or published name is in the cache."""
    try:
        snapshot(name, _PATTERNS)
    except CheckpointError:
        return False
    return True


def _needed(files: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Select what runs; half precision only in folders where there is nothing else."""
    from huggingface_hub.utils import filter_repo_objects

    wanted = list(filter_repo_objects(files, allow_patterns=_PATTERNS))
    full = list(filter_repo_objects(wanted, ignore_patterns=HALF))
    whole = {os.path.dirname(path) for path in full if path.endswith('.safetensors')}
    return {p: files[p] for p in wanted if p in full or os.path.dirname(p) not in whole}


def _check_space(repository: Repository, cache: Path) -> None:
    """Raise CheckpointError if the disk of the cache has no room for what is missing."""
    place = next(part for part in (cache, *cache.parents) if part.exists())
    blobs = cache / f'models--{repository.name.replace("/", "--")}' / 'blobs'
    there = sum(p.stat().st_size for p in blobs.iterdir()) if blobs.is_dir() else 0
    free, missing = shutil.disk_usage(place).free, repository.size - there
    if missing > 0 and free < missing + _SPARE:
        raise CheckpointError(
            f'{repository.name} needs {as_size(missing)} more, and {place} has {as_size(free)} '
            'free; make room, or set HF_HOME to a folder on another disk'
        )


def as_size(count: int) -> str:
    """Return a number of bytes in words."""
    return f'{count / 1e9:.1f} GB' if count >= 1e9 else f'{count / 1e6:.1f} MB'


def _hint(name: str) -> str:
    known = [*PUBLISHED, *(item.repository for item in PUBLISHED.values()), *list_checkpoints()]
    if near := nearest(name.partition('@')[0], known):
        return f'did you mean {near}?'
    return 'give owner/name of a repository, or a name of `python -m marigold_ros models`'


@contextmanager
def _checked_answers() -> Iterator[None]:
    """Check what the hub answers before huggingface_hub makes paths of it."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def checked() -> Any:
        client = default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, 'response': [*hooks['response'], _check_answer]}
        return client

    set_client_factory(checked)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)


def _check_answer(response: Any) -> None:
    """Raise CheckpointError where what becomes a path is no hash and no name of a file."""
    if response.request.method == 'HEAD':
        found = (response.headers.get(name, '') for name in _HASH_HEADERS)
        _check_names([{'oid': value.removeprefix('W/').strip('"')} for value in found])
    elif '/api/' in response.url.path:
        response.read()
        with suppress(ValueError, RecursionError):  # huggingface_hub reports what is no JSON
            _check_names(response.json())


def _check_names(answer: Any) -> None:
    """Check an answer, the files that it lists, and what they are stored as."""
    for entry in answer if isinstance(answer, list) else [answer]:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if key in ('siblings', 'lfs'):
                _check_names(value)
            elif value and key in _NAMES and not _NAMES[key].fullmatch(str(value)):
                raise CheckpointError(
                    f"the hub answered with {key} '{shown(value, 80)}', which is "
                    'refused: it would become a path outside of the cache; check HF_ENDPOINT, or '
                    'copy the folder from another machine and name it'
                )


@contextmanager
def _failures(name: str, revision: str | None, begun: bool = False) -> Iterator[None]:
    """Raise CheckpointError, naming cause and remedy, for what the hub and the network raise."""
    try:
        yield
    except MarigoldError:
        raise
    except Exception as error:  # the hub's own kinds, the network library's, and OSError
        text = _refusal(error, name, revision) or _break(error, name, begun)
        raise CheckpointError(text) from error


def _refusal(error: Exception, name: str, revision: str | None) -> str:
    """Explain an error that the hub, its settings or the disk raised; empty for others."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f'{name} is only for those who accept its terms: do so on its page of the hub, then '
            'log in with `hf auth login`'
        )
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return f'the hub has no repository {name}, or it is private; {_hint(name)}'
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{name} has no revision '{revision}'; leave @{revision} away for the newest, or look "
            'up its branches and tags on its page of the hub'
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f'HF_HUB_OFFLINE is set, so {name} cannot be fetched; unset it'
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            'the disk is full; make room, or set HF_HOME to a folder on another disk: the same '
            f'command then goes on with {name}'
        )
    if isinstance(error, OSError) and error.errno in _UNUSABLE:
        return f'{name} cannot be kept ({_first_line(error)}); set HF_HOME to a folder of your own'
    if isinstance(error, errors.HfHubHTTPError):
        cause = _first_line(error)
        return f'the hub refused {name} ({cause}); check HF_TOKEN, or try again later'
    return ''


def _break(error: Exception, name: str, begun: bool) -> str:
    """Explain an error of the network, before or after the download has begun."""
    cause = f'{type(error).__name__}: {_first_line(error)}'
    if begun:
        return f'the download of {name} broke off ({cause}); the same command goes on with it'
    return (
        f'the hub cannot be reached for {name} ({cause}); check the network and HTTPS_PROXY, or '
        'copy the folder from another machine and name it'
    )


def _first_line(error: Any) -> str:
    return shown(str(error).strip().partition('\n')[0], 200)
