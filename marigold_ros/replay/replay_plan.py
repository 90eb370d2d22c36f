# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The options of a replay, its jobs, and the plan that is made before the work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import math
from pathlib import Path
from typing import Any

from marigold_ros.bags.frames import Excerpt, WHOLE
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.storage import check_exists, check_given_once
from marigold_ros.config import GroundConfig, LidarConfig, PipelineConfig, PointsConfig
from marigold_ros.errors import BagError, with_names
from marigold_ros.evaluation.choices import OWN, STRENGTHS, USABLE_ERROR
from marigold_ros.evaluation.results.requirements import Requirement
from marigold_ros.image_sets.image_set import ImageChoice, ImageSet
from marigold_ros.settings import as_values
from marigold_ros.sparse_sources import BAG
import numpy as np


@dataclass(frozen=True)
class ReplayOptions:
    """How bags are replayed and scored."""

    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)
    # Names for 'image', 'camera_info', 'lidar' and 'truth'; the others are found by content.
    topics: Mapping[str, str | None] = field(default_factory=dict)
    T_cam_lidar: np.ndarray | None = None  # extrinsics (4, 4); None takes the bag's /tf_static
    # Protocol ``heldout`` fits every n-th scan line, or block of azimuth, and scores the rest.
    fit_every: int = 8
    held_out: str = 'rings'  # or 'azimuth'
    stamps: str = 'header'  # by which images and scans are paired; or 'log', of recording
    oracle: str = OWN  # rule of the protocol, see `marigold_ros.evaluation.protocols.oracle`
    corruptions: Sequence[str] = ()  # every bag is replayed again at each of their strengths
    images: ImageChoice | None = None  # to take of folders or tars, in place of bags
    limit: int | None = None  # number of images of each bag after which to stop
    excerpt: Excerpt = WHOLE  # the part of each bag to replay
    # Sources of the fit by name, as in the setting ``sparse_source``; None is the bag's first. The
    # bag's LiDAR scores, all of it if it is not among them.
    sources: tuple[str, ...] | None = None
    ground: GroundConfig = GroundConfig()  # where the ground is, if it is a source
    # Records outputs beside the results as the node publishes them, with clouds like this.
    record: PointsConfig | None = None
    # Results for the viewer of rerun; of several bags the files are numbered.
    rerun: Path | None = None
    usable_error: float = USABLE_ERROR  # mean relative error up to which depth is called usable
    requirements: Sequence[Requirement] = ()  # on results, whose outcomes stand in the report

    @property
    def source_settings(self) -> dict[str, Any]:
        """The settings of the sources of the fit, as a replay takes them."""
        if self.sources is None:
            return {'sparse_source': BAG}
        return {'sparse_source': ','.join(self.sources), 'ground': as_values(self.ground)}


@dataclass(frozen=True)
class BagJob:
    """One replay of one bag."""

    path: Path
    number: int  # place among all bags
    corruption: tuple[str, int] | None = None  # kind and strength, of its images
    recording: Path | None = None  # where its outputs are recorded
    rerun: Path | None = None  # where its results are written for the viewer of rerun
    files: str = ''  # hash of the state of an image set's files, empty for bags
    begun: Path | None = None  # keeps the images scored so far, where a stopped replay goes on


@dataclass
class ReplayPlan:
    """The bags, the jobs, the number of their images, and by path why bags cannot be read."""

    paths: Sequence[Path]
    jobs: list[BagJob] = field(default_factory=list)
    images: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def named(self, text: str) -> str:
        """Return a text with the names of bags in place of their paths."""
        return with_names(text, self.paths)


def plan_replay(bags: Sequence[str | Path], options: ReplayOptions) -> ReplayPlan:
    """
    Open every bag or folder and count its images, so that mistakes show before the work.

    Raises
    ------
    InputError, ConfigurationError
        Where folders or tars of images cannot be read.
    BagError
        Where a path does not exist or is given twice, or none of the bags can be read; a single
        one among others is noted in ``failed``.

    """
    if not bags:
        raise BagError('no bag was given; give at least one')
    plan = ReplayPlan([Path(bag) for bag in bags])
    for path in plan.paths:
        check_exists(path)
    check_given_once(plan.paths)
    for number, path in enumerate(plan.paths):
        try:
            images = None if options.images is None else ImageSet(path, options.images)
            count = _count_images(path, options) if images is None else len(images)
            files = '' if images is None else images.state
        except BagError as error:
            if len(bags) == 1:
                raise
            plan.failed[str(path)] = str(error)
            continue
        taken = count if options.limit is None else min(count, options.limit)
        if taken:
            plan.jobs.append(BagJob(path, number, files=files))
        plan.images += taken
    if len(plan.failed) == len(bags):
        raise BagError(next(iter(plan.failed.values())))
    plan.jobs += [
        replace(job, corruption=(kind, strength))
        for kind in options.corruptions
        for strength in STRENGTHS
        for job in plan.jobs
    ]
    plan.images *= 1 + len(options.corruptions) * len(STRENGTHS)
    return plan


def _count_images(path: Path, options: ReplayOptions) -> int:
    with BagReader(path) as reader:
        count = reader.topics[reader.choose_topics(**options.topics).image].count
        if options.excerpt == WHOLE:
            return count
        first_ns, last_ns = reader.span_ns
        begin, end = options.excerpt.bounds_ns(reader)
    inside_ns = min(end or last_ns, last_ns) - (begin or first_ns)
    if inside_ns < 0:
        raise BagError(
            f'{path} has {(last_ns - first_ns) / 1e9:.1f} s, and none of it is between --from '
            f'{options.excerpt.start:g} and --to {options.excerpt.stop:g}; choose another part'
        )
    # Images come at an even rate, or nearly so.
    share = inside_ns / (last_ns - first_ns) if last_ns > first_ns else 1.0
    return math.ceil(count * share / options.excerpt.every)
