# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from marigold_ros.errors import MarigoldError


def write_whole(path: Path, data: bytes) -> None:
    """
    Write a file beside its place and move it there.

    Raises
    ------
    MarigoldError
        If it cannot be written, as on a full disk; what was there before is left as it is.

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
            'folder may be written, and run the same command again'
        ) from error
