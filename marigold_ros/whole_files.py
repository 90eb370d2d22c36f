# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Files written whole or not at all (a kill leaves the previous one), and their hashes."""

from collections.abc import Iterator
from contextlib import suppress
import hashlib
import os
from pathlib import Path
import threading

from marigold_ros.errors import MarigoldError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its destination, then rename; raises MarigoldError if it cannot."""
    # Without the name of the file, which may be as long as names can be.
    draft = path.parent / f'.{os.getpid()}.{threading.get_ident()}'
    try:
        if path.exists() and not path.is_file():  # a pipe or device, as /dev/stdout
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise MarigoldError(
            f'{path} could not be written ({error.strerror}); free some space, remove what is in '
            'its place, or check that the folder is writable, and run the same command again'
        ) from error


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    for block in blocks(path):
        digest.update(block)
    return digest.hexdigest()


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, 4 MiB at a time."""
    with path.open('rb') as file:
        while block := file.read(1 << 22):
            yield block
