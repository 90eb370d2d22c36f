# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Write files and folders whole or not at all: a kill or a full disk leaves the previous one."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import shutil
from tempfile import mkdtemp

from marigold_ros.errors import brief, CheckpointError, MarigoldError


def write_whole(path: Path, data: bytes) -> None:
    """
    Write a file atomically: beside its destination, then renamed.

    Raises MarigoldError if it cannot be written, as on a full disk; the previous file stays.
    """
    draft = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        if draft.is_file():
            draft.unlink()
        raise MarigoldError(
            f'{path} could not be written ({error.strerror}); free some space, or check that the '
            'folder is writable, and run the same command again'
        ) from error


@contextmanager
def whole_folder(folder: Path, task: str = 'export') -> Iterator[Path]:
    """
    Yield a temporary folder that replaces ``folder`` once the block ends without an error.

    Raises CheckpointError, which names the ``task``, if it cannot be written; the existing folder
    stays.
    """
    from safetensors import SafetensorError

    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
        yield draft
        _replace(folder, draft)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'{folder} could not be written ({brief(error)}); free some space or choose another '
            f'folder, and {task} again'
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _replace(folder: Path, draft: Path) -> None:
    # mkdtemp and safetensors write for the owner alone.
    os.chmod(draft, 0o755)
    for path in draft.rglob('*'):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    old = folder.with_name(f'.{folder.name}-old')
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)
