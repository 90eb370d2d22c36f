# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Measured points: the sparse depth of a frame's inputs, in its rectified image.

An input that is missing or refused leaves the others; only without any there is no sparse depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Frame, Prediction, SourceReport, SparseDepth, SparseInput
from marigold_ros.geometry.calibration.edge_agreement import scatter
from marigold_ros.geometry.camera.depth_images import (
    is_depth_camera,
    stride_of,
    triangulation_noise,
    unproject_image,
)
from marigold_ros.geometry.camera.hidden_points import nearest_known, nearest_per_pixel
from marigold_ros.geometry.camera.lidar_projection import (
    checked_depth,
    project_lidar,
    sparse_from_depth,
)
from marigold_ros.geometry.camera.rectification import (
    is_rectified,
    rectified,
    rectified_valid,
    rectify_sparse,
)
from marigold_ros.geometry.camera.resizing import resize_points
from marigold_ros.geometry.ground.points import find_ground
from marigold_ros.geometry.source_doubts import doubts_of
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import as_reason, NO_SPARSE_DEPTH, Reason
import numpy as np

# A point is hidden from so many times the depth of all that a depth camera sees around it.
_BEHIND = 1.3


@dataclass(frozen=True)
class MeasuredPoints:
    """
    Sparse depth of a frame.

    A mounting is judged by the points ``mounted``: ``sparse`` if it is of one source, else the
    most that one has which is no depth camera.
    """

    sparse: SparseDepth | None  # the points that lead
    further: SparseDepth | None = None  # of others, for the fit of scale and shift only
    refusal: Reason | None = None  # why there are none
    reports: tuple[SourceReport, ...] = ()  # of several sources
    dispute: float = 0.0  # largest relative difference between disagreeing sources of ``sparse``
    mounted: SparseDepth | None = None
    mounted_by: int = -1  # place of their source among the frame's inputs; -1 without


def measure_points(
    frame: Frame, prediction: Prediction | None, config: AlignmentConfig
) -> MeasuredPoints:
    """
    Gather the points of all inputs of a frame.

    In ``prediction``, that of the rectified image, ground is looked for; without a plane it is not
    needed. Raises AlignmentError if a point at a pixel lies outside of the image, and InputError
    if the points of the only input have no valid shape.
    """

    def measure(item: SparseInput) -> tuple[SparseDepth | None, Reason | None]:
        if item.ground is not None and frame.camera is not None and prediction is not None:
            return find_ground(prediction, rectified(frame.camera).K, item.ground, config)
        return _points_of(item, frame, config)

    if not frame.inputs:
        return MeasuredPoints(None, refusal=NO_SPARSE_DEPTH)
    if len(frame.inputs) == 1:
        sparse, refusal = measure(frame.inputs[0])
        return MeasuredPoints(sparse, None, refusal, mounted=sparse, mounted_by=0)
    parts: dict[int, SparseDepth] = {}  # by place among the inputs
    reports: list[SourceReport] = []
    for number, item in enumerate(frame.inputs):
        try:
            sparse, refusal = measure(item)
        except InputError as error:
            sparse, refusal = None, as_reason(error)
        if sparse is not None and len(sparse) == 0:
            sparse, refusal = None, Reason('none_in_view')
        if sparse is not None and (refusal := scatter(sparse)):
            sparse = sparse if config.contradiction == 'warn' else None
        if sparse is not None:
            parts[number] = sparse
        reports.append(SourceReport(item.source, len(sparse or ()), refusal))
    if not parts:
        texts = (f'{report.source}: {report.reason}' for report in reports)
        return MeasuredPoints(None, refusal=as_reason('; '.join(texts)), reports=tuple(reports))
    names = [item.source for item in frame.inputs]
    doubts, dispute = doubts_of(parts, names)
    for number, doubt in doubts.items():
        if doubt.code != 'sources_disagree':  # which keeps its points
            del parts[number]
        reports[number] = SourceReport(names[number], len(parts.get(number, ())), doubt)
    sparse, further = merge_points(list(parts.values()), config)
    alone = [number for number, part in parts.items() if part is sparse]
    lidars = (number for number, part in parts.items() if part.kind is PointKind.LIDAR)
    by = max(alone or lidars, key=lambda number: len(parts[number]), default=-1)
    return MeasuredPoints(sparse, further, None, tuple(reports), dispute, parts.get(by), by)


def without_input(frame: Frame, place: int, why: Reason) -> Frame:
    """Return a frame whose input at a place has no points, and why."""
    inputs = list(frame.inputs)
    inputs[place] = SparseInput(inputs[place].source, no_points=why)
    return replace(frame, inputs=tuple(inputs))


def sparse_of_frame(
    frame: Frame, config: AlignmentConfig
) -> tuple[SparseDepth | None, Reason | None]:
    """Return the points of a frame's LiDAR in its rectified image, or None and the reason."""
    if frame.lidar is None:
        return None, NO_SPARSE_DEPTH
    return _points_of(frame.lidar, frame, config)


def merge_points(
    parts: Sequence[SparseDepth], config: AlignmentConfig
) -> tuple[SparseDepth, SparseDepth | None]:
    """
    Merge the points of several sources of one image, at least one; return the others too.

    The points that say most of their surroundings lead if they are enough for a fit: those that
    extend, else those whose pixels are known, else all. Of several points in a pixel the one of
    least noise leads, and the result is in their order. What lies behind all that a depth camera
    sees around it is hidden.
    """
    extending = [part for part in parts if part.kind.extends]
    placed = [part for part in parts if part.kind.is_placed]
    enough = (c for c in (extending, placed) if sum(map(len, c)) >= config.min_points)
    chosen = next(enough, list(parts))
    others = [part for part in parts if not any(part is one for one in chosen)]
    for camera in [part for part in chosen if part.kind is PointKind.DEPTH_CAMERA]:
        chosen = [_not_behind(camera, part, config.occlusion_window) for part in chosen]
    # Of equal points in a pixel the last leads: that of the source with the fewest.
    order = sorted(range(len(chosen)), key=lambda number: -len(chosen[number]))
    lead = SparseDepth.joined([chosen[number] for number in order])
    if len(chosen) > 1:
        lead = replace(lead, part=np.repeat(order, [len(chosen[number]) for number in order]))
        least = _least_noise(lead, config)
        lead = lead.kept(least, farther_in_pixel=len(lead) - len(least))
    return lead, SparseDepth.joined(others) if others else None


def _not_behind(camera: SparseDepth, points: SparseDepth, window: int) -> SparseDepth:
    """Leave out what a sensor of another kind sees past the things in front of a depth camera."""
    if points.kind is PointKind.DEPTH_CAMERA or window <= 1:
        return points
    shape = [1 + max(int(getattr(one, side).max()) for one in (camera, points)) for side in 'vu']
    farthest = np.zeros(shape, np.float32)
    farthest[camera.v, camera.u] = camera.z
    around = cv2.dilate(farthest, np.ones((window, window), np.uint8))[points.v, points.u]
    seen = (around == 0.0) | (points.z <= _BEHIND * around)
    return points.kept(seen, occluded=int(np.count_nonzero(~seen)))


def _least_noise(points: SparseDepth, config: AlignmentConfig) -> np.ndarray:
    """Return the indices of the points with the least noise in each pixel, in order of pixels."""
    noise = config.noise_floor + config.noise_slope * points.z.astype(np.float64)
    if points.sigma is not None:
        noise = np.hypot(noise, points.sigma)
    return nearest_per_pixel(points.u, points.v, noise, int(points.u.max(initial=0)) + 1)


def _points_of(
    item: SparseInput, frame: Frame, config: AlignmentConfig
) -> tuple[SparseDepth | None, Reason | None]:
    """Return the points of an input in the rectified image of its frame, or None and why."""
    camera = frame.camera
    if item.sparse_image is not None:
        return _points_of_image(item, checked_depth(item.sparse_image), frame, config)
    if item.sparse is not None:
        item.sparse.require_inside(frame.rgb.shape)
        known = nearest_known(item.sparse, frame.rgb.shape[1])
        return (known if camera is None else rectify_sparse(known, camera)), None
    if item.points_lidar is None and item.ground is None:
        return None, item.no_points or NO_SPARSE_DEPTH
    if camera is None or item.points_lidar is None:
        return None, Reason('no_camera')
    if item.T_cam_lidar is None:
        return None, Reason('no_transform')
    if item.points_sigma is not None and np.shape(item.points_sigma) != (len(item.points_lidar),):
        text = f'{len(item.points_lidar)} points have points_sigma {np.shape(item.points_sigma)}'
        raise InputError(f'{text}; give one deviation for each point', cause='shape')
    valid = None if is_rectified(camera) else rectified_valid(camera)
    try:
        seen = project_lidar(item.points_lidar, item.T_cam_lidar, rectified(camera), config, valid)
    except CalibrationError as error:
        # The relative depth of this frame is still good; the reason reaches the diagnostics.
        return None, as_reason(error)
    if not len(seen):
        why = _why_none(np.linalg.norm(np.asarray(item.points_lidar, float), axis=1), config)
        return (None, why) if why else (seen, None)
    seen = replace(seen, kind=item.kind)
    if item.points_sigma is not None:
        sigma = np.nan_to_num(np.asarray(item.points_sigma, np.float32)[seen.index])
        seen = replace(seen, sigma=np.maximum(sigma, 0.0))
    return seen, None


def _why_none(metres: np.ndarray, config: AlignmentConfig) -> Reason | None:
    """Return why no point is in view: none has a depth, or all are too far away; else None."""
    known = metres[np.isfinite(metres) & (metres > 0)]
    if not len(known):
        return Reason('nothing_measured')
    typical = float(np.median(known))
    if typical <= config.max_depth:
        return None
    return Reason('too_far', {'typical': typical, 'most': config.max_depth})


def _points_of_image(
    item: SparseInput, depth: np.ndarray, frame: Frame, config: AlignmentConfig
) -> tuple[SparseDepth | None, Reason | None]:
    """
    Return the points of a depth image in the rectified image, or None and the reason.

    Those of a depth camera are thinned out and have its noise, quadratic in depth.
    """
    is_dense = is_depth_camera(depth)
    stride = stride_of(depth) if is_dense else 1
    known: SparseDepth | None
    if item.sparse_camera is not None:
        try:
            points = unproject_image(depth, item.sparse_camera, config, stride)
        except CalibrationError as error:
            return None, as_reason(f'camera_info of the depth image: {error}')
        scan = replace(item, points_lidar=points, sparse=None, sparse_image=None)
        known, refusal = _points_of(scan, frame, config)
    else:
        known, refusal = sparse_from_depth(depth, config, stride), None
        known = resize_points(known, depth.shape, frame.rgb.shape[:2])
        if frame.camera is not None and not item.is_rectified:
            known = rectify_sparse(known, frame.camera)
    if known is not None and not len(known) and (why := _why_none(depth, config)):
        known, refusal = None, why
    if known is None or not is_dense:
        return known, refusal
    return replace(known, sigma=triangulation_noise(known.z), kind=PointKind.DEPTH_CAMERA), refusal
