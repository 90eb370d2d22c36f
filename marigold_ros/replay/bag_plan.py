# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which bags an evaluation will replay, found out before any work and any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from marigold_ros.bags.reader import BagReader
from marigold_ros.errors import BagError
from marigold_ros.evaluation.corruptions import STRENGTHS
from marigold_ros.replay.bag_part import BagJob

if TYPE_CHECKING:
    from marigold_ros.replay.image_sets import ImageChoice


@dataclass
class Plan:
    """What to replay: jobs, the number of images in all, and why bags are left out, by path."""

    jobs: list[BagJob] = field(default_factory=list)
    images: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def look_ahead(
    paths: Sequence[str | Path],
    given: Mapping[str, str | None],
    limit: int | None = None,
    images: ImageChoice | None = None,
) -> Plan:
    """
    Open every bag or folder and count its images: mistakes are told before the work.

    Raises
    ------
    InputError, ConfigurationError
        Where images are to be read, and cannot be.
    BagError
        Where a path does not exist, or none of the bags can be used. One among others that
        cannot be read is noted in ``failed``.

    """
    if not paths:
        raise BagError('no bag was given; give at least one')
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        raise BagError(f'{missing[0]} does not exist; give the folder or file of a bag')
    plan = Plan()
    for number, path in enumerate(paths):
        try:
            count = _count(Path(path), given, images)
        except BagError as error:
            if len(paths) == 1:
                raise
            plan.failed[str(path)] = str(error)
            continue
        left = count if limit is None else max(min(count, limit - plan.images), 0)
        if left:
            plan.jobs.append(BagJob(Path(path), number, None if left == count else left))
        plan.images += left
    if len(plan.failed) == len(paths):
        raise BagError(next(iter(plan.failed.values())))
    return plan


def _count(path: Path, given: Mapping[str, str | None], images: ImageChoice | None) -> int:
    """Count the images of a bag, or of a folder."""
    if images is not None:
        from marigold_ros.replay.image_sets import ImageSet

        return len(ImageSet(path, images))
    with BagReader(path) as reader:
        return reader.topics[reader.choose_topics(**given).image].count


def corrupted_jobs(jobs: Sequence[BagJob], kinds: Sequence[str]) -> list[BagJob]:
    """Repeat jobs for every strength of each kind of corruption."""
    return [
        replace(job, corruption=(kind, strength))
        for kind in kinds
        for strength in STRENGTHS
        for job in jobs
    ]
