# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The results of one bag of an evaluation (its part), and the store of parts.

Parts are added up in the order of the bags, in a single process too, so that its figures equal
those of many processes to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import hashlib
import json
from pathlib import Path
import shutil
from typing import Any

from marigold_ros.bags.frames import BagFrame
from marigold_ros.bags.storage import bag_files
from marigold_ros.errors import BagError, ConfigurationError, count_kind
from marigold_ros.evaluation.scoring.merging import merged
from marigold_ros.geometry.blind_image import ImageHealth
from marigold_ros.replay.replay_plan import BagJob
from marigold_ros.replay.stored_values import read_values, write_values
from marigold_ros.settings import flat
from marigold_ros.whole_files import write_whole

_FINISHED, _BEGUN = '.finished.npz', '.begun.npz'


def count_warnings(counts: dict[str, int], item: BagFrame, health: ImageHealth) -> None:
    """Count what an image lacks, and whether it shows nothing, or nothing new after the others."""
    if item.warning:
        count_kind(counts, item.warning)
    if item.frame is not None and (why := health.check(item.frame.rgb)):
        count_kind(counts, why)


@dataclass
class BagPart:
    """The results of one bag, or of several added up."""

    scorer: Any  # the scored frames
    bags: list[dict[str, Any]] = field(default_factory=list)  # name, size and hash of each
    topics: dict[str, str | None] = field(default_factory=dict)  # by role
    checkpoint: dict[str, Any] = field(default_factory=dict)  # the model's description
    read: int = 0  # images
    rejected: dict[str, int] = field(default_factory=dict)  # unusable images by cause
    warnings: dict[str, int] = field(default_factory=dict)  # images by warning
    first_error: str = ''  # why the first unusable image was rejected
    failed: dict[str, str] = field(default_factory=dict)  # why, by path of a bag
    recorded_s: float = 0.0  # length of the recording, seconds
    wall_s: float = 0.0  # of the work, seconds
    calibration: Any = None  # estimated errors of the LiDAR's mounting and clock
    calibrated: int = 0  # index in ``bags`` of the bag they were estimated on
    compared: dict[str, Any] = field(default_factory=dict)  # scorers by name
    compared_checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: int = 0  # peak memory, of the GPU or of the process
    image_health: ImageHealth = field(default_factory=ImageHealth)  # of the images so far
    # Of a bag whose replay was stopped: by model the states of its pipelines (none where a later
    # replay cannot go on from here), and the stamps of the images so far.
    streams: list[Any] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Speed of the replay as a multiple of the recording's; None for an empty recording."""
        return self.recorded_s / self.wall_s if self.recorded_s > 0 else None

    def reject(self, cause: str, text: str) -> None:
        """Count an unusable image, and why."""
        self.rejected[cause] = self.rejected.get(cause, 0) + 1
        count_kind(self.warnings, f'rejected: {text}')
        self.first_error = self.first_error or text

    def add(self, other: BagPart) -> None:
        """Add the part of the next bag; raises ConfigurationError for another checkpoint."""
        for row in other.scorer.rows:
            row['bag'] = len(self.bags)  # which of provenance.bags
        self.scorer = merged(self.scorer, other.scorer)
        self.compared = merged(self.compared, other.compared)
        self.compared_checkpoints.update(other.compared_checkpoints)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.topics = self.topics or other.topics
        self.check_checkpoint(other)
        self.checkpoint = self.checkpoint or other.checkpoint
        self.read += other.read
        self.rejected = merged(self.rejected, other.rejected)
        for text, count in other.warnings.items():
            count_kind(self.warnings, text, count)
        self.first_error = self.first_error or other.first_error
        self.failed.update(other.failed)
        self.recorded_s += other.recorded_s
        self.wall_s += other.wall_s
        if other.bags and not (self.calibration and self.calibration.text):
            self.calibration, self.calibrated = other.calibration, len(self.bags)
        self.bags += other.bags

    def check_checkpoint(self, other: BagPart) -> None:
        """Raise ConfigurationError if another part is of another checkpoint."""
        if self.checkpoint and other.checkpoint and self.checkpoint != other.checkpoint:
            raise ConfigurationError(
                'the checkpoint has changed since the first images were scored; remove the folder '
                'parts in --out and begin again'
            )

    def failure(self, paths: Sequence[Path], out: str | Path | None) -> BagError | None:
        """Return the error that bags ended with, and where the rest is scored; None for none."""
        first = next(iter(self.failed.values()), '')
        if not self.scorer.rows:
            return BagError(first or self._no_images(paths))
        if not first:
            return None
        if len(paths) == 1:
            return BagError(f'{first}; the readable part of the bag is scored in {out}')
        return BagError(
            f'{len(self.failed)} of {len(paths)} bags cannot be read to the end: {first}; what '
            f'can be read is scored in {out}'
        )

    def _no_images(self, paths: Sequence[Path]) -> str:
        causes = ', '.join(f'{n} {cause}' for cause, n in self.rejected.items()) or 'none was read'
        first = f' (first: {self.first_error})' if self.first_error else ''
        names = ', '.join(path.resolve().name for path in paths)
        return (
            f'no image of {names} could be used: {causes}{first}; '
            'check the image topic (--image) and the part of the bag (--from, --to)'
        )


@dataclass(frozen=True)
class PartStore:
    """Parts in ``folder``, in files named by a hash of the job and its files."""

    folder: Path

    def open(self, options: Mapping[str, Any]) -> None:
        """Begin or resume an evaluation, see `keep_options`."""
        what = 'the scored images of an evaluation'
        remedy = f'go on with the same options, give another --out, or remove {self.folder}'
        mixes = any(self.folder.glob('*.npz'))
        keep_options(self.folder / 'options.json', options, what, remedy, mixes=mixes)

    def get(self, job: BagJob) -> BagPart | None:
        """Return the finished part of a job; None without one."""
        return read_part(self._path(job, _FINISHED))

    def scored(self, job: BagJob) -> BagPart | None:
        """Return the part of a job, finished or not; None without one."""
        return self.get(job) or read_part(self._path(job, _BEGUN))

    def put(self, job: BagJob, part: BagPart) -> None:
        """Store a finished part."""
        write_values(self._path(job, _FINISHED), part)
        self._path(job, _BEGUN).unlink(missing_ok=True)

    def with_file(self, job: BagJob) -> BagJob:
        """Return a job with the file that keeps its part while it is worked on."""
        return replace(job, begun=self._path(job, _BEGUN))

    def clear(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, job: BagJob, end: str) -> Path:
        stats = {file.name: file.stat() for file in bag_files(job.path)}
        states = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()]
        facts = [str(job.path.resolve()), job.files or states, job.corruption]
        name = hashlib.sha256(json.dumps(facts).encode('utf-8', 'surrogatepass')).hexdigest()
        return self.folder / f'{name[:24]}{end}'


def read_part(path: Path) -> BagPart | None:
    """Read a part; None where there is none that can be read."""
    part = read_values(path)
    return part if isinstance(part, BagPart) else None


def keep_options(
    path: Path, options: Mapping[str, Any], what: str, remedy: str, mixes: bool = True
) -> None:
    """
    Write the options of a run beside its results (``what``), so that a later run can resume.

    Raises ConfigurationError for other or damaged options, if results would mix (``mixes``).
    """
    wanted = before = dict(flat(json.loads(json.dumps(options, default=str))))
    try:
        if mixes and path.exists():
            before = dict(flat(dict(json.loads(path.read_bytes()))))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f'{path} cannot be read ({error}); {remedy}') from error
    if before != wanted:
        name = next(n for n in sorted({*before, *wanted}) if before.get(n) != wanted.get(n))
        raise ConfigurationError(
            f'{path.parent} holds {what} with {name} = {before.get(name)}, not '
            f'{wanted.get(name)}; {remedy}'
        )
    write_whole(path, json.dumps(wanted, indent=1).encode())
