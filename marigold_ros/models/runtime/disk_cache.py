# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What one start leaves for the next: networks converted for OpenVINO, and the sizes of images.

A folder that cannot be written costs time, not the start: it is reported once in the log. Nothing
here imports torch: the node reads the sizes before it needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
import hashlib
from inspect import getfile
import json
import logging
from mmap import ACCESS_COPY, mmap
import os
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory
from threading import Lock
import time
from typing import Any, TYPE_CHECKING

from marigold_ros.errors import MarigoldError, warn_once
from marigold_ros.whole_files import sha256, write_whole

if TYPE_CHECKING:
    from torch import nn

# Networks, the last used: three of `tiny` for each of its image sizes, and one of fusion.
KEPT = 16
SIZES_KEPT = 4  # of the images of a model, the last
SIZES = 'image_sizes.json'
_LONGEST = 2**14  # side of an image, pixels; a longer one is damage
CACHE_VARIABLE = 'TORCHINDUCTOR_CACHE_DIR'
DIGEST = hashlib.sha256().digest_size
_DRAFT, _LONGEST_WRITING_S = 'draft-', 3600
_SIZES_LOCK = Lock()
log = logging.getLogger(__name__)


def cache_folder(chosen: str) -> Path:
    """Return the folder that ``runtime.cache_dir`` names; empty is the user's cache."""
    if chosen:
        return Path(os.path.expanduser(chosen))
    # Without a home it is /.cache, as in Docker, which gives unknown users the home /.
    root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache').lstrip('~')
    return Path(root) / 'marigold_ros' / 'compiled'


def use_cache(folder: str) -> None:
    """Have torch keep compiled code here, before its compiler is imported and chooses /tmp."""
    if not folder and CACHE_VARIABLE in os.environ:  # the user's own
        return
    path = cache_folder(folder)
    with suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(path) and os.access(path, os.W_OK):
        os.environ[CACHE_VARIABLE] = str(path)
    else:
        log.warning('%s cannot be written: compiled code is kept where torch does', path)


def network_key(module: nn.Module, facts: Mapping[str, Any]) -> str:
    """Return a hash of a network's weights, its source code, and whatever else decides it."""
    digest = hashlib.blake2b(json.dumps(dict(facts)).encode(), digest_size=16)
    digest.update(repr(module).encode())
    for part in module.modules():
        config = getattr(part, 'config', None)  # what repr leaves out, as the largest depth
        if isinstance(config, Mapping):  # diffusers adds names of files, and a list without order
            config = sorted(item for item in config.items() if not item[0].startswith('_'))
        digest.update(str(config).encode())
    # Networks also call functions of this package; those of libraries are among the facts.
    own = Path(__file__).parents[1].rglob('*.py')
    for path in sorted({*own, *(Path(getfile(type(part))) for part in module.modules())}):
        digest.update(path.read_bytes())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy())
    return digest.hexdigest()


def files_key(files: Iterable[Path], facts: Mapping[str, Any]) -> str:
    """Return a hash of files' content and whatever else decides a network; raises OSError."""
    digest = hashlib.blake2b(json.dumps(dict(facts)).encode(), digest_size=16)
    for path in files:
        content = path.read_bytes()
        digest.update(len(content).to_bytes(8, 'little') + content)
    return digest.hexdigest()


def load_kept(path: Path, load: Callable[[mmap], Any]) -> Any:
    """
    Load a network from its file, which is mapped; None without one, or if it is damaged (logged).

    The file ends with the SHA-256 of the rest: a damaged network would load, and answer wrongly.
    """
    try:
        with path.open('rb') as kept:
            data = mmap(kept.fileno(), 0, access=ACCESS_COPY)
        if hashlib.sha256(memoryview(data)[:-DIGEST]).digest() != data[-DIGEST:]:
            raise OSError('its checksum differs')
        with suppress(OSError):  # of a folder that others filled
            os.utime(path)
        return load(data)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError) as error:
        log.warning('%s cannot be used (%s): converting anew', path, error)
        return None


def load_or_make(
    path: Path,
    load: Callable[[mmap], Any],
    make: Callable[[], Any],
    save: Callable[[Any, Path], Path],
) -> Any:
    """
    Load a network as :func:`load_kept`; without one, make it, keep it, and load that.

    ``save`` writes what was made into a folder and returns the file; it may raise OSError and
    RuntimeError. What cannot be written is used as it was made.
    """
    kept = load_kept(path, load)
    if kept is not None:
        return kept
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=_DRAFT, dir=path.parent) as folder:
            draft = save(made, Path(folder))
            with draft.open('ab') as file:
                file.write(bytes.fromhex(sha256(draft)))
            os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        _warn_unwritten(path.parent, error)
        return made
    with suppress(OSError):  # of a folder that another process tidies up too
        others = {*path.parent.glob('*.blob')} - {path}  # this one, whatever the clock says
        for old in sorted(others, key=lambda other: other.stat().st_mtime)[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        for left in path.parent.glob(f'{_DRAFT}*'):  # by a process that was killed
            if left.stat().st_mtime < time.time() - _LONGEST_WRITING_S:
                shutil.rmtree(left, ignore_errors=True)
    kept = load_kept(path, load)
    return made if kept is None else kept


def known_sizes(folder: Path, model: str) -> list[tuple[int, int]]:
    """Return the sizes (H, W) of the images that a model has seen before, oldest first."""
    return [(height, width) for height, width in _read_sizes(folder).get(model, [])]


def remember_size(folder: Path, model: str, size: tuple[int, int]) -> None:
    """Note the size (H, W) of a model's images for the next start."""
    with _SIZES_LOCK:  # cameras that share a process begin at once
        found = _read_sizes(folder)
        sizes = [list(pair) for pair in found.get(model, []) if tuple(pair) != size]
        sizes = [*sizes, list(size)][-SIZES_KEPT:]
        if sizes != found.get(model):
            try:
                write_whole(folder / SIZES, json.dumps(found | {model: sizes}).encode())
            except MarigoldError as error:
                _warn_unwritten(folder, error.__cause__)


def _read_sizes(folder: Path) -> dict[str, list[list[int]]]:
    try:
        found = json.loads((folder / SIZES).read_text(encoding='utf-8'))
        return {
            model: [[int(h), int(w)] for h, w in sizes if 1 <= min(h, w) <= max(h, w) <= _LONGEST]
            for model, sizes in found.items()
        }
    except OSError:
        return {}
    except Exception as error:  # whatever is wrong with it
        warn_once(f'{folder / SIZES} cannot be used ({error}): it is written anew')
        return {}


def _warn_unwritten(folder: Path, error: BaseException | None) -> None:
    why = getattr(error, 'strerror', None) or 'perhaps it is full'  # OpenVINO says nothing
    warn_once(
        f'{folder} cannot be written ({why}): each start converts networks again; set '
        'runtime.cache_dir to a writable folder with space'
    )
