# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Sparse depth of a frame from all of its sources.

A source that is missing or refused leaves the others; only without any there is no sparse depth.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Frame, Prediction, SourceReport, SparseDepth, SparseInput
from marigold_ros.geometry.camera.frames import sparse_of_frame
from marigold_ros.geometry.ground.points import find_ground
from marigold_ros.geometry.joined_points import merged
import numpy as np


@dataclass(frozen=True)
class GatheredPoints:
    """Sparse depth of a frame; None with the ``reason``. ``reports`` only of several sources."""

    sparse: SparseDepth | None
    reason: str
    reports: tuple[SourceReport, ...] = ()


def gather_sources(
    frame: Frame, prediction: Prediction, K: np.ndarray | None, config: AlignmentConfig
) -> GatheredPoints:
    """
    Gather the points of all sources of a frame.

    Parameters
    ----------
    frame : Frame
        With its sources.
    prediction : Prediction
        Of the rectified image, in which ground is looked for.
    K : (3, 3) float or None, pixels
        Its intrinsics.
    config : AlignmentConfig
        Range of depth, occlusion test, least number of points.

    Returns
    -------
    GatheredPoints

    Raises
    ------
    InputError
        If the points of the only source have no valid shape.

    """
    views = list(_views(frame))
    if len(views) == 1:
        return GatheredPoints(*_points(views[0], prediction, K, config))
    parts, reports = [], []
    for view in views:
        try:
            sparse, reason = _points(view, prediction, K, config)
        except InputError as error:
            sparse, reason = None, str(error)
        if sparse is not None and len(sparse) == 0:
            sparse, reason = None, 'none of its points is in view'
        if sparse is not None:
            parts.append(sparse)
        reports.append(SourceReport(view.source, len(sparse or ()), reason))
    if not parts:
        text = '; '.join(f'{report.source}: {report.reason}' for report in reports)
        return GatheredPoints(None, text, tuple(reports))
    return GatheredPoints(merged(parts, config), '', tuple(reports))


def _views(frame: Frame) -> Iterator[Frame]:
    """Yield the frame with each of its sources alone."""
    own = (frame.points_lidar, frame.sparse, frame.sparse_image, frame.ground)
    if not frame.inputs or any(part is not None for part in own) or frame.no_points:
        yield replace(frame, inputs=())
    for item in frame.inputs:
        yield replace(frame, sparse=None, inputs=(), **_fields(item))


def _fields(item: SparseInput) -> dict:
    return {entry.name: getattr(item, entry.name) for entry in fields(item)}


def _points(
    view: Frame, prediction: Prediction, K: np.ndarray | None, config: AlignmentConfig
) -> tuple[SparseDepth | None, str]:
    if view.ground is not None and K is not None:
        return find_ground(prediction, K, view.ground, config)
    return sparse_of_frame(view, config)
