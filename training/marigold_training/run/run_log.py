# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The log of a run: log.jsonl, which is the record, curves of TensorBoard if it is installed, and
the trackers of accelerate that the run was started with.

A resumed run drops what was logged after its checkpoint from both.
"""

from collections.abc import Callable, Mapping
import json
import os
from pathlib import Path
from typing import Any

import cv2
from marigold_ros.errors import MarigoldError

NAME, CURVES = 'log.jsonl', 'tensorboard'
NO_CURVES = 'no curves: tensorboard is not installed (pip install tensorboard)'
LABELS = ('stage', 'step', 'time')  # identify a line; not plotted


class RunLog:
    """
    The log of one run, in ``log.jsonl`` and ``tensorboard`` of its folder.

    ``track`` takes the numbers of a line, and ``step``.
    """

    def __init__(self, folder: Path, track: Callable[..., None] | None = None) -> None:
        self.folder, self._track = folder, track
        self._path = folder / NAME
        self._begun = False
        self._curves: Any = None

    @property
    def size(self) -> int:
        """Bytes of log.jsonl, 0 without one."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def rewind(self, size: int) -> None:
        """Drop what follows the first ``size`` bytes: the log of steps that come again."""
        try:
            if self.size > size:
                os.truncate(self._path, size)
        except OSError as error:
            raise self._refusal(error) from error

    def write(self, line: Mapping[str, Any], at: int, image: Path | None = None) -> None:
        """
        Append a line.

        Parameters
        ----------
        line : mapping
            Written to log.jsonl as it is; its numbers are plotted, nested ones as ``outer/inner``.
        at : int
            Steps since the run began, over all stages.
        image : Path or None
            To add to TensorBoard.

        """
        line = dict(line)
        if not self._begun:
            self._begun, self._curves = True, _open(self.folder / CURVES, at)
            if self._curves is None:
                line['note'] = NO_CURVES
        try:
            with self._path.open('a', encoding='utf-8') as file:
                file.write(json.dumps(line) + '\n')
        except OSError as error:
            raise self._refusal(error) from error
        if self._track is not None:
            self._track(numbers(line), step=at)
        if self._curves is None:
            return
        for name, value in numbers(line).items():
            self._curves.add_scalar(name, value, at)
        shown = None if image is None else cv2.imread(str(image))
        if shown is not None:
            rgb = cv2.cvtColor(shown, cv2.COLOR_BGR2RGB)
            self._curves.add_image('pictures', rgb, at, dataformats='HWC')

    def _refusal(self, error: OSError) -> MarigoldError:
        return MarigoldError(
            f'{self._path} could not be written ({error.strerror}); free some space and run the '
            'same command again'
        )

    def close(self) -> None:
        """Flush TensorBoard; a later line opens it again."""
        if self._curves is not None:
            self._curves.close()
        self._begun, self._curves = False, None


def numbers(line: Mapping[str, Any], prefix: str = '') -> dict[str, float]:
    """Return the numbers of a line, nested ones as ``outer/inner``, without texts and labels."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found.update(numbers(value, f'{prefix}{name}/'))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return {name: value for name, value in found.items() if name not in LABELS}


def _open(folder: Path, at: int) -> Any:
    """Open TensorBoard's writer; None if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=at)
