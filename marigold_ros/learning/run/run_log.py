# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The log of a run: log.jsonl, which is the record, and TensorBoard beside it where it is installed.

A resumed run adds to the file; TensorBoard is told from which step on its curves are drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import cv2

NAME, CURVES = 'log.jsonl', 'tensorboard'
NO_CURVES = 'no curves: tensorboard is not installed (pip install tensorboard)'
# What says which line it is, not what was measured.
LABELS = ('stage', 'step', 'time')


class RunLog:
    """
    Lines of a run in its folder.

    Parameters
    ----------
    folder : Path
        Gets ``log.jsonl`` and ``tensorboard``.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun = False
        self._curves: Any = None

    def write(self, line: Mapping[str, Any], at: int, image: Path | None = None) -> None:
        """
        Add a line.

        Parameters
        ----------
        line : mapping
            Goes to log.jsonl as it is; its numbers are drawn, nested ones as ``outer/inner``.
        at : int
            Steps since the run began, over all stages.
        image : Path or None
            To be shown with it.

        """
        line = dict(line)
        if not self._begun:
            self._begun, self._curves = True, _open(self.folder / CURVES, at)
            if self._curves is None:
                line['note'] = NO_CURVES
        with (self.folder / NAME).open('a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')
        if self._curves is None:
            return
        for name, value in numbers(line).items():
            self._curves.add_scalar(name, value, at)
        shown = None if image is None else cv2.imread(str(image))
        if shown is not None:
            rgb = cv2.cvtColor(shown, cv2.COLOR_BGR2RGB)
            self._curves.add_image('pictures', rgb, at, dataformats='HWC')

    def close(self) -> None:
        """Write out what waits; a later line opens it again."""
        if self._curves is not None:
            self._curves.close()
        self._begun, self._curves = False, None


def numbers(line: Mapping[str, Any], prefix: str = '') -> dict[str, float]:
    """Collect the numbers of a line, nested ones as ``outer/inner``; texts are left out."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found.update(numbers(value, f'{prefix}{name}/'))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return {name: value for name, value in found.items() if name not in LABELS}


def _open(folder: Path, at: int) -> Any:
    """Return TensorBoard's writer, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=at)
