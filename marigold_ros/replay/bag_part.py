# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One bag of an evaluation: what is to be done with it, and what came of it.

Bags are independent of each other (the pipeline is reset between them), so each is scored by
itself, here or in another process, and the parts are added up in the order of the bags. One
process does the same, so that its figures are those of many, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TYPE_CHECKING

from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.errors import BagError, ConfigurationError
from marigold_ros.evaluation.scoring.merging import merged
from marigold_ros.replay.recording import RecordTo
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.replay.image_sets import ImageChoice

_MOST_WARNINGS = 20


@dataclass(frozen=True)
class ReplayOptions:
    """
    How bags are replayed and scored, whatever the bag; see `evaluate_bag`.

    ``topics`` maps roles to names, ``stamps`` is 'header' or 'log', ``record`` says where outputs
    are recorded; ``pictures`` says which images of a folder or tar are taken, in place of bags.
    """

    config: PipelineConfig
    lidar: LidarConfig
    topics: dict[str, str | None] = field(default_factory=dict)
    T_cam_lidar: np.ndarray | None = None
    fit_every: int = 8
    held_out: str = 'rings'
    stamps: str = 'header'
    oracle: str = 'own'
    images: ImageChoice | None = None
    record: RecordTo | None = None


@dataclass(frozen=True)
class BagJob:
    """
    A bag, its number among all, and what is to be done with it.

    ``limit`` is after how many images to stop (None: at the end), ``corruption`` the kind and
    the strength by which its images are corrupted (None: they are not).
    """

    path: Path
    number: int
    limit: int | None = None
    corruption: tuple[str, int] | None = None

    @property
    def key(self) -> list[Any]:
        """What is done with the bag, for JSON; its place among the bags does not matter."""
        return [self.limit, self.corruption]


@dataclass
class BagPart:
    """
    What came of one bag, or of several that were added up.

    Parameters
    ----------
    scorer : Scorer
        The frames that were scored.
    bags : list of dict
        Name, size and hash of each.
    topics, checkpoint : dict
        Topic by role, and the model's description.
    read : int
        Images that came.
    rejected, warnings : dict of str to int
        Unusable images by cause; what else is amiss, with its number of frames.
    first_error : str
        Why the first image was unusable.
    failed : dict of str to str
        Why a bag could not be read, or not to its end, by its path.
    recorded_s, wall_s : float, seconds
        Length of the recording, and of the work.
    calibration : Calibration or None
        What the frames tell of the LiDAR's angles and clock.
    rivals, rival_checkpoints : dict
        Scores and descriptions of the models it is compared with, by name.
    peak_bytes : int
        Most memory that was used: of the GPU, or of the process.

    """

    scorer: Any
    bags: list[dict[str, Any]] = field(default_factory=list)
    topics: dict[str, str | None] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    first_error: str = ''
    failed: dict[str, str] = field(default_factory=dict)
    recorded_s: float = 0.0
    wall_s: float = 0.0
    calibration: Any = None
    rivals: dict[str, Any] = field(default_factory=dict)
    rival_checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: int = 0

    @property
    def rate(self) -> float | None:
        """Playing speed as a multiple of the recording's, where the recording has a length."""
        return self.recorded_s / self.wall_s if self.recorded_s > 0 else None

    def warn(self, text: str, count: int = 1) -> None:
        """Count a warning; of many different ones the first are kept."""
        if text in self.warnings or len(self.warnings) < _MOST_WARNINGS:
            self.warnings[text] = self.warnings.get(text, 0) + count

    def reject(self, cause: str, text: str) -> None:
        """Count an unusable image."""
        self.rejected[cause] = self.rejected.get(cause, 0) + 1
        self.first_error = self.first_error or text

    def add(self, other: BagPart) -> None:
        """Add the part of the next bag."""
        for row in other.scorer.rows:
            row['bag'] = len(self.bags)  # which of provenance.bags
        self.scorer = merged(self.scorer, other.scorer)
        self.rivals = merged(self.rivals, other.rivals)
        self.rival_checkpoints.update(other.rival_checkpoints)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.bags += other.bags
        self.topics = self.topics or other.topics
        if self.checkpoint and other.checkpoint and self.checkpoint != other.checkpoint:
            raise ConfigurationError(
                'the checkpoint has changed since the first bags were finished; remove the folder '
                'parts in --out and begin again'
            )
        self.checkpoint = self.checkpoint or other.checkpoint
        self.read += other.read
        self.rejected = merged(self.rejected, other.rejected)
        for text, count in other.warnings.items():
            self.warn(text, count)
        self.first_error = self.first_error or other.first_error
        self.failed.update(other.failed)
        self.recorded_s += other.recorded_s
        self.wall_s += other.wall_s
        if self.calibration is None or (other.calibration and not self.calibration.text):
            self.calibration = other.calibration

    def failure(self, paths: Sequence[Path], out: str | Path | None) -> BagError | None:
        """Say what went wrong with the bags, and where to find what did not; None for nothing."""
        if not self.scorer.rows:
            return BagError(next(iter(self.failed.values()), '') or self._why_nothing(paths))
        if not self.failed:
            return None
        first = next(iter(self.failed.values()))
        if len(paths) == 1:
            return BagError(f'{first}; the images before the damage are scored in {out}')
        return BagError(
            f'{len(self.failed)} of {len(paths)} bags are damaged: {first}; all that could be '
            f'read is scored in {out}'
        )

    def _why_nothing(self, paths: Sequence[Path]) -> str:
        """Say why no image could be used."""
        causes = ', '.join(f'{n} {cause}' for cause, n in self.rejected.items()) or 'none came'
        first = f' (first: {self.first_error})' if self.first_error else ''
        names = ', '.join(path.resolve().name for path in paths)
        return (
            f'no image of {names} could be used: {causes}{first}; '
            'check the image topic with --image'
        )
